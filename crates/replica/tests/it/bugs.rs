//! Bugs that shipped elsewhere, as far as a driver or an apply side can have them. The numbers are
//! those of `docs/bugs.md`; the protocols' crates hold what is theirs.

use crate::scripted::*;
use bytes::Bytes;
use std::time::Duration;
use synod_consensus::{Base, Refusal, Run, Saved, Write};
use synod_replica::{
    Applied, Applier, ApplyError, ChosenRun, Driver, Envelope, Event, OpenError, Outcome, Payload,
    ReplicaSettings, Request, RequestKind, RequestSeq, Seq, Session, Token, decode_frame,
    decode_saved, encode_write,
};
use synod_storage::{Batch, LogOp, LogStore, MemoryDisk, MemoryLog};
use synod_types::{ClusterId, Epoch, GroupId, Incarnation, Instant, NodeId, Slot, Term, Values};

/// A replica that leads, on a disk that survives it.
struct Node {
    disk: MemoryDisk,
    log: MemoryLog,
    replica: TestReplica,
    applier: Applier,
}

impl Node {
    fn start(disk: &MemoryDisk) -> Self {
        let mut log = disk.open_log();
        let settings = ReplicaSettings::new(ClusterId(1), ME, log.boot_id(), 0);
        let applier = applier(disk.open_state());
        let saved = log.load(settings.group).unwrap();
        let applied = applier.applied();
        let mut replica = TestReplica::open(T0, settings, Some(ME), &saved, applied).unwrap();
        let _ = replica.take(T0);
        Self { disk: disk.clone(), log, replica, applier }
    }

    fn new() -> Self {
        Self::start(&MemoryDisk::new(Incarnation(5)))
    }

    /// Power is lost, and what was not synced with it; then the node starts again.
    fn crash(self) -> Self {
        self.disk.crash(0);
        Self::start(&self.disk)
    }

    fn write(&mut self) {
        if let Some((seq, batch)) = self.replica.take(T0).batch.take() {
            self.log.commit(&batch).unwrap();
            self.replica.handle(T0, Event::Written(seq));
        }
    }

    /// Applies what is ready, and makes durable what may be.
    fn apply(&mut self) {
        let actions = self.replica.take(T0);
        let (runs, durable) = (std::mem::take(&mut actions.apply), actions.durable.take());
        let mut applied = Applied::default();
        runs.iter().for_each(|run| self.applier.apply(run, &mut applied).unwrap());
        self.applier.seal();
        self.applier.persist(durable.unwrap_or(Slot::ZERO)).unwrap();
        self.applier.sync().unwrap();
        if !runs.is_empty() {
            self.replica.handle(T0, Event::Applied(applied));
        }
    }

    fn read(&mut self, token: u64) {
        self.replica.handle(T0, Event::Read { token: Token(token), deadline: T0 + LATER });
    }

    fn answered(&mut self) -> Vec<u64> {
        self.replica.take(T0).answers.drain(..).map(|answer| answer.token.0).collect()
    }
}

/// Hands out this round's batch.
fn batch(replica: &mut TestReplica) -> (Seq, Vec<LogOp>) {
    let (seq, batch) = replica.take(T0).batch.take().expect("something was written");
    (seq, batch.ops.into_iter().map(|(_, op)| op).collect())
}

/// A request of the peer's first client, in another node's name if `node` says so.
fn remote(node: NodeId, seq: u64) -> Values {
    let session = Session { node, incarnation: Incarnation(9), boot: 1 };
    let body = RequestKind::Command(Bytes::from_static(b"once"));
    let (seq, settled) = (RequestSeq(seq), RequestSeq(1));
    Values::command_only(&Request { session, seq, settled, body }.encode())
}

#[test]
fn raft_06_cut_and_append_reach_the_disk_apart() {
    let mut replica = replica(Some(ME));
    for token in 1..=3 {
        replica.handle(T0, request(token, LATER));
    }
    let (seq, _) = batch(&mut replica);
    replica.handle(T0, Event::Written(seq));
    let _ = sent(&mut replica, T0);
    receive(&mut replica, Msg::Recut(Slot(4)));
    let (seq, ops) = batch(&mut replica);
    assert!(
        matches!(ops[..], [LogOp::HardState(_), LogOp::TruncateFrom(Slot(4)), LogOp::Put(_)]),
        "one batch, whole or not at all: {ops:?}"
    );
    assert_eq!(sent(&mut replica, T0), [], "the claim waits for all of it");
    replica.handle(T0, Event::Written(seq));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(4))]);
}

#[test]
fn raft_07_leader_counts_entries_that_its_disk_does_not_hold() {
    let mut replica = replica(Some(ME));
    for token in 1..=3 {
        replica.handle(T0, request(token, LATER));
        let (seq, _) = batch(&mut replica);
        assert_eq!(seq, Seq(token));
    }
    assert!(replica.take(T0).apply.is_empty(), "three entries, none of them durable here");
    assert_eq!(replica.status().commit, Slot::ZERO);
    replica.handle(T0, Event::Written(Seq(2)));
    let _ = replica.take(T0);
    assert_eq!(replica.status().commit, Slot(2), "the own claim counts with the write before it");
}

#[test]
fn raft_08_single_voter_acknowledges_what_is_not_durable() {
    let mut node = Node::new();
    node.replica.handle(T0, request(1, LATER));
    let _lost = node.replica.take(T0).batch.take();
    node.apply();
    assert_eq!(node.answered(), [] as [u64; 0], "its own copy is the only one");
    // Others have it, so it is chosen; but this disk has not. The state must not get ahead.
    receive(&mut node.replica, Msg::Quorum);
    node.apply();
    assert_eq!(node.answered(), [1]);
    assert_eq!((node.applier.applied(), node.applier.persisted()), (Slot(1), Slot::ZERO));
    let again = node.crash();
    assert_eq!(again.applier.applied(), Slot::ZERO, "the log lost it, and so did the state");
    assert_eq!(again.replica.status().last, Slot::ZERO);
}

#[test]
fn raft_09_late_write_of_an_overwritten_entry_is_counted() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let (first, _) = batch(&mut replica);
    receive(&mut replica, Msg::Lead(PEER, 2));
    receive(&mut replica, Msg::Recut(Slot(1)));
    let (second, _) = batch(&mut replica);
    let _ = sent(&mut replica, T0);
    replica.handle(T0, Event::Written(first));
    assert_eq!(
        sent(&mut replica, T0),
        [Msg::Claim(Slot(1))],
        "the claim for what was there before"
    );
    replica.handle(T0, Event::Written(second));
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1))], "and the one for what is there now");
    // Completions out of order take nothing back.
    replica.handle(T0, Event::Written(first));
    receive(&mut replica, Msg::ClaimWithoutWrite);
    assert_eq!(sent(&mut replica, T0), [Msg::Claim(Slot(1))], "nothing is pending");
}

#[test]
fn raft_19_log_that_was_rolled_back_is_a_panic() {
    let mut node = Node::new();
    for token in 1..=3 {
        node.replica.handle(T0, request(token, LATER));
        node.write();
        node.apply();
    }
    let settings = settings();
    let whole = node.log.load(settings.group).unwrap();
    for kept in 0..=3 {
        let mut saved = whole.clone();
        saved.journal.truncate(kept);
        let opened =
            TestReplica::open(T0, settings.clone(), Some(ME), &saved, node.applier.applied());
        let last = Slot(kept as u64);
        match opened.err() {
            None => assert_eq!(kept, 3),
            Some(OpenError::LogBehindState { applied: Slot(3), last: found }) => {
                assert_eq!(found, last);
            }
            Some(other) => panic!("{other}"),
        }
    }
}

#[test]
fn raft_20_wiped_voter_votes_again() {
    let mut replica = replica(Some(ME));
    receive(&mut replica, Msg::Chat(Slot(0)));
    let wiped = Envelope { incarnation: Incarnation(10), ..envelope() };
    deliver(&mut replica, &wiped, Payload::Protocol(Msg::Quorum));
    deliver(&mut replica, &wiped, Payload::Protocol(Msg::Lead(PEER, 9)));
    assert_eq!(replica.counters().frames_wrong_incarnation, 2);
    assert_eq!(replica.status().leader, Some(ME), "it has forgotten what it promised");
    receive(&mut replica, Msg::Lead(PEER, 9));
    assert_eq!(replica.status().leader, Some(PEER), "the store that is known counts");
}

#[test]
fn raft_21_read_is_answered_by_the_barrier_of_an_earlier_one() {
    let mut node = Node::new();
    receive(&mut node.replica, Msg::Lead(PEER, 2));
    node.read(1);
    let first = forwarded(&mut node.replica);
    node.read(2);
    let second = forwarded(&mut node.replica);
    assert_eq!((first.len(), second.len()), (1, 1), "the second read has a barrier of its own");
    // The leader proposed the first barrier twice.
    for _ in 0..2 {
        receive(&mut node.replica, Msg::Chosen(first[0].clone()));
        node.write();
    }
    node.apply();
    assert_eq!(node.applier.applied(), Slot(2), "both copies of the first barrier");
    assert_eq!(node.answered(), [1]);
    receive(&mut node.replica, Msg::Chosen(second[0].clone()));
    node.write();
    node.apply();
    assert_eq!(node.answered(), [2]);
}

#[test]
fn raft_22_new_leader_serves_reads_before_the_past_is_settled() {
    let mut node = Node::new();
    node.replica.handle(T0, request(1, LATER));
    let (_, ops) = node.replica.take(T0).batch.take().unwrap();
    node.log.commit(&ops).unwrap();
    let mut node = Node::start(&node.disk);
    assert_eq!(node.replica.status().last, Slot(1), "it leads again, and slot 1 is open");
    node.read(7);
    let (seq, ops) = node.replica.take(T0).batch.take().unwrap();
    node.log.commit(&ops).unwrap();
    assert_eq!(node.answered(), [] as [u64; 0], "placed is not chosen");
    node.replica.handle(T0, Event::Written(seq));
    let _ = node.replica.take(T0);
    assert_eq!(node.replica.status().commit, Slot(2));
    assert_eq!(node.answered(), [] as [u64; 0], "chosen is not applied");
    node.apply();
    assert_eq!(node.answered(), [7]);
    assert_eq!(recorded(&node.applier), "command 1", "the read finds what came before it");
}

#[test]
fn raft_30_stalled_disk_or_apply_side_is_not_reported() {
    let stall = settings().stall;
    let silent: [fn(&mut TestReplica); 2] = [
        |replica| drop(batch(replica)),
        |replica| {
            let (seq, _) = batch(replica);
            replica.handle(T0, Event::Written(seq));
            assert_eq!(replica.take(T0).apply.drain(..).count(), 1);
        },
    ];
    for hang in silent {
        let mut replica = replica(Some(ME));
        replica.handle(T0, request(1, LATER));
        hang(&mut replica);
        let almost = T0 + (stall - Duration::from_millis(1));
        replica.handle(almost, Event::Wake);
        assert!(!replica.core().stalled);
        let late = T0 + stall;
        assert!(replica.take(almost).wake <= Some(late));
        replica.handle(late, Event::Wake);
        assert!(replica.core().stalled, "so that a leader lets go");
        assert_eq!(replica.counters().stalls, 1);
        assert!(replica.take(late).wake <= Some(late + stall), "and the stall is reported again");
    }
}

#[test]
fn raft_32_room_for_requests_leaks() {
    let small = ReplicaSettings { max_outstanding: 3, ..settings() };
    let soon = Duration::from_secs(1);
    for leader in [None, Some(ME), Some(PEER)] {
        let mut replica = replica_with(small.clone(), leader);
        let mut applier = applier(synod_storage::MemoryState::new());
        let mut now = T0;
        for round in 0..50 {
            let deadline = now + soon;
            let (token, command) = (Token(4 * round), Bytes::from_static(b"x"));
            replica.handle(now, Event::Request { token, command, deadline });
            for (token, deadline) in [(1, now + soon / 2), (2, deadline), (3, deadline)] {
                let token = Token(4 * round + token);
                replica.handle(now, Event::Read { token, deadline });
            }
            let actions = replica.take(now);
            let busy = actions
                .answers
                .iter()
                .filter(|answer| matches!(answer.outcome, Outcome::Refused(Refusal::Busy)));
            assert_eq!(busy.count(), 1, "room for three and no fewer, in round {round}");
            actions.answers.clear();
            if leader == Some(ME) {
                run_alone(&mut replica, &mut applier);
            }
            // Reads that wait for one barrier give up one by one.
            for end in [now + soon / 2, deadline] {
                now = end;
                replica.handle(now, Event::Wake);
                let _ = replica.take(now);
            }
            assert_eq!(replica.outstanding(), 0, "each found an end, in round {round}");
            replica.take(now).answers.clear();
        }
    }
}

/// Six commands of one client, one slot each.
fn six() -> Values {
    let session = Session { node: PEER, incarnation: Incarnation(9), boot: 1 };
    let command = |seq: u64| Bytes::from(format!("<{seq}>"));
    let request = |seq| Request {
        session,
        seq: RequestSeq(seq),
        settled: RequestSeq(1),
        body: RequestKind::Command(command(seq)),
    };
    (1..=6).map(|seq| synod_types::Value::Command(request(seq).encode())).collect()
}

fn applied_through(count: usize) -> String {
    (1..=count).map(|seq| format!("<{seq}>")).collect()
}

/// Applies the slots after `from` up to and including `to`.
fn apply_part(applier: &mut Applier, values: &Values, from: usize, to: usize) {
    let run = ChosenRun { first: Slot(from as u64 + 1), values: values.slice(from, to) };
    applier.apply(&run, &mut Applied::default()).unwrap();
}

#[test]
fn raft_35_entries_skipped_or_repeated_when_they_come_in_pages() {
    let values = six();
    let mut whole = applier(synod_storage::MemoryState::new());
    apply_part(&mut whole, &values, 0, 6);
    // Every way to cut six entries into pages, each page handed over together with the one before.
    for cuts in 0..32_u32 {
        let mut paged = applier(synod_storage::MemoryState::new());
        let (mut before, mut from) = (0, 0);
        for to in 1..=6 {
            if to < 6 && cuts & (1 << (to - 1)) == 0 {
                continue;
            }
            apply_part(&mut paged, &values, before, to);
            assert_eq!(paged.applied(), Slot(to as u64));
            (before, from) = (from, to);
        }
        assert_eq!(recorded(&paged), applied_through(6), "cut at {cuts:b}");
        assert_eq!(paged.digest(), whole.digest(), "cut at {cuts:b}");
    }
}

#[test]
fn raft_36_applied_slot_and_state_are_written_apart() {
    let values = six();
    let mut whole = applier(synod_storage::MemoryState::new());
    apply_part(&mut whole, &values, 0, 6);
    // Every choice of where a piece ends, and a crash that keeps each number of writes.
    for seals in 0..64_u32 {
        for keep in 0..=6 {
            let disk = MemoryDisk::new(Incarnation(5));
            let mut first = applier(disk.open_state());
            for slot in 1..=6 {
                apply_part(&mut first, &values, slot - 1, slot);
                if seals & (1 << (slot - 1)) != 0 {
                    first.seal();
                }
                first.persist(Slot(slot as u64)).unwrap();
            }
            disk.crash(keep);
            let mut again = applier(disk.open_state());
            let found = again.applied().0 as usize;
            assert_eq!(recorded(&again), applied_through(found), "seals {seals:b}, keep {keep}");
            // The log is replayed from its beginning.
            apply_part(&mut again, &values, 0, 6);
            assert_eq!(recorded(&again), applied_through(6));
            assert_eq!(again.digest(), whole.digest(), "seals {seals:b}, keep {keep}");
        }
    }
}

#[test]
fn raft_37_entries_reach_the_disk_before_their_term() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0);
    // The request loses its slot and is proposed again.
    receive(&mut replica, Msg::Recut(Slot(1)));
    // Three rounds of the core that were not carried out are one batch, in their order.
    let (seq, ops) = batch(&mut replica);
    assert_eq!(seq, Seq(3));
    let [
        LogOp::Put(old),
        LogOp::HardState(_),
        LogOp::TruncateFrom(_),
        LogOp::Put(_),
        LogOp::Put(new),
    ] = &ops[..]
    else {
        panic!("{ops:?}");
    };
    assert_eq!((old.first, new.first), (Slot(1), Slot(2)));
}

#[test]
fn raft_41_failing_store_stops_a_leader_without_a_word() {
    let mut node = Node::new();
    node.replica.handle(T0, request(1, LATER));
    node.write();
    node.apply();
    node.replica.handle(T0, request(2, LATER));
    node.disk.crash(9);
    let (_, batch) = node.replica.take(T0).batch.take().unwrap();
    assert!(node.log.commit(&batch).is_err(), "reported to the writer, for good");
    apply_part(&mut node.applier, &six(), 1, 2);
    node.applier.seal();
    let failed = node.applier.persist(Slot(2));
    assert!(matches!(failed, Err(ApplyError::Storage(_))), "{failed:?}");
    assert!(node.log.load(GroupId(0)).is_err());
}

#[test]
fn raft_41_blocked_writer_loses_or_stops_anything() {
    let mut replica = replica(Some(ME));
    let mut now = T0;
    for token in 1..=100 {
        now = now + Duration::from_millis(10);
        replica.handle(now, request(token, LATER));
        let _ = replica.take(now);
    }
    let actions = replica.take(now);
    assert_eq!(actions.frames.len(), 100, "what need not wait for the disk goes on");
    let (seq, batch) = actions.batch.take().unwrap();
    assert_eq!((seq, batch.ops.len()), (Seq(100), 100));
    replica.handle(now, Event::Written(seq));
    let chosen: usize = replica.take(now).apply.iter().map(|run| run.values.len()).sum();
    assert_eq!(chosen, 100);
}

/// Draws a number below `sides`, for the next test.
fn draw(state: &mut u64, sides: u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % sides
}

/// What a core with this log might write next.
fn arbitrary_write(rng: &mut u64, disk: &Saved<ScriptedProtocol>) -> Vec<Write<ScriptedProtocol>> {
    let (base, last) = (disk.log.base().0, disk.log.last().0);
    let slot = Slot(base + 1 + draw(rng, last - base + 2));
    let stamp = Term(1 + draw(rng, 3));
    match draw(rng, 8) {
        0 if disk.log.stamp_at(slot).is_some() => {
            let stamp = disk.log.stamp_at(slot).unwrap();
            vec![Write::Compact(Base { through: slot, stamp, members: None })]
        }
        0 | 1 => {
            // A snapshot of another history: the core itself removes what follows it.
            let base = Base { through: slot, stamp: Term(9), members: None };
            vec![Write::TruncateFrom(slot.next()), Write::Compact(base)]
        }
        2 | 3 => vec![Write::TruncateFrom(slot)],
        kind => {
            let text = [draw(rng, 256) as u8];
            let values = (0..=draw(rng, 3))
                .map(|_| synod_types::Value::Command(Bytes::copy_from_slice(&text)));
            let first = if kind == 4 { slot } else { Slot(last + 1) };
            let run = Run { first, stamp, values: values.collect() };
            vec![Write::HardState(Default::default()), Write::Put(run)]
        }
    }
}

#[test]
fn raft_43_log_that_was_cut_comes_back_after_a_restart() {
    for seed in 0..400 {
        let mut rng = seed;
        let disk = MemoryDisk::new(Incarnation(5));
        let mut expected = Saved::<ScriptedProtocol>::default();
        for _ in 0..20 {
            let writes = arbitrary_write(&mut rng, &expected);
            let ops = writes.iter().map(|write| (GroupId(0), encode_write(write)));
            disk.open_log().commit(&Batch { ops: ops.collect() }).unwrap();
            writes.iter().for_each(|write| expected.apply(write));
            // Power may be lost after every batch.
            disk.crash(0);
            let stored = disk.open_log().load(GroupId(0)).unwrap();
            assert_eq!(decode_saved::<ScriptedProtocol>(&stored).unwrap(), expected, "seed {seed}");
        }
    }
}

#[test]
fn raft_44_read_after_a_restart_finds_nothing() {
    let mut node = Node::new();
    for token in 1..=3 {
        node.replica.handle(T0, request(token, LATER));
        let (seq, batch) = node.replica.take(T0).batch.take().unwrap();
        node.log.commit(&batch).unwrap();
        node.replica.handle(T0, Event::Written(seq));
    }
    let mut node = node.crash();
    assert_eq!(recorded(&node.applier), "", "the state was never made durable");
    node.read(7);
    node.write();
    assert_eq!(node.answered(), [] as [u64; 0], "the state is not there yet");
    node.apply();
    assert_eq!(node.answered(), [7]);
    assert_eq!(recorded(&node.applier), "command 1command 2command 3");
}

#[test]
fn raft_44_forwarded_request_is_executed_again_and_again() {
    let mut node = Node::new();
    let places = |node: &mut Node| {
        deliver(&mut node.replica, &envelope(), Payload::Forward(remote(PEER, 1)));
        let batch = node.replica.take(T0).batch.take();
        batch.map_or(0, |(seq, batch)| {
            node.log.commit(&batch).unwrap();
            node.replica.handle(T0, Event::Written(seq));
            batch.ops.len()
        })
    };
    assert_eq!(places(&mut node), 1);
    assert_eq!(places(&mut node), 0, "the first copy waits in the log");
    assert_eq!(places(&mut node), 0);
    receive(&mut node.replica, Msg::Lead(ME, 2));
    let _ = node.replica.take(T0);
    assert_eq!(places(&mut node), 0, "nor does its log lose it in another round");
    // An earlier leader had placed a copy, too.
    receive(&mut node.replica, Msg::Chosen(remote(PEER, 1)));
    node.write();
    node.apply();
    assert_eq!(places(&mut node), 1, "no copy waits in the log");
    node.apply();
    assert_eq!(node.applier.applied(), Slot(3), "three copies in the log");
    assert_eq!(recorded(&node.applier), "once");
}

#[test]
fn raft_44_forwarded_request_is_passed_on_in_circles() {
    let mut replica = replica(Some(NodeId(3)));
    deliver(&mut replica, &envelope(), Payload::Forward(remote(PEER, 1)));
    let frames: Vec<_> = replica.take(T0).frames.drain(..).collect();
    let [(PEER, _, frame)] = &frames[..] else { panic!("{frames:?}") };
    let (_, payload) = decode_frame::<Msg>(frame).unwrap();
    let hint = Some(NodeId(3));
    let refused = Payload::Refused { requests: vec![1], why: Refusal::NotLeader { hint } };
    assert_eq!(payload, refused, "back to who knows its client, and nowhere else");
    // Nor does anyone speak for the clients of another node.
    deliver(&mut replica, &envelope(), Payload::Forward(remote(NodeId(4), 1)));
    assert!(replica.take(T0).frames.is_empty());
}

#[test]
fn paxos_p11_message_of_another_configuration_or_group_counts() {
    let mut replica = replica(Some(ME));
    let ours = envelope();
    let strangers = [
        Envelope { cluster: ClusterId(2), ..ours },
        Envelope { group: GroupId(ours.group.0 + 1), ..ours },
        Envelope { epoch: Epoch(ours.epoch.0 + 1), ..ours },
    ];
    for stranger in &strangers {
        deliver(&mut replica, stranger, Payload::Protocol(Msg::Lead(PEER, 9)));
        deliver(&mut replica, stranger, Payload::Forward(remote(PEER, 1)));
    }
    assert_eq!(replica.counters().frames_foreign, 6);
    assert_eq!(replica.status().leader, Some(ME));
    assert!(replica.take(T0).batch.is_none());
    receive(&mut replica, Msg::Lead(PEER, 9));
    assert_eq!(replica.status().leader, Some(PEER));
}

#[test]
fn paxos_p12_wiped_acceptor_answers_under_its_old_id() {
    let mut replica = replica(Some(ME));
    receive(&mut replica, Msg::Chat(Slot(0)));
    replica.handle(T0, request(1, LATER));
    let _ = batch(&mut replica);
    let wiped = Envelope { incarnation: Incarnation(10), ..envelope() };
    deliver(&mut replica, &wiped, Payload::Protocol(Msg::Quorum));
    deliver(&mut replica, &wiped, Payload::Forward(remote(PEER, 1)));
    assert_eq!(replica.status().commit, Slot::ZERO, "its claim counts for nothing");
    assert!(replica.take(T0).batch.is_none(), "nor does anything else that it says");
    assert_eq!(replica.counters().frames_wrong_incarnation, 2);
    receive(&mut replica, Msg::Quorum);
    assert_eq!(replica.status().commit, Slot(1), "what the old store had sent still counts");
}

/// Incarnations are random: a wiped store may have a lower one than before. It is refused by a process
/// that remembers the old store, and served by one that does not, whichever is higher.
#[test]
fn a_wiped_store_is_served_after_a_restart_whatever_its_incarnation() {
    let forward = |node: &mut Node, incarnation, command| {
        let incarnation = Incarnation(incarnation);
        let session = Session { node: PEER, incarnation, boot: 1 };
        let body = RequestKind::Command(Bytes::from_static(command));
        let request = Request { session, seq: RequestSeq(1), settled: RequestSeq(1), body };
        let payload = Payload::Forward(Values::command_only(&request.encode()));
        deliver(&mut node.replica, &Envelope { incarnation, ..envelope() }, payload);
        node.write();
        node.apply();
        recorded(&node.applier)
    };
    for wiped in [8, 10] {
        let mut node = Node::new();
        assert_eq!(forward(&mut node, 9, b"old"), "old");
        assert_eq!(forward(&mut node, wiped, b"new"), "old", "the old store is remembered");
        assert_eq!(node.replica.counters().frames_wrong_incarnation, 1);
        let mut node = node.crash();
        assert_eq!(forward(&mut node, wiped, b"new"), "oldnew");
        assert_eq!(forward(&mut node, wiped, b"new"), "oldnew", "a repetition");
        assert_eq!(node.replica.counters().frames_wrong_incarnation, 0);
        assert_eq!(forward(&mut node, 9, b"old"), "oldnew", "now the new store is remembered");
        assert_eq!(node.replica.counters().frames_wrong_incarnation, 1);
    }
}

/// Not on the list, and close to 9: a number that was never handed out is a bug of the runner.
#[test]
#[should_panic(expected = "was never handed out")]
fn a_write_that_was_never_asked_for_cannot_be_done() {
    replica(Some(ME)).handle(Instant(1), Event::Written(Seq(1)));
}
