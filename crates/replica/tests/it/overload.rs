//! Backpressure and retries with a slow disk, a slow state machine or a slow leader.

use crate::scripted::*;
use bytes::Bytes;
use std::time::Duration;
use synod_consensus::{Refusal, Write};
use synod_replica::{
    Applied, Driver, Event, FatalError, Outcome, Payload, ReplicaSettings, Request, RequestKind,
    RequestSeq, Seq, Session, Token, decode_frame, encode_write,
};
use synod_storage::{Batch, LogOp, MemoryState, StoredRun};
use synod_types::{Incarnation, Instant, Lane, NodeId, Slot, Term, Value, Values};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn put(token: u64, bytes: usize) -> Event {
    let command = Bytes::from(vec![b'x'; bytes]);
    Event::Request { token: Token(token), command, deadline: T0 + LATER * 10 }
}

/// Returns a request of the peer's clients.
fn remote(seq: u64, bytes: usize) -> Bytes {
    settled_remote(seq, 1, bytes)
}

/// Returns a request of the peer's clients; requests below `settled` are settled.
fn settled_remote(seq: u64, settled: u64, bytes: usize) -> Bytes {
    let session = Session { node: PEER, incarnation: Incarnation(9), boot: 1 };
    let body = RequestKind::Command(Bytes::from(vec![b'y'; bytes]));
    Request { session, seq: RequestSeq(seq), settled: RequestSeq(settled), body }.encode()
}

fn forward(replica: &mut TestReplica, commands: impl IntoIterator<Item = Bytes>) {
    let values = commands.into_iter().map(Value::Command).collect();
    deliver(replica, &envelope(), Payload::Forward(values));
}

/// Returns the state machine's report that it has applied through a slot.
fn applied(through: Slot) -> Event {
    let mut applied = Applied::default();
    applied.through = through;
    Event::Applied(applied)
}

/// Returns the number of commands in a batch.
fn commands(batch: &Batch) -> usize {
    let count = |op: &LogOp| if let LogOp::Put(run) = op { run.values.len() } else { 0 };
    batch.ops.iter().map(|(_, op)| count(op)).sum()
}

/// Reports the batches through `seq` as durable, and applies the chosen runs.
fn written(replica: &mut TestReplica, now: Instant, seq: Seq) {
    replica.handle(now, Event::Written(seq));
    let runs = std::mem::take(&mut replica.take(now).apply);
    if let Some(last) = runs.last() {
        replica.handle(now, applied(last.last()));
    }
}

#[test]
fn a_disk_that_completes_a_batch_every_1900_ms_is_not_stalled() {
    let mut replica = replica(Some(ME));
    let mut next_write = T0 + MS(1900);
    let mut written_through = Seq(0);
    let mut newest = Seq(0);
    for tick in 0..600 {
        // 10 requests a second for a minute, while the disk completes one batch in 1.9 s.
        let now = T0 + MS(100 * tick);
        replica.handle(now, request(tick, LATER * 10));
        if let Some((seq, _)) = replica.take(now).batch.take() {
            newest = seq;
        }
        if now >= next_write && written_through < newest {
            written_through = written_through.next();
            written(&mut replica, now, written_through);
            next_write = now + MS(1900);
        }
        replica.handle(now, Event::Wake);
    }
    assert!(newest.0 > written_through.0 + 100, "the oldest batch is older than the stall limit");
    assert_eq!(replica.counters().stalls, 0);
    assert!(!replica.core().stalled);
}

#[test]
fn disk_that_completes_nothing_is_reported_once_for_each_stall_limit() {
    let stall = settings().stall;
    let mut replica = replica(Some(ME));
    let mut now = T0;
    for tick in 0..20 {
        now = T0 + MS(50 * tick);
        replica.handle(now, request(tick, LATER));
        let _ = replica.take(now).batch.take();
        replica.handle(now, Event::Wake);
    }
    assert!(!replica.core().stalled);
    // New work does not restart the time, and one wake reports at most one stall.
    for (tick, stalls) in [(1999, 0), (2000, 1), (2001, 1), (3999, 1), (4000, 2)] {
        replica.handle(T0 + MS(tick), Event::Wake);
        assert_eq!(replica.counters().stalls, stalls, "after {tick} ms");
    }
    assert_eq!(stall, MS(2000));
    now = now + MS(5000);
    written(&mut replica, now, Seq(20));
    replica.handle(now + stall * 3, Event::Wake);
    assert_eq!(replica.counters().stalls, 2, "no work is pending");
}

#[test]
fn repeated_completion_is_no_progress() {
    let mut replica = replica(Some(ME));
    for token in 1..=2 {
        replica.handle(T0, request(token, LATER));
        let _ = replica.take(T0).batch.take();
    }
    written(&mut replica, T0, Seq(1));
    written(&mut replica, T0 + MS(1900), Seq(1));
    replica.handle(T0 + MS(2000), Event::Wake);
    assert_eq!(replica.counters().stalls, 1);
}

#[test]
fn leader_bounds_the_bytes_at_its_disk_and_queues_the_rest() {
    let mut replica =
        replica_with(ReplicaSettings { unwritten_bytes: 10_000, ..settings() }, Some(ME));
    for token in 1..=50 {
        replica.handle(T0, put(token, 1000));
    }
    forward(&mut replica, (1..=50).map(|seq| remote(seq, 1000)));
    let (mut seq, first) = replica.take(T0).batch.take().unwrap();
    assert!((8..=11).contains(&commands(&first)), "{}", commands(&first));
    let stamps = |batch: &Batch| batch.clone().ops.into_iter().map(|(_, op)| op);
    let own = stamps(&first).filter(|op| {
        let LogOp::Put(StoredRun { values, .. }) = op else { return false };
        Request::decode(values.command(0).unwrap()).unwrap().session.node == ME
    });
    assert!((4..=6).contains(&own.count()), "own and remote requests do not alternate");
    assert!(replica.take(T0).batch.is_none() && replica.take(T0).responses.is_empty());
    let mut total = commands(&first);
    loop {
        written(&mut replica, T0, seq);
        let Some((next, batch)) = replica.take(T0).batch.take() else { break };
        assert!((1..=11).contains(&commands(&batch)), "{}", commands(&batch));
        total += commands(&batch);
        seq = next;
    }
    assert_eq!(total, 100, "a request was lost or duplicated");
}

#[test]
fn barrier_does_not_wait_for_disk_space() {
    let mut replica = replica_with(ReplicaSettings { unwritten_bytes: 1, ..settings() }, Some(ME));
    replica.handle(T0, put(1, 1000));
    replica.handle(T0, put(2, 1000));
    assert_eq!(commands(&replica.take(T0).batch.take().unwrap().1), 1);
    replica.handle(T0, Event::Read { token: Token(3), deadline: T0 + LATER });
    let (_, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!(commands(&batch), 1);
    let LogOp::Put(run) = &batch.ops[0].1 else { panic!("{batch:?}") };
    assert_eq!(Request::decode(run.values.command(0).unwrap()).unwrap().body, RequestKind::Barrier);
}

#[test]
fn request_that_was_never_proposed_ends_as_busy() {
    let mut replica = replica_with(ReplicaSettings { unwritten_bytes: 1, ..settings() }, Some(ME));
    for token in 1..=2 {
        replica.handle(T0, request(token, Duration::from_secs(1)));
    }
    let _ = replica.take(T0).batch.take();
    let end = T0 + Duration::from_secs(1);
    replica.handle(end, Event::Wake);
    let outcomes: Vec<_> = replica.take(end).responses.drain(..).map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Refused(Refusal::Busy)]);
}

/// Regression, found by the simulator: a busy core refused remote proposals to their node, which doubled
/// its retry delay each time. Later requests overtook them.
#[test]
fn requests_that_a_busy_core_refuses_keep_their_place_in_the_queue() {
    let mut replica = replica(Some(ME));
    receive(&mut replica, Msg::Busy(true));
    forward(&mut replica, (1..=3).map(|seq| remote(seq, 100)));
    for token in 1..=2 {
        replica.handle(T0, put(token, 100));
    }
    replica.handle(T0, request(3, Duration::from_secs(1)));
    let actions = replica.take(T0);
    assert!(actions.batch.is_none() && actions.responses.is_empty());
    let refused = |(_, _, frame): &(NodeId, Lane, Bytes)| {
        matches!(decode_frame::<Msg>(frame).unwrap().1, Payload::Refused { .. })
    };
    assert!(!actions.frames.iter().any(refused));
    let end = T0 + Duration::from_secs(1);
    replica.handle(end, Event::Wake);
    let outcomes: Vec<_> = replica.take(end).responses.drain(..).map(|it| it.outcome).collect();
    assert_eq!(outcomes, [Outcome::Refused(Refusal::Busy)], "the core never accepted it");
    receive(&mut replica, Msg::Busy(false));
    let (_, batch) = replica.take(end).batch.take().unwrap();
    let mut proposed = Vec::new();
    for (_, op) in &batch.ops {
        let LogOp::Put(run) = op else { panic!("{op:?}") };
        for index in 0..run.values.len() {
            let request = Request::decode(run.values.command(index).unwrap()).unwrap();
            proposed.push((request.session.node, request.seq.0));
        }
    }
    let of = |node| proposed.iter().filter(move |(of, _)| *of == node).map(|(_, seq)| *seq);
    assert!(of(PEER).eq([1, 2, 3]) && of(ME).eq([1, 2]), "{proposed:?}");
}

#[test]
fn remote_proposals_beyond_the_bound_are_refused_as_busy() {
    let bounded = ReplicaSettings { unwritten_bytes: 1, remote_proposal_bytes: 3500, ..settings() };
    let mut replica = replica_with(bounded, Some(ME));
    forward(&mut replica, (1..=5).map(|seq| remote(seq, 1000)));
    let frames = std::mem::take(&mut replica.take(T0).frames);
    let refused =
        frames.iter().find_map(|(_, _, frame)| match decode_frame::<Msg>(frame).unwrap() {
            (_, Payload::Refused { requests, why: Refusal::Busy }) => Some(requests),
            _ => None,
        });
    assert_eq!(refused, Some(vec![4, 5]));
}

#[test]
fn requests_in_the_log_are_not_retried_after_a_leader_change() {
    let mut replica = replica(Some(ME));
    for token in 1..=100 {
        replica.handle(T0, put(token, 1000));
    }
    assert_eq!(commands(&replica.take(T0).batch.take().unwrap().1), 100);
    // The same node leads again, then another one. No request is lost so far.
    receive(&mut replica, Msg::Lead(ME, 2));
    assert!(replica.take(T0).batch.is_none(), "a leader proposed copies of its own log");
    receive(&mut replica, Msg::Lead(PEER, 3));
    assert_eq!(forwarded(&mut replica), []);
    assert_eq!(replica.counters().retried, 0);
}

#[test]
fn truncated_requests_are_retried_at_once() {
    let mut replica = replica(Some(ME));
    for token in 1..=3 {
        replica.handle(T0, put(token, 10));
    }
    let _ = replica.take(T0).batch.take();
    receive(&mut replica, Msg::Lead(PEER, 2));
    assert_eq!(forwarded(&mut replica), []);
    receive(&mut replica, Msg::Overwrite(Slot(2)));
    let again: usize = forwarded(&mut replica).iter().map(Values::len).sum();
    assert_eq!(again, 2, "slots 2 and 3 were truncated, slot 1 was not");
}

#[test]
fn request_placed_under_an_earlier_leader_is_retried_after_a_delay() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, put(1, 10));
    let _ = replica.take(T0).batch.take();
    let wait = |replica: &mut TestReplica, now| {
        replica.handle(now, Event::Wake);
        forwarded_at(replica, now).len()
    };
    assert_eq!(wait(&mut replica, T0 + MS(1000)), 0, "the leader has the request");
    receive(&mut replica, Msg::Lead(PEER, 2));
    let _ = replica.take(T0 + MS(1000));
    assert_eq!(wait(&mut replica, T0 + MS(1200)), 1, "the new leader may lack the request");
    assert_eq!(wait(&mut replica, T0 + MS(1300)), 0, "the next retry is not due");
}

#[test]
fn request_that_the_leader_replicated_to_this_log_is_not_retried() {
    let mut replica = replica(Some(PEER));
    replica.handle(T0, put(1, 10));
    let copy = forwarded(&mut replica).remove(0);
    receive(&mut replica, Msg::Chosen(copy));
    let _ = replica.take(T0);
    replica.handle(T0 + LATER, Event::Wake);
    assert_eq!(forwarded_at(&mut replica, T0 + LATER), [], "it is chosen, though not applied here");
}

#[test]
fn leader_drops_copies_of_requests_in_its_recovered_log() {
    let run = StoredRun {
        first: Slot(1),
        stamp: encode_stamp(),
        values: Values::command_only(&remote(1, 10)),
    };
    let saved = synod_storage::StoredGroup { journal: vec![LogOp::Put(run)], ..Default::default() };
    let mut replica = replica_on(&saved, settings(), Some(ME));
    forward(&mut replica, [remote(1, 10), remote(2, 10)]);
    let (_, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!(commands(&batch), 1, "the second request alone");
}

fn encode_stamp() -> Bytes {
    let run = synod_consensus::Run { first: Slot(1), stamp: Term(1), values: Values::noop() };
    let LogOp::Put(run) = encode_write::<ScriptedProtocol>(&Write::Put(run)) else {
        unreachable!()
    };
    run.stamp
}

#[test]
fn forwards_and_their_retries_stay_within_the_window() {
    let mut replica =
        replica_with(ReplicaSettings { forward_window: 10_000, ..settings() }, Some(PEER));
    for token in 1..=30 {
        replica.handle(T0, put(token, 1000));
    }
    let count = |values: Vec<Values>| values.iter().map(Values::len).sum::<usize>();
    let first = forwarded(&mut replica);
    let copies: Vec<_> =
        first.iter().flat_map(|it| (0..it.len()).map(|at| it.slice(at, at + 1))).collect();
    assert_eq!(copies.len(), 9);
    // Without acknowledgements the window is sent again, with growing delays.
    let mut sends = 0;
    for tick in 1..=100 {
        let now = T0 + MS(50 * tick);
        replica.handle(now, Event::Wake);
        let again = count(forwarded_at(&mut replica, now));
        assert!(again <= 9, "{again} at once");
        sends += usize::from(again > 0);
    }
    assert!((3..=6).contains(&sends), "{sends} times in 5 s");
    // Applied requests make room for others.
    let mut applier = applier(MemoryState::new());
    let now = T0 + MS(5000);
    for copy in copies.into_iter().take(4) {
        receive(&mut replica, Msg::Chosen(copy));
    }
    let runs = std::mem::take(&mut replica.take(now).apply);
    let mut applied = Applied::default();
    runs.iter().for_each(|run| applier.apply(run, &mut applied).unwrap());
    replica.handle(now, Event::Applied(applied));
    assert_eq!(count(forwarded_at(&mut replica, now)), 4);
}

#[test]
fn chosen_slots_are_handed_out_in_order_within_the_bounds() {
    let small = ReplicaSettings { unapplied_bytes: 10_000, unapplied_slots: 6, ..settings() };
    let values: Values = (1..=40)
        .map(|seq| Value::Command(remote(seq, if seq % 7 == 0 { 20_000 } else { 700 })))
        .collect();
    let run = StoredRun { first: Slot(1), stamp: encode_stamp(), values: values.clone() };
    let saved = synod_storage::StoredGroup { journal: vec![LogOp::Put(run)], ..Default::default() };
    let mut replica = replica_on(&saved, small, Some(ME));
    receive(&mut replica, Msg::Quorum);
    let mut next = Slot(1);
    while next <= Slot(40) {
        let runs = std::mem::take(&mut replica.take(T0).apply);
        let (mut slots, mut bytes) = (0, 0);
        for run in &runs {
            assert_eq!(run.first, next);
            assert_eq!(run.values, values.slice(next.0 as usize - 1, run.last().0 as usize));
            next = run.last().next();
            slots += run.values.len();
            bytes += run.values.byte_len();
        }
        assert!((1..=6).contains(&slots), "{slots} slots at {next}");
        assert!(bytes <= 10_000 || bytes <= 10_000 + 20_100 && slots > 0, "{bytes} bytes");
        let through = next.prev();
        replica.handle(T0, applied(through));
    }
}

#[test]
fn lagging_precedes_due_timers_while_chosen_slots_wait() {
    let small = ReplicaSettings { unapplied_slots: 1, ..settings() };
    let mut replica = replica_with(small, Some(PEER));
    for text in [b"1", b"2"] {
        receive(&mut replica, Msg::Chosen(Values::command_only(text)));
    }
    let due = T0 + TIMER;
    let mut lagging = |applied: u64, fired: u64| {
        let _ = replica.take(due);
        replica.handle(due, Event::Wake);
        assert_eq!(replica.core().timeouts, fired);
        let through = Slot(applied);
        replica.handle(due, self::applied(through));
        replica.core().lagging
    };
    assert!(lagging(1, 1));
    // A node whose last chosen slot is at the state machine does not lag.
    let mut fresh = self::replica(Some(PEER));
    receive(&mut fresh, Msg::Chosen(Values::command_only(b"1")));
    let _ = fresh.take(due);
    fresh.handle(due, Event::Wake);
    assert!(fresh.core().timeouts == 1 && !fresh.core().lagging);
}

#[test]
fn messages_held_for_a_hanging_disk_are_bounded() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let (seq, _) = replica.take(T0).batch.take().unwrap();
    for _ in 0..10_000 {
        receive(&mut replica, Msg::ClaimWithoutWrite);
        let _ = replica.take(T0);
    }
    replica.take(T0).frames.clear();
    replica.handle(T0, Event::Written(seq));
    let held = sent(&mut replica, T0).len();
    assert!((1000..=4097).contains(&held), "{held}");
    assert_eq!(replica.take(T0).apply.len(), 1, "the claim to itself was dropped");
}

#[test]
fn frames_of_the_log_are_dropped_while_the_disk_is_flooded() {
    let mut replica =
        replica_with(ReplicaSettings { flood_bytes: 10_000, ..settings() }, Some(PEER));
    let mut dropped = 0;
    for token in 1..=20 {
        let value = Values::command_only(&vec![token; 1000]);
        receive(&mut replica, Msg::Chosen(value));
        let _ = replica.take(T0);
        dropped = replica.counters().frames_dropped;
    }
    assert!((9..=11).contains(&dropped), "{dropped} of 20");
    let (seq, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!(commands(&batch), 20 - usize::try_from(dropped).unwrap());
    replica.handle(T0, Event::Written(seq));
    receive(&mut replica, Msg::Chosen(Values::command_only(b"again")));
    assert_eq!(replica.counters().frames_dropped, dropped);
}

#[test]
fn core_that_truncates_chosen_slots_or_is_contradicted_stops_the_node() {
    let cases = [
        (Msg::Overwrite(Slot(2)), FatalError::TruncatesChosen { from: Slot(2), chosen: Slot(2) }),
        (Msg::Contradict(Slot(2)), FatalError::Contradicted { slot: Slot(2), by: PEER }),
    ];
    for (message, fatal) in cases {
        let mut replica = replica(Some(PEER));
        for text in [b"1", b"2"] {
            receive(&mut replica, Msg::Chosen(Values::command_only(text)));
        }
        let _ = replica.take(T0).batch.take();
        receive(&mut replica, Msg::Ping(Slot(0)));
        receive(&mut replica, message);
        // Slots that become chosen in the same round are not applied.
        receive(&mut replica, Msg::Chosen(Values::command_only(b"3")));
        for _ in 0..2 {
            let actions = replica.take(T0);
            assert_eq!(actions.fatal, Some(fatal));
            assert!(actions.batch.is_none() && actions.frames.is_empty());
            assert!(actions.apply.is_empty() && actions.wake.is_none());
            // The error is final: later events change nothing.
            replica.handle(T0, request(9, LATER));
            replica.handle(T0, Event::Written(Seq(1)));
        }
    }
}

#[test]
fn base_that_goes_back_or_passes_the_commit_index_stops_the_node() {
    for (through, fatal) in [(1, true), (2, false), (3, false), (4, true)] {
        let mut replica = replica(Some(PEER));
        for text in [b"1", b"2", b"3"] {
            receive(&mut replica, Msg::Chosen(Values::command_only(text)));
        }
        receive(&mut replica, Msg::Compact(Slot(2)));
        assert_eq!(replica.take(T0).fatal, None);
        receive(&mut replica, Msg::Compact(Slot(through)));
        assert_eq!(replica.take(T0).fatal.is_some(), fatal, "compacted through {through}");
    }
}

#[test]
fn applied_slots_count_as_chosen_after_a_restart() {
    let run = StoredRun {
        first: Slot(1),
        stamp: encode_stamp(),
        values: (0..3).map(|_| Value::Command(Bytes::from_static(b"x"))).collect(),
    };
    let saved = synod_storage::StoredGroup { journal: vec![LogOp::Put(run)], ..Default::default() };
    for (cut, fatal) in [(2, true), (3, false)] {
        let mut replica = TestReplica::open(T0, settings(), Some(PEER), &saved, Slot(2)).unwrap();
        let _ = replica.take(T0);
        receive(&mut replica, Msg::Overwrite(Slot(cut)));
        assert_eq!(replica.take(T0).fatal.is_some(), fatal, "cut from slot {cut}");
    }
}

/// Returns the numbers of the peer's requests that the node acknowledges.
fn acknowledged(replica: &mut TestReplica) -> Vec<u64> {
    let frames = std::mem::take(&mut replica.take(T0).frames);
    let acknowledged = frames.iter().filter_map(|(_, lane, frame)| {
        let (_, payload) = decode_frame::<Msg>(frame).unwrap();
        let Payload::Acknowledged { requests } = payload else { return None };
        assert_eq!(*lane, Lane::Control, "acknowledgements must not queue behind requests");
        Some(requests)
    });
    acknowledged.flatten().collect()
}

#[test]
fn leader_acknowledges_each_copy_of_a_forward_that_it_has() {
    let mut replica = replica_with(ReplicaSettings { unwritten_bytes: 1, ..settings() }, Some(ME));
    let _ = replica.take(T0);
    forward(&mut replica, [remote(1, 100), remote(2, 100)]);
    assert_eq!(acknowledged(&mut replica), [1, 2], "one is in the log, one in the queue");
    forward(&mut replica, [remote(2, 100), remote(1, 100)]);
    assert_eq!(acknowledged(&mut replica), [2, 1], "the first acknowledgement may be lost");
    receive(&mut replica, Msg::Lead(PEER, 2));
    let _ = replica.take(T0);
    forward(&mut replica, [remote(3, 100)]);
    assert_eq!(acknowledged(&mut replica), [], "only a leader acknowledges");
}

#[test]
fn acknowledged_forwards_are_not_retried_while_the_leader_leads() {
    let mut replica = replica(Some(PEER));
    for token in 1..=2 {
        replica.handle(T0, put(token, 100));
    }
    assert_eq!(forwarded(&mut replica).iter().map(Values::len).sum::<usize>(), 2);
    deliver(&mut replica, &envelope(), Payload::Acknowledged { requests: vec![1] });
    let retried = |replica: &mut TestReplica, now| {
        replica.handle(now, Event::Wake);
        forwarded_at(replica, now).iter().map(Values::len).sum::<usize>()
    };
    assert_eq!(retried(&mut replica, T0 + MS(2000)), 1, "one is not acknowledged");
    assert_eq!(retried(&mut replica, T0 + MS(2100)), 0);
    deliver(&mut replica, &envelope(), Payload::Acknowledged { requests: vec![2] });
    assert_eq!(retried(&mut replica, T0 + MS(5000)), 0, "the leader has both");
    receive(&mut replica, Msg::Lead(NodeId(3), 2));
    assert_eq!(retried(&mut replica, T0 + MS(5001)), 2, "another leader may lack them");
}

#[test]
fn forwards_refused_after_an_acknowledgement_are_retried() {
    let mut replica = replica(Some(PEER));
    replica.handle(T0, put(1, 100));
    assert_eq!(forwarded(&mut replica).len(), 1);
    deliver(&mut replica, &envelope(), Payload::Acknowledged { requests: vec![1] });
    let refused = Payload::Refused { requests: vec![1], why: Refusal::Busy };
    deliver(&mut replica, &envelope(), refused);
    replica.handle(T0 + MS(2000), Event::Wake);
    assert_eq!(forwarded(&mut replica).iter().map(Values::len).sum::<usize>(), 1);
}

#[test]
fn settled_remote_proposals_are_not_proposed() {
    let mut replica = replica_with(ReplicaSettings { unwritten_bytes: 1, ..settings() }, Some(ME));
    forward(&mut replica, (1..=5).map(|seq| remote(seq, 100)));
    let (seq, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!(commands(&batch), 1, "the first command reaches the bound");
    // The next request reports that all requests below 5 are settled.
    forward(&mut replica, [settled_remote(6, 5, 100)]);
    written(&mut replica, T0, seq);
    let (_, batch) = replica.take(T0).batch.take().unwrap();
    let LogOp::Put(run) = &batch.ops[0].1 else { panic!("{batch:?}") };
    assert_eq!(Request::decode(run.values.command(0).unwrap()).unwrap().seq, RequestSeq(5));
}
