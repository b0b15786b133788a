//! Compaction, snapshots and recovery: Raft §7.

use crate::cluster::*;
use proptest::prelude::*;
use synod_consensus::{
    Base, FatalError, HistoryDigest, Input, Protocol, RecoveryError, Saved, Stamp, Write,
};
use synod_raft::{Append, AppendAck, Commit, HardState, Heartbeat, Message, Raft};
use synod_types::{Membership, Slot, Term};

fn base(through: u64, term: u64) -> Base<Term> {
    Base { through: Slot(through), stamp: Term(term), members: None }
}

fn recover(disk: Saved<Raft>) -> Result<Raft, RecoveryError> {
    Raft::recover(config(N1, 3), disk)
}

#[test]
fn only_chosen_entries_are_compacted() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N1]);
    cluster.propose(N1, 1, "a");
    for through in [0, 2, 99] {
        cluster.step(N1, Input::Compact { through: Slot(through) });
        assert_eq!(cluster.status(N1).base, Slot(0), "through {through}");
    }
    assert_eq!(cluster.core(N1).base_at(Slot(1)), Some(base(1, 1)));
    cluster.step(N1, Input::Compact { through: Slot(1) });
    let status = cluster.status(N1);
    assert_eq!((status.base, status.last), (Slot(1), Slot(2)));
    assert_eq!(cluster.node(N1).disk.base, base(1, 1));
    assert_eq!(cluster.core(N1).base_at(Slot(0)), None, "compacted past it");
}

#[test]
fn peer_that_needs_compacted_entries_gets_a_snapshot() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N3]);
    for ticket in 0..5 {
        cluster.propose(N1, ticket, "x");
        cluster.deliver();
    }
    cluster.step(N1, Input::Compact { through: Slot(4) });
    cluster.heal();
    for _ in 0..3 {
        cluster.heartbeat(N1);
    }
    assert_eq!(cluster.node(N1).outputs.snapshots.first(), Some(&N3));
    let requested = cluster.node(N1).outputs.snapshots.len();
    cluster.heartbeat(N1);
    assert_eq!(cluster.node(N1).outputs.snapshots.len(), requested + 1, "with each heartbeat");
    let base = cluster.core(N1).base_at(Slot(4)).unwrap();
    cluster.step(N3, Input::Installed { base });
    let ack = Message::AppendAck(AppendAck { term: Term(1), probe: 0, matched: Slot(4) });
    assert_eq!(cluster.wire.back().unwrap().message, ack, "acknowledged at once");
    cluster.deliver();
    cluster.heartbeat(N1);
    assert_eq!(cluster.commit_index(N3), 6);
    assert_eq!(terms(&cluster.node(N3).disk.log), [1, 1], "only the entries after the snapshot");
    let requested = cluster.node(N1).outputs.snapshots.len();
    cluster.heartbeat(N1);
    assert_eq!(cluster.node(N1).outputs.snapshots.len(), requested, "no longer needed");
}

/// §7: "If instead the follower receives a snapshot that describes a prefix of its log, then log
/// entries covered by the snapshot are deleted but entries following the snapshot are still valid".
#[test]
fn snapshot_keeps_only_a_suffix_that_matches_it() {
    let cases =
        [(base(2, 1), vec![2, 2], 2, 4), (base(2, 2), vec![], 2, 2), (base(9, 3), vec![], 9, 9)];
    for (base, kept, commit, last) in cases {
        let disk = saved(3, None, &[1, 1, 2, 2]);
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
        cluster.step(N1, Input::Installed { base: base.clone() });
        assert_eq!(terms(&cluster.node(N1).disk.log), kept, "{base:?}");
        let status = cluster.status(N1);
        assert_eq!((status.commit, status.last), (Slot(commit), Slot(last)), "{base:?}");
        assert_eq!(cluster.node(N1).disk.base, base);
    }
}

/// A snapshot that replaces the log lowers the verified slot and the pending acknowledgement.
#[test]
fn snapshot_of_another_history_resets_the_verified_slot() {
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), saved(3, None, &[1, 1, 2, 2]))]);
    let term = Term(3);
    let beat = Message::Heartbeat(Heartbeat { term, prev: at(4, 2), commit: Slot(0), round: 0 });
    let beat = Input::Message { from: N2, message: beat };
    cluster.step_all(N1, [beat, Input::Installed { base: base(2, 3) }]);
    let ack = Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(2) });
    assert_eq!(cluster.intercept(N1, N2).last(), Some(&ack), "slots 3 and 4 are gone");
    cluster.inject(N2, N1, Message::Commit(Commit { term, commit: Slot(4) }));
    assert_eq!(cluster.commit_index(N1), 2);
}

/// A follower with a stale tail installs a snapshot of its own first entries. The leader continues after
/// the snapshot, with an entry that the follower holds. That append does not verify the tail.
#[test]
fn append_after_a_snapshot_does_not_verify_a_stale_tail() {
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), saved(2, None, &[1, 1, 1])),
        (config(N2, 3), saved(2, None, &[1, 1, 1, 1, 1])),
        (config(N3, 3), saved(2, None, &[1, 1, 1])),
    ]);
    cluster.cut = [(N1, N2)].into();
    cluster.elect(N1);
    cluster.cut.clear();
    let (term, commit) = (Term(3), Slot(0));
    cluster.inject(
        N1,
        N2,
        Message::Heartbeat(Heartbeat { term, prev: at(0, 0), commit, round: 0 }),
    );
    cluster.wire.clear();
    cluster.step(N2, Input::Installed { base: base(2, 1) });
    let ack = cluster.intercept(N2, N1);
    assert_eq!(ack, [Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(2) })]);
    cluster.inject(N2, N1, ack[0].clone());
    let sent = cluster.intercept(N1, N2);
    let [Message::Append(Append { prev, run, .. }), ..] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!((*prev, run.first, run.last(), run.stamp), (at(2, 1), Slot(3), Slot(3), Term(1)));
    let answers = cluster.replies(N1, N2, sent[0].clone());
    assert_eq!(answers, [Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(3) })]);
    assert_eq!(cluster.commit_index(N2), 3, "slots 4 and 5 are stale");
}

/// A snapshot of a later term raises the node's term: no log holds an entry of a later term than its
/// node's.
#[test]
fn snapshot_of_a_later_term_raises_the_term() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.step(N1, Input::Installed { base: base(7, 5) });
    assert!(!cluster.leads(N1));
    let expected = HardState { term: Term(5), vote: None };
    assert_eq!(cluster.node(N1).disk.hard_state, expected);
    cluster.restart(N1);
    assert_eq!(cluster.term(N1), 5);
}

/// A snapshot that contradicts a chosen slot, or that is older than the base, changes nothing.
#[test]
fn foreign_or_old_snapshot_is_ignored() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    cluster.deliver();
    cluster.step(N1, Input::Compact { through: Slot(1) });
    let before = cluster.core(N1).clone();
    for base in [base(2, 7), base(1, 1), base(0, 0), base(u64::MAX, 1), base(9, u64::MAX)] {
        cluster.step(N1, Input::Installed { base });
        assert_eq!(*cluster.core(N1), before);
    }
}

/// The members that a snapshot names are in force from then on.
#[test]
fn snapshot_sets_the_members() {
    let mut cluster = Cluster::new(3);
    let members = Membership::new([N2, N3, N4], []).unwrap();
    let base = Base { members: Some(members.clone()), ..base(5, 1) };
    cluster.step(N1, Input::Installed { base });
    cluster.timeout(N1, synod_raft::Timer::Election);
    assert!(cluster.wire.is_empty(), "it is no longer a voter");
    cluster.restart(N1);
    cluster.timeout(N1, synod_raft::Timer::Election);
    assert!(cluster.wire.is_empty(), "nor after a restart");
}

/// Entries at or below the base are chosen, so they match every leader's log. An append that contradicts
/// the base is ignored.
#[test]
fn entries_at_or_below_the_base_match_every_append() {
    let mut disk = saved(3, None, &[1, 1, 2, 2]);
    disk.apply(&Write::Compact(base(3, 2)));
    let term = Term(3);
    let append = |prev, run| {
        Message::Append(Append {
            term,
            probe: 0,
            prev,
            run,
            commit: Slot(0),
            digest: HistoryDigest::UNKNOWN,
        })
    };
    let ack =
        |matched| vec![Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(matched) })];
    let cases = [
        (append(at(1, 1), run(2, 1, &["2@1"])), ack(2), vec![2]),
        (append(at(2, 1), run(3, 2, &["3@2", "4@2", "x"])), ack(5), vec![2, 2]),
        (append(at(3, 2), run(4, 3, &["x"])), ack(4), vec![3]),
        (append(at(2, 1), run(3, 3, &["x", "y"])), vec![], vec![2]),
    ];
    for (message, answers, kept) in cases {
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk.clone())]);
        assert_eq!(cluster.replies(N2, N1, message.clone()), answers, "{message:?}");
        assert_eq!(terms(&cluster.node(N1).disk.log), kept, "{message:?}");
    }
}

/// After a crash the snapshot may be ahead of the log's base: a suffix that matches it stays, any other is
/// cut, and the start writes the cut.
#[test]
fn recovery_cuts_entries_that_contradict_the_snapshot() {
    for (state, kept) in [(base(2, 1), vec![2, 2]), (base(2, 2), vec![]), (base(7, 3), vec![])] {
        let mut disk = saved(3, None, &[1, 1, 2, 2]);
        disk.base = state.clone();
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
        assert_eq!(terms(&cluster.node(N1).disk.log), kept, "{state:?}");
        assert_eq!(cluster.node(N1).disk.log.base(), state.through);
        assert_eq!(cluster.commit_index(N1), state.through.0);
    }
}

/// Entries that the state machine holds are chosen. If the log's suffix is of another history than the
/// state's base, they cannot have been in it, however long it is.
#[test]
fn recovery_rejects_a_state_that_is_applied_past_the_end_of_the_cut_log() {
    for (applied, suffix, expected) in [
        (2, 2, Ok(Slot(2))),
        (3, 2, Err(RecoveryError::AppliedBeyondLog { applied: Slot(3), last: Slot(2) })),
        (4, 2, Err(RecoveryError::AppliedBeyondLog { applied: Slot(4), last: Slot(2) })),
        (4, 1, Ok(Slot(4))),
    ] {
        let mut disk = saved(3, None, &[1, suffix, 2, 2]);
        disk.base = base(2, 1);
        disk.applied = Slot(applied);
        let commit = recover(disk).map(|core| core.status().commit);
        assert_eq!(commit, expected, "applied through {applied}, term {suffix} at the base");
    }
}

#[test]
fn recovery_rejects_an_inconsistent_disk() {
    let mut behind = saved(3, None, &[1, 1, 2, 2]);
    behind.log.compact(Slot(2), Term(1));
    assert_eq!(
        recover(behind),
        Err(RecoveryError::MissingPrefix { after: Slot(0), until: Slot(2) })
    );
    let mut differs = saved(3, None, &[1, 1, 2, 2]);
    differs.log.compact(Slot(2), Term(1));
    differs.base = base(2, 2);
    assert_eq!(recover(differs), Err(RecoveryError::BaseMismatch { at: Slot(2) }));
    let mut hole = saved(3, None, &[1]);
    hole.log.put(run(3, 1, &["x"]));
    assert_eq!(recover(hole), Err(RecoveryError::MissingSlot { slot: Slot(2) }));
    let disordered = |stamp: u64, limit: u64| {
        let (stamp, limit) = (Term(stamp).ballot(), Term(limit).ballot());
        Err(RecoveryError::StampOutOfOrder { slot: Slot(2), stamp, limit })
    };
    assert_eq!(recover(saved(3, None, &[2, 1])), disordered(1, 2));
    assert_eq!(recover(saved(1, None, &[1, 2])), disordered(2, 1));
    let endless = recover(saved(u64::MAX, None, &[1]));
    assert_eq!(
        endless,
        Err(RecoveryError::OutOfRange { slot: Slot(1), at: Term(u64::MAX).ballot() })
    );
    let mut far = saved(3, None, &[]);
    far.base = base(u64::MAX, 1);
    assert!(recover(far).is_err());
}

/// Two of three nodes lost their disks and elect a leader with an empty log. The survivor keeps what
/// it has applied against any message of that leader, and stops.
#[test]
fn survivor_of_two_wiped_nodes_keeps_its_applied_entries() {
    let applied = saved(1, None, &[1, 1, 1]);
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), Saved { applied: Slot(2), ..applied.clone() }),
        (config(N2, 3), Saved::default()),
        (config(N3, 3), Saved::default()),
    ]);
    assert_eq!(cluster.commit_index(N1), 2, "what is applied is chosen");
    cluster.partition(&[N1]);
    cluster.elect(N2);
    cluster.restart(N2);
    cluster.elect(N3);
    cluster.propose(N3, 1, "x");
    cluster.deliver();
    cluster.heal();
    for _ in 0..10 {
        cluster.heartbeat(N3);
    }
    assert_eq!(
        cluster.node(N1).disk.log,
        applied.log,
        "no entry is cut, not even those after the applied ones"
    );
    assert_eq!(cluster.commit_index(N1), 2);
    let contradicted = FatalError::Contradicted { slot: Slot(1), by: N3 };
    assert_eq!(cluster.node(N1).outputs.fatal, Some(contradicted), "it has stopped");
    assert_eq!(cluster.node(N1).outputs.chosen, [], "applied slots are not reported again");
}

proptest! {
    /// No append cuts the log at or below an applied slot.
    #[test]
    fn no_append_cuts_at_or_below_the_commit_index(
        held in 1..8_u64,
        applied in 0..8_u64,
        prev in 0..8_u64,
        count in 0..8_usize,
        commit in 0..12_u64,
    ) {
        let terms = vec![1; held as usize];
        let applied = Slot(applied.min(held));
        let disk = Saved { applied, ..saved(1, None, &terms) };
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk.clone())]);
        let prev = at(prev.min(held), u64::from(prev.min(held) > 0));
        let run = run(prev.slot.0 + 1, 2, &vec!["y"; count]);
        let (term, commit, digest) = (Term(2), Slot(commit), HistoryDigest::UNKNOWN);
        let append = Append { term, probe: 0, prev, run, commit, digest };
        cluster.inject(N2, N1, Message::Append(append));
        let node = cluster.node(N1);
        for slot in 1..=applied.0 {
            prop_assert_eq!(node.disk.log.get(Slot(slot)), disk.log.get(Slot(slot)));
        }
        let status = cluster.status(N1);
        prop_assert!(applied <= status.commit && status.commit <= status.last);
    }
}
