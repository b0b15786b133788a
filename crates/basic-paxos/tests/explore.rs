//! Exhaustive exploration of the reachable states of small clusters: of one decree, and of a log.
//!
//! Ignored searches are larger: `make explore ARGS=basic-paxos` runs them.

use std::time::Duration;
use synod_basic_paxos::types::NodeId;
use synod_basic_paxos::{
    Arity, Config, Many, Message, MessageBatch, PaxosLog, Single, Timer, Timing,
};
use synod_explore::{Budget, Coverage, Delivery, Explore, NodeEvent, Setup};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Step limit of searches that are too long for `make test`.
const MAX_TEST_STEPS: usize = 1_500_000;

/// Drops all messages that report or request chosen values.
fn without_learning(batch: &MessageBatch) -> Delivery {
    let is_learning = |message: &Message| {
        matches!(message, Message::Learned(_) | Message::Chosen(_) | Message::Learn(_))
    };
    if batch.messages().iter().all(is_learning) { Delivery::Dropped } else { Delivery::AnyTime }
}

/// Delivers all messages.
fn all_messages(_: &MessageBatch) -> Delivery {
    Delivery::AnyTime
}

/// Three nodes, with the shortest round trip that is ever measured, so that measurements change no state.
fn three<K: Arity + Sync>(delivery: fn(&MessageBatch) -> Delivery) -> Explore<PaxosLog<K>> {
    let config = |id, members| {
        let timing = Timing { round_trip: Duration::from_micros(50), ..Timing::default() };
        Config::new(id, members).unwrap().with_timing(timing).unwrap()
    };
    let explore = Explore::new(3, config).unwrap().delivery(delivery);
    explore.with_timers(|timer| matches!(timer, Timer::Slot(_)))
}

/// n2 and n3 propose; n1 votes, may crash, and may have a slow disk.
fn two_propose(event: NodeEvent, node: NodeId) -> bool {
    match event {
        NodeEvent::Timeout | NodeEvent::Proposal | NodeEvent::Read => node != N1,
        NodeEvent::Crash | NodeEvent::SlowWrite | NodeEvent::Compaction => node == N1,
    }
}

/// n2 and n3 propose, and n2 times out.
fn only_n2_times_out(event: NodeEvent, node: NodeId) -> bool {
    if event == NodeEvent::Timeout { node == N2 } else { node != N1 }
}

/// n1 has voted for its own value, alone; n2 and n3 have chosen another one under a later ballot.
fn forked(setup: &mut Setup<'_, PaxosLog<Single>>) {
    let accepts =
        |batch: &MessageBatch| batch.messages().iter().any(|it| matches!(it, Message::Accept(_)));
    setup.propose(N1, "one");
    setup.deliver(|from, to, batch| from != N3 && to != N3 && !accepts(batch));
    setup.lose_all();
    setup.propose(N3, "two");
    setup.deliver(|from, to, _| from != N1 && to != N1);
    setup.lose_all();
}

/// A promise to n1 is in flight; n3 has overtaken it and chosen a value with n2.
fn overtaken(setup: &mut Setup<'_, PaxosLog<Single>>) {
    setup.propose(N1, "one");
    setup.deliver(|from, to, _| from == N1 && to == N2);
    setup.propose(N3, "two");
    setup.deliver(|from, to, _| from != N1 && to != N1);
}

/// n2 and n3 have chosen a value in the first slot of a log; all messages about it to n1 are in flight.
fn ahead(setup: &mut Setup<'_, PaxosLog<Many>>) {
    setup.propose(N2, "one");
    setup.deliver(|from, to, _| from != N1 && to != N1);
}

fn check<K: Arity + Sync>(name: &str, explore: Explore<PaxosLog<K>>, coverage: &[Coverage]) {
    let report = explore.run();
    println!("{name}: {report}");
    report.assert_safe(coverage);
}

#[test]
fn decree() {
    let budget = Budget { proposals: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Single>(without_learning).with_events(two_propose).budget(budget);
    check("decree", explore, &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites]);
}

#[test]
fn restarts() {
    let budget =
        Budget { proposals: 2, crashes: 1, slow_writes: 1, duplicates: 1, ..Budget::default() };
    let explore =
        three::<Single>(without_learning).with_events(|_, node| node == N1).budget(budget);
    check("restarts", explore, &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites]);
}

#[test]
fn duel() {
    let budget = Budget { proposals: 2, timeouts: 1, ..Budget::default() };
    let explore = three::<Single>(without_learning)
        .with_events(only_n2_times_out)
        .budget(budget)
        .max_steps(MAX_TEST_STEPS);
    check("duel", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn votes_that_differ() {
    let budget = Budget { timeouts: 3, ..Budget::default() };
    let explore = three::<Single>(without_learning).with_setup(forked);
    let explore = explore.with_events(|_, node| node == N1).budget(budget);
    check("votes that differ", explore, &[Coverage::CompetingWrites]);
}

/// n1 retransmits, is rejected, begins another ballot, and requests votes again.
#[test]
fn stale_promises() {
    let budget = Budget { timeouts: 4, ..Budget::default() };
    let explore = three::<Single>(without_learning).with_setup(overtaken);
    let explore = explore.with_events(|_, node| node == N1).budget(budget);
    check("stale promises", explore, &[Coverage::CompetingWrites]);
}

/// One proposer, with all messages; nodes request values that they have missed.
#[test]
fn decided() {
    let budget = Budget { proposals: 1, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Many>(all_messages).with_events(two_propose).budget(budget);
    check("decided", explore, &[Coverage::Chosen, Coverage::LostWrite]);
}

/// The log grows before n1 learns that its value is chosen.
#[test]
fn late_learning() {
    let budget = Budget { proposals: 1, ..Budget::default() };
    let explore = three::<Many>(all_messages).with_setup(ahead);
    let explore = explore.with_events(|_, node| node == N2).budget(budget);
    check("late learning", explore, &[Coverage::Chosen]);
}

#[test]
fn log() {
    let budget = Budget { proposals: 2, ..Budget::default() };
    let explore = three::<Many>(without_learning)
        .with_events(two_propose)
        .budget(budget)
        .max_steps(MAX_TEST_STEPS);
    check("log", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_decree() {
    let budget = Budget { proposals: 2, crashes: 2, slow_writes: 2, ..Budget::default() };
    let explore = three::<Single>(without_learning).with_events(two_propose).budget(budget);
    check(
        "large decree",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

/// Complete search of `duel`.
#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_duel() {
    let budget = Budget { proposals: 2, timeouts: 1, ..Budget::default() };
    let explore = three::<Single>(without_learning).with_events(only_n2_times_out).budget(budget);
    check("large duel", explore.depth_first(), &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_log() {
    let budget = Budget { proposals: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Many>(without_learning).with_events(two_propose).budget(budget);
    check(
        "large log",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}
