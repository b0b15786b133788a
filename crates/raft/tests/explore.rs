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

/// Returns a search of three nodes without pre-vote and check-quorum, which only prevent needless
/// elections: each campaign takes few steps and may begin at any time.
fn plain() -> Explore<Raft> {
    plain_nodes(3)
}

fn plain_nodes(count: u64) -> Explore<Raft> {
    let config = |id, members| {
        let config = Config::new(id, members).unwrap();
        config.with_pre_vote(false).with_check_quorum(false)
    };
    Explore::new(count, config).unwrap().with_timers(|timer| *timer == Timer::Election)
}

/// Returns a search of three nodes with the default settings. With each timer their clocks move past all
/// timeouts. Pre-votes are delivered immediately.
fn with_pre_vote() -> Explore<Raft> {
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

/// Setup: n1 leads term 1.
fn n1_leads(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|_, _, _| true);
}

/// Setup: n1 led term 1 and has an entry that no other node has. n3 leads term 2 and has another entry in
/// that slot, which is in flight.
fn conflicting_logs(stage: &mut Setup<'_, Raft>) {
    n1_leads(stage);
    stage.propose(N1, "one");
    stage.lose_all();
    stage.timeout(N3, Timer::Election);
    stage.deliver(|_, _, message| !matches!(message, Message::Append(_)));
}

/// Setup: [`conflicting_logs`], and n3 has crashed before another node received its entry.
fn figure_8(stage: &mut Setup<'_, Raft>) {
    conflicting_logs(stage);
    stage.lose_all();
    stage.crash(N3);
}

/// Setup: [`conflicting_logs`], and the appends of n3 are lost.
fn conflicting_logs_and_lost_appends(stage: &mut Setup<'_, Raft>) {
    conflicting_logs(stage);
    stage.lose_all();
}

/// Setup: n2 has voted for n1, and the vote is in flight. These two are half of four nodes.
fn vote_in_flight(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N1, Timer::Election);
    stage.deliver(|from, to, _| from == N1 && to == N2);
}

/// Setup: a vote for n1 in term 1 is in flight. n3 leads term 2 and has chosen a value with n2.
fn stale_vote_in_flight(stage: &mut Setup<'_, Raft>) {
    vote_in_flight(stage);
    stage.timeout(N3, Timer::Election);
    stage.timeout(N3, Timer::Election);
    stage.deliver(|from, to, _| from != N1 && to != N1);
    stage.propose(N3, "one");
    stage.deliver(|from, to, _| from != N1 && to != N1);
}

/// Setup: n2 and n3 campaign for term 1, and n2 is elected with the vote of n1, which has received no
/// message of n3.
fn two_candidates_and_a_leader(stage: &mut Setup<'_, Raft>) {
    stage.timeout(N3, Timer::Election);
    stage.timeout(N2, Timer::Election);
    stage.deliver(|from, to, message| {
        from != N3 && to != N3 && !matches!(message, Message::Append(_))
    });
}

/// Allows campaigns of n2 and n3, and faults of n1, which votes.
fn two_candidates(event: NodeEvent, node: NodeId) -> bool {
    match event {
        NodeEvent::Timeout => node != N1,
        NodeEvent::Crash | NodeEvent::SlowWrite | NodeEvent::Compaction => node == N1,
        NodeEvent::Proposal | NodeEvent::Read => true,
    }
}

/// Setup: n1 leads and has committed an entry. The other nodes hold it and have not received the commit
/// index.
fn committed_by_the_leader(stage: &mut Setup<'_, Raft>) {
    n1_leads(stage);
    stage.propose(N1, "one");
    stage.deliver(|_, _, message| matches!(message, Message::Append(_) | Message::AppendAck(_)));
    stage.lose_all();
}

/// Setup: n1 led term 1, and leads term 3. The reply of n2 to a round of reads of term 1 is in flight.
fn n1_leads_again(stage: &mut Setup<'_, Raft>) {
    let is_late = |message: &Message| match message {
        Message::HeartbeatAck(ack) => ack.term == Term(1) && ack.round > 0,
        _ => false,
    };
    n1_leads(stage);
    stage.read(N1);
    stage.deliver(|_, to, message| to == N2 && matches!(message, Message::Heartbeat(_)));
    for node in [N3, N1] {
        stage.timeout(node, Timer::Election);
        stage.deliver(|_, _, message| !is_late(message));
    }
    assert_eq!(stage.leaders(), [N1]);
}

fn check(name: &str, explore: Explore<Raft>, expected: &[Coverage]) {
    let report = explore.run();
    println!("{name}: {report}");
    report.assert_safe(expected);
}

#[test]
fn elections() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = plain().with_events(two_candidates).budget(budget);
    check(
        "elections",
        explore,
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
fn stale_votes() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore =
        plain().with_setup(stale_vote_in_flight).with_events(|_, node| node == N1).budget(budget);
    check("stale votes", explore, &[Coverage::CompetingWrites]);
}

/// Only votes are delivered, each perhaps twice: the search is about elections.
#[test]
fn split_votes() {
    let budget = Budget { timeouts: 1, duplicates: 2, ..Budget::default() };
    let explore = plain_nodes(4).delivery(|message| match message {
        Message::RequestVote(_) | Message::Vote(_) => Delivery::AnyTime,
        _ => Delivery::Dropped,
    });
    let explore =
        explore.with_setup(vote_in_flight).with_events(|_, node| node == N3).budget(budget);
    check("split votes", explore, &[]);
}

#[test]
fn entries_of_older_terms() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = plain().with_setup(figure_8).with_events(|_, node| node != N2).budget(budget);
    check("entries of older terms", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn logs_that_differ() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore =
        plain().with_setup(conflicting_logs).with_events(|_, node| node == N1).budget(budget);
    check("logs that differ", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// The leader sends to a node with a conflicting entry, and to one that lacks an entry. At each heartbeat
/// acknowledgements are overdue, so it sends probes.
#[test]
fn heartbeats() {
    let budget = Budget { timeouts: 1, proposals: 1, ..Budget::default() };
    let explore = plain()
        .with_setup(conflicting_logs)
        .with_timers(|timer| *timer == Timer::Heartbeat)
        .clock_step(OVERDUE);
    let explore = explore.with_events(|_, node| node == N3).budget(budget);
    check("heartbeats", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// A probe, perhaps duplicated, ends inside the log of a follower with a stale tail: the follower must
/// acknowledge and commit no entry after the probe's. An append with entries cannot end there in a search:
/// a leader searches back to the last common entry, so the first one that is accepted cuts the tail. Only
/// an installed snapshot, which searches do not have, makes a leader start before that entry.
#[test]
fn stale_tails() {
    let budget = Budget { timeouts: 2, duplicates: 1, ..Budget::default() };
    let explore = plain()
        .with_setup(conflicting_logs_and_lost_appends)
        .with_timers(|timer| *timer == Timer::Heartbeat);
    let explore = explore.clock_step(OVERDUE).with_events(|_, node| node == N3).budget(budget);
    check("stale tails", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

/// A voter receives a message of the leader, and then one of the candidate that lost to it.
#[test]
fn late_candidates() {
    let budget = Budget { timeouts: 1, ..Budget::default() };
    let explore = plain()
        .with_setup(two_candidates_and_a_leader)
        .with_timers(|timer| *timer == Timer::Heartbeat);
    let explore = explore.with_events(|_, node| node == N2).budget(budget);
    check("late candidates", explore, &[Coverage::Chosen]);
}

#[test]
fn late_appends() {
    let budget = Budget { proposals: 2, duplicates: 1, slow_writes: 1, ..Budget::default() };
    let explore = plain().with_setup(n1_leads).with_events(|_, node| node == N1).budget(budget);
    check("late appends", explore, &[Coverage::Chosen]);
}

/// n3 may depose n1 at any time, without a message to n1.
#[test]
fn reads_of_a_leader() {
    let budget = Budget { timeouts: 1, reads: 2, ..Budget::default() };
    let explore =
        plain().with_setup(n1_leads).budget(budget).with_events(|event, node| match event {
            NodeEvent::Read => node == N1,
            _ => node == N3,
        });
    check("reads of a leader", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n2 is elected, and reads while its no-op is in flight.
#[test]
fn reads_of_a_new_leader() {
    let budget = Budget { timeouts: 1, reads: 1, duplicates: 1, ..Budget::default() };
    let explore = plain().with_setup(committed_by_the_leader).with_events(|_, node| node == N2);
    check("reads of a new leader", explore.budget(budget), &[Coverage::Chosen, Coverage::Read]);
}

#[test]
fn reads_and_answers_of_older_terms() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore =
        plain().with_setup(n1_leads_again).budget(budget).with_events(|event, node| match event {
            NodeEvent::Read => node == N1,
            _ => node == N3,
        });
    check("reads and answers of older terms", explore, &[Coverage::Chosen, Coverage::Read]);
}

/// n3 sends a request to n1, which n2 may depose.
#[test]
fn reads_of_a_follower() {
    let budget = Budget { timeouts: 1, reads: 1, ..Budget::default() };
    let explore =
        plain().with_setup(n1_leads).budget(budget).with_events(|event, node| match event {
            NodeEvent::Timeout => node == N2,
            _ => node == N3,
        });
    check("reads of a follower", explore, &[Coverage::Chosen, Coverage::Read]);
}

#[test]
fn elections_with_pre_vote() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = with_pre_vote().with_events(|_, node| node != N1).budget(budget);
    check("elections with pre-vote", explore, &[Coverage::Chosen, Coverage::CompetingWrites]);
}

#[test]
fn depth_first_and_breadth_first_reach_the_same_states() {
    let budget = Budget { timeouts: 1, crashes: 1, slow_writes: 1, ..Budget::default() };
    let explore = || plain().with_setup(n1_leads).with_events(|_, node| node != N3).budget(budget);
    let (deep, broad) = (explore().depth_first().run(), explore().run());
    assert!(deep.is_exhausted && broad.is_exhausted, "deep: {deep}; broad: {broad}");
    assert_eq!((deep.states, deep.reached), (broad.states, broad.reached));
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_elections() {
    let budget = Budget { timeouts: 2, crashes: 1, slow_writes: 2, ..Budget::default() };
    let explore = plain().with_events(|_, node| node != N1).budget(budget);
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
        plain().with_setup(n1_leads).budget(budget).depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite],
    );
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_conflicting_logs() {
    let budget =
        Budget { timeouts: 1, crashes: 1, proposals: 1, slow_writes: 1, ..Budget::default() };
    let explore =
        plain().with_setup(conflicting_logs).with_events(|_, node| node == N1).budget(budget);
    check(
        "large conflicting logs",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::LostWrite, Coverage::CompetingWrites],
    );
}

#[test]
#[ignore = "large: make explore ARGS=raft"]
fn large_older_terms() {
    let budget = Budget { timeouts: 2, ..Budget::default() };
    let explore = plain().with_setup(figure_8).budget(budget);
    check(
        "large older terms",
        explore.depth_first(),
        &[Coverage::Chosen, Coverage::CompetingWrites],
    );
}
