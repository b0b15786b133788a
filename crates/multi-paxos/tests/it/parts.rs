//! Limits of a few hundred bytes: Promises, Accepts and answers to learners come in several parts.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{HistoryDigest, Input, Run, Saved, Write};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, Slot};
use synod_multi_paxos::{
    Accept, Config, ElectionState, HardState, HeartbeatReply, Learned, Limits, Message, MultiPaxos,
    Prepare, Promise, Report, Timer, View,
};

fn limits() -> Limits {
    Limits {
        window_slots: 40,
        window_bytes: 2000,
        inflight_bytes: 400,
        accept_bytes: 250,
        chunk_bytes: 300,
        command_bytes: 120,
    }
}

fn config(id: u64, nodes: u64) -> Config {
    Config::new(NodeId(id), members(nodes)).unwrap().with_limits(limits()).unwrap()
}

/// Returns command number `n`, of a hundred bytes.
fn command(n: usize) -> String {
    format!("{n:0100}")
}

fn commands(count: usize) -> Vec<String> {
    (0..count).map(command).collect()
}

/// One value a run, so that only limits end a part.
fn accepted(stamp: Ballot, count: usize) -> Saved<MultiPaxos> {
    let mut disk = Saved::default();
    disk.apply(&Write::HardState(HardState { promised: stamp }));
    for (slot, command) in (1..).zip(commands(count)) {
        disk.apply(&Write::Put(run(slot, stamp, &[&command])));
    }
    disk
}

#[test]
fn partial_reply_confirms_no_slot_after_its_last_value() {
    let mut node = new_node(1, 3);
    // Two values of the leader of 1.2 are here and on no other node.
    let theirs = run(1, ballot(1, 2), &["lost", "lost too"]);
    node.receive(
        Instant::ZERO,
        N2,
        Message::Accept(Accept {
            run: theirs,
            commit: Slot::ZERO,
            digest: Some(HistoryDigest::UNKNOWN),
        }),
    );
    // Other nodes have chosen two other values since, and a reply has room for one.
    let part = |slot, value| {
        Message::Learned(Learned {
            run: run(slot, ballot(1, 1), &[value]),
            commit: Slot(2),
            digest: HistoryDigest::UNKNOWN,
        })
    };
    node.receive(Instant::ZERO, N3, part(1, "x"));
    assert_eq!(node.status().commit, Slot(1), "slot 2 is chosen, but what is held there is not");
    assert_eq!(node.commands(), ["x"]);
    node.receive(Instant::ZERO, N3, part(2, "y"));
    assert_eq!(node.commands(), ["x", "y"]);
}

#[test]
fn every_slot_is_found_when_promises_come_in_parts() {
    for count in [1, 2, 3, 4, 17, 30] {
        let mut cluster = Cluster::of((1..=3).map(|id| config(id, 3)));
        cluster.nodes.insert(N2, start_node(config(2, 3), accepted(ballot(1, 3), count)));
        // A quorum of n1, which holds nothing, and n2.
        cluster.links(&[(N1, N2)]);
        cluster.node(N1).step(Instant::ZERO, Input::Timeout(Timer::Election));
        let leader = cluster.leader_of(&[N1], TIMEOUT);
        cluster.run_for(TIMEOUT);
        assert_eq!(cluster.node(leader).commands(), commands(count));
        assert_eq!(cluster.node(N2).commands(), commands(count));
        assert!(cluster.nodes.values().all(|node| node.max_sent_bytes <= 2 * 450), "in parts");
    }
}

#[test]
fn parts_of_a_report_cover_every_slot_once() {
    let mut node = start_node(config(2, 3), accepted(ballot(1, 3), 20));
    let mut found: Vec<Run<Ballot>> = Vec::new();
    let (mut from, mut parts) = (Slot(1), 0);
    loop {
        let prepare = Message::Prepare(Prepare { ballot: ballot(2, 1), from, held: Vec::new() });
        let answers = node.receive(Instant::ZERO, N1, prepare);
        let [(_, message @ Message::Promise(Promise { report, .. }))] = &answers[..] else {
            panic!("{answers:?}");
        };
        assert!(value_bytes(message) <= 400);
        found.extend(report.runs.clone());
        parts += 1;
        from = report.through.next();
        if report.is_last {
            break;
        }
    }
    assert!(parts >= 5, "{parts} parts");
    let slots: Vec<_> = found.iter().flat_map(|run| run.first.0..=run.last().0).collect();
    assert_eq!(slots, (1..=20).collect::<Vec<_>>());
}

#[test]
fn small_limits_keep_all_values_over_leader_changes_and_an_absent_node() {
    let mut cluster = Cluster::of((1..=3).map(|id| config(id, 3)));
    let mut expected = Vec::new();
    for round in 0..6 {
        let whole = [(N1, N2), (N1, N3), (N2, N3)];
        cluster.links(&whole);
        let leader = cluster.leader_of(&[N1, N2, N3], 20 * TIMEOUT);
        let away = NodeId(leader.0 % 3 + 1);
        let other = NodeId(6 - leader.0 - away.0);
        cluster.links(&[(leader, other)]);
        for n in 0..30 {
            let command = command(round * 30 + n);
            cluster.write(leader, 1, &command);
            expected.push(command);
        }
        assert_eq!(cluster.node(leader).commands(), expected, "round {round}");
        // Its last command reaches no other node; the next leader finds or replaces it.
        cluster.links(&[]);
        let now = cluster.now;
        cluster.node(leader).propose(now, 2, "undecided");
        cluster.links(&[(away, other)]);
        let others = [away, other];
        cluster.leader_of(&others, 40 * TIMEOUT);
        cluster.links(&whole);
        cluster.run_for(Duration::from_secs(3));
        let commit = cluster.nodes[&N1].status().commit;
        for node in cluster.nodes.values() {
            assert_eq!(node.commands(), expected, "{:?} in round {round}", node.id());
            assert_eq!(node.status().commit, commit);
        }
    }
}

#[test]
fn phase_1_needs_the_quorum_of_phase_1() {
    let flexible = |id| config(id, 5).with_quorums(4, 2).unwrap();
    let mut cluster = Cluster::of((1..=5).map(flexible));
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    cluster.run_for(10 * TIMEOUT);
    assert!(cluster.leaders().is_empty(), "three promise, and four are needed");
    let mut node = start_node(flexible(1), Saved::default());
    node.step(Instant::ZERO, Input::Timeout(Timer::Election));
    let view = View {
        ballot: Ballot::ZERO,
        leader: None,
        state: ElectionState::Following,
        has_quorum: false,
        has_live_leader: false,
        commit: Slot::ZERO,
        digest: HistoryDigest::UNKNOWN,
        priority: 0,
    };
    (2..=5).for_each(|id| {
        drop(node.receive(
            Instant::ZERO,
            NodeId(id),
            Message::HeartbeatReply(HeartbeatReply { round: 2, view }),
        ))
    });
    for id in 2..=3 {
        let report = Report::empty(Slot(1));
        node.receive(
            Instant::ZERO,
            NodeId(id),
            Message::Promise(Promise { ballot: ballot(1, 1), report }),
        );
        assert_eq!(node.status().last, Slot::ZERO, "{id} of five promised");
    }
    let report = Report::empty(Slot(1));
    node.receive(Instant::ZERO, N4, Message::Promise(Promise { ballot: ballot(1, 1), report }));
    assert_eq!(node.status().last, Slot(1), "the barrier is proposed");
}
