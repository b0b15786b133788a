//! Proposals at a leader: the window, rejections, and the hint when another node has overtaken it.

use crate::cluster::*;
use synod_multi_paxos::consensus::{HistoryDigest, Input, Refusal, Role, Write};
use synod_multi_paxos::types::{NodeId, Slot, Ticket};
use synod_multi_paxos::{
    Accept, Accepted, Commit, Config, ElectionState, Heartbeat, Limits, Message, Nack, Prepare,
    Promise, View,
};

const WHOLE: [(NodeId, NodeId); 3] = [(N1, N2), (N1, N3), (N2, N3)];

/// Returns three nodes with a small window, led by n1.
fn cluster(window_slots: usize, window_bytes: usize) -> Cluster {
    let limits = Limits { window_slots, window_bytes, command_bytes: 50, ..Limits::default() };
    let config = |id| Config::new(NodeId(id), members(3)).unwrap().with_limits(limits.clone());
    let mut cluster = Cluster::of((1..=3).map(|id| config(id).unwrap()));
    cluster.elect(N1);
    cluster
}

/// Proposes commands at `node` until one is refused as Busy. Returns the number of accepted ones. With
/// `flush`, each is sent before the next is proposed.
fn fill(cluster: &mut Cluster, node: NodeId, command: &[u8], flush: bool) -> usize {
    let now = cluster.now;
    for count in 0..10_000 {
        let (ticket, command) = (Ticket(count), command.to_vec().into());
        let input = Input::Propose { ticket, command };
        let node = cluster.node(node);
        node.outputs.refused.clear();
        let offer = if flush { Node::step } else { Node::step_without_round };
        offer(node, now, input);
        match node.outputs.refused[..] {
            [] => {}
            [(refused, Refusal::Busy)] if refused == ticket => return count as usize,
            ref other => panic!("{other:?}"),
        }
    }
    panic!("the window has no end");
}

#[test]
fn full_window_of_slots_is_busy_until_its_proposals_are_chosen() {
    for flush in [true, false] {
        let mut cluster = cluster(4, 1 << 20);
        for _ in 0..5 {
            cluster.links(&[]);
            assert_eq!(fill(&mut cluster, N1, b"x", flush), 4, "flushed: {flush}");
            assert_eq!(fill(&mut cluster, N1, b"x", flush), 0, "and it stays full");
            cluster.links(&WHOLE);
            cluster.run_for(TIMEOUT / 2);
        }
        assert_eq!(cluster.leaders(), [N1]);
    }
}

#[test]
fn full_window_of_bytes_is_busy_until_its_proposals_are_chosen() {
    // A command takes one byte more than its length.
    for (length, expected) in [(49, 2), (24, 4), (9, 10), (0, 100)] {
        for flush in [true, false] {
            let mut cluster = cluster(1000, 100);
            for _ in 0..5 {
                cluster.links(&[]);
                let taken = fill(&mut cluster, N1, &vec![b'x'; length], flush);
                assert_eq!(taken, expected, "of {length} bytes, flushed: {flush}");
                cluster.links(&WHOLE);
                cluster.run_for(TIMEOUT / 2);
            }
            assert_eq!(cluster.leaders(), [N1]);
        }
    }
}

#[test]
fn half_chosen_window_accepts_half_as_many_commands() {
    let mut cluster = cluster(1000, 100);
    for _ in 0..3 {
        cluster.write(N1, 1, "of nine b");
    }
    cluster.links(&[]);
    assert_eq!(fill(&mut cluster, N1, b"of nine b", true), 10, "what is chosen does not count");
    let last = cluster.node(N1).status().last;
    let accepted = Message::Accepted(Accepted {
        ballot: ballot(1, 1),
        first: Slot(1),
        through: Slot(last.0 - 5),
        probe: 0,
    });
    let now = cluster.now;
    cluster.node(N1).receive(now, N2, accepted);
    // A compacted log keeps the slots after its base.
    let through = cluster.node(N1).status().commit;
    cluster.node(N1).step(now, Input::Compact { through });
    assert_eq!(cluster.node(N1).status().base, Slot(last.0 - 5));
    assert_eq!(fill(&mut cluster, N1, b"of nine b", true), 5);
}

#[test]
fn window_does_not_leak_over_leader_changes() {
    let mut cluster = cluster(1000, 100);
    for round in 0..12 {
        let leader = cluster.leaders()[0];
        // It reaches no node: the next leader does not find its proposals, or proposes them again.
        cluster.links(&[]);
        assert_eq!(fill(&mut cluster, leader, b"of nine b", true), 10, "round {round}");
        let others: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
        if round % 2 == 0 {
            cluster.links(&WHOLE);
            cluster.lose = |message| matches!(message, Message::Accepted(_));
            cluster.run_for(TIMEOUT / 2);
            cluster.lose = |_| false;
        }
        cluster.links(&[(others[0], others[1])]);
        cluster.leader_of(&others, 8 * TIMEOUT);
        cluster.links(&WHOLE);
        cluster.run_for(4 * TIMEOUT);
        let commit = cluster.nodes[&N1].status().commit;
        assert!(cluster.nodes.values().all(|node| node.status().commit == commit));
    }
}

/// Returns a cluster in which n1 leads, has one command in its log, and another one pending for the flush.
fn with_pending_command() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[]);
    let now = cluster.now;
    let node = cluster.node(N1);
    node.propose(now, 1, "in the log");
    node.outputs.placed.clear();
    let offer = Input::Propose { ticket: Ticket(2), command: b"offered".to_vec().into() };
    node.step_without_round(now, offer);
    assert_eq!(node.outputs.refused, []);
    cluster
}

#[test]
fn rejected_leader_names_its_rival_and_keeps_its_accepted_values() {
    let newly_chosen = [
        Message::Nack(Nack { ballot: ballot(1, 1), promised: ballot(2, 3) }),
        Message::Accept(Accept {
            run: run(2, ballot(2, 3), &["theirs"]),
            commit: Slot::ZERO,
            digest: Some(HistoryDigest::UNKNOWN),
        }),
        Message::Commit(Commit { ballot: ballot(2, 3), commit: Slot(1) }),
        Message::Heartbeat(Heartbeat { round: 1, view: leads() }),
    ];
    for message in newly_chosen {
        let mut cluster = with_pending_command();
        let (now, case) = (cluster.now, format!("{message:?}"));
        let node = cluster.node(N1);
        node.step_without_round(now, Input::Message { from: NodeId(3), message });
        let hint = Some(NodeId(3));
        assert_eq!(node.outputs.refused, [(Ticket(2), Refusal::NotLeader { hint })], "{case}");
        assert_eq!(node.status().role, Role::Follower, "{case}");
        node.settle(now);
        assert_eq!(node.outputs.placed, [], "{case}");
        let truncates = |write: &_| matches!(write, Write::TruncateFrom(_));
        assert!(!node.writes.iter().any(truncates), "{case}");
    }
}

/// Returns the view of n3 as leader under 2.3.
fn leads() -> View {
    View {
        ballot: ballot(2, 3),
        leader: Some(ballot(2, 3)),
        state: ElectionState::Leading,
        has_quorum: true,
        has_live_leader: true,
        commit: Slot(1),
        digest: HistoryDigest::UNKNOWN,
        priority: 0,
    }
}

#[test]
fn accepted_values_of_a_rejected_leader_are_reported_to_the_next_one() {
    let mut cluster = with_pending_command();
    let now = cluster.now;
    let node: &mut Node = cluster.node(N1);
    let kept = node.disk.log.clone();
    node.receive(now, N3, Message::Nack(Nack { ballot: ballot(1, 1), promised: ballot(2, 3) }));
    assert_eq!(node.disk.log, kept);
    let prepare =
        Message::Prepare(Prepare { ballot: ballot(2, 3), from: Slot(2), held: Vec::new() });
    let answers = node.receive(now, N3, prepare);
    let [(NodeId(3), Message::Promise(Promise { report, .. }))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(report.runs.len(), 1);
    assert_eq!(report.runs[0].values.command(0), Some(&b"in the log"[..]));
    assert_eq!(report.runs[0].stamp, ballot(1, 1));
}

#[test]
fn follower_redirects_clients_to_its_leader() {
    let mut cluster = with_pending_command();
    let now = cluster.now;
    let node = cluster.node(N1);
    node.receive(now, N3, Message::Nack(Nack { ballot: ballot(1, 1), promised: ballot(2, 3) }));
    node.outputs.refused.clear();
    node.propose(now, 3, "too early");
    assert_eq!(node.outputs.refused, [(Ticket(3), Refusal::NotLeader { hint: None })]);
    node.receive(now, N3, Message::Heartbeat(Heartbeat { round: 1, view: leads() }));
    node.outputs.refused.clear();
    node.propose(now, 4, "forward it");
    let hint = Some(NodeId(3));
    assert_eq!(node.outputs.refused, [(Ticket(4), Refusal::NotLeader { hint })]);
}
