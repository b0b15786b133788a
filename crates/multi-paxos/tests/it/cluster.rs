//! Cores in one thread, with memory for disks, a queue for a network and time that jumps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use synod_multi_paxos::consensus::{
    FatalError, HardState as _, Host, Input, Message as _, Observer, Protocol, ProtocolEvent,
    Refusal, Role, Run, Saved, Status, TimerChange, Write,
};
use synod_multi_paxos::types::{
    Ballot, Instant, Lane, Membership, NodeId, Seq, Slot, Ticket, Value, Values,
};
use synod_multi_paxos::{Accept, Config, Learned, Message, MultiPaxos, Promise, Timer};

/// One node: its host, its disk, and what its core asked for that no test has taken.
pub struct Node {
    pub id: NodeId,
    pub host: Host<MultiPaxos>,
    pub disk: Saved<MultiPaxos>,
    /// Writes so far, in order.
    pub writes: Vec<Write<MultiPaxos>>,
    /// The disk writes nothing.
    pub is_hung: bool,
    unwritten: VecDeque<(Seq, Vec<Write<MultiPaxos>>)>,
    pub sent: Vec<(NodeId, Message)>,
    pub chosen: Vec<Run<Ballot>>,
    pub refused: Vec<(Ticket, Refusal)>,
    pub placed: Vec<(Ticket, Slot)>,
    pub snapshots: Vec<NodeId>,
    pub notes: Vec<ProtocolEvent>,
    /// The node has stopped: nothing of the last step left it, and nothing more happens to it.
    pub fatal: Option<FatalError>,
    /// Most bytes of values that one round wrote, and that one round sent.
    pub most_written: usize,
    pub most_sent: usize,
    config: Config,
    pub timers: BTreeMap<Timer, Instant>,
    random: u64,
}

/// Checks each message against the disk as it leaves.
struct Check<'a> {
    id: NodeId,
    disk: &'a Saved<MultiPaxos>,
}

impl Observer<MultiPaxos> for Check<'_> {
    fn on_release(&mut self, _: &MultiPaxos, to: NodeId, message: &Message) {
        assert!(message.holds(self.id, to, self.disk), "{}", message.describe());
    }
}

pub fn members(nodes: u64) -> Membership {
    Membership::new((1..=nodes).map(NodeId), []).unwrap()
}

pub fn ballot(round: u64, node: u64) -> Ballot {
    Ballot { round, node: NodeId(node) }
}

pub fn run(first: u64, stamp: Ballot, values: &[&str]) -> Run<Ballot> {
    let values: Values =
        values.iter().map(|value| Value::Command(value.as_bytes().to_vec().into())).collect();
    Run { first: Slot(first), stamp, values }
}

impl Node {
    pub fn new(id: u64, nodes: u64) -> Self {
        let config = Config::new(NodeId(id), members(nodes)).unwrap();
        Self::with(config, Saved::default())
    }

    pub fn with(config: Config, disk: Saved<MultiPaxos>) -> Self {
        let id = config.id();
        let host = Host::recover(id, config.clone(), disk.clone()).unwrap();
        let mut node = Self {
            id,
            host,
            disk,
            writes: Vec::new(),
            is_hung: false,
            unwritten: VecDeque::new(),
            sent: Vec::new(),
            chosen: Vec::new(),
            refused: Vec::new(),
            placed: Vec::new(),
            snapshots: Vec::new(),
            notes: Vec::new(),
            fatal: None,
            most_written: 0,
            most_sent: 0,
            config,
            timers: BTreeMap::new(),
            random: id.0 * 7919,
        };
        node.input(Instant::ZERO, Input::Start);
        node
    }

    /// The node dies and starts again on its disk.
    pub fn restart(&mut self) {
        *self = Self::with(self.config.clone(), self.disk.clone());
    }

    /// Steps the core, and runs rounds until it is quiet.
    pub fn input(&mut self, now: Instant, input: Input<MultiPaxos>) {
        self.step(now, input);
        self.settle(now);
    }

    /// Steps the core. Rounds carry out what it asks for.
    pub fn step(&mut self, now: Instant, input: Input<MultiPaxos>) {
        self.turn(now, Some(input));
    }

    /// Runs a round, and one more after each batch that the disk writes.
    pub fn settle(&mut self, now: Instant) {
        self.turn(now, None);
        while !self.is_hung
            && let Some((seq, writes)) = self.unwritten.pop_front()
        {
            for write in &writes {
                if let Write::HardState(new) = write {
                    assert!(new.may_follow(&self.disk.hard_state), "{new:?}");
                }
                self.disk.apply(write);
            }
            self.writes.extend(writes);
            self.host.written(seq);
            self.turn(now, None);
        }
    }

    /// A step, or a round if there is no input. Collects what comes out of it.
    fn turn(&mut self, now: Instant, input: Option<Input<MultiPaxos>>) {
        let mut check = Check { id: self.id, disk: &self.disk };
        let outputs = match input {
            Some(input) => self.host.input(now, input, &mut check),
            None => {
                let round = self.host.round(now, &mut check);
                assert!(round.is_quiet);
                let written = round.writes.as_slice().iter().map(|write| match write {
                    Write::Put(run) => run.values.byte_len(),
                    _ => 0,
                });
                self.most_written = self.most_written.max(written.sum());
                let sent = round.sends.as_slice().iter().map(|(_, message)| value_bytes(message));
                self.most_sent = self.most_sent.max(sent.sum());
                self.unwritten.extend(round.seq.map(|seq| (seq, round.writes.drain(..).collect())));
                self.sent.append(round.sends);
                round.outputs
            }
        };
        self.fatal = outputs.fatal;
        if let Some(error) = self.fatal {
            assert!(matches!(error, FatalError::Contradicted { .. }), "{error}");
            return;
        }
        for change in outputs.timers.drain(..) {
            match change {
                TimerChange::Set(timer, range) => {
                    self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                    let span = (range.end - range.start).as_nanos() as u64;
                    let extra = if span == 0 { 0 } else { (self.random >> 33) % span };
                    let after = range.start + Duration::from_nanos(extra);
                    self.timers.insert(timer, now + after);
                }
                TimerChange::Cancel(timer) => {
                    self.timers.remove(&timer);
                }
            }
        }
        self.chosen.append(&mut outputs.chosen);
        self.placed.append(&mut outputs.placed);
        self.refused.append(&mut outputs.refused);
        self.snapshots.append(&mut outputs.snapshots);
        self.notes.append(&mut outputs.notes);
        self.host.core().check_invariants();
    }

    pub fn hear(&mut self, from: u64, message: Message) -> Vec<(NodeId, Message)> {
        self.hear_at(Instant::ZERO, from, message)
    }

    pub fn hear_at(&mut self, now: Instant, from: u64, message: Message) -> Vec<(NodeId, Message)> {
        self.sent.clear();
        self.input(now, Input::Message { from: NodeId(from), message });
        std::mem::take(&mut self.sent)
    }

    pub fn propose(&mut self, now: Instant, ticket: u64, command: &str) {
        let command = command.as_bytes().to_vec().into();
        self.input(now, Input::Propose { ticket: Ticket(ticket), command });
    }

    pub fn status(&self) -> Status {
        self.host.core().status()
    }

    pub fn promised(&self) -> Ballot {
        assert_eq!(self.disk.hard_state.promised, self.status().ballot);
        self.disk.hard_state.promised
    }

    /// The commands that were chosen here, in order; no-ops are left out.
    pub fn commands(&self) -> Vec<String> {
        let values = self.chosen.iter().flat_map(|run| run.values.iter());
        let commands = values.filter_map(|value| match value.to_value() {
            Value::Command(bytes) => Some(String::from_utf8(bytes.to_vec()).unwrap()),
            _ => None,
        });
        commands.collect()
    }
}

/// Size of the values in a message.
pub fn value_bytes(message: &Message) -> usize {
    match message {
        Message::Accept(Accept { run, .. }) | Message::Learned(Learned { run, .. }) => {
            run.values.byte_len()
        }
        Message::Promise(Promise { report, .. }) => {
            report.runs.iter().map(|run| run.values.byte_len()).sum()
        }
        _ => 0,
    }
}

/// Bytes of a lane that may wait for a link, as in the transport.
const LANE_BYTES: usize = 16 << 20;

/// What a link's lane of values carries, first in, first out; other lanes overtake it.
#[derive(Default)]
pub struct Lanes {
    /// Bytes per millisecond; 0 for no limit.
    pub rate: usize,
    /// When each link has sent what was queued.
    free: BTreeMap<(NodeId, NodeId), Instant>,
    /// Bytes of values sent, and frames dropped because the lane was full.
    pub sent: usize,
    pub dropped: usize,
}

impl Lanes {
    /// When a message arrives; `None` if its lane is full.
    fn arrival(
        &mut self,
        now: Instant,
        link: (NodeId, NodeId),
        message: &Message,
    ) -> Option<Instant> {
        let bytes = value_bytes(message);
        if self.rate == 0 || message.lane() != Lane::Log {
            self.sent += bytes;
            return Some(now + HOP);
        }
        let free = self.free.entry(link).or_default();
        let waits = (*free).max(now).since(now).as_micros() as usize * self.rate / 1000;
        if waits > 0 && waits + bytes > LANE_BYTES {
            self.dropped += 1;
            return None;
        }
        self.sent += bytes;
        let micros = (bytes + 128) * 1000 / self.rate;
        *free = (*free).max(now) + Duration::from_micros(micros as u64);
        Some(*free + HOP)
    }
}

/// Nodes, and messages on their way that arrive a millisecond later.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub now: Instant,
    pub cuts: BTreeSet<(u64, u64)>,
    /// Messages that are lost wherever they go.
    pub lose: fn(&Message) -> bool,
    pub lanes: Lanes,
    flying: Vec<(Instant, NodeId, NodeId, Message)>,
}

pub const TIMEOUT: Duration = Duration::from_millis(300);
const HOP: Duration = Duration::from_millis(1);

impl Cluster {
    pub fn new(nodes: u64) -> Self {
        Self::of((1..=nodes).map(|id| Config::new(NodeId(id), members(nodes)).unwrap()))
    }

    pub fn of(configs: impl Iterator<Item = Config>) -> Self {
        let nodes = configs.map(|config| Node::with(config, Saved::default())).collect();
        let (cuts, flying) = (BTreeSet::new(), Vec::new());
        let lanes = Lanes::default();
        Self { nodes, now: Instant::ZERO, cuts, lose: |_| false, lanes, flying }
    }

    pub fn node(&mut self, id: u64) -> &mut Node {
        &mut self.nodes[id as usize - 1]
    }

    /// Leaves only these links, both ways.
    pub fn links(&mut self, links: &[(u64, u64)]) {
        let all = self.nodes.len() as u64;
        self.cuts = (1..=all).flat_map(|a| (1..=all).map(move |b| (a, b))).collect();
        for (a, b) in links {
            self.cuts.remove(&(*a, *b));
            self.cuts.remove(&(*b, *a));
        }
    }

    fn collect(&mut self) {
        for node in &mut self.nodes {
            for (to, message) in node.sent.drain(..) {
                if self.cuts.contains(&(node.id.0, to.0)) || (self.lose)(&message) {
                    continue;
                }
                if let Some(at) = self.lanes.arrival(self.now, (node.id, to), &message) {
                    self.flying.push((at, node.id, to, message));
                }
            }
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.collect();
            let timers = self.nodes.iter().enumerate().flat_map(|(index, node)| {
                node.timers.iter().map(move |(timer, at)| (*at, index, *timer))
            });
            let timer = timers.min();
            let frame = self.flying.iter().enumerate().min_by_key(|(index, it)| (it.0, *index));
            let frame = frame.map(|(index, it)| (it.0, index));
            let next = timer.map(|it| it.0).into_iter().chain(frame.map(|it| it.0)).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            self.now = at;
            match frame.filter(|frame| frame.0 == at) {
                Some((_, index)) => {
                    let (_, from, to, message) = self.flying.remove(index);
                    let message = Input::Message { from, message };
                    self.node(to.0).input(at, message);
                }
                None => {
                    let (_, index, timer) = timer.unwrap();
                    self.nodes[index].timers.remove(&timer);
                    self.nodes[index].input(at, Input::Timeout(timer));
                }
            }
        }
        self.now = end;
    }

    pub fn leaders(&self) -> Vec<u64> {
        let leads = |node: &&Node| node.status().role == Role::Leader;
        self.nodes.iter().filter(leads).map(|node| node.id.0).collect()
    }

    /// Waits for a leader among `these`.
    pub fn leader_of(&mut self, these: &[u64], within: Duration) -> u64 {
        let end = self.now + within;
        while self.now < end {
            self.pass(Duration::from_millis(5));
            let found = self.leaders().into_iter().find(|leader| these.contains(leader));
            if let Some(leader) = found {
                return leader;
            }
        }
        panic!("no leader among {these:?} within {within:?}");
    }

    /// Makes `wanted` the leader of a whole cluster: only it loses patience.
    pub fn elect(&mut self, wanted: u64) {
        let now = self.now;
        self.node(wanted).input(now, Input::Timeout(Timer::Election));
        self.pass(Duration::from_millis(20));
        assert_eq!(self.leaders(), [wanted]);
    }

    pub fn write(&mut self, node: u64, ticket: u64, command: &str) {
        let now = self.now;
        self.node(node).propose(now, ticket, command);
        self.pass(Duration::from_millis(20));
    }

    /// Everyone has chosen the same, with nothing missing.
    pub fn assert_equal(&self, commands: &[&str]) {
        for node in &self.nodes {
            assert_eq!(node.commands(), commands, "{:?}", node.id);
        }
    }
}
