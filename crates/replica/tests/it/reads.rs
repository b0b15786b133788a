//! Reads that the core answers with a slot.

use crate::scripted::*;
use std::time::Duration;
use synod_consensus::Refusal;
use synod_replica::{Applied, Driver, Event, Outcome, ReplicaSettings, Token};
use synod_storage::{BootId, MemoryState};
use synod_types::{Incarnation, Instant, NodeId, ReadId, Slot};

/// A replica of a protocol that has reads.
fn reading(leader: Option<NodeId>) -> TestReplica {
    reading_with(settings(), leader)
}

fn reading_with(settings: ReplicaSettings, leader: Option<NodeId>) -> TestReplica {
    let mut replica = replica_with(settings, leader);
    receive(&mut replica, Msg::HasReads);
    replica
}

fn read(replica: &mut TestReplica, token: u64) {
    replica.handle(T0, Event::Read { token: Token(token), deadline: T0 + LATER });
}

/// Ends a round. Returns the reads that the core was asked for so far.
fn asked(replica: &mut TestReplica, now: Instant) -> Vec<ReadId> {
    let _ = replica.take(now);
    replica.core().reads.clone().expect("a protocol that has reads")
}

fn readable(replica: &mut TestReplica, id: ReadId, slot: u64) {
    receive(replica, Msg::Readable(id, Slot(slot)));
}

/// Takes the answers.
fn answers(replica: &mut TestReplica) -> Vec<(u64, Outcome)> {
    let answers = replica.take(T0).answers.drain(..);
    answers.map(|answer| (answer.token.0, answer.outcome)).collect()
}

fn served(tokens: impl IntoIterator<Item = u64>) -> Vec<(u64, Outcome)> {
    tokens.into_iter().map(|token| (token, Outcome::Readable)).collect()
}

fn applied(replica: &mut TestReplica, through: u64) {
    let mut applied = Applied::default();
    applied.through = Slot(through);
    replica.handle(T0, Event::Applied(applied));
}

#[test]
fn reads_of_one_round_are_one_read_of_the_core() {
    let mut replica = reading(Some(PEER));
    (1..=10).for_each(|token| read(&mut replica, token));
    let ids = asked(&mut replica, T0);
    assert_eq!((ids.len(), replica.outstanding()), (1, 10));
    assert_eq!(sent(&mut replica, T0), [], "and nothing else");
    readable(&mut replica, ids[0], 0);
    assert_eq!(answers(&mut replica), served(1..=10));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn read_waits_until_its_slot_is_applied() {
    let mut replica = reading(Some(ME));
    let mut machine = applier(MemoryState::new());
    read(&mut replica, 1);
    let first = asked(&mut replica, T0)[0];
    read(&mut replica, 2);
    let second = asked(&mut replica, T0)[1];
    readable(&mut replica, second, 2);
    readable(&mut replica, first, 1);
    assert_eq!(answers(&mut replica), [], "nothing is applied");
    for token in 3..=4 {
        replica.handle(T0, request(token, LATER));
    }
    let outcomes = run_alone(&mut replica, &mut machine);
    let readable = outcomes.iter().filter(|outcome| **outcome == Outcome::Readable);
    assert_eq!((readable.count(), machine.applied()), (2, Slot(2)));
    read(&mut replica, 5);
    let third = asked(&mut replica, T0)[2];
    super::reads::readable(&mut replica, third, 2);
    assert_eq!(answers(&mut replica), served([5]), "at once: it is applied already");
}

#[test]
fn answer_serves_reads_that_came_before_it_was_asked_for_and_no_later_ones() {
    let mut replica = reading(Some(PEER));
    read(&mut replica, 1);
    let first = asked(&mut replica, T0)[0];
    read(&mut replica, 2);
    let second = asked(&mut replica, T0)[1];
    read(&mut replica, 3);
    let third = asked(&mut replica, T0)[2];
    readable(&mut replica, first, 0);
    assert_eq!(answers(&mut replica), served([1]));
    readable(&mut replica, first, 0);
    assert_eq!(answers(&mut replica), [], "the same answer again");
    readable(&mut replica, third, 0);
    assert_eq!(answers(&mut replica), served([2, 3]));
    readable(&mut replica, second, 0);
    assert_eq!(answers(&mut replica), [], "late");
}

#[test]
fn read_without_an_answer_is_asked_again_after_a_pause_that_grows() {
    let (mut replica, retry) = (reading(Some(PEER)), settings().retry);
    read(&mut replica, 1);
    let ids = asked(&mut replica, T0);
    let mut now = T0;
    for doublings in 0..3 {
        let due = now + retry * (1 << doublings);
        assert!(replica.take(now).wake <= Some(due));
        let early = Instant(due.0 - 1);
        replica.handle(early, Event::Wake);
        assert_eq!(asked(&mut replica, early).len(), 1 + doublings as usize);
        replica.handle(due, Event::Wake);
        assert_eq!(asked(&mut replica, due).len(), 2 + doublings as usize);
        now = due;
    }
    readable(&mut replica, ids[0], 0);
    assert_eq!(answers(&mut replica), served([1]), "the first answer, late");
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn new_leader_is_asked_at_once() {
    let mut replica = reading(None);
    read(&mut replica, 1);
    assert_eq!(asked(&mut replica, T0).len(), 0, "refused: there is no leader");
    receive(&mut replica, Msg::Lead(PEER, 2));
    assert_eq!(asked(&mut replica, T0).len(), 1);
    receive(&mut replica, Msg::Lead(NodeId(3), 3));
    let ids = asked(&mut replica, T0);
    assert_eq!(ids.len(), 2);
    readable(&mut replica, ids[1], 0);
    assert_eq!(answers(&mut replica), served([1]));
}

/// The first leader named the slot of its no-op, which was never chosen, and the log of the second one
/// is shorter.
#[test]
fn slot_that_a_lost_leader_named_does_not_hold_up_a_read() {
    let mut replica = reading(Some(PEER));
    read(&mut replica, 1);
    let first = asked(&mut replica, T0)[0];
    readable(&mut replica, first, 9);
    receive(&mut replica, Msg::Lead(NodeId(3), 3));
    let ids = asked(&mut replica, T0);
    assert_eq!((ids.len(), answers(&mut replica)), (2, vec![]));
    readable(&mut replica, ids[1], 4);
    applied(&mut replica, 3);
    assert_eq!(answers(&mut replica), []);
    applied(&mut replica, 4);
    assert_eq!(answers(&mut replica), served([1]));
    // The other way round: the lower slot is right, whichever leader named it.
    read(&mut replica, 2);
    let id = *asked(&mut replica, T0).last().unwrap();
    readable(&mut replica, id, 5);
    receive(&mut replica, Msg::Lead(PEER, 4));
    let id = *asked(&mut replica, T0).last().unwrap();
    readable(&mut replica, id, 8);
    applied(&mut replica, 5);
    assert_eq!(answers(&mut replica), served([2]));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn each_read_ends_at_its_own_deadline_whether_it_has_a_slot_or_not() {
    for (leader, outcome) in [
        (None, Outcome::Refused(Refusal::NotLeader { hint: None })),
        (Some(PEER), Outcome::Unknown),
    ] {
        let mut replica = reading(leader);
        for (token, seconds) in [(1, 60), (2, 1), (3, 2)] {
            let deadline = T0 + Duration::from_secs(seconds);
            replica.handle(T0, Event::Read { token: Token(token), deadline });
        }
        let ids = asked(&mut replica, T0);
        for (seconds, token) in [(1, 2), (2, 3), (60, 1)] {
            if let Some(id) = ids.first().filter(|_| seconds == 2) {
                readable(&mut replica, *id, 7);
            }
            let end = T0 + Duration::from_secs(seconds);
            assert!(replica.take(T0).wake <= Some(end));
            replica.handle(end, Event::Wake);
            let answers: Vec<_> = replica.take(end).answers.drain(..).collect();
            let found: Vec<_> = answers.iter().map(|it| (it.token.0, &it.outcome)).collect();
            assert_eq!(found, [(token, &outcome)]);
        }
        assert_eq!(replica.outstanding(), 0);
        applied(&mut replica, 7);
        assert_eq!(answers(&mut replica), []);
        assert_eq!(replica.take(T0).wake.map(|wake| wake > T0 + LATER), Some(true), "idle");
    }
}

#[test]
fn ids_of_reads_differ_across_restarts() {
    let of_boot = |boot| {
        let boot_id = BootId { incarnation: Incarnation(5), boot };
        let mut replica = reading_with(ReplicaSettings { boot_id, ..settings() }, Some(PEER));
        read(&mut replica, 1);
        asked(&mut replica, T0)[0]
    };
    let ids = [1, 2, 3, 1 << 20].map(of_boot);
    let all: std::collections::BTreeSet<_> = ids.into_iter().collect();
    assert_eq!(all.len(), ids.len(), "{ids:?}");
}
