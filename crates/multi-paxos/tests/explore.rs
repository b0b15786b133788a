//! Exhaustive exploration of the states that a small cluster of the real core reaches.
//!
//! The searches that are ignored are larger: `make explore ARGS=multi-paxos` runs them.

use std::time::Duration;
use synod_explore::{Budget, Coverage, Delivery, Explore, NodeEvent, Setup};
use synod_multi_paxos::types::NodeId;
use synod_multi_paxos::{Config, ElectionState, Heartbeat, Message, MultiPaxos, Timer};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Delivers heartbeats of pre-campaigns at once, and drops all others.
fn all_messages(message: &Message) -> Delivery {
    match message {
        Message::Heartbeat(Heartbeat { view, .. })
            if view.state == ElectionState::PreCampaigning =>
        {
            Delivery::Immediate
        }
        Message::HeartbeatReply(_) => Delivery::Immediate,
        Message::Heartbeat(_) => Delivery::Dropped,
        _ => Delivery::AnyTime,
    }
}

/// Drops messages that report chosen slots or rejected ballots.
fn quiet(message: &Message) -> Delivery {
    match message {
        Message::Commit(_) | Message::Learn(_) | Message::Nack(_) => Delivery::Dropped,
        _ => all_messages(message),
    }
}

fn three(traffic: fn(&Message) -> Delivery) -> Explore<MultiPaxos> {
    nodes(3, traffic)
}

fn nodes(count: u64, traffic: fn(&Message) -> Delivery) -> Explore<MultiPaxos> {
    Explore::new(count, |id, members| Config::new(id, members).unwrap())
        .unwrap()
        .with_timers(|timer| *timer == Timer::Election)
        .clock_step(Duration::from_secs(1))
        .delivery(traffic)
}

fn check(name: &str, explore: Explore<MultiPaxos>, sights: &[Coverage]) {
    let report = explore.run();
    println!("{name}: {report}");
    report.assert_safe(sights);
}

/// n2 and n3 campaign; n1 replies, may crash, and may have a slow disk.
fn two_campaign(trouble: NodeEvent, node: NodeId) -> bool {
    match trouble {
        NodeEvent::Timeout => node != N1,
        NodeEvent::Crash | NodeEvent::SlowWrite | NodeEvent::Compaction => node == N1,
        NodeEvent::Proposal | NodeEvent::Read => true,
    }
}

/// n1 led at 1.1 and has a value that no other node has; n3 leads at 2.3 and proposes another one in its
/// slot, which is in flight.
fn forked(stage: &mut Setup<'_, MultiPaxos>) {
    forked_after(stage, &["one"]);
}

/// The same, but n1 has a second value in the next slot.
fn forked_twice(stage: &mut Setup<'_, MultiPaxos>) {
    forked_after(stage, &["one", "two"]);
}

fn forked_after(stage: &mut Setup<'_, MultiPaxos>, commands: &[&'static str]) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|_, _, _| true);
    for command in commands {
        stage.propose(N1, command);
    }
    stage.lose_all();
    stage.timeout(N3, Timer::Election);
    stage.deliver(|from, to, message| {
        from != N1 && to != N1 && !matches!(message, Message::Accept(_))
    });
    stage.crash(N1);
}

/// A promise to n1 is in flight, but n1 has crashed; n3 leads and has chosen a value with n2.
fn overtaken(stage: &mut Setup<'_, MultiPaxos>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|from, to, _| from == N1 && to == N2);
    stage.crash(N1);
    stage.timeout(N3, Timer::Election);
    stage.deliver(|from, to, _| from != N1 && to != N1);
    stage.propose(N3, "one");
    stage.deliver(|from, to, _| from != N1 && to != N1);
}

/// n1 leads, and n3 has received no message of it.
fn lagging(stage: &mut Setup<'_, MultiPaxos>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|from, to, _| from != N3 && to != N3);
    stage.propose(N1, "one");
    stage.deliver(|from, to, _| from != N3 && to != N3);
    stage.lose_all();
    stage.crash(N1);
}

/// n1 leads, and every node has received a message of it.
fn led(stage: &mut Setup<'_, MultiPaxos>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|_, _, _| true);
}

/// n1 has chosen a value, which the others have accepted without knowing that it is chosen. n1 has crashed,
/// because its replies would show this to a candidate.
fn chosen_by_the_leader(stage: &mut Setup<'_, MultiPaxos>) {
    led(stage);
    stage.propose(N1, "one");
    stage.deliver(|_, _, message| matches!(message, Message::Accept(_) | Message::Accepted(_)));
    stage.lose_all();
    stage.crash(N1);
}

/// n1 leads for the second time, after n3. n2's reply to the first round of reads is in flight.
fn led_twice(stage: &mut Setup<'_, MultiPaxos>) {
    led(stage);
    stage.read(N1);
    stage.deliver(|_, to, message| to == N2 && matches!(message, Message::ReadRound(_)));
    for node in [N3, N1] {
        stage.timeout(node, Timer::Election);
        stage.deliver(|_, _, message| !matches!(message, Message::ReadRoundAck(_)));
    }
    assert_eq!(stage.leaders(), [N1]);
}

/// n1 and n2 have chosen a value, n3 has received nothing, and n1 no longer holds the value.
fn trimmed(stage: &mut Setup<'_, MultiPaxos>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|from, to, _| from != N3 && to != N3);
    stage.propose(N1, "one");
    stage.deliver(|from, to, _| from != N3 && to != N3);
    stage.lose_all();
    stage.compact(N1);
    stage.crash(N1);
}

#[test]
fn elections() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three(quiet).with_events(two_campaign).budget(budget);
    check(
        "elections",
        explore,
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
fn restarts() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = three(all_messages).with_events(|_, node| node == N1).budget(budget);
    check("restarts", explore, &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites]);
}

#[test]
fn logs_that_differ() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore =
        three(all_messages).with_setup(forked).with_events(|_, node| node == N1).budget(budget);
    check("logs that differ", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// Accepts, also duplicates, cover slots that an acceptor holds, before a slot of an older ballot: it
/// acknowledges and learns nothing after them.
#[test]
fn stale_tails() {
    let budget = Budget { proposals: 1, duplicates: 1, ..Budget::default() };
    let explore = three(all_messages).with_setup(forked_twice).with_events(|_, node| node == N3);
    check("stale tails", explore.budget(budget), &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn stale_promises() {
    let budget = Budget { timeouts: 1, proposals: 1, ..Budget::default() };
    let explore =
        three(quiet).with_setup(overtaken).with_events(|_, node| node == N1).budget(budget);
    check("stale promises", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn laggards() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = three(quiet).with_setup(lagging).with_events(|_, node| node != N2).budget(budget);
    check("laggards", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// n1 leads twice, and may have lost its earlier proposals.
#[test]
fn earlier_terms_of_a_leader() {
    let budget =
        Budget { timeouts: 1, crashes: 1, proposals: 2, slow_writes: 1, ..Budget::default() };
    let explore = three(quiet).with_setup(led).with_events(|_, node| node == N1).budget(budget);
    check(
        "earlier reigns",
        explore,
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
fn compacted_logs() {
    let budget = Budget { timeouts: 1, proposals: 1, compactions: 1, ..Budget::default() };
    let explore =
        three(all_messages).with_setup(trimmed).with_events(|_, node| node != N1).budget(budget);
    check("trimmed logs", explore, &[Coverage::Chosen]);
}

/// n1 may be overtaken by n3 at any time.
#[test]
fn reads_of_a_leader() {
    let budget = Budget { timeouts: 1, reads: 2, ..Budget::default() };
    let explore =
        three(quiet).with_setup(led).budget(budget).with_events(|event, node| match event {
            NodeEvent::Read => node == N1,
            _ => node == N3,
        });
    check("reads of a leader", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n2 completes phase 1, and reads before its barrier is chosen.
#[test]
fn reads_of_a_new_leader() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore = three(quiet).with_setup(chosen_by_the_leader).budget(budget);
    let explore = explore.with_events(|_, node| node == N2);
    check("reads of a new leader", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n1 leads for the second time, and an answer to a round of its first ballot is in flight.
#[test]
fn reads_and_answers_of_older_ballots() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore =
        three(quiet).with_setup(led_twice).budget(budget).with_events(|event, node| match event {
            NodeEvent::Read => node == N1,
            _ => node == N3,
        });
    check("reads and answers of older ballots", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n3 sends a read request to n1, which n2 may overtake.
#[test]
fn reads_of_a_follower() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore =
        three(all_messages).with_setup(led).budget(budget).with_events(|event, node| match event {
            NodeEvent::Timeout => node == N2,
            _ => node == N3,
        });
    check("reads of a follower", explore, &[Coverage::Chosen, Coverage::Read]);
}

#[test]
#[ignore = "large: make explore ARGS=multi-paxos"]
fn large_elections() {
    let budget =
        Budget { timeouts: 2, crashes: 1, proposals: 1, slow_writes: 1, ..Budget::default() };
    let explore = three(quiet).with_events(two_campaign).budget(budget);
    check(
        "large elections",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
#[ignore = "large: make explore ARGS=multi-paxos"]
fn large_reigns() {
    let budget =
        Budget { timeouts: 1, crashes: 1, proposals: 2, slow_writes: 1, ..Budget::default() };
    let explore = three(quiet).with_setup(led).with_events(|_, node| node != N3).budget(budget);
    check(
        "large reigns",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
#[ignore = "large: make explore ARGS=multi-paxos"]
fn large_forks() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore =
        three(all_messages).with_setup(forked).with_events(|_, node| node == N1).budget(budget);
    check("large forks", explore.depth_first(), &[Coverage::Chosen, Coverage::CompetingWrites]);
}
