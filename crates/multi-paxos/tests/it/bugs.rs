//! Regression tests for bugs of other implementations, under their numbers in `docs/bugs.md`.

use crate::cluster::*;
use synod_multi_paxos::consensus::{
    Base, HistoryDigest, Input, Message as _, Protocol as _, Quorum, Role, Saved, Write,
};
use synod_multi_paxos::types::{Instant, NodeId, Slot};
use synod_multi_paxos::{
    Accept, Accepted, CHOSEN, Candidate, Commit, Config, HardState, Heartbeat, HeartbeatReply,
    Learn, Learned, Message, MultiPaxos, Prepare, Promise, Report, ReportProgress, Timer, Timing,
};

fn prepare(round: u64, node: u64, from: u64) -> Message {
    Message::Prepare(Prepare { ballot: ballot(round, node), from: Slot(from), held: Vec::new() })
}

fn accept(round: u64, node: u64, slot: u64, value: &str, commit: u64) -> Message {
    Message::Accept(Accept {
        run: run(slot, ballot(round, node), &[value]),
        commit: Slot(commit),
        digest: Some(HistoryDigest::UNKNOWN),
    })
}

fn empty(from: u64) -> Report {
    Report::empty(Slot(from))
}

fn is_nack(replies: &[(NodeId, Message)]) -> bool {
    matches!(replies, [(_, Message::Nack(_))])
}

/// Makes the node campaign under 1.1. Returns the messages that it sends after its peers' replies.
fn campaign(node: &mut Node, nodes: u64) -> Vec<(NodeId, Message)> {
    node.step(Instant::ZERO, Input::Timeout(Timer::Election));
    let answers = (2..=nodes).flat_map(|peer| {
        let view =
            new_node(peer, nodes).outputs.sent.into_iter().find_map(|(_, message)| match message {
                Message::Heartbeat(Heartbeat { view, .. }) => Some(view),
                _ => None,
            });
        node.receive(
            Instant::ZERO,
            NodeId(peer),
            Message::HeartbeatReply(HeartbeatReply { round: 2, view: view.unwrap() }),
        )
    });
    answers.collect()
}

/// Returns a node that campaigns under 1.1 and has received no promise yet.
fn candidate(nodes: u64) -> Node {
    let mut node = new_node(1, nodes);
    campaign(&mut node, nodes);
    assert_eq!(node.promised(), ballot(1, 1));
    node
}

#[test]
fn paxos_p01_every_claim_waits_for_the_disk() {
    let mut node = new_node(1, 3);
    node.is_disk_hung = true;
    assert_eq!(node.receive(Instant::ZERO, N2, prepare(2, 2, 1)), []);
    assert_eq!(node.receive(Instant::ZERO, N2, accept(2, 2, 1, "x", 0)), []);
    assert!(
        is_nack(&node.receive(Instant::ZERO, N3, prepare(1, 3, 1))),
        "the lost vote is no claim"
    );
    let answers = written(&mut node);
    assert_eq!(answers.len(), 2);
    for (to, message) in answers {
        assert!(message.holds(NodeId(1), to, &node.disk));
        assert!(!message.holds(NodeId(1), to, &Saved::default()), "a lost write: {message:?}");
    }
    let mut candidate = new_node(1, 3);
    candidate.is_disk_hung = true;
    let sent = campaign(&mut candidate, 3);
    assert!(sent.iter().all(|(_, it)| matches!(it, Message::Heartbeat(_))), "{sent:?}");
    let prepared = prepare(1, 1, 1);
    assert_eq!(written(&mut candidate), [2, 3].map(|peer| (NodeId(peer), prepared.clone())));
    assert!(!prepared.holds(NodeId(1), NodeId(2), &Saved::default()));
}

/// Returns the messages that a node sends after its hung disk has written.
fn written(node: &mut Node) -> Vec<(NodeId, Message)> {
    node.outputs.sent.clear();
    node.is_disk_hung = false;
    node.settle(Instant::ZERO);
    std::mem::take(&mut node.outputs.sent)
}

#[test]
fn paxos_p02_accept_raises_the_promise() {
    let mut node = new_node(1, 3);
    node.receive(Instant::ZERO, N3, accept(2, 3, 1, "x", 0));
    assert_eq!(node.promised(), ballot(2, 3));
    assert!(is_nack(&node.receive(Instant::ZERO, N2, prepare(1, 2, 1))), "an older Prepare");
    node.restart(Instant::ZERO);
    assert!(is_nack(&node.receive(Instant::ZERO, N2, accept(1, 2, 1, "y", 0))), "an older Accept");
}

#[test]
fn paxos_p03_promise_of_another_ballot_does_not_count() {
    let mut node = candidate(3);
    node.receive(
        Instant::ZERO,
        N2,
        Message::Promise(Promise { ballot: ballot(2, 1), report: empty(1) }),
    );
    assert_eq!(node.status().last, Slot::ZERO, "still in phase 1");
    node.receive(
        Instant::ZERO,
        N2,
        Message::Promise(Promise { ballot: ballot(1, 1), report: empty(1) }),
    );
    assert_eq!(node.status().last, Slot(1), "the barrier is proposed");
}

#[test]
fn paxos_p04_accept_above_the_promise_is_accepted() {
    let mut node = new_node(1, 3);
    node.receive(Instant::ZERO, N2, prepare(1, 2, 1));
    let answers = node.receive(Instant::ZERO, N3, accept(5, 3, 1, "x", 0));
    assert!(matches!(answers[..], [(NodeId(3), Message::Accepted(_))]));
}

#[test]
fn paxos_p05_no_ballot_is_used_again_after_a_restart() {
    let mut node = candidate(3);
    node.restart(Instant::ZERO);
    assert_eq!(
        node.status().role,
        Role::Follower,
        "a restarted node does not resume its old ballot"
    );
    node.receive(
        Instant::ZERO,
        N2,
        Message::Promise(Promise { ballot: ballot(1, 1), report: empty(1) }),
    );
    assert_eq!(node.status().last, Slot::ZERO, "a promise from before the restart");
    let mut cluster = Cluster::new(3);
    cluster.nodes.insert(N1, node);
    cluster.elect(N1);
    assert_eq!(cluster.node(N1).promised(), ballot(2, 1));
}

#[test]
fn paxos_p06_one_ballot_never_proposes_two_values() {
    let mut node = new_node(1, 3);
    node.receive(Instant::ZERO, N2, accept(1, 2, 1, "x", 0));
    let writes = node.writes.len();
    assert!(
        node.receive(Instant::ZERO, N2, accept(1, 2, 1, "y", 0)).is_empty(),
        "the second value is not accepted"
    );
    assert_eq!(node.writes.len(), writes);
    node.receive(Instant::ZERO, N2, accept(1, 2, 1, "x", 0));
    assert_eq!(node.writes.len(), writes, "a retransmission is acknowledged and not written again");
}

#[test]
fn paxos_p07_highest_ballot_wins_not_the_largest_value_nor_the_first() {
    for order in [[0, 1], [1, 0]] {
        let own = synod_multi_paxos::consensus::RunLog::default();
        let mut it = Candidate::new(Instant::ZERO, ballot(9, 1), Slot(1), &own);
        let reports = [(ballot(7, 2), "small"), (ballot(3, 3), "zzz")];
        for index in order {
            let (stamp, value) = reports[index];
            let runs = vec![run(1, stamp, &[value])];
            let report = Report { runs, through: Slot(1), ..empty(1) };
            assert_eq!(
                it.on_report(NodeId(2 + index as u64), &report, Slot::ZERO),
                ReportProgress::Done
            );
        }
        let batch = it.result(Slot::ZERO).unwrap().next_batch(ballot(9, 1), 100).unwrap();
        assert_eq!(batch.values.command(0), Some(&b"small"[..]));
    }
}

#[test]
fn paxos_p08_duplicate_reply_counts_once() {
    let mut node = candidate(5);
    for _ in 0..3 {
        node.receive(
            Instant::ZERO,
            N2,
            Message::Promise(Promise { ballot: ballot(1, 1), report: empty(1) }),
        );
    }
    assert_eq!(node.status().last, Slot::ZERO, "two of five promised");
    node.receive(
        Instant::ZERO,
        N3,
        Message::Promise(Promise { ballot: ballot(1, 1), report: empty(1) }),
    );
    let accepted = Message::Accepted(Accepted {
        ballot: ballot(1, 1),
        first: Slot(1),
        through: Slot(1),
        probe: 0,
    });
    for _ in 0..3 {
        node.receive(Instant::ZERO, N2, accepted.clone());
    }
    assert_eq!(node.status().commit, Slot::ZERO, "two of five accepted");
    node.receive(Instant::ZERO, N4, accepted);
    assert_eq!(node.status().commit, Slot(1));
}

#[test]
fn paxos_p09_replies_of_different_ballots_are_never_added_up() {
    let mut node = candidate(5);
    for peer in [2, 3] {
        node.receive(
            Instant::ZERO,
            NodeId(peer),
            Message::Promise(Promise { ballot: ballot(1, 1), report: empty(1) }),
        );
    }
    let accepted = |round| {
        Message::Accepted(Accepted {
            ballot: ballot(round, 1),
            first: Slot(1),
            through: Slot(1),
            probe: 0,
        })
    };
    node.receive(Instant::ZERO, N3, accepted(2));
    node.receive(Instant::ZERO, N4, accepted(3));
    node.receive(Instant::ZERO, N2, accepted(1));
    assert_eq!(node.status().commit, Slot::ZERO);
}

#[test]
fn paxos_p10_learning_never_lowers_the_promise() {
    let mut node = new_node(1, 3);
    node.receive(Instant::ZERO, N3, prepare(1, 3, 1));
    let learnt = run(1, ballot(1, 1), &["x"]);
    node.receive(
        Instant::ZERO,
        N2,
        Message::Learned(Learned { run: learnt, commit: Slot(1), digest: HistoryDigest::UNKNOWN }),
    );
    assert_eq!(node.commands(), ["x"]);
    assert_eq!(node.promised(), ballot(1, 3));
    node.restart(Instant::ZERO);
    assert_eq!(node.commands(), ["x"], "a learnt value is known to be chosen at once");
    assert_eq!(node.promised(), ballot(1, 3));
    assert_eq!(node.disk.log.stamp_at(Slot(1)), Some(CHOSEN));
    assert!(is_nack(&node.receive(Instant::ZERO, N2, accept(1, 2, 1, "y", 0))));
}

#[test]
fn paxos_p13_later_slot_is_no_evidence_for_an_earlier_one() {
    let mut node = new_node(1, 5);
    node.receive(Instant::ZERO, N2, accept(1, 2, 1, "lost", 0));
    // The leader of 2.3 has chosen another value in slot 1, which this node missed, and continues.
    let answers = node.receive(Instant::ZERO, N3, accept(2, 3, 2, "b", 1));
    assert_eq!(node.status().commit, Slot::ZERO, "slot 1 holds a value of 1.2");
    assert_eq!(node.commands().len(), 0);
    let accepted = Message::Accepted(Accepted {
        ballot: ballot(2, 3),
        first: Slot(2),
        through: Slot(2),
        probe: 0,
    });
    assert_eq!(answers, [(NodeId(3), accepted)]);
    node.receive(Instant::ZERO, N3, accept(2, 3, 1, "a", 1));
    assert_eq!(node.commands(), ["a"]);
}

fn compacted() -> Node {
    let mut node = new_node(2, 3);
    node.receive(Instant::ZERO, N3, accept(1, 3, 1, "a", 0));
    node.receive(
        Instant::ZERO,
        N3,
        Message::Commit(Commit { ballot: ballot(1, 3), commit: Slot(1) }),
    );
    node.receive(Instant::ZERO, N3, accept(1, 3, 2, "b", 1));
    node.step(Instant::ZERO, Input::Compact { through: Slot(1) });
    assert_eq!(node.status().base, Slot(1));
    node
}

#[test]
fn paxos_p14_compacted_slots_are_never_reported_as_empty() {
    let mut acceptor = compacted();
    // Long after the last message of the leader.
    let later = Instant(10_000_000_000);
    let request = prepare(2, 1, 1);
    acceptor.step(later, Input::Message { from: NodeId(1), message: request });
    let Some((_, Message::Promise(Promise { report, .. }))) = acceptor.outputs.sent.pop() else {
        panic!("a promise was due");
    };
    assert_eq!((report.commit, report.through), (Slot(1), Slot(2)));
    let own = synod_multi_paxos::consensus::RunLog::default();
    let quorum = Quorum::flexible(&members(3), 1, 3).unwrap();
    let mut candidate = Candidate::new(later, ballot(2, 1), Slot(1), &own);
    assert_eq!(candidate.on_report(NodeId(2), &report, Slot::ZERO), ReportProgress::Done);
    assert!(!candidate.is_complete(&quorum, Slot::ZERO), "slot 1 is chosen and not learnt yet");
    assert!(candidate.is_complete(&quorum, Slot(1)), "once it is learnt");
    acceptor.receive(
        Instant::ZERO,
        N1,
        Message::Learn(Learn { from: Slot(1), through: Slot(9), held: Vec::new() }),
    );
    assert_eq!(acceptor.outputs.snapshots, [NodeId(1)]);
}

#[test]
fn paxos_p14_slots_chosen_between_two_parts_are_learnt_before_the_report_counts() {
    let own = synod_multi_paxos::consensus::RunLog::default();
    let quorum = Quorum::flexible(&members(3), 1, 3).unwrap();
    let mut candidate = Candidate::new(Instant::ZERO, ballot(2, 1), Slot(3), &own);
    let runs = vec![run(3, ballot(1, 3), &["c"])];
    let part = Report { runs, through: Slot(3), is_last: false, ..empty(3) };
    assert_eq!(candidate.on_report(NodeId(2), &part, Slot(2)), ReportProgress::More(Slot(4)));
    // Slots 3 to 5 became chosen meanwhile, so the second part does not report 4 and 5.
    let rest = Report { through: Slot(5), commit: Slot(5), ..empty(4) };
    assert_eq!(candidate.on_report(NodeId(2), &rest, Slot(2)), ReportProgress::Done);
    assert!(!candidate.is_complete(&quorum, Slot(4)));
    assert!(candidate.is_complete(&quorum, Slot(5)));
    // The acceptor may have crashed and lost that, so the request starts again from the first slot.
    assert_eq!(candidate.next_request(NodeId(2), Slot(2)).map(|(from, _)| from), Some(Slot(3)));
    let runs = vec![run(4, ballot(1, 3), &["d", "e"])];
    let forgot = Report { runs, through: Slot(5), ..empty(3) };
    assert_eq!(candidate.on_report(NodeId(2), &forgot, Slot(2)), ReportProgress::Done);
    assert!(candidate.is_complete(&quorum, Slot(2)));
    let batch = candidate.result(Slot(2)).unwrap().next_batch(ballot(2, 1), 100).unwrap();
    assert_eq!(batch.values.command(0), Some(&b"c"[..]));
    assert_eq!(batch.values.command(1), Some(&b"d"[..]));
}

#[test]
fn paxos_p14_snapshot_keeps_values_accepted_after_it() {
    let mut node = new_node(2, 3);
    node.receive(Instant::ZERO, N3, accept(1, 3, 1, "a", 0));
    node.receive(Instant::ZERO, N3, accept(1, 3, 4, "d", 0));
    let base = Base { through: Slot(3), stamp: ballot(1, 1), members: None };
    node.step(Instant::ZERO, Input::Installed { base });
    node.restart(Instant::ZERO);
    assert_eq!(node.status().commit, Slot(3));
    assert_eq!(node.disk.log.stamp_at(Slot(4)), Some(ballot(1, 3)), "a vote is kept");
    assert_eq!(node.promised(), ballot(1, 3));
}

#[test]
fn paxos_p14_state_ahead_of_the_log_keeps_every_vote() {
    let mut disk = Saved::<MultiPaxos>::default();
    let promised = ballot(1, 3);
    disk.apply(&Write::HardState(HardState { promised }));
    disk.apply(&Write::Put(run(4, promised, &["d"])));
    disk.base = Base { through: Slot(2), stamp: CHOSEN, members: None };
    let node = start_node(Config::new(NodeId(2), members(3)).unwrap(), disk);
    assert_eq!(node.disk.log.base(), Slot(2));
    assert_eq!(node.disk.log.stamp_at(Slot(4)), Some(promised));
}

#[test]
fn paxos_p15_holes_are_filled_by_the_next_leader() {
    let mut cluster = Cluster::new(3);
    cluster.node(N2).receive(Instant::ZERO, N1, accept(1, 1, 1, "a", 0));
    cluster.node(N2).receive(Instant::ZERO, N1, accept(1, 1, 3, "c", 0));
    // A quorum without n2 need not find them, because they were not chosen.
    cluster.links(&[(N1, N2)]);
    cluster.leader_of(&[N1, N2], 8 * TIMEOUT);
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    cluster.run_for(TIMEOUT);
    cluster.assert_equal(&["a", "c"]);
}

#[test]
fn paxos_p16_any_lost_message_is_retransmitted() {
    let kinds: [fn(&Message) -> bool; 6] = [
        |message| matches!(message, Message::Prepare(_)),
        |message| matches!(message, Message::Promise(_)),
        |message| matches!(message, Message::Accept(_)),
        |message| matches!(message, Message::Accepted(_)),
        |message| matches!(message, Message::Commit(_)),
        |message| matches!(message, Message::Learn(_) | Message::Learned(_)),
    ];
    for (kind, lose) in kinds.into_iter().enumerate() {
        let mut cluster = Cluster::new(3);
        let now = cluster.now;
        cluster.lose = lose;
        cluster.node(N1).step(now, Input::Timeout(Timer::Election));
        cluster.run_for(TIMEOUT / 10);
        cluster.lose = |_| false;
        let leader = cluster.leader_of(&[N1, N2, N3], 4 * TIMEOUT);
        cluster.lose = lose;
        cluster.write(leader, 1, "x");
        cluster.lose = |_| false;
        cluster.run_for(2 * TIMEOUT);
        assert_eq!(cluster.leaders(), [leader], "kind {kind}");
        cluster.assert_equal(&["x"]);
    }
}

#[test]
fn paxos_p16_values_chosen_by_an_earlier_leader_are_requested_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[(N1, N2)]);
    cluster.write(N1, 1, "missed by n3");
    // The next leader has learnt that it is chosen and never proposes it again: n3 must request it.
    cluster.links(&[(N2, N3)]);
    cluster.lose = |message| matches!(message, Message::Learn(_) | Message::Learned(_));
    let leader = cluster.leader_of(&[N2, N3], 8 * TIMEOUT);
    assert_eq!(leader, N2, "n3 would have learnt it in phase 1");
    cluster.run_for(2 * TIMEOUT);
    assert_eq!(cluster.node(N3).commands().len(), 0);
    cluster.lose = |_| false;
    cluster.run_for(2 * TIMEOUT);
    assert_eq!(cluster.node(N3).commands(), ["missed by n3"]);
}

#[test]
fn paxos_p17_chained_nodes_do_not_outbid_each_other() {
    for leader in [N1, N2, N3] {
        let mut cluster = Cluster::new(3);
        cluster.elect(leader);
        cluster.links(&[(N1, N2), (N2, N3)]);
        let ballot = cluster.node(leader).promised();
        cluster.run_for(50 * TIMEOUT);
        assert_eq!(cluster.leaders(), [leader]);
        for id in cluster.ids() {
            // A node without contact to the leader gets views of a neighbour that has it.
            assert_eq!(cluster.node(id).promised(), ballot, "{id} while {leader} leads");
        }
    }
}

#[test]
fn paxos_p18_compaction_waits_for_no_other_node() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.links(&[(N1, N2)]);
    let mut expected = Vec::new();
    for ticket in 0..20 {
        let command = format!("c{ticket}");
        cluster.write(N1, ticket, &command);
        expected.push(command);
        for id in [N1, N2] {
            let (now, through) = (cluster.now, cluster.node(id).status().commit);
            cluster.node(id).step(now, Input::Compact { through });
            assert_eq!(cluster.node(id).status().base, through, "n3 is down, and {id} compacts");
        }
    }
    assert_eq!(cluster.node(N1).disk.log.byte_len(), 0);
    assert_eq!(cluster.node(N1).commands(), expected);
    // n3 restarts, installs a snapshot, and continues with the others.
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    cluster.run_for(4 * TIMEOUT);
    assert!(cluster.node(N1).outputs.snapshots.contains(&NodeId(3)));
    let trimmed = cluster.node(N2).status().base;
    let base = cluster.node(N2).host.core().base_at(trimmed);
    let (now, base) = (cluster.now, base.expect("the base"));
    cluster.node(N3).step(now, Input::Installed { base });
    let leader = cluster.leader_of(&[N1, N2, N3], 4 * TIMEOUT);
    cluster.write(leader, 98, "after");
    cluster.run_for(TIMEOUT);
    assert_eq!(cluster.node(N3).commands(), ["after"]);
    assert_eq!(cluster.node(N3).status().commit, cluster.node(N1).status().commit);
    // Its votes count, although it never held the compacted slots: with it there is a quorum.
    assert_eq!(leader, N1);
    cluster.links(&[(N1, N3)]);
    cluster.write(N1, 99, "without n2");
    cluster.run_for(TIMEOUT);
    assert_eq!(cluster.leaders(), [N1]);
    assert_eq!(cluster.node(N3).commands(), ["after", "without n2"]);
}

#[test]
fn paxos_p20_dueling_proposers_end_with_one_leader() {
    use std::time::Duration;
    // All nodes at once, with the default range of election timeouts, and with a very narrow one.
    for (nodes, spread) in (2..=9).flat_map(|nodes| [(nodes, 150_000), (nodes, 1)]) {
        let config = |id| {
            let ms = Duration::from_millis;
            let election = ms(150)..ms(150) + Duration::from_micros(spread);
            let timing = Timing { election, heartbeat: ms(50) };
            Config::new(NodeId(id), members(nodes)).unwrap().with_timing(timing).unwrap()
        };
        let mut cluster = Cluster::of((1..=nodes).map(config));
        let case = format!("{nodes} proposers, spread of {spread} us");
        let all_at_once = |cluster: &mut Cluster| {
            for id in cluster.ids() {
                let now = cluster.now;
                cluster.node(id).step(now, Input::Timeout(Timer::Election));
            }
        };
        all_at_once(&mut cluster);
        let all = cluster.ids();
        let leader = cluster.leader_of(&all, 4 * TIMEOUT);
        cluster.run_for(TIMEOUT);
        let ballot = cluster.node(leader).promised();
        assert!(ballot.round <= 3, "{case}: {ballot} leads");
        for ticket in 0..10 {
            // All nodes time out together, repeatedly: the leader keeps leading.
            all_at_once(&mut cluster);
            cluster.run_for(TIMEOUT / 10);
            cluster.write(leader, ticket, "x");
        }
        cluster.run_for(TIMEOUT);
        assert_eq!(cluster.leaders(), [leader], "{case}");
        assert_eq!(cluster.node(leader).promised(), ballot, "{case}: no node outbids it");
        cluster.assert_equal(&["x"; 10]);
    }
}
