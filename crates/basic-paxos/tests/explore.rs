//! Exhaustive exploration of the states that a small cluster of the real cores reaches: of one decree,
//! and of a log.
//!
//! The searches that are ignored are larger: `make explore ARGS=basic-paxos` runs them.

use std::time::Duration;
use synod_basic_paxos::types::NodeId;
use synod_basic_paxos::{
    Arity, Config, Many, Message, MessageBatch, PaxosLog, Single, Timer, Timing,
};
use synod_explore::{Budget, Coverage, Delivery, Explore, NodeEvent, Setup};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Steps of a search that `make test` has no time to finish.
const FEW: usize = 1_500_000;

/// No message reports or requests what is chosen.
fn quiet(batch: &MessageBatch) -> Delivery {
    let news = |message: &Message| {
        matches!(message, Message::Learned(_) | Message::Chosen(_) | Message::Learn(_))
    };
    if batch.messages().iter().all(news) { Delivery::Dropped } else { Delivery::AnyTime }
}

fn talkative(_: &MessageBatch) -> Delivery {
    Delivery::AnyTime
}

/// The shortest round trip that is ever measured, so that measuring changes nothing.
fn three<K: Arity + Sync>(traffic: fn(&MessageBatch) -> Delivery) -> Explore<PaxosLog<K>> {
    let config = |id, members| {
        let timing = Timing { round_trip: Duration::from_micros(50), ..Timing::default() };
        Config::new(id, members).unwrap().with_timing(timing).unwrap()
    };
    let explore = Explore::new(3, config).unwrap().delivery(traffic);
    explore.with_timers(|timer| matches!(timer, Timer::Slot(_)))
}

/// n2 and n3 propose; n1 votes, may crash, and may have a slow disk.
fn two_propose(trouble: NodeEvent, node: NodeId) -> bool {
    match trouble {
        NodeEvent::Timeout | NodeEvent::Proposal | NodeEvent::Read => node != N1,
        NodeEvent::Crash | NodeEvent::SlowWrite | NodeEvent::Compaction => node == N1,
    }
}

/// n2 and n3 propose, and n2 times out.
fn one_insists(trouble: NodeEvent, node: NodeId) -> bool {
    if trouble == NodeEvent::Timeout { node == N2 } else { node != N1 }
}

/// n1 has voted for its own value, alone; n2 and n3 have chosen another one under a later ballot.
fn forked(stage: &mut Setup<'_, PaxosLog<Single>>) {
    let accepts =
        |batch: &MessageBatch| batch.messages().iter().any(|it| matches!(it, Message::Accept(_)));
    stage.propose(N1, "one");
    stage.deliver(|from, to, batch| from != N3 && to != N3 && !accepts(batch));
    stage.lose_all();
    stage.propose(N3, "two");
    stage.deliver(|from, to, _| from != N1 && to != N1);
    stage.lose_all();
}

/// A promise to n1 is in flight; n3 has overtaken it and chosen a value with n2.
fn overtaken(stage: &mut Setup<'_, PaxosLog<Single>>) {
    stage.propose(N1, "one");
    stage.deliver(|from, to, _| from == N1 && to == N2);
    stage.propose(N3, "two");
    stage.deliver(|from, to, _| from != N1 && to != N1);
}

/// n2 and n3 have chosen a value in the first slot of a log; all messages about it to n1 are in flight.
fn ahead(stage: &mut Setup<'_, PaxosLog<Many>>) {
    stage.propose(N2, "one");
    stage.deliver(|from, to, _| from != N1 && to != N1);
}

fn check<K: Arity + Sync>(name: &str, explore: Explore<PaxosLog<K>>, sights: &[Coverage]) {
    let report = explore.run();
    println!("{name}: {report}");
    report.assert_safe(sights);
}

#[test]
fn decree() {
    let budget = Budget { proposals: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Single>(quiet).with_events(two_propose).budget(budget);
    check("decree", explore, &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites]);
}

#[test]
fn restarts() {
    let budget =
        Budget { proposals: 2, crashes: 1, slow_writes: 1, duplicates: 1, ..Budget::default() };
    let explore = three::<Single>(quiet).with_events(|_, node| node == N1).budget(budget);
    check("restarts", explore, &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites]);
}

#[test]
fn duel() {
    let budget = Budget { proposals: 2, timeouts: 1, ..Budget::default() };
    let explore = three::<Single>(quiet).with_events(one_insists).budget(budget).max_steps(FEW);
    check("duel", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn votes_that_differ() {
    let budget = Budget { timeouts: 3, ..Budget::default() };
    let explore = three::<Single>(quiet).with_setup(forked);
    let explore = explore.with_events(|_, node| node == N1).budget(budget);
    check("votes that differ", explore, &[Coverage::CompetingWrites]);
}

/// n1 retransmits, is rejected, begins another ballot, and requests votes again.
#[test]
fn stale_promises() {
    let budget = Budget { timeouts: 4, ..Budget::default() };
    let explore = three::<Single>(quiet).with_setup(overtaken);
    let explore = explore.with_events(|_, node| node == N1).budget(budget);
    check("stale promises", explore, &[Coverage::CompetingWrites]);
}

/// One proposer, with all messages; nodes request what they have missed.
#[test]
fn decided() {
    let budget = Budget { proposals: 1, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Many>(talkative).with_events(two_propose).budget(budget);
    check("decided", explore, &[Coverage::Chosen, Coverage::LostWrite]);
}

/// The log grows while n1 has not learnt that what it holds is chosen.
#[test]
fn late_news() {
    let budget = Budget { proposals: 1, ..Budget::default() };
    let explore = three::<Many>(talkative).with_setup(ahead);
    let explore = explore.with_events(|_, node| node == N2).budget(budget);
    check("late news", explore, &[Coverage::Chosen]);
}

#[test]
fn log() {
    let budget = Budget { proposals: 2, ..Budget::default() };
    let explore = three::<Many>(quiet).with_events(two_propose).budget(budget).max_steps(FEW);
    check("log", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_decree() {
    let budget = Budget { proposals: 2, crashes: 2, slow_writes: 2, ..Budget::default() };
    let explore = three::<Single>(quiet).with_events(two_propose).budget(budget);
    check(
        "large decree",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

/// The whole of the search that `duel` begins.
#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_duel() {
    let budget = Budget { proposals: 2, timeouts: 1, ..Budget::default() };
    let explore = three::<Single>(quiet).with_events(one_insists).budget(budget);
    check("large duel", explore.depth_first(), &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
#[ignore = "large: make explore ARGS=basic-paxos"]
fn large_log() {
    let budget = Budget { proposals: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three::<Many>(quiet).with_events(two_propose).budget(budget);
    check(
        "large log",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}
