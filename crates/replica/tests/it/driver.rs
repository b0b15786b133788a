//! Rules of the driver, tested with a scripted protocol.

use crate::scripted::*;
use bytes::Bytes;
use std::time::Duration;
use synod_consensus::{Base, Refusal, Write};
use synod_replica::{
    Driver, Envelope, Event, OpenError, Outcome, Payload, Seq, Token, encode_write,
};
use synod_storage::LogOp;
use synod_types::{ClusterId, Incarnation, NodeId, Slot, Term};

#[test]
fn only_claims_wait_for_the_disk() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    assert_eq!(sent(&mut replica, T0), [Msg::Ping(Slot(1))], "sent before it was written");
    assert_eq!(replica.take(T0).batch.take().unwrap().0, Seq(1));
    assert!(replica.take(T0).apply.is_empty(), "the claim to itself was not held back");
    replica.handle(T0, Event::Written(Seq(1)));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1))]);
    assert_eq!(replica.take(T0).apply.len(), 1);
}

#[test]
fn written_releases_only_claims_at_or_below_its_number() {
    let mut replica = replica(Some(ME));
    for token in 1..=3 {
        replica.handle(T0, request(token, LATER));
        assert_eq!(replica.take(T0).batch.take().unwrap().0, Seq(token));
    }
    replica.take(T0).frames.clear();
    replica.handle(T0, Event::Written(Seq(2)));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1)), Msg::Claim(Slot(2))]);
}

#[test]
fn all_writes_of_a_round_share_one_number() {
    let mut replica = replica(Some(ME));
    for token in 1..=5 {
        replica.handle(T0, request(token, LATER));
    }
    let (seq, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!((seq, batch.ops.len()), (Seq(1), 5));
}

#[test]
fn actions_are_handed_out_once() {
    let mut replica = replica(Some(ME));
    for token in 1..=2 {
        replica.handle(T0, request(token, LATER));
        let actions = Driver::take(&mut *replica, T0);
        let (seq, batch) = actions.batch.unwrap();
        assert_eq!((seq, batch.ops.len(), actions.frames.len()), (Seq(token), 1, 1));
        let again = Driver::take(&mut *replica, T0);
        assert!(again.batch.is_none() && again.frames.is_empty() && again.responses.is_empty());
    }
    replica.handle(T0, Event::Written(Seq(2)));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1)), Msg::Claim(Slot(2))]);
    assert_eq!(replica.take(T0).apply.len(), 2);
    assert!(Driver::take(&mut *replica, T0).apply.is_empty());
}

#[test]
fn claim_without_a_write_waits_for_earlier_writes() {
    let mut replica = replica(Some(ME));
    receive(&mut replica, Msg::ClaimWithoutWrite);
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(0))], "the disk is idle");
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    replica.take(T0).frames.clear();
    receive(&mut replica, Msg::ClaimWithoutWrite);
    assert_eq!(sent(&mut replica, T0), []);
    replica.handle(T0, Event::Written(Seq(1)));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1)), Msg::Claim(Slot(1))]);
}

#[test]
fn state_may_be_saved_only_after_the_log_is_durable() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    receive(&mut replica, Msg::Quorum);
    let actions = replica.take(T0);
    assert_eq!(actions.apply.len(), 1, "a quorum of other nodes holds slot 1");
    assert_eq!(actions.durable, None, "this node's disk does not hold slot 1");
    replica.handle(T0, request(2, LATER));
    let actions = replica.take(T0);
    assert!(actions.batch.take().is_some(), "slot 2 is written");
    assert_eq!(actions.durable, None);
    replica.handle(T0, Event::Written(Seq(1)));
    assert_eq!(replica.take(T0).durable.take(), Some(Slot(1)), "slot 2 is not durable");
    replica.handle(T0, Event::Written(Seq(2)));
    assert_eq!(replica.take(T0).durable, Some(Slot(2)));
}

#[test]
fn frames_that_are_not_for_us_are_dropped_and_counted() {
    let mut replica = replica(Some(ME));
    let lead = || Payload::Protocol(Msg::Lead(PEER, 9));
    deliver(&mut replica, &Envelope { cluster: ClusterId(2), ..envelope() }, lead());
    deliver(&mut replica, &Envelope { from: NodeId(3), ..envelope() }, lead());
    replica.handle(T0, Event::Frame { from: PEER, frame: Bytes::from_static(b"noise") });
    receive(&mut replica, Msg::Ping(Slot(0)));
    deliver(&mut replica, &Envelope { incarnation: Incarnation(10), ..envelope() }, lead());
    assert_eq!(replica.status().leader, Some(ME));
    let counters = replica.counters();
    assert_eq!(counters.frames_foreign, 1);
    assert_eq!(counters.frames_forged, 1);
    assert_eq!(counters.frames_malformed, 1);
    assert_eq!(counters.frames_wrong_incarnation, 1);
    assert_eq!(counters.frames, 1);
}

#[test]
fn request_without_a_leader_is_refused_at_its_deadline() {
    let mut replica = replica(None);
    replica.handle(T0, request(1, Duration::from_secs(1)));
    assert!(replica.take(T0).responses.is_empty());
    let end = T0 + Duration::from_secs(1);
    assert!(replica.take(T0).wake <= Some(end));
    replica.handle(end, Event::Wake);
    let response = replica.take(end).responses.pop().unwrap();
    assert_eq!(response.outcome, Outcome::Refused(Refusal::NotLeader { hint: None }));
}

#[test]
fn each_read_ends_at_its_own_deadline() {
    let mut replica = replica(None);
    for (token, seconds) in [(1, 60), (2, 1), (3, 2)] {
        let deadline = T0 + Duration::from_secs(seconds);
        replica.handle(T0, Event::Read { token: Token(token), deadline });
    }
    let _ = replica.take(T0);
    for (seconds, token) in [(1, 2), (2, 3), (60, 1)] {
        let end = T0 + Duration::from_secs(seconds);
        assert!(replica.take(T0).wake <= Some(end));
        replica.handle(end, Event::Wake);
        let responses: Vec<_> = replica.take(end).responses.drain(..).collect();
        assert_eq!(
            responses.iter().map(|response| response.token).collect::<Vec<_>>(),
            [Token(token)]
        );
        assert_eq!(responses[0].outcome, Outcome::Refused(Refusal::NotLeader { hint: None }));
    }
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn open_rejects_a_state_before_the_base_or_after_the_end_of_the_log() {
    let base = Base { through: Slot(7), stamp: Term(1), members: None };
    let op = encode_write::<ScriptedProtocol>(&Write::Compact(base));
    let LogOp::Compact { through, base } = op else { panic!("{op:?}") };
    let saved = synod_storage::StoredGroup { base: Some((through, base)), ..Default::default() };
    let open = |applied| TestReplica::open(T0, settings(), None, &saved, applied);
    let error = open(Slot(6)).err().unwrap();
    assert!(matches!(error, OpenError::StateBehindLog { applied: Slot(6), base: Slot(7) }));
    assert!(open(Slot(7)).is_ok());
    assert!(matches!(open(Slot(8)), Err(OpenError::LogBehindState { .. })));
}

#[test]
fn forwarded_request_without_a_reply_ends_as_unknown() {
    let mut replica = replica(Some(PEER));
    replica.handle(T0, request(1, Duration::from_secs(1)));
    assert_eq!(replica.take(T0).frames.len(), 1, "forwarded");
    let end = T0 + Duration::from_secs(1);
    replica.handle(end, Event::Wake);
    let response = replica.take(end).responses.pop().unwrap();
    assert_eq!(response.outcome, Outcome::Unknown);
}

#[test]
fn request_proposed_twice_is_applied_once() {
    let mut replica = replica(Some(PEER));
    let mut applier = applier(synod_storage::MemoryState::new());
    replica.handle(T0, request(1, LATER));
    let copy = forwarded(&mut replica).remove(0);
    receive(&mut replica, Msg::Chosen(copy.clone()));
    receive(&mut replica, Msg::Chosen(copy));
    let outcomes = run_alone(&mut replica, &mut applier);
    assert_eq!(applier.applied(), Slot(2), "both copies are in the log");
    assert_eq!(recorded(&applier), "command 1", "one was applied");
    assert_eq!(outcomes, [Outcome::Done(Slot(1), Bytes::from_static(b"command 1"))]);
}

#[test]
fn many_reads_cost_one_barrier() {
    let mut replica = replica(Some(ME));
    let mut applier = applier(synod_storage::MemoryState::new());
    for token in 1..=10 {
        replica.handle(T0, Event::Read { token: Token(token), deadline: T0 + LATER });
    }
    assert_eq!(run_alone(&mut replica, &mut applier), vec![Outcome::Readable; 10]);
    assert_eq!(applier.applied(), Slot(1));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn persist_writes_only_whole_pieces_at_or_below_the_durable_slot() {
    let disk = synod_storage::MemoryDisk::new(Incarnation(5));
    let mut replica = replica(Some(ME));
    let mut first = applier(disk.open_state());
    replica.handle(T0, request(1, LATER));
    run_alone(&mut replica, &mut first);
    first.seal();
    replica.handle(T0, request(2, LATER));
    run_alone(&mut replica, &mut first);
    first.seal();
    assert!(first.persist(Slot(1)).unwrap());
    assert!(!first.persist(Slot(1)).unwrap(), "no new piece ends at or below slot 1");
    let again = applier(disk.open_state());
    assert_eq!(again.applied(), Slot(1));
    assert_eq!(recorded(&again), "command 1");
    assert_ne!(again.digest(), first.digest());
}

#[test]
fn time_of_the_driver_never_goes_back() {
    let mut replica = replica(Some(ME));
    let seconds = Duration::from_secs;
    replica.handle(T0 + seconds(10), Event::Wake);
    let _ = replica.take(T0 + seconds(10));
    // The clock has gone back to T0, so 5 s seem to be left. The driver has already seen 10 s.
    replica.handle(T0, request(1, seconds(5)));
    let _ = replica.take(T0);
    replica.handle(T0, Event::Wake);
    let responses = std::mem::take(&mut replica.take(T0).responses);
    assert_eq!(responses.len(), 1, "the request is past its deadline");
    // A later deadline does not pass early.
    replica.handle(T0, request(2, seconds(12)));
    let wake = replica.take(T0 + seconds(9)).wake.unwrap();
    assert!(wake > T0 + seconds(10) && wake <= T0 + seconds(12), "{wake:?}");
}
