//! A few cores, their disks and the wires between them, moved one event at a time.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound::{Excluded, Unbounded};
use std::time::Duration;
use synod_consensus::{
    FatalError, HardState as _, Host, Input, Message as _, Observer, Outputs, Protocol,
    ProtocolEvent, Refusal, Role, Round, Run, RunLog, Saved, Status, TimerChange, Write,
};
use synod_raft::{Config, HardState, Limits, Message, Position, Raft, Timer};
use synod_types::{Instant, Membership, NodeId, Seq, Slot, Term, Ticket, Value};

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);
pub const N4: NodeId = NodeId(4);
pub const N5: NodeId = NodeId(5);

/// A message on the wire.
#[derive(Clone, Debug, PartialEq)]
pub struct Flight {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// One node: its core in a host, its disk, and what it reported.
pub struct Node {
    pub host: Host<Raft>,
    pub config: Config,
    pub disk: Saved<Raft>,
    /// While true nothing becomes durable.
    pub hung: bool,
    pub notes: Vec<ProtocolEvent>,
    pub placed: Vec<(Ticket, Slot)>,
    pub refused: Vec<(Ticket, Refusal)>,
    pub snapshots: Vec<NodeId>,
    pub timers: Vec<TimerChange<Timer>>,
    /// Why the node has stopped.
    pub fatal: Option<FatalError>,
    /// What was chosen in this life, slot by slot.
    pub chosen: BTreeMap<Slot, (Term, Value)>,
    /// What was compared with what others chose.
    checked_to: Slot,
    /// Batches that are not durable, the oldest first.
    pub unsynced: VecDeque<(Seq, Vec<Write<Raft>>)>,
}

/// Checks the claim of each message that leaves a node against its disk.
struct Claims<'a>(NodeId, &'a Saved<Raft>);

impl Observer<Raft> for Claims<'_> {
    fn on_release(&mut self, _: &Raft, to: NodeId, message: &Message) {
        let Self(me, disk) = *self;
        assert!(message.holds(me, to, disk), "{} of {me:?}", message.describe());
    }
}

pub struct Cluster {
    pub nodes: BTreeMap<NodeId, Node>,
    pub wire: VecDeque<Flight>,
    pub now: Instant,
    /// Ordered pairs between which everything is lost.
    pub cut: Vec<(NodeId, NodeId)>,
    /// What was ever chosen anywhere.
    pub history: BTreeMap<Slot, (Term, Value)>,
    /// Who led which term.
    pub leaders: BTreeMap<Term, NodeId>,
}

pub fn members(voters: u64, learners: u64) -> Membership {
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

pub fn config(id: NodeId, voters: u64) -> Config {
    Config::new(id, members(voters, 0)).unwrap()
}

/// A log of one entry a slot from slot 1, each of the term given: the paper's figures.
pub fn log(terms: &[u64]) -> RunLog<Term> {
    let mut log = RunLog::default();
    for (index, term) in terms.iter().enumerate() {
        log.put(run(1 + index as u64, *term, &[&format!("{}@{term}", index + 1)]));
    }
    log
}

pub fn run(first: u64, term: u64, commands: &[&str]) -> Run<Term> {
    let value = |command: &&str| Value::Command(command.as_bytes().to_vec().into());
    Run { first: Slot(first), stamp: Term(term), values: commands.iter().map(value).collect() }
}

pub fn at(slot: u64, term: u64) -> Position {
    Position { slot: Slot(slot), term: Term(term) }
}

pub fn saved(term: u64, vote: Option<NodeId>, terms: &[u64]) -> Saved<Raft> {
    let hard_state = HardState { term: Term(term), vote };
    Saved { hard_state, log: log(terms), ..Saved::default() }
}

/// The terms in a log, slot by slot from its base.
pub fn terms(log: &RunLog<Term>) -> Vec<u64> {
    log.runs().flat_map(|run| vec![run.stamp.0; run.values.len()]).collect()
}

impl Node {
    pub fn new(config: Config, disk: Saved<Raft>) -> Self {
        Self {
            host: Host::recover(config.id(), config.clone(), disk.clone()).unwrap(),
            config,
            disk,
            hung: false,
            notes: Vec::new(),
            placed: Vec::new(),
            refused: Vec::new(),
            snapshots: Vec::new(),
            timers: Vec::new(),
            fatal: None,
            chosen: BTreeMap::new(),
            checked_to: Slot::ZERO,
            unsynced: VecDeque::new(),
        }
    }

    /// Takes inputs, and runs rounds until the node is at rest or waits for its disk. Returns what it
    /// sends.
    fn turn(
        &mut self,
        now: Instant,
        inputs: impl IntoIterator<Item = Input<Raft>>,
    ) -> Vec<(NodeId, Message)> {
        let (me, mut sent) = (self.config.id(), Vec::new());
        let mut take = |outputs: &mut Outputs<Raft>| {
            for run in outputs.chosen.drain(..) {
                for (index, value) in run.values.iter().enumerate() {
                    self.chosen.insert(run.first.plus(index), (run.stamp, value.to_value()));
                }
            }
            self.notes.append(&mut outputs.notes);
            self.placed.append(&mut outputs.placed);
            self.refused.append(&mut outputs.refused);
            self.snapshots.append(&mut outputs.snapshots);
            self.timers.append(&mut outputs.timers);
            self.fatal = outputs.fatal;
            assert!(matches!(self.fatal, None | Some(FatalError::Contradicted { .. })));
        };
        for input in inputs {
            take(self.host.input(now, input, &mut Claims(me, &self.disk)));
        }
        loop {
            let Round { seq, writes, sends, is_quiet, outputs, .. } =
                self.host.round(now, &mut Claims(me, &self.disk));
            assert!(is_quiet);
            self.unsynced.extend(seq.map(|seq| (seq, std::mem::take(writes))));
            sent.append(sends);
            take(outputs);
            let Round { seq, sends, .. } = self.host.round(now, &mut Claims(me, &self.disk));
            assert_eq!((seq, std::mem::take(sends)), (None, vec![]), "flush is idempotent");
            if self.hung || self.unsynced.is_empty() {
                return sent;
            }
            for (seq, writes) in self.unsynced.drain(..) {
                writes.iter().for_each(|write| write_to(&mut self.disk, write));
                self.host.written(seq);
            }
        }
    }
}

fn write_to(disk: &mut Saved<Raft>, write: &Write<Raft>) {
    if let Write::HardState(hard_state) = write {
        let older = disk.hard_state;
        assert!(hard_state.may_follow(&older), "{hard_state:?} after {older:?}");
    }
    disk.apply(write);
}

impl Cluster {
    /// A cluster of `voters` new nodes, all started.
    pub fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    pub fn with(voters: u64, settings: impl Fn(Config) -> Config) -> Self {
        let all = (1..=voters).map(NodeId);
        Self::from_disks(all.map(|id| (settings(config(id, voters)), Saved::default())).collect())
    }

    pub fn with_limits(voters: u64, limits: &Limits) -> Self {
        Self::with(voters, |config| config.with_limits(limits.clone()).unwrap())
    }

    /// A cluster whose nodes restart from these disks.
    pub fn from_disks(disks: Vec<(Config, Saved<Raft>)>) -> Self {
        let nodes = disks.into_iter().map(|(config, disk)| (config.id(), Node::new(config, disk)));
        let mut cluster = Self {
            nodes: nodes.collect(),
            wire: VecDeque::new(),
            now: Instant(1_000_000_000),
            cut: Vec::new(),
            history: BTreeMap::new(),
            leaders: BTreeMap::new(),
        };
        for id in cluster.ids() {
            cluster.step(id, Input::Start);
        }
        cluster
    }

    pub fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub fn core(&self, id: NodeId) -> &Raft {
        self.nodes[&id].host.core()
    }

    pub fn status(&self, id: NodeId) -> Status {
        self.core(id).status()
    }

    pub fn term(&self, id: NodeId) -> u64 {
        self.status(id).ballot.round
    }

    pub fn leads(&self, id: NodeId) -> bool {
        self.status(id).role == Role::Leader
    }

    pub fn commit(&self, id: NodeId) -> u64 {
        self.status(id).commit.0
    }

    /// The commands that were chosen at `id`, in order.
    pub fn commands(&self, id: NodeId) -> Vec<String> {
        let chosen = self.nodes[&id].chosen.values();
        let text = |value: &Value| match value {
            Value::Command(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            _ => None,
        };
        chosen.filter_map(|(_, value)| text(value)).collect()
    }

    /// Hands one input to a node; nothing is delivered.
    pub fn step(&mut self, id: NodeId, input: Input<Raft>) {
        self.turn(id, [input]);
    }

    /// Hands inputs to a node before one flush, puts what it sends on the wire, and checks what it
    /// chose.
    pub fn turn(&mut self, id: NodeId, inputs: impl IntoIterator<Item = Input<Raft>>) {
        let now = self.now;
        let sent = self.node(id).turn(now, inputs).into_iter();
        self.wire.extend(sent.map(|(to, message)| Flight { from: id, to, message }));
        self.check(id);
    }

    fn check(&mut self, id: NodeId) {
        self.core(id).check_invariants();
        let status = self.status(id);
        assert!(status.commit <= status.last);
        let node = self.nodes.get_mut(&id).unwrap();
        for (slot, entry) in node.chosen.range((Excluded(node.checked_to), Unbounded)) {
            let known = self.history.entry(*slot).or_insert_with(|| entry.clone());
            assert_eq!(known, entry, "{slot:?} is chosen twice, at {id:?}");
        }
        node.checked_to = node.host.chosen();
        if status.role == Role::Leader {
            let leader = *self.leaders.entry(Term(status.ballot.round)).or_insert(id);
            assert_eq!(leader, id, "two leaders in term {}", status.ballot.round);
        }
    }

    /// A message from anywhere, at once.
    pub fn say(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.step(to, Input::Message { from, message });
    }

    /// What a node says while it handles this message. It goes nowhere.
    pub fn ask(&mut self, from: NodeId, to: NodeId, message: Message) -> Vec<Message> {
        let before = self.wire.len();
        self.say(from, to, message);
        self.wire.drain(before..).map(|flight| flight.message).collect()
    }

    pub fn timeout(&mut self, id: NodeId, timer: Timer) {
        self.step(id, Input::Timeout(timer));
    }

    pub fn propose(&mut self, id: NodeId, ticket: u64, command: &str) {
        let command = command.as_bytes().to_vec().into();
        self.step(id, Input::Propose { ticket: Ticket(ticket), command });
    }

    pub fn later(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
    }

    /// Delivers the oldest message that is not cut off. False if there is none.
    pub fn deliver_one(&mut self) -> bool {
        let Some(Flight { from, to, message }) = self.wire.pop_front() else { return false };
        if !self.cut.contains(&(from, to)) && self.nodes.contains_key(&to) {
            self.say(from, to, message);
        }
        true
    }

    /// Delivers until nobody has anything to say.
    pub fn deliver(&mut self) {
        for _ in 0..100_000 {
            if !self.deliver_one() {
                return;
            }
        }
        panic!("they never stop talking: {:?}", self.wire.front());
    }

    /// Takes off the wire what goes from one node to another.
    pub fn intercept(&mut self, from: NodeId, to: NodeId) -> Vec<Message> {
        let all = self.wire.drain(..);
        let (taken, rest): (Vec<_>, Vec<_>) = all.partition(|f| f.from == from && f.to == to);
        self.wire = rest.into();
        taken.into_iter().map(|flight| flight.message).collect()
    }

    /// Cuts the cluster in two: `group` and the rest.
    pub fn partition(&mut self, group: &[NodeId]) {
        let ids = self.ids();
        for &a in ids.iter().filter(|id| group.contains(id)) {
            for &b in ids.iter().filter(|id| !group.contains(id)) {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// The disk works again.
    pub fn sync(&mut self, id: NodeId) {
        self.node(id).hung = false;
        self.turn(id, []);
    }

    /// The node loses everything that is not on its disk, and starts again.
    pub fn crash(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        let again = Node::new(node.config, node.disk);
        self.nodes.insert(id, again);
        self.step(id, Input::Start);
    }

    /// A node's election timer runs out, twice if it has to learn the present term first.
    pub fn elect(&mut self, id: NodeId) {
        for _ in 0..2 {
            self.later(1_000);
            self.timeout(id, Timer::Election);
            self.deliver();
            if self.leads(id) {
                return;
            }
        }
        panic!("{:?}", self.status(id));
    }

    /// A leader's heartbeat, and all that follows from it.
    pub fn beat(&mut self, id: NodeId) {
        self.later(50);
        self.timeout(id, Timer::Heartbeat);
        self.deliver();
    }
}
