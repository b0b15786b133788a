//! Elections: any connected quorum gets a leader, under any partial partition.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{
    HistoryDigest, Host, Input, ProtocolEvent, Role, Saved, TimerChange,
};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, Slot};
use synod_multi_paxos::{
    Accepted, Config, ElectionState, Heartbeat, HeartbeatReply, Message, MultiPaxos, Promise,
    Report, Timer, Timing, View,
};

#[test]
fn partial_partition_quorum_loss() {
    // n3 leads. Then only n1 reaches all others: n3 has lost its quorum, and only n1 has one.
    let mut cluster = Cluster::new(5);
    cluster.elect(N3);
    cluster.write(N3, 1, "before");
    cluster.links(&[(N1, N2), (N1, N3), (N1, N4), (N1, N5)]);
    assert_eq!(cluster.leader_of(&[N1], 4 * TIMEOUT), N1);
    cluster.write(N1, 2, "after");
    cluster.run_for(TIMEOUT);
    assert_eq!(cluster.leaders(), [N1], "and the old one let go");
    cluster.assert_equal(&["before", "after"]);
}

#[test]
fn partial_partition_constrained_election() {
    // As before, but n1 missed the last write, and the old leader is partitioned: only n1 can lead, with a
    // log that lags. If only the best log could lead, no node could.
    let mut cluster = Cluster::new(5);
    cluster.elect(N3);
    cluster.links(&[(N3, N2), (N3, N4), (N3, N5), (N2, N4), (N2, N5), (N4, N5)]);
    cluster.write(N3, 1, "missed by n1");
    assert_eq!(cluster.node(N1).commands().len(), 0);
    cluster.links(&[(N1, N2), (N1, N4), (N1, N5)]);
    assert_eq!(cluster.leader_of(&[N1], 4 * TIMEOUT), N1);
    cluster.write(N1, 2, "after");
    assert_eq!(cluster.node(N1).commands(), ["missed by n1", "after"]);
    cluster.run_for(2 * TIMEOUT);
    assert_eq!(cluster.leaders(), [N1]);
}

#[test]
fn partial_partition_chain() {
    // n1 - n2 - n3: n3 has no contact with the leader n1, but sees from n2's view that n2 has. No node that
    // reaches fewer others deposes the leader repeatedly, and n3 learns chosen values from n2.
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    let before = cluster.node(N2).promised();
    cluster.links(&[(N1, N2), (N2, N3)]);
    for ticket in 0..10 {
        cluster.run_for(4 * TIMEOUT);
        assert_eq!(cluster.leaders(), [N1], "in round {ticket}");
        cluster.write(N1, ticket, "again");
    }
    cluster.run_for(4 * TIMEOUT);
    assert_eq!(cluster.node(N2).promised(), before, "no node campaigned");
    assert_eq!(cluster.node(N3).commands().len(), 10, "learnt from a follower");
}

#[test]
fn partial_partition_chain_whose_end_led() {
    // The same with a leader that loses all peers except n2, which is still a quorum. Then n1 loses n2,
    // too, and n2 and n3 continue.
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[(N2, N3)]);
    let leader = cluster.leader_of(&[N2, N3], 4 * TIMEOUT);
    cluster.write(leader, 1, "without n1");
    cluster.run_for(2 * TIMEOUT);
    assert_eq!(cluster.node(N2).commands(), ["without n1"]);
    assert_eq!(cluster.leaders(), [leader]);
}

/// Election timeouts are random: otherwise nodes that lose a leader together would campaign together.
#[test]
fn election_timeout_is_drawn_each_time() {
    let config = Config::new(NodeId(1), members(3)).unwrap();
    let mut host = Host::<MultiPaxos>::recover(NodeId(1), config, Saved::default()).unwrap();
    let timers: Vec<_> =
        host.input(Instant::ZERO, Input::Start, &mut ()).timers.drain(..).collect();
    let election = Timing::default().election;
    assert!(election.end >= election.start * 3 / 2, "{election:?} is hardly a choice");
    let drawn = TimerChange::Set(Timer::Election, election);
    assert!(timers.contains(&drawn), "{timers:?}");
}

#[test]
fn node_without_a_quorum_never_campaigns() {
    let mut cluster = Cluster::new(5);
    cluster.links(&[(N1, N2), (N3, N4)]);
    cluster.run_for(20 * TIMEOUT);
    for node in cluster.nodes.values() {
        assert_eq!(node.status().ballot.round, 0, "{:?} took a ballot", node.id());
    }
    cluster.links(&[(N1, N2), (N2, N3), (N1, N3)]);
    cluster.leader_of(&[N1, N2, N3], 4 * TIMEOUT);
}

#[test]
fn leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[]);
    cluster.run_for(2 * TIMEOUT);
    assert_eq!(cluster.leaders(), []);
    let stepped = |event: &ProtocolEvent| matches!(event, ProtocolEvent::SteppedDown { .. });
    assert!(cluster.node(N1).outputs.notes.iter().any(stepped));
    assert_eq!(cluster.node(N1).status().role, Role::Follower);
}

#[test]
fn returning_follower_does_not_depose_the_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[(N1, N2)]);
    cluster.run_for(20 * TIMEOUT);
    let ballot = cluster.node(N1).promised();
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    cluster.run_for(4 * TIMEOUT);
    assert_eq!(cluster.leaders(), [N1]);
    assert_eq!(cluster.node(N3).promised(), ballot);
}

#[test]
fn higher_priority_leads_among_equals() {
    for favourite in 1..=3 {
        let config = |id| {
            let config = Config::new(NodeId(id), members(3)).unwrap();
            config.with_priority(u8::from(id == favourite))
        };
        let mut cluster = Cluster::of((1..=3).map(config));
        assert_eq!(cluster.leader_of(&[N1, N2, N3], 4 * TIMEOUT), NodeId(favourite));
    }
}

#[test]
fn only_possible_leader_leads_despite_a_lower_priority() {
    let config = |id| {
        let config = Config::new(NodeId(id), members(3)).unwrap();
        config.with_priority(if id == 3 { 9 } else { 0 })
    };
    let mut cluster = Cluster::of((1..=3).map(config));
    // n3 replies to n1 and n2 and never receives a reply itself.
    cluster.lose = |_| false;
    cluster.cut.extend([(N1, N3), (N2, N3)]);
    cluster.leader_of(&[N1, N2], 4 * TIMEOUT);
}

#[test]
fn two_candidates_at_once_end_with_one_leader() {
    let mut cluster = Cluster::new(5);
    for id in cluster.ids() {
        let now = cluster.now;
        cluster.node(id).step(now, Input::Timeout(Timer::Election));
    }
    cluster.leader_of(&[N1, N2, N3, N4, N5], 4 * TIMEOUT);
    cluster.run_for(4 * TIMEOUT);
    assert_eq!(cluster.leaders().len(), 1);
}

#[test]
fn flexible_quorums_commit_with_two_of_five_and_elect_with_four() {
    let config = |id| Config::new(NodeId(id), members(5)).unwrap().with_quorums(4, 2).unwrap();
    let mut cluster = Cluster::of((1..=5).map(config));
    cluster.elect(N1);
    cluster.links(&[(N1, N2), (N3, N4), (N4, N5), (N3, N5)]);
    cluster.write(N1, 1, "on two disks");
    cluster.run_for(10 * TIMEOUT);
    assert_eq!(cluster.leaders(), [N1], "three of five are no quorum for phase 1");
    assert_eq!(cluster.node(N2).commands(), ["on two disks"]);
    cluster.links(&[(N2, N3), (N3, N4), (N4, N5), (N3, N5), (N2, N4), (N2, N5)]);
    let leader = cluster.leader_of(&[N2, N3, N4, N5], 4 * TIMEOUT);
    cluster.run_for(Duration::from_millis(100));
    assert_eq!(cluster.node(leader).commands(), ["on two disks"], "four of five meet any two");
}

/// Returns the view of a node without a leader.
fn idle(ballot: Ballot, commit: Slot) -> View {
    let (leader, state, digest) = (None, ElectionState::Following, HistoryDigest::UNKNOWN);
    View {
        ballot,
        leader,
        state,
        has_quorum: false,
        has_live_leader: false,
        commit,
        digest,
        priority: 0,
    }
}

/// Returns the round of a node's last heartbeats.
fn last_round(node: &Node) -> u64 {
    let rounds = node.outputs.sent.iter().filter_map(|(_, message)| match message {
        Message::Heartbeat(Heartbeat { round, .. }) => Some(*round),
        _ => None,
    });
    rounds.last().expect("it has sent heartbeats")
}

#[test]
fn lagging_node_ends_its_pre_campaign() {
    for lags in [false, true] {
        let (mut node, now) = (new_node(1, 3), Instant(1));
        node.step(now, Input::Timeout(Timer::Election));
        if lags {
            node.step(now, Input::Lagging);
        }
        let view = idle(Ballot::ZERO, Slot::ZERO);
        let round = last_round(&node);
        node.receive(now, N2, Message::HeartbeatReply(HeartbeatReply { round, view }));
        let campaigns = |note: &ProtocolEvent| matches!(note, ProtocolEvent::Campaigning { .. });
        assert_eq!(node.outputs.notes.iter().any(campaigns), !lags, "lags: {lags}");
    }
}

/// Found by a search: a node that lacked most of the log led, and served no client until it had pulled
/// all of the log.
#[test]
fn node_with_the_chosen_values_campaigns_first() {
    for (held, expected) in [(4, 2), (5, 1), (9, 1)] {
        let values = vec!["x"; held as usize];
        let config = Config::new(NodeId(1), members(3)).unwrap();
        let mut disk = Saved::<MultiPaxos>::default();
        disk.hard_state.promised = ballot(1, 3);
        disk.log.put(run(1, ballot(1, 3), &values));
        let (mut node, mut now) = (start_node(config, disk), Instant(1));
        let mut timeouts = 0;
        let campaigns = |note: &ProtocolEvent| matches!(note, ProtocolEvent::Campaigning { .. });
        while !node.outputs.notes.iter().any(campaigns) {
            timeouts += 1;
            node.step(now, Input::Timeout(Timer::Election));
            let round = last_round(&node);
            let view = idle(ballot(1, 3), Slot(5));
            node.receive(now, N2, Message::HeartbeatReply(HeartbeatReply { round, view }));
            now = now + Duration::from_secs(1);
        }
        assert_eq!(timeouts, expected, "{held} of 5 slots held");
    }
}

/// Found by a search: an acceptor had learnt more slots from others than the new leader had proposed, and
/// acknowledged these as well. The leader ignored its replies from then on.
#[test]
fn acceptor_ahead_of_the_proposals_is_counted() {
    let (mut node, now) = (new_node(1, 3), Instant(1));
    node.step(now, Input::Timeout(Timer::Election));
    let view = idle(Ballot::ZERO, Slot::ZERO);
    let round = last_round(&node);
    node.receive(now, N2, Message::HeartbeatReply(HeartbeatReply { round, view }));
    let report = Report::empty(Slot(1));
    node.receive(now, N2, Message::Promise(Promise { ballot: ballot(1, 1), report }));
    let accepted = Message::Accepted(Accepted {
        ballot: ballot(1, 1),
        first: Slot(1),
        through: Slot(5),
        probe: 0,
    });
    node.receive(now, N2, accepted);
    assert_eq!((node.status().role, node.status().commit), (Role::Leader, Slot(1)));
}
