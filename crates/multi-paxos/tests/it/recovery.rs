//! Restarts with a long log: what is sent and proposed again, and how much of it in one step.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{HistoryDigest, Input, ProtocolEvent, Role, Run, Saved, Write};
use synod_multi_paxos::types::{Instant, NodeId, Slot, Values, ValuesBuilder};
use synod_multi_paxos::{
    Accept, Commit, Config, HardState, Known, Learn, Learned, Limits, Message, MultiPaxos, Prepare,
    Promise, Timing,
};

const BATCH: u64 = 100;

/// Returns a disk with `entries` small commands accepted at 1.1, a hundred a batch, `applied` of them applied.
fn disk(entries: u64, applied: u64) -> Saved<MultiPaxos> {
    let mut disk = Saved::default();
    disk.apply(&Write::HardState(HardState { promised: ballot(1, 1) }));
    let mut values = ValuesBuilder::new();
    for batch in 0..entries / BATCH {
        let first = batch * BATCH + 1;
        (first..first + BATCH).for_each(|slot| values.push_command(&slot.to_le_bytes()));
        let run = Run { first: Slot(first), stamp: ballot(1, 1), values: values.finish() };
        disk.apply(&Write::Put(run));
    }
    disk.applied = Slot(applied);
    disk
}

/// Returns three nodes that restart on these disks.
fn restarted(disks: impl Fn(u64) -> Saved<MultiPaxos>) -> Cluster {
    let mut cluster = Cluster::new(3);
    for id in 1..=3 {
        let config = Config::new(NodeId(id), members(3)).unwrap();
        cluster.nodes.insert(NodeId(id), start_node(config, disks(id)));
    }
    cluster
}

fn campaigns(cluster: &Cluster) -> usize {
    let notes = cluster.nodes.values().flat_map(|node| &node.outputs.notes);
    notes.filter(|note| matches!(note, ProtocolEvent::Campaigning { .. })).count()
}

const MILLIONS: u64 = 3_000_000;

#[test]
fn applied_entries_are_neither_sent_nor_proposed_after_a_restart() {
    let disk = disk(MILLIONS, MILLIONS);
    let mut cluster = restarted(|_| disk.clone());
    cluster.leader_of(&[N1, N2, N3], Duration::from_secs(1));
    assert_eq!(campaigns(&cluster), 1);
    assert!(cluster.lanes.sent < 100, "{} bytes of values", cluster.lanes.sent);
    for node in cluster.nodes.values() {
        assert!(node.max_written_bytes < 100, "{} bytes in one step", node.max_written_bytes);
        assert!(node.outputs.chosen.iter().all(|run| run.first > Slot(MILLIONS)), "nothing twice");
    }
}

#[test]
fn nodes_that_applied_different_parts_confirm_the_rest_without_values() {
    let disks = [MILLIONS, MILLIONS - 1_000, 0].map(|applied| disk(MILLIONS, applied));
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let mut cluster = restarted(|id| disks[order[id as usize - 1]].clone());
        let leader = cluster.leader_of(&[N1, N2, N3], Duration::from_secs(1));
        cluster.write(leader, 1, "new");
        cluster.run_for(TIMEOUT);
        assert_eq!(campaigns(&cluster), 1);
        assert!(cluster.lanes.sent < 100, "{} bytes of values", cluster.lanes.sent);
        let commits = cluster.nodes.values().map(|node| node.status().commit);
        assert!(commits.eq([Slot(MILLIONS + 2); 3]), "the barrier and the new command");
    }
}

/// No state was persisted: the whole log is proposed again, in slices.
#[test]
fn unapplied_entries_are_proposed_in_slices_with_heartbeats_between() {
    let disk = disk(MILLIONS, 0);
    let bytes = disk.log.byte_len();
    let mut cluster = restarted(|_| disk.clone());
    // 100 Mbit/s: more than an election timeout for each slice, and 2 s for all of it.
    cluster.lanes.rate = 12_500;
    let leader = cluster.leader_of(&[N1, N2, N3], Duration::from_secs(10));
    cluster.run_for(TIMEOUT);
    assert_eq!(campaigns(&cluster), 1, "the recovery of a long log costs no campaign");
    let inflight = Limits::default().inflight_bytes + Limits::default().accept_bytes;
    for node in cluster.nodes.values() {
        let what = format!("{} written, {} sent", node.max_written_bytes, node.max_sent_bytes);
        assert!(node.max_written_bytes <= inflight, "{what}");
        assert!(node.max_sent_bytes <= 2 * inflight, "{what}");
        assert_eq!(node.status().commit, Slot(MILLIONS + 1));
        assert_eq!(
            node.outputs.chosen.iter().map(|run| run.values.len() as u64).sum::<u64>(),
            MILLIONS + 1
        );
    }
    assert!(cluster.lanes.sent <= 2 * bytes * 11 / 10, "{} for {bytes}", cluster.lanes.sent);
    assert_eq!(cluster.node(leader).status().role, Role::Leader);
}

#[test]
fn follower_restarted_under_a_later_ballot_pulls_none_of_its_log_again() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for ticket in 0..50 {
        cluster.write(N1, ticket, &"x".repeat(1000));
    }
    cluster.links(&[(N1, N2)]);
    cluster.restart(N3);
    let now = cluster.now;
    cluster.node(N2).step(now + 2 * TIMEOUT, Input::Timeout(synod_multi_paxos::Timer::Election));
    cluster.now = now + 2 * TIMEOUT;
    cluster.leader_of(&[N1, N2], 8 * TIMEOUT);
    assert_eq!(cluster.node(N3).status().commit, Slot::ZERO, "no slot is known to be chosen");
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    let before = cluster.lanes.sent;
    cluster.run_for(4 * TIMEOUT);
    assert_eq!(cluster.node(N3).commands().len(), 50);
    let pulled = cluster.lanes.sent - before;
    assert!(pulled < 1000, "{pulled} bytes of values");
}

#[test]
fn value_of_an_older_ballot_is_never_confirmed() {
    // n1 holds a value of the leader of 1.2; n2 has chosen another value at 2.3 since.
    let (mut asker, mut answerer) = (new_node(1, 3), new_node(2, 3));
    let accept = |stamp, value| {
        Message::Accept(Accept {
            run: run(1, stamp, &[value]),
            commit: Slot(0),
            digest: Some(HistoryDigest::UNKNOWN),
        })
    };
    asker.receive(Instant::ZERO, N2, accept(ballot(1, 2), "old"));
    answerer.receive(Instant::ZERO, N3, accept(ballot(2, 3), "chosen"));
    answerer.receive(
        Instant::ZERO,
        N3,
        Message::Commit(Commit { ballot: ballot(2, 3), commit: Slot(1) }),
    );
    let held = synod_multi_paxos::spans(&asker.disk.log, Slot(1), Slot(9));
    let question = Message::Learn(Learn { from: Slot(1), through: Slot(9), held });
    let answers = answerer.receive(Instant::ZERO, N1, question);
    assert!(matches!(answers[..], [(NodeId(1), Message::Learned(_))]), "{answers:?}");
    asker.receive(Instant::ZERO, N2, answers[0].1.clone());
    assert_eq!(asker.commands(), ["chosen"]);
}

#[test]
fn late_confirmation_counts_only_for_values_still_held_under_its_ballot() {
    let mut node = new_node(1, 3);
    let accept = |slot, stamp, value| {
        Message::Accept(Accept {
            run: run(slot, stamp, &[value]),
            commit: Slot(0),
            digest: Some(HistoryDigest::UNKNOWN),
        })
    };
    node.receive(Instant::ZERO, N3, accept(1, ballot(2, 3), "a"));
    node.receive(Instant::ZERO, N3, accept(2, ballot(2, 3), "b"));
    let span = |through, stamp| synod_multi_paxos::Span { through: Slot(through), stamp };
    // The replying node holds slot 1 under a higher ballot: neither it nor later slots count.
    let spans = vec![span(1, ballot(3, 3)), span(2, ballot(2, 3))];
    node.receive(
        Instant::ZERO,
        N2,
        Message::Known(Known {
            first: Slot(1),
            spans,
            commit: Slot(2),
            digest: HistoryDigest::UNKNOWN,
        }),
    );
    assert_eq!(node.status().commit, Slot::ZERO);
    let spans = vec![span(1, ballot(2, 3)), span(2, ballot(1, 2))];
    node.receive(
        Instant::ZERO,
        N2,
        Message::Known(Known {
            first: Slot(1),
            spans,
            commit: Slot(2),
            digest: HistoryDigest::UNKNOWN,
        }),
    );
    assert_eq!(node.status().commit, Slot(1), "slot 2 was accepted at 2.3 here");
}

/// Two of three nodes were wiped. The applied slots of the third one stay, under any leader.
#[test]
fn survivor_of_wiped_nodes_keeps_its_applied_slots() {
    let mut saved = Saved::<MultiPaxos>::default();
    saved.apply(&Write::HardState(HardState { promised: ballot(1, 1) }));
    saved.apply(&Write::Put(run(1, ballot(1, 1), &["a", "b", "c"])));
    saved.applied = Slot(2);
    let config = Config::new(NodeId(1), members(3)).unwrap();
    let mut node = start_node(config, saved.clone());
    let prepare =
        Message::Prepare(Prepare { ballot: ballot(2, 2), from: Slot(1), held: Vec::new() });
    let answers = node.receive(Instant::ZERO, N2, prepare);
    let [(NodeId(2), Message::Promise(Promise { report, .. }))] = &answers[..] else {
        panic!("{answers:?}");
    };
    assert_eq!(report.commit, Slot(2), "these are chosen, and must be learnt");
    assert_eq!(report.runs, [run(3, ballot(1, 1), &["c"])]);
    let theirs = run(1, ballot(2, 2), &["x", "y", "z"]);
    let answers = node.receive(
        Instant::ZERO,
        N2,
        Message::Accept(Accept {
            run: theirs,
            commit: Slot(3),
            digest: Some(HistoryDigest::UNKNOWN),
        }),
    );
    assert_eq!(answers, [], "no acknowledgement of another value");
    assert_eq!(node.disk.log, saved.log);
    assert_eq!(node.status().commit, Slot(2));
    let learn = Message::Learn(Learn { from: Slot(1), through: Slot(9), held: Vec::new() });
    let [(_, Message::Learned(Learned { run: learned, commit, digest }))] =
        &node.receive(Instant::ZERO, N2, learn)[..]
    else {
        panic!("a survivor answers learners");
    };
    let expected = run(1, ballot(1, 1), &["a", "b"]);
    assert_eq!((&learned.values, *commit), (&expected.values, Slot(2)));
    assert_eq!(*digest, HistoryDigest::NO_COMMAND, "nothing comes before");
}

#[test]
fn wiped_nodes_learn_from_the_survivor_before_they_lead() {
    let mut saved = Saved::<MultiPaxos>::default();
    saved.apply(&Write::HardState(HardState { promised: ballot(1, 1) }));
    saved.apply(&Write::Put(run(1, ballot(1, 1), &["a", "b", "c"])));
    saved.applied = Slot(3);
    let mut cluster = restarted(|id| if id == 1 { saved.clone() } else { Saved::default() });
    // The survivor and one wiped node; the wiped one campaigns, after it has deferred to the survivor.
    cluster.links(&[(N1, N2)]);
    for _ in 0..2 {
        let now = cluster.now;
        cluster.node(N2).step(now, Input::Timeout(synod_multi_paxos::Timer::Election));
        cluster.run_for(TIMEOUT / 10);
    }
    assert_eq!(cluster.leaders(), [N2]);
    assert_eq!(cluster.node(N2).commands(), ["a", "b", "c"]);
    cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
    cluster.write(N2, 1, "d");
    cluster.run_for(4 * TIMEOUT);
    assert_eq!(cluster.node(N3).commands(), ["a", "b", "c", "d"]);
    assert_eq!(cluster.node(N1).commands(), ["d"], "what was applied is not reported again");
}

/// A step took so long that the timer of the next heartbeats fired before the replies to the last ones
/// were handled.
#[test]
fn leader_steps_down_for_silent_peers_and_not_after_a_long_step() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.run_for(TIMEOUT);
    let beat = Timing::default().heartbeat;
    let late = cluster.now + 2 * TIMEOUT;
    cluster.node(N1).step(late, Input::Timeout(synod_multi_paxos::Timer::Heartbeat));
    assert_eq!(cluster.leaders(), [N1], "it was held up itself");
    cluster.node(N1).step(late + beat, Input::Timeout(synod_multi_paxos::Timer::Heartbeat));
    assert!(cluster.leaders().is_empty(), "its peers had their time");
}

#[test]
fn values_at_or_below_the_stamps_that_a_prepare_names_are_not_reported() {
    let mut node = new_node(1, 3);
    for (slot, stamp) in [(1, ballot(1, 2)), (2, ballot(2, 2)), (3, ballot(3, 2))] {
        let run = run(slot, stamp, &["x"]);
        node.receive(
            Instant::ZERO,
            N2,
            Message::Accept(Accept { run, commit: Slot(0), digest: Some(HistoryDigest::UNKNOWN) }),
        );
    }
    let span = |through, stamp| synod_multi_paxos::Span { through: Slot(through), stamp };
    let held = vec![span(2, ballot(2, 2)), span(3, ballot(2, 3))];
    let prepare = Message::Prepare(Prepare { ballot: ballot(9, 2), from: Slot(1), held });
    let answers = node.receive(Instant(10_000_000_000), N2, prepare);
    let [(_, Message::Promise(Promise { report, .. }))] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!(report.runs, [run(3, ballot(3, 2), &["x"])], "only a higher ballot");
    assert!(answers.iter().map(|(_, message)| value_bytes(message)).sum::<usize>() == 2);
    let _: &Values = &report.runs[0].values;
}
