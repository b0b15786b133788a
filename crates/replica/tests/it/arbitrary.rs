//! Random orders of events: each client receives exactly one outcome, and the outcome is correct.

use crate::scripted::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use synod_consensus::Refusal;
use synod_replica::{
    Applied, Applier, ChosenRun, Driver, Event, Outcome, Payload, ReplicaSettings, Seq, Token,
    decode_frame,
};
use synod_storage::{Batch, LogStore, MemoryDisk, MemoryLog};
use synod_types::{ClusterId, Incarnation, Instant, NodeId, Slot, Values};

/// Replica with its disk, and the history that its outcomes are checked against.
struct RandomTest {
    rng: u64,
    now: Instant,
    disk: MemoryDisk,
    log: MemoryLog,
    replica: TestReplica,
    applier: Applier,
    batches: VecDeque<(Seq, Batch)>,
    runs: VecDeque<ChosenRun>,
    durable: Slot,
    round: u64,
    leader: NodeId,
    /// Requests that the replica has forwarded. Copies may arrive at any time, even after a crash.
    forwarded: Vec<Values>,
    /// Chosen values, slot by slot.
    history: Vec<Values>,
    tokens: u64,
    /// Pending reads, with the number of chosen slots at their arrival.
    reads: BTreeMap<Token, usize>,
    waiting: BTreeSet<Token>,
    /// Commands reported as done.
    done: BTreeSet<String>,
    /// Commands reported as refused.
    refused: BTreeSet<String>,
    /// Number of each kind of outcome.
    outcomes: BTreeMap<&'static str, u64>,
    /// True if the protocol has a read index; otherwise reads use barriers.
    has_read_index: bool,
}

impl RandomTest {
    fn new(seed: u64) -> Self {
        let mut test = Self::start(seed);
        test.enable_read_index();
        test
    }

    fn enable_read_index(&mut self) {
        if self.has_read_index {
            self.receive(Msg::EnableReadIndex);
        }
    }

    fn start(seed: u64) -> Self {
        let disk = MemoryDisk::new(Incarnation(5));
        let (log, replica, applier) = open(&disk, Instant(1));
        Self {
            rng: seed,
            now: Instant(1),
            disk,
            log,
            replica,
            applier,
            batches: VecDeque::new(),
            runs: VecDeque::new(),
            durable: Slot::ZERO,
            round: 1,
            leader: ME,
            forwarded: Vec::new(),
            history: Vec::new(),
            tokens: 0,
            reads: BTreeMap::new(),
            waiting: BTreeSet::new(),
            done: BTreeSet::new(),
            refused: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            has_read_index: seed.is_multiple_of(2),
        }
    }

    fn draw(&mut self, end: u64) -> u64 {
        self.rng = self.rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_041);
        (self.rng >> 33) % end
    }

    fn receive(&mut self, message: Msg) {
        let frame = synod_replica::encode_frame(&envelope(), &Payload::Protocol(message));
        self.replica.handle(self.now, Event::Frame { from: PEER, frame });
        self.collect();
    }

    /// Collects the replica's actions, to be carried out later.
    fn collect(&mut self) {
        let actions = self.replica.take(self.now);
        self.batches.extend(actions.batch.take());
        self.durable = actions.durable.take().unwrap_or(Slot::ZERO).max(self.durable);
        let frames = std::mem::take(&mut actions.frames);
        let responses = std::mem::take(&mut actions.responses);
        for run in actions.apply.drain(..) {
            for index in 0..run.values.len() {
                let (at, value) = (run.first.plus(index).0, run.values.slice(index, index + 1));
                if at > self.history.len() as u64 {
                    self.history.push(value);
                } else {
                    assert_eq!(
                        self.history[at as usize - 1],
                        value,
                        "slot {at} has two chosen values"
                    );
                }
            }
            self.runs.push_back(run);
        }
        for (_, _, frame) in frames {
            if let (_, Payload::Forward(values)) = decode_frame::<Msg>(&frame).unwrap() {
                self.forwarded.extend((0..values.len()).map(|at| values.slice(at, at + 1)));
            }
        }
        for response in responses {
            self.on_response(response.token, response.outcome);
        }
    }

    fn on_response(&mut self, token: Token, outcome: Outcome) {
        assert!(self.waiting.remove(&token), "{token:?} has a second outcome: {outcome:?}");
        let read = self.reads.remove(&token);
        let command = format!("<{}>", token.0);
        let kind = match outcome {
            Outcome::Done(slot, reply) => {
                assert_eq!(reply, command, "the reply is of another command");
                assert!(slot <= self.applier.applied());
                self.done.insert(command);
                "done"
            }
            Outcome::Readable => {
                let chosen = read.expect("a command ended as a read");
                assert!(self.applier.applied().0 >= chosen as u64, "the read is stale");
                "readable"
            }
            Outcome::Refused(_) => {
                self.refused.insert(command);
                "refused"
            }
            Outcome::Unknown => "unknown",
        };
        *self.outcomes.entry(kind).or_default() += 1;
    }

    fn random_step(&mut self) {
        self.now = self.now + Duration::from_millis(self.draw(40));
        match self.draw(24) {
            0..5 => self.submit(),
            5..10 => self.write(),
            10..15 => self.apply(),
            15 | 16 => {
                let wake = self.replica.take(self.now).wake;
                if self.draw(2) == 0 {
                    self.now = wake.unwrap_or(self.now).max(self.now);
                }
                self.replica.handle(self.now, Event::Wake);
            }
            17 if self.leader == ME => self.receive(Msg::Quorum),
            17..20 if self.leader != ME && !self.forwarded.is_empty() => {
                // The leader has placed a copy, perhaps a further one.
                let at = self.draw(self.forwarded.len() as u64) as usize;
                let copy = self.forwarded[at].clone();
                if self.draw(2) == 0 {
                    self.forwarded.swap_remove(at);
                }
                self.receive(Msg::Chosen(copy));
            }
            20 => {
                self.leader = [ME, PEER, NodeId(3)][self.draw(3) as usize];
                self.round += 1;
                self.receive(Msg::Lead(self.leader, self.round));
            }
            21 => {
                let busy = self.draw(2) == 0;
                self.receive(Msg::Busy(busy));
            }
            22 => {
                let requests = vec![self.draw(30), self.draw(30)];
                let refused = Payload::<Msg>::Refused { requests, why: Refusal::Busy };
                deliver(&mut self.replica, &envelope(), refused);
            }
            23 if self.draw(8) == 0 => self.crash(),
            23 => self.report_read_index(),
            _ => {}
        }
        self.collect();
    }

    /// Makes the protocol report a read index for any earlier request, perhaps repeatedly.
    fn report_read_index(&mut self) {
        let reads = self.replica.core().reads.clone().unwrap_or_default();
        if !reads.is_empty() {
            let id = reads[self.draw(reads.len() as u64) as usize];
            self.receive(Msg::ReadIndex(id, Slot(self.history.len() as u64)));
        }
    }

    /// Submits a command or a read.
    fn submit(&mut self) {
        self.tokens += 1;
        let (token, now) = (Token(self.tokens), self.now);
        let deadline = now + Duration::from_millis(50 + self.draw(2_000));
        self.waiting.insert(token);
        if self.draw(4) == 0 {
            self.reads.insert(token, self.history.len());
            self.replica.handle(now, Event::Read { token, deadline });
        } else {
            let command = Bytes::from(format!("<{}>", token.0));
            self.replica.handle(now, Event::Request { token, command, deadline });
        }
    }

    /// Completes some of the batches, in order.
    fn write(&mut self) {
        let mut newest = None;
        for _ in 0..=self.draw(3) {
            let Some((seq, batch)) = self.batches.pop_front() else { break };
            self.log.commit(&batch).unwrap();
            newest = Some(seq);
        }
        if let Some(seq) = newest {
            self.replica.handle(self.now, Event::Written(seq));
        }
    }

    fn apply(&mut self) {
        let Some(run) = self.runs.pop_front() else { return };
        let mut applied = Applied::default();
        self.applier.apply(&run, &mut applied).unwrap();
        if self.draw(2) == 0 {
            self.applier.seal();
        }
        self.applier.persist(self.durable).unwrap();
        if self.draw(3) == 0 {
            self.applier.sync().unwrap();
        }
        self.replica.handle(self.now, Event::Applied(applied));
    }

    /// Crashes the node and starts it again. Pending clients receive no outcome. The chosen values after
    /// the applied slot arrive again.
    fn crash(&mut self) {
        let kept = self.draw(4) as usize;
        self.disk.crash(kept);
        (self.log, self.replica, self.applier) = open(&self.disk, self.now);
        self.batches.clear();
        self.runs.clear();
        self.waiting.clear();
        self.reads.clear();
        self.durable = Slot::ZERO;
        self.enable_read_index();
        let applied = self.applier.applied().0 as usize;
        for at in applied..self.history.len() {
            let value = self.history[at].clone();
            self.receive(Msg::Chosen(value));
        }
        self.leader = ME;
    }

    /// Passes all deadlines, carries out all actions, and checks the outcomes against the state.
    fn finish(&mut self) {
        self.receive(Msg::Busy(false));
        self.now = self.now + Duration::from_secs(10);
        self.replica.handle(self.now, Event::Wake);
        self.collect();
        while !self.batches.is_empty() || !self.runs.is_empty() {
            self.write();
            self.apply();
            self.collect();
        }
        assert_eq!(self.replica.outstanding(), 0);
        assert_eq!(self.waiting, BTreeSet::new(), "clients without an outcome");
        let state = String::from_utf8(recorded(&self.applier).to_vec()).unwrap();
        for copy in state.split_inclusive('>') {
            assert_eq!(state.matches(copy).count(), 1, "{copy} was applied twice");
        }
        for done in &self.done {
            assert!(state.contains(done.as_str()), "{done} was reported as done and is lost");
        }
        for refused in &self.refused {
            assert!(!state.contains(refused.as_str()), "{refused} was refused and applied");
        }
    }
}

fn open(disk: &MemoryDisk, now: Instant) -> (MemoryLog, TestReplica, Applier) {
    let mut log = disk.open_log();
    let settings = ReplicaSettings::new(ClusterId(1), ME, log.boot_id(), 7);
    let session = settings.session();
    let machine = Box::<Recorder>::default();
    let applier = Applier::open(machine, Box::new(disk.open_state()), session).unwrap();
    let saved = log.load(settings.group).unwrap();
    let mut replica =
        TestReplica::open(now, settings, Some(ME), &saved, applier.applied()).unwrap();
    let _ = replica.take(now);
    (log, replica, applier)
}

#[test]
fn each_client_receives_one_correct_outcome() {
    let mut outcomes = BTreeMap::<_, u64>::new();
    for seed in 0..150 {
        let mut test = RandomTest::new(seed);
        for _ in 0..600 {
            test.random_step();
        }
        test.finish();
        for (kind, count) in test.outcomes {
            *outcomes.entry(kind).or_default() += count;
        }
    }
    assert_eq!(outcomes.len(), 4, "{outcomes:?}");
    assert!(outcomes.values().all(|count| *count > 200), "{outcomes:?}");
}
