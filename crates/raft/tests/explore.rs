//! Exhaustive exploration of the states that a small cluster of the real core reaches.
//!
//! The searches that are ignored are larger: `make explore ARGS=raft` runs them.

use std::time::Duration;
use synod_explore::{Budget, Coverage, Delivery, Explore, NodeEvent, Setup};
use synod_raft::types::{NodeId, Term};
use synod_raft::{Config, Message, Raft, Timer};

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Time after which a leader with the default settings probes.
const OVERDUE: Duration = Duration::from_millis(50);

/// Three nodes without pre-vote and check-quorum, which only prevent needless elections: every campaign
/// takes few steps and may come at any time.
fn rash() -> Explore<Raft> {
    rash_nodes(3)
}

fn rash_nodes(count: u64) -> Explore<Raft> {
    let config = |id, members| {
        let config = Config::new(id, members).unwrap();
        config.with_pre_vote(false).with_check_quorum(false)
    };
    Explore::new(count, config).unwrap().with_timers(|timer| *timer == Timer::Election)
}

/// Three nodes with the default settings, whose clocks move past every timeout with each timer.
/// Pre-votes take no time.
fn polite() -> Explore<Raft> {
    let config = |id, members| Config::new(id, members).unwrap();
    Explore::new(3, config)
        .unwrap()
        .with_timers(|timer| *timer == Timer::Election)
        .clock_step(Duration::from_secs(1))
        .delivery(|message| match message {
            Message::PreVote(_) | Message::PreVoteReply(_) => Delivery::Immediate,
            _ => Delivery::AnyTime,
        })
}

/// n1 leads.
fn led(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|_, _, _| true);
}

/// n1 led term 1 and has an entry that no other node has; n3 leads term 2 and proposes another one in
/// its slot, which is in flight.
fn forked(stage: &mut Setup<'_, Raft>) {
    led(stage);
    stage.propose(N1, "one");
    stage.lose_all();
    stage.timeout(N3, Timer::Election);
    stage.deliver(|_, _, message| !matches!(message, Message::Append(_)));
}

/// The same, but n3 has crashed before any other node received its entry.
fn figure_8(stage: &mut Setup<'_, Raft>) {
    forked(stage);
    stage.lose_all();
    stage.crash(N3);
}

/// The same, but the appends of n3 are lost, and n1 still holds its own entry.
fn forked_and_lost(stage: &mut Setup<'_, Raft>) {
    forked(stage);
    stage.lose_all();
}

/// n2 has voted for n1, and the vote is in flight: these two are half of four nodes.
fn half(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|from, to, _| from == N1 && to == N2);
}

/// A vote for n1 in term 1 is in flight; n3 leads term 2 and has chosen a value with n2.
fn overtaken(stage: &mut Setup<'_, Raft>) {
    half(stage);
    stage.timeout(N3, Timer::Election);
    stage.timeout(N3, Timer::Election);
    stage.deliver(|from, to, _| from != N1 && to != N1);
    stage.propose(N3, "one");
    stage.deliver(|from, to, _| from != N1 && to != N1);
}

/// n2 and n3 campaign for term 1, and n2 has won: n1 voted for it, and has received nothing of n3.
fn won(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N3, Timer::Election);
    stage.timeout(N2, Timer::Election);
    stage.deliver(|from, to, message| {
        from != N3 && to != N3 && !matches!(message, Message::Append(_))
    });
}

/// n2 and n3 campaign; n1 votes, may crash, and may have a slow disk.
fn two_campaign(trouble: NodeEvent, node: NodeId) -> bool {
    match trouble {
        NodeEvent::Timeout => node != N1,
        NodeEvent::Crash | NodeEvent::SlowWrite | NodeEvent::Compaction => node == N1,
        NodeEvent::Proposal | NodeEvent::Read => true,
    }
}

/// n1 leads and has committed an entry. The others hold it and have not received that it is committed.
fn committed_by_the_leader(stage: &mut Setup<'_, Raft>) {
    led(stage);
    stage.propose(N1, "one");
    stage.deliver(|_, _, message| matches!(message, Message::Append(_) | Message::AppendAck(_)));
    stage.lose_all();
}

/// n1 led term 1, and leads term 3. An answer of n2 to its first round of reads is in flight, another
/// one of term 1.
fn led_twice(stage: &mut Setup<'_, Raft>) {
    let is_late = |message: &Message| matches!(message, Message::HeartbeatAck(ack) if ack.term == Term(1) && ack.round > 0);
    led(stage);
    stage.read(N1);
    stage.deliver(|_, to, message| to == N2 && matches!(message, Message::Heartbeat(_)));
    for node in [N3, N1] {
        stage.timeout(node, Timer::Election);
        stage.deliver(|_, _, message| !is_late(message));
    }
    assert_eq!(stage.leaders(), [N1]);
}

fn check(name: &str, explore: Explore<Raft>, sights: &[Coverage]) {
    let report = explore.run();
    println!("{name}: {report}");
    report.assert_safe(sights);
}

#[test]
fn elections() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = rash().with_events(two_campaign).budget(budget);
    check(
        "elections",
        explore,
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
fn stale_votes() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore = rash().with_setup(overtaken).with_events(|_, node| node == N1).budget(budget);
    check("stale votes", explore, &[Coverage::CompetingWrites]);
}

/// Only votes travel, each perhaps twice: the search is about leaders only.
#[test]
fn split_votes() {
    let budget = Budget { timeouts: 1, duplicates: 2, ..Budget::default() };
    let explore = rash_nodes(4).delivery(|message| match message {
        Message::RequestVote(_) | Message::Vote(_) => Delivery::AnyTime,
        _ => Delivery::Dropped,
    });
    let explore = explore.with_setup(half).with_events(|_, node| node == N3).budget(budget);
    check("split votes", explore, &[]);
}

#[test]
fn entries_of_older_terms() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = rash().with_setup(figure_8).with_events(|_, node| node != N2).budget(budget);
    check("entries of older terms", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn logs_that_differ() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore = rash().with_setup(forked).with_events(|_, node| node == N1).budget(budget);
    check("logs that differ", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// The leader sends to a node that holds something else, and to one that lacks something. By the time of
/// a heartbeat acknowledgements are overdue, so that probes are sent.
#[test]
fn heartbeats() {
    let budget = Budget { timeouts: 1, proposals: 1, ..Budget::default() };
    let explore = rash()
        .with_setup(forked)
        .with_timers(|timer| *timer == Timer::Heartbeat)
        .clock_step(OVERDUE);
    let explore = explore.with_events(|_, node| node == N3).budget(budget);
    check("heartbeats", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// Probes, perhaps twice, cover what a follower holds, and a stale tail lies after it: what is
/// acknowledged and committed ends where they end. Appends with entries never do in a search: a
/// leader searches back to the last entry that both logs hold and no further, so the first of them to
/// be accepted cuts the tail. Only an installed snapshot, which no search has, makes it start before.
#[test]
fn stale_tails() {
    let budget = Budget { timeouts: 2, duplicates: 1, ..Budget::default() };
    let explore =
        rash().with_setup(forked_and_lost).with_timers(|timer| *timer == Timer::Heartbeat);
    let explore = explore.clock_step(OVERDUE).with_events(|_, node| node == N3).budget(budget);
    check("stale tails", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// A voter receives a message of the leader, and then one of the candidate that lost to it.
#[test]
fn late_rivals() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore = rash().with_setup(won).with_timers(|timer| *timer == Timer::Heartbeat);
    let explore = explore.with_events(|_, node| node == N2).budget(budget);
    check("late rivals", explore, &[Coverage::Chosen]);
}

#[test]
fn late_appends() {
    let budget = Budget { proposals: 2, duplicates: 1, slow_writes: 1, ..Budget::default() };
    let explore = rash().with_setup(led).with_events(|_, node| node == N1).budget(budget);
    check("late appends", explore, &[Coverage::Chosen]);
}

/// n1 may be deposed by n3 at any time, and does not know it.
#[test]
fn reads_of_a_leader() {
    let budget = Budget { timeouts: 1, reads: 2, ..Budget::default() };
    let explore = rash().with_setup(led).budget(budget).with_events(|event, node| match event {
        NodeEvent::Read => node == N1,
        _ => node == N3,
    });
    check("reads of a leader", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n2 is elected, and reads while its no-op is in flight.
#[test]
fn reads_of_a_new_leader() {
    let budget = Budget { timeouts: 1, reads: 1, duplicates: 1, ..Budget::default() };
    let explore = rash().with_setup(committed_by_the_leader).with_events(|_, node| node == N2);
    check("reads of a new leader", explore.budget(budget), &[Coverage::Chosen, Coverage::Read]);
}

#[test]
fn reads_and_answers_of_older_terms() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore =
        rash().with_setup(led_twice).budget(budget).with_events(|event, node| match event {
            NodeEvent::Read => node == N1,
            _ => node == N3,
        });
    check("reads and answers of older terms", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n3 asks n1, which may be deposed by n2 meanwhile, and may restart.
#[test]
fn reads_of_a_follower() {
    let budget = Budget { timeouts: 1, reads: 2, crashes: 1, ..Budget::default() };
    let explore = rash().with_setup(led).budget(budget).with_events(|event, node| match event {
        NodeEvent::Timeout => node == N2,
        _ => node == N3,
    });
    check("reads of a follower", explore, &[Coverage::Chosen, Coverage::Read]);
}

#[test]
fn polite_elections() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = polite().with_events(|_, node| node != N1).budget(budget);
    check("polite elections", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn depth_first_and_breadth_first_see_the_same_states() {
    let budget = Budget { timeouts: 1, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = || rash().with_setup(led).with_events(|_, node| node != N3).budget(budget);
    let (deep, broad) = (explore().depth_first().run(), explore().run());
    assert!(deep.is_exhausted && broad.is_exhausted, "deep: {deep}; broad: {broad}");
    assert_eq!((deep.states, deep.reached), (broad.states, broad.reached));
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_elections() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 2, ..Budget::default() };
    let explore = rash().with_events(|_, node| node != N1).budget(budget);
    check(
        "large elections",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_replication() {
    let budget =
        Budget { timeouts: 1, crashes: 1, proposals: 1, slow_writes: 2, ..Budget::default() };
    check(
        "large replication",
        rash().with_setup(led).budget(budget).depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite],
    );
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_forks() {
    let budget =
        Budget { timeouts: 1, crashes: 1, proposals: 1, slow_writes: 1, ..Budget::default() };
    let explore = rash().with_setup(forked).with_events(|_, node| node == N1).budget(budget);
    check(
        "large forks",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_older_terms() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = rash().with_setup(figure_8).budget(budget);
    check(
        "large older terms",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::CompetingWrites],
    );
}
