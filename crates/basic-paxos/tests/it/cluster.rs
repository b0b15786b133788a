//! A few cores, their disks and the wires between them, moved one event at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use synod_basic_paxos::{
    Accept, Accepted, Arity, Config, HardState, Learned, Message, MessageBatch, Nack, PaxosLog,
    Prepare, Promise, Timer,
};
use synod_consensus::{
    FatalError, HardState as _, Host, Input, Message as _, Observer, Outputs, Protocol,
    ProtocolEvent, Refusal, Round, Run, RunLog, Saved, TimerChange, Write,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Seq, Slot, Ticket, Value, Values};

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);
pub const S1: Slot = Slot(1);

pub fn members(voters: u64, learners: u64) -> Membership {
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

pub fn config(id: NodeId, voters: u64) -> Config {
    Config::new(id, members(voters, 0)).unwrap()
}

pub fn b(round: u64, node: u64) -> Ballot {
    Ballot { round, node: NodeId(node) }
}

pub fn value(text: &str) -> Values {
    Values::command_only(text.as_bytes())
}

pub fn text(value: &Value) -> String {
    match value {
        Value::Command(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => format!("{other:?}").to_lowercase(),
    }
}

/// A message on the wire. Those of one batch travel one by one here, so that each may be lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// One node: its core in a host, and its disk with what is written but not synced yet.
pub struct Node<K: Arity> {
    pub host: Host<PaxosLog<K>>,
    pub config: Config,
    pub disk: Saved<PaxosLog<K>>,
    /// While true nothing becomes durable.
    pub hung: bool,
    /// Batches that are not durable.
    unsynced: VecDeque<(Seq, Vec<Write<PaxosLog<K>>>)>,
    /// Writes of this life that are durable.
    pub written: Vec<Write<PaxosLog<K>>>,
    pub seen: Seen,
}

/// Outputs of a node in this life.
#[derive(Default)]
pub struct Seen {
    pub notes: Vec<ProtocolEvent>,
    pub placed: Vec<(Ticket, Slot)>,
    pub refused: Vec<(Ticket, Refusal)>,
    pub snapshots: Vec<NodeId>,
    pub fatal: Option<FatalError>,
    pub timers: BTreeMap<Timer, std::ops::Range<Duration>>,
    /// What was chosen, slot by slot.
    pub chosen: BTreeMap<Slot, Value>,
}

/// Checks that the disk bears out each message that leaves.
struct Claims<'a, K: Arity>(NodeId, &'a Saved<PaxosLog<K>>);

impl<K: Arity> Observer<PaxosLog<K>> for Claims<'_, K> {
    fn on_release(&mut self, _: &PaxosLog<K>, to: NodeId, batch: &MessageBatch) {
        let Self(me, disk) = *self;
        assert!(batch.holds(me, to, disk), "{batch:?} of {me:?}");
    }
}

pub struct Cluster<K: Arity> {
    pub nodes: BTreeMap<NodeId, Node<K>>,
    pub wire: VecDeque<Flight>,
    pub now: Instant,
    /// What was ever chosen anywhere.
    pub history: BTreeMap<Slot, Value>,
}

impl<K: Arity> Node<K> {
    pub fn new(config: Config, disk: Saved<PaxosLog<K>>) -> Self {
        let host = Host::recover(config.id(), config.clone(), disk.clone()).unwrap();
        let (unsynced, written) = (VecDeque::new(), Vec::new());
        Self { host, config, disk, hung: false, unsynced, written, seen: Seen::default() }
    }

    /// One input and the rounds after it, as a driver does it. Returns what leaves.
    pub fn step(&mut self, now: Instant, input: Input<PaxosLog<K>>) -> Vec<(NodeId, MessageBatch)> {
        let mut claims = Claims(self.config.id(), &self.disk);
        self.seen.take(self.host.input(now, input, &mut claims));
        self.run(now)
    }

    /// Rounds until nothing is left to write, or the disk hangs. Returns what leaves.
    pub fn run(&mut self, now: Instant) -> Vec<(NodeId, MessageBatch)> {
        let (mut sent, mut is_repeated) = (Vec::new(), false);
        // A flush leaves nothing for the next one, except at a node that has measured no round trip
        // yet: each of its flushes may open one more slot, which writes promises and no values.
        for _ in 0..64 {
            let mut claims = Claims(self.config.id(), &self.disk);
            let Round { seq, writes, sends, outputs, is_quiet, .. } =
                self.host.round(now, &mut claims);
            assert!(is_quiet, "self-messages have no end");
            let is_done = seq.is_none() && sends.is_empty();
            let opens = |write: &Write<_>| matches!(write, Write::HardState(_));
            assert!(!is_repeated || writes.iter().all(opens), "flush is idempotent: {writes:?}");
            is_repeated = true;
            self.unsynced.extend(seq.map(|seq| (seq, std::mem::take(writes))));
            sent.append(sends);
            self.seen.take(outputs);
            self.host.core().check_invariants();
            if is_done && (self.hung || self.unsynced.is_empty()) {
                return sent;
            }
            if self.hung {
                continue;
            }
            for (seq, writes) in self.unsynced.drain(..) {
                writes.iter().for_each(|write| write_to(&mut self.disk, write));
                self.written.extend(writes);
                self.host.written(seq);
                is_repeated = false;
            }
        }
        panic!("rounds have no end: {:?}", self.host.core().status());
    }
}

impl Seen {
    fn take<K: Arity>(&mut self, outputs: &mut Outputs<PaxosLog<K>>) {
        for run in outputs.chosen.drain(..) {
            let slots = (0..).map(|index| run.first.plus(index));
            self.chosen.extend(slots.zip(run.values.iter().map(|value| value.to_value())));
        }
        self.notes.append(&mut outputs.notes);
        self.placed.append(&mut outputs.placed);
        self.refused.append(&mut outputs.refused);
        self.snapshots.append(&mut outputs.snapshots);
        self.fatal = outputs.fatal;
        let contradicted = matches!(self.fatal, None | Some(FatalError::Contradicted { .. }));
        assert!(contradicted, "{:?}", self.fatal);
        for change in outputs.timers.drain(..) {
            match change {
                TimerChange::Set(timer, range) => drop(self.timers.insert(timer, range)),
                TimerChange::Cancel(timer) => drop(self.timers.remove(&timer)),
            }
        }
    }
}

pub fn write_to<K: Arity>(disk: &mut Saved<PaxosLog<K>>, write: &Write<PaxosLog<K>>) {
    if let Write::HardState(hard_state) = write {
        let older: &HardState = &disk.hard_state;
        assert!(hard_state.may_follow(older), "{hard_state:?} after {older:?}");
    }
    disk.apply(write);
}

impl<K: Arity> Cluster<K> {
    /// A cluster of `voters` new nodes, all started.
    pub fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    pub fn with(voters: u64, settings: impl Fn(Config) -> Config) -> Self {
        let all = (1..=voters).map(NodeId);
        Self::from_disks(all.map(|id| (settings(config(id, voters)), Saved::default())).collect())
    }

    /// A cluster whose nodes restart from these disks.
    pub fn from_disks(disks: Vec<(Config, Saved<PaxosLog<K>>)>) -> Self {
        let nodes = disks.into_iter().map(|(config, disk)| (config.id(), Node::new(config, disk)));
        let mut cluster = Self {
            nodes: nodes.collect(),
            wire: VecDeque::new(),
            now: Instant(1_000_000_000),
            history: BTreeMap::new(),
        };
        for id in cluster.ids() {
            cluster.step(id, Input::Start);
        }
        cluster
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node<K> {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn commit(&self, id: NodeId) -> u64 {
        self.nodes[&id].host.core().status().commit.0
    }

    /// What was chosen at `id`, in order.
    pub fn chosen(&self, id: NodeId) -> Vec<String> {
        self.nodes[&id].seen.chosen.values().map(text).collect()
    }

    /// Hands one input to a node; nothing is delivered but its messages to itself.
    pub fn step(&mut self, id: NodeId, input: Input<PaxosLog<K>>) {
        let now = self.now;
        let sent = self.node(id).step(now, input);
        self.send(id, sent);
    }

    fn send(&mut self, id: NodeId, sent: Vec<(NodeId, MessageBatch)>) {
        for (to, batch) in sent {
            let messages = batch.into_messages().into_iter();
            self.wire.extend(messages.map(|message| Flight { from: id, to, message }));
        }
        for (slot, value) in &self.nodes[&id].seen.chosen {
            let known = self.history.entry(*slot).or_insert_with(|| value.clone());
            assert_eq!(known, value, "{slot:?} is chosen twice, at {id:?}");
        }
    }

    /// A message from anywhere, at once.
    pub fn say(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.step(to, Input::Message { from, message: message.into() });
    }

    /// What a node says while it handles this message. It goes nowhere.
    pub fn ask(&mut self, from: NodeId, to: NodeId, message: Message) -> Vec<Message> {
        let before = self.wire.len();
        self.say(from, to, message);
        self.wire.drain(before..).map(|flight| flight.message).collect()
    }

    pub fn propose(&mut self, id: NodeId, ticket: u64, command: &str) {
        let command = command.as_bytes().to_vec().into();
        self.step(id, Input::Propose { ticket: Ticket(ticket), command });
    }

    pub fn timeout(&mut self, id: NodeId, timer: Timer) {
        self.node(id).seen.timers.remove(&timer);
        self.step(id, Input::Timeout(timer));
    }

    /// Delivers everything, answers too, until nothing is in flight.
    pub fn deliver(&mut self) {
        self.deliver_if(|_| true);
    }

    /// The same, but only where it goes; the rest is lost.
    pub fn deliver_if(&mut self, arrives: impl Fn(&Flight) -> bool) {
        for _ in 0..100_000 {
            let Some(flight) = self.wire.pop_front() else { return };
            if arrives(&flight) && self.nodes.contains_key(&flight.to) {
                self.say(flight.from, flight.to, flight.message);
            }
        }
        panic!("the nodes do not come to rest");
    }

    pub fn later(&mut self, ms: u64) {
        self.now = Instant(self.now.0 + ms * 1_000_000);
    }

    /// Kills and restarts a node: what was not synced is lost.
    pub fn crash(&mut self, id: NodeId) {
        let node = &self.nodes[&id];
        let fresh = Node::new(node.config.clone(), node.disk.clone());
        self.nodes.insert(id, fresh);
        self.step(id, Input::Start);
    }

    pub fn sync(&mut self, id: NodeId) {
        let now = self.now;
        let node = self.node(id);
        node.hung = false;
        let sent = node.run(now);
        self.send(id, sent);
    }
}

pub fn prepare(slot: u64, ballot: Ballot) -> Message {
    Message::Prepare(Prepare { slot: Slot(slot), ballot })
}

pub fn promise(slot: u64, ballot: Ballot, accepted: Option<(Ballot, Values)>) -> Message {
    Message::Promise(Promise { slot: Slot(slot), ballot, accepted })
}

pub fn accept(slot: u64, ballot: Ballot, text: &str) -> Message {
    Message::Accept(Accept { slot: Slot(slot), ballot, value: value(text) })
}

pub fn accepted(slot: u64, ballot: Ballot) -> Message {
    Message::Accepted(Accepted { slot: Slot(slot), ballot })
}

pub fn nack(slot: u64, ballot: Ballot, promised: Ballot) -> Message {
    Message::Nack(Nack { slot: Slot(slot), ballot, promised })
}

pub fn decided(slot: u64, text: &str) -> Message {
    Message::Learned(Learned { first: Slot(slot), values: value(text), through: Slot(slot) })
}

/// A disk with promises and votes, slot by slot from slot 1.
pub fn disk<K: Arity>(
    chosen: u64,
    promises: &[(u64, Ballot)],
    votes: &[(u64, Ballot, &str)],
) -> Saved<PaxosLog<K>> {
    let promises = promises.iter().map(|(slot, ballot)| (Slot(*slot), *ballot));
    let mut log = RunLog::default();
    for (slot, stamp, text) in votes {
        log.put(Run { first: Slot(*slot), stamp: *stamp, values: value(text) });
    }
    let hard_state = HardState::new(Slot(chosen), promises);
    Saved { hard_state, log, ..Saved::default() }
}

/// One node of three; the test speaks for the others.
pub fn alone<K: Arity>(disk: Saved<PaxosLog<K>>) -> Cluster<K> {
    Cluster::from_disks(vec![(config(N1, 3), disk)])
}

/// What the node sent, to whom it goes left out.
pub fn sent<K: Arity>(cluster: &mut Cluster<K>) -> Vec<Message> {
    let mut sent: Vec<_> = cluster.wire.drain(..).map(|flight| flight.message).collect();
    sent.dedup();
    sent
}
