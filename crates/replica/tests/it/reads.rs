//! Reads on a protocol that has a read index.

use crate::scripted::*;
use std::time::Duration;
use synod_consensus::Refusal;
use synod_replica::{Applied, Driver, Event, Outcome, ReplicaSettings, Token};
use synod_storage::{BootId, MemoryState};
use synod_types::{Incarnation, Instant, NodeId, ReadId, Slot};

/// Returns a replica of a protocol that has a read index.
fn indexed_replica(leader: Option<NodeId>) -> TestReplica {
    indexed_replica_with(settings(), leader)
}

fn indexed_replica_with(settings: ReplicaSettings, leader: Option<NodeId>) -> TestReplica {
    let mut replica = replica_with(settings, leader);
    receive(&mut replica, Msg::EnableReadIndex);
    replica
}

fn read(replica: &mut TestReplica, token: u64) {
    replica.handle(T0, Event::Read { token: Token(token), deadline: T0 + LATER });
}

/// Ends a round. Returns all requests of a read index so far.
fn requested(replica: &mut TestReplica, now: Instant) -> Vec<ReadId> {
    let _ = replica.take(now);
    replica.core().reads.clone().expect("the protocol has no read index")
}

/// Makes the core report a read index.
fn read_index(replica: &mut TestReplica, id: ReadId, slot: u64) {
    receive(replica, Msg::ReadIndex(id, Slot(slot)));
}

/// Removes and returns the responses for clients.
fn responses(replica: &mut TestReplica) -> Vec<(u64, Outcome)> {
    let responses = replica.take(T0).responses.drain(..);
    responses.map(|response| (response.token.0, response.outcome)).collect()
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
fn reads_of_one_round_share_one_request_of_a_read_index() {
    let mut replica = indexed_replica(Some(PEER));
    (1..=10).for_each(|token| read(&mut replica, token));
    let ids = requested(&mut replica, T0);
    assert_eq!((ids.len(), replica.outstanding()), (1, 10));
    assert_eq!(sent(&mut replica, T0), [], "a read was proposed as a command");
    read_index(&mut replica, ids[0], 0);
    assert_eq!(responses(&mut replica), served(1..=10));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn read_waits_until_its_index_is_applied() {
    let mut replica = indexed_replica(Some(ME));
    let mut machine = applier(MemoryState::new());
    read(&mut replica, 1);
    let first = requested(&mut replica, T0)[0];
    read(&mut replica, 2);
    let second = requested(&mut replica, T0)[1];
    read_index(&mut replica, second, 2);
    read_index(&mut replica, first, 1);
    assert_eq!(responses(&mut replica), [], "no slot is applied");
    for token in 3..=4 {
        replica.handle(T0, request(token, LATER));
    }
    let outcomes = run_alone(&mut replica, &mut machine);
    let readable = outcomes.iter().filter(|outcome| **outcome == Outcome::Readable);
    assert_eq!((readable.count(), machine.applied()), (2, Slot(2)));
    read(&mut replica, 5);
    let third = requested(&mut replica, T0)[2];
    read_index(&mut replica, third, 2);
    assert_eq!(responses(&mut replica), served([5]), "the index is already applied");
}

#[test]
fn read_index_serves_only_reads_that_arrived_before_its_request() {
    let mut replica = indexed_replica(Some(PEER));
    read(&mut replica, 1);
    let first = requested(&mut replica, T0)[0];
    read(&mut replica, 2);
    let second = requested(&mut replica, T0)[1];
    read(&mut replica, 3);
    let third = requested(&mut replica, T0)[2];
    read_index(&mut replica, first, 0);
    assert_eq!(responses(&mut replica), served([1]));
    read_index(&mut replica, first, 0);
    assert_eq!(responses(&mut replica), [], "a repeated index serves no later read");
    read_index(&mut replica, third, 0);
    assert_eq!(responses(&mut replica), served([2, 3]));
    read_index(&mut replica, second, 0);
    assert_eq!(responses(&mut replica), [], "a late index serves no read twice");
}

#[test]
fn request_of_a_read_index_is_retried_with_exponential_backoff() {
    let (mut replica, retry) = (indexed_replica(Some(PEER)), settings().retry);
    read(&mut replica, 1);
    let ids = requested(&mut replica, T0);
    let mut now = T0;
    for doublings in 0..3 {
        let due = now + retry * (1 << doublings);
        assert!(replica.take(now).wake <= Some(due));
        let early = Instant(due.0 - 1);
        replica.handle(early, Event::Wake);
        assert_eq!(requested(&mut replica, early).len(), 1 + doublings as usize);
        replica.handle(due, Event::Wake);
        assert_eq!(requested(&mut replica, due).len(), 2 + doublings as usize);
        now = due;
    }
    read_index(&mut replica, ids[0], 0);
    assert_eq!(responses(&mut replica), served([1]), "a late index of the first attempt is valid");
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn read_index_is_requested_from_a_new_leader_at_once() {
    let mut replica = indexed_replica(None);
    read(&mut replica, 1);
    assert_eq!(requested(&mut replica, T0).len(), 0, "without a leader the core refuses");
    receive(&mut replica, Msg::Lead(PEER, 2));
    assert_eq!(requested(&mut replica, T0).len(), 1);
    receive(&mut replica, Msg::Lead(NodeId(3), 3));
    let ids = requested(&mut replica, T0);
    assert_eq!(ids.len(), 2);
    read_index(&mut replica, ids[1], 0);
    assert_eq!(responses(&mut replica), served([1]));
}

/// The first leader's read index is the slot of its no-op, which is never chosen. The log of the second
/// leader is shorter.
#[test]
fn read_index_of_a_lost_leader_does_not_block_a_read() {
    let mut replica = indexed_replica(Some(PEER));
    read(&mut replica, 1);
    let first = requested(&mut replica, T0)[0];
    read_index(&mut replica, first, 9);
    receive(&mut replica, Msg::Lead(NodeId(3), 3));
    let ids = requested(&mut replica, T0);
    assert_eq!((ids.len(), responses(&mut replica)), (2, vec![]));
    read_index(&mut replica, ids[1], 4);
    applied(&mut replica, 3);
    assert_eq!(responses(&mut replica), []);
    applied(&mut replica, 4);
    assert_eq!(responses(&mut replica), served([1]));
    // The reverse: the index of the earlier leader is the lower one.
    read(&mut replica, 2);
    let id = *requested(&mut replica, T0).last().unwrap();
    read_index(&mut replica, id, 5);
    receive(&mut replica, Msg::Lead(PEER, 4));
    let id = *requested(&mut replica, T0).last().unwrap();
    read_index(&mut replica, id, 8);
    applied(&mut replica, 5);
    assert_eq!(responses(&mut replica), served([2]));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn each_read_ends_at_its_own_deadline_with_or_without_an_index() {
    for (leader, outcome) in [
        (None, Outcome::Refused(Refusal::NotLeader { hint: None })),
        (Some(PEER), Outcome::Unknown),
    ] {
        let mut replica = indexed_replica(leader);
        for (token, seconds) in [(1, 60), (2, 1), (3, 2)] {
            let deadline = T0 + Duration::from_secs(seconds);
            replica.handle(T0, Event::Read { token: Token(token), deadline });
        }
        let ids = requested(&mut replica, T0);
        for (seconds, token) in [(1, 2), (2, 3), (60, 1)] {
            if let Some(id) = ids.first().filter(|_| seconds == 2) {
                read_index(&mut replica, *id, 7);
            }
            let end = T0 + Duration::from_secs(seconds);
            assert!(replica.take(T0).wake <= Some(end));
            replica.handle(end, Event::Wake);
            let responses: Vec<_> = replica.take(end).responses.drain(..).collect();
            let found: Vec<_> = responses.iter().map(|it| (it.token.0, &it.outcome)).collect();
            assert_eq!(found, [(token, &outcome)]);
        }
        assert_eq!(replica.outstanding(), 0);
        applied(&mut replica, 7);
        assert_eq!(responses(&mut replica), []);
        let wake = replica.take(T0).wake;
        assert_eq!(wake.map(|wake| wake > T0 + LATER), Some(true), "no wake for ended reads");
    }
}

#[test]
fn read_ids_are_unique_across_restarts() {
    let of_boot = |boot| {
        let boot_id = BootId { incarnation: Incarnation(5), boot };
        let mut replica =
            indexed_replica_with(ReplicaSettings { boot_id, ..settings() }, Some(PEER));
        read(&mut replica, 1);
        requested(&mut replica, T0)[0]
    };
    let ids = [1, 2, 3, 1 << 20].map(of_boot);
    let all: std::collections::BTreeSet<_> = ids.into_iter().collect();
    assert_eq!(all.len(), ids.len(), "{ids:?}");
}
