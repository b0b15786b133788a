//! A few cores, their disks and the wires between them, moved one event at a time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use synod_basic_paxos::{Config, HardState, Kind, Letter, Message, PerSlot, Timer};
use synod_consensus::{
    Contradiction, Gate, HardState as _, Input, Message as _, Outbox, Protocol, ProtocolEvent,
    Refusal, Run, RunLog, Saved, TimerChange, Write,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Ticket, Value, Values};

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

/// A message on the wire. Those of one letter travel one by one here, so that each may be lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// One node: its core, and its disk with what is written but not synced yet.
pub struct Node<K: Kind> {
    pub core: PerSlot<K>,
    pub config: Config,
    pub disk: Saved<PerSlot<K>>,
    /// While true nothing becomes durable.
    pub hung: bool,
    pub notes: Vec<ProtocolEvent>,
    pub placed: Vec<(Ticket, Slot)>,
    pub refused: Vec<(Ticket, Refusal)>,
    pub snapshots: Vec<NodeId>,
    pub contradiction: Option<Contradiction>,
    pub timers: BTreeMap<Timer, std::ops::Range<Duration>>,
    /// What was chosen in this life, slot by slot.
    pub chosen: BTreeMap<Slot, Value>,
    chosen_to: Slot,
    pending: VecDeque<Pending<K>>,
}

enum Pending<K: Kind> {
    Write(Write<PerSlot<K>>),
    Send(NodeId, Letter),
}

pub struct Cluster<K: Kind> {
    pub nodes: BTreeMap<NodeId, Node<K>>,
    pub wire: VecDeque<Flight>,
    pub now: Instant,
    /// What was ever chosen anywhere.
    pub history: BTreeMap<Slot, Value>,
}

impl<K: Kind> Node<K> {
    pub fn new(config: Config, disk: Saved<PerSlot<K>>) -> Self {
        let core = PerSlot::recover(config.clone(), disk.clone()).unwrap();
        let chosen_to = disk.base.through.max(disk.applied);
        Self {
            core,
            config,
            disk,
            hung: false,
            notes: Vec::new(),
            placed: Vec::new(),
            refused: Vec::new(),
            snapshots: Vec::new(),
            contradiction: None,
            timers: BTreeMap::new(),
            chosen: BTreeMap::new(),
            chosen_to,
            pending: VecDeque::new(),
        }
    }

    /// One input and the flush behind it, as a driver does it.
    pub fn step(&mut self, now: Instant, input: Input<PerSlot<K>>) {
        if let Input::Installed { base } = &input {
            self.chosen_to = self.chosen_to.max(base.through);
        }
        let mut outbox = Outbox::default();
        self.core.step(now, input, &mut outbox.effects());
        self.core.flush(now, &mut outbox.effects());
        self.absorb(outbox);
        let mut again = Outbox::default();
        self.core.flush(now, &mut again.effects());
        assert!(again.writes.is_empty() && again.sends.is_empty(), "flush is idempotent");
    }

    fn absorb(&mut self, outbox: Outbox<PerSlot<K>>) {
        for run in outbox.chosen {
            assert_eq!(run.first, self.chosen_to.next(), "chosen slots are contiguous");
            for (index, value) in run.values.iter().enumerate() {
                self.chosen.insert(run.first.plus(index), value.to_value());
            }
            self.chosen_to = run.last();
        }
        self.pending.extend(outbox.writes.into_iter().map(Pending::Write));
        self.pending.extend(outbox.sends.into_iter().map(|(to, letter)| Pending::Send(to, letter)));
        self.notes.extend(outbox.notes);
        self.placed.extend(outbox.placed);
        self.refused.extend(outbox.refused);
        self.snapshots.extend(outbox.snapshots);
        self.contradiction = self.contradiction.or(outbox.contradiction);
        for change in outbox.timers {
            match change {
                TimerChange::Set(timer, range) => drop(self.timers.insert(timer, range)),
                TimerChange::Cancel(timer) => drop(self.timers.remove(&timer)),
            }
        }
    }

    /// Lets out what may leave: everything when the disk works, else only what is not a vow.
    pub fn release(&mut self) -> Vec<(NodeId, Letter)> {
        let mut out = Vec::new();
        let mut kept = VecDeque::new();
        for pending in self.pending.drain(..) {
            match pending {
                Pending::Write(write) if !self.hung => write_to(&mut self.disk, &write),
                Pending::Send(to, letter) if !self.hung || gate::<K>(&letter) => {
                    out.push((to, letter));
                }
                pending => kept.push_back(pending),
            }
        }
        self.pending = kept;
        let me = self.config.id();
        for (to, letter) in &out {
            assert!(letter.holds(me, *to, &self.disk), "{letter:?} of {me:?}");
        }
        out
    }
}

/// Whether a letter may leave at once.
fn gate<K: Kind>(letter: &Letter) -> bool {
    synod_consensus::Message::<PerSlot<K>>::gate(letter) == Gate::Immediate
}

pub fn write_to<K: Kind>(disk: &mut Saved<PerSlot<K>>, write: &Write<PerSlot<K>>) {
    if let Write::HardState(hard_state) = write {
        let older: &HardState = &disk.hard_state;
        assert!(hard_state.may_follow(older), "{hard_state:?} after {older:?}");
    }
    disk.apply(write);
}

impl<K: Kind> Cluster<K> {
    /// A cluster of `voters` new nodes, all started.
    pub fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    pub fn with(voters: u64, settings: impl Fn(Config) -> Config) -> Self {
        let all = (1..=voters).map(NodeId);
        Self::from_disks(all.map(|id| (settings(config(id, voters)), Saved::default())).collect())
    }

    /// A cluster whose nodes restart from these disks.
    pub fn from_disks(disks: Vec<(Config, Saved<PerSlot<K>>)>) -> Self {
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
        self.nodes[&id].core.status().commit.0
    }

    /// What was chosen at `id`, in order.
    pub fn chosen(&self, id: NodeId) -> Vec<String> {
        self.nodes[&id].chosen.values().map(text).collect()
    }

    /// Hands one input to a node; nothing is delivered but what it says to itself.
    pub fn step(&mut self, id: NodeId, input: Input<PerSlot<K>>) {
        let now = self.now;
        self.node(id).step(now, input);
        self.settle(id);
    }

    fn settle(&mut self, id: NodeId) {
        loop {
            let now = self.now;
            let out = self.node(id).release();
            if out.is_empty() {
                break;
            }
            for (to, letter) in out {
                if to == id {
                    self.node(id).step(now, Input::Message { from: id, message: letter });
                } else {
                    let messages = letter.into_messages().into_iter();
                    self.wire.extend(messages.map(|message| Flight { from: id, to, message }));
                }
            }
        }
        let node = &self.nodes[&id];
        for (slot, value) in &node.chosen {
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
        self.node(id).timers.remove(&timer);
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
        self.node(id).hung = false;
        self.settle(id);
    }
}

pub fn prepare(slot: u64, ballot: Ballot) -> Message {
    Message::Prepare { slot: Slot(slot), ballot }
}

pub fn promise(slot: u64, ballot: Ballot, accepted: Option<(Ballot, Values)>) -> Message {
    Message::Promise { slot: Slot(slot), ballot, accepted }
}

pub fn accept(slot: u64, ballot: Ballot, text: &str) -> Message {
    Message::Accept { slot: Slot(slot), ballot, value: value(text) }
}

pub fn accepted(slot: u64, ballot: Ballot) -> Message {
    Message::Accepted { slot: Slot(slot), ballot }
}

pub fn nack(slot: u64, ballot: Ballot, promised: Ballot) -> Message {
    Message::Nack { slot: Slot(slot), ballot, promised }
}

pub fn decided(slot: u64, text: &str) -> Message {
    Message::Decided { first: Slot(slot), values: value(text), through: Slot(slot) }
}

/// A disk with promises and votes, slot by slot from slot 1.
pub fn disk<K: Kind>(
    chosen: u64,
    promises: &[(u64, Ballot)],
    votes: &[(u64, Ballot, &str)],
) -> Saved<PerSlot<K>> {
    let promises = promises.iter().map(|(slot, ballot)| (Slot(*slot), *ballot));
    let mut log = RunLog::default();
    for (slot, stamp, text) in votes {
        log.put(Run { first: Slot(*slot), stamp: *stamp, values: value(text) });
    }
    let hard_state = HardState::new(Slot(chosen), promises);
    Saved { hard_state, log, ..Saved::default() }
}

/// One node of three; the test speaks for the others.
pub fn alone<K: Kind>(disk: Saved<PerSlot<K>>) -> Cluster<K> {
    Cluster::from_disks(vec![(config(N1, 3), disk)])
}

/// What the node sent, to whom it goes left out.
pub fn sent<K: Kind>(cluster: &mut Cluster<K>) -> Vec<Message> {
    let mut sent: Vec<_> = cluster.wire.drain(..).map(|flight| flight.message).collect();
    sent.dedup();
    sent
}
