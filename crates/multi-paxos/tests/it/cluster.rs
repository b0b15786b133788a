//! The shared test cluster, with the configurations and values of Multi-Paxos, on links of bounded
//! rate.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use synod_explore::{ClusterNode, CoreChecks, TestCluster};
use synod_multi_paxos::consensus::{Input, Message as _, Run, Saved};
use synod_multi_paxos::types::{Ballot, Instant, Lane, Membership, NodeId, Slot, Value, Values};
use synod_multi_paxos::{Accept, Config, Learned, Message, MultiPaxos, Promise, Timer};

pub const N1: NodeId = NodeId(1);
pub const N2: NodeId = NodeId(2);
pub const N3: NodeId = NodeId(3);
pub const N4: NodeId = NodeId(4);
pub const N5: NodeId = NodeId(5);

pub type Node = ClusterNode<MultiPaxos>;

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

fn checks() -> CoreChecks<MultiPaxos> {
    let invariants = MultiPaxos::check_invariants;
    CoreChecks { invariants, size: value_bytes }
}

/// Returns a new, started node without a cluster.
pub fn new_node(id: u64, nodes: u64) -> Node {
    start_node(Config::new(NodeId(id), members(nodes)).unwrap(), Saved::default())
}

/// Returns a node without a cluster, started on this disk.
pub fn start_node(config: Config, disk: Saved<MultiPaxos>) -> Node {
    let mut node = Node::recover(config.id(), config, disk, checks());
    node.step(Instant::ZERO, Input::Start);
    node
}

pub trait Promised {
    fn promised(&self) -> Ballot;
}

impl Promised for Node {
    fn promised(&self) -> Ballot {
        assert_eq!(self.disk.hard_state.promised, self.status().ballot);
        self.disk.hard_state.promised
    }
}

/// Returns the size of the values in a message.
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

/// Maximum of a lane's bytes that wait for a link, as in the transport.
const LANE_BYTES: usize = 16 << 20;

/// Value lanes of the links, first in, first out. Other lanes overtake them.
#[derive(Default)]
pub struct Lanes {
    /// Bytes per millisecond; 0 for no limit.
    pub rate: usize,
    /// Time at which each link has sent its queue.
    free: BTreeMap<(NodeId, NodeId), Instant>,
    /// Bytes of values sent, and frames dropped because the lane was full.
    pub sent: usize,
    pub dropped: usize,
}

impl Lanes {
    /// Returns the arrival time of a message; `None` if its lane is full.
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

/// Cluster in which messages arrive a millisecond after they were sent.
pub struct Cluster {
    shared: TestCluster<MultiPaxos>,
    /// Messages that are lost on every link.
    pub lose: fn(&Message) -> bool,
    pub lanes: Lanes,
}

pub const TIMEOUT: Duration = Duration::from_millis(300);
const HOP: Duration = Duration::from_millis(1);

impl Deref for Cluster {
    type Target = TestCluster<MultiPaxos>;

    fn deref(&self) -> &Self::Target {
        &self.shared
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.shared
    }
}

impl Cluster {
    pub fn new(nodes: u64) -> Self {
        Self::of((1..=nodes).map(|id| Config::new(NodeId(id), members(nodes)).unwrap()))
    }

    pub fn of(configs: impl Iterator<Item = Config>) -> Self {
        let nodes = configs.map(|config| (config.id(), config, Saved::default()));
        let shared = TestCluster::new(checks(), |message| vec![message], Instant::ZERO, nodes);
        Self { shared, lose: |_| false, lanes: Lanes::default() }
    }

    /// Cuts all links except these, which work both ways.
    pub fn links(&mut self, links: &[(NodeId, NodeId)]) {
        let ids = self.ids();
        self.cut = ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b))).collect();
        for (a, b) in links {
            self.cut.remove(&(*a, *b));
            self.cut.remove(&(*b, *a));
        }
    }

    /// Advances the time.
    pub fn run_for(&mut self, time: Duration) {
        let Self { shared, lose, lanes } = self;
        shared.run_for(time, |now, flight| {
            if lose(&flight.message) {
                return None;
            }
            lanes.arrival(now, (flight.from, flight.to), &flight.message)
        });
    }

    /// Advances the time until one of `these` leads.
    pub fn leader_of(&mut self, these: &[NodeId], within: Duration) -> NodeId {
        let end = self.now + within;
        while self.now < end {
            self.run_for(Duration::from_millis(5));
            let found = self.leaders().into_iter().find(|leader| these.contains(leader));
            if let Some(leader) = found {
                return leader;
            }
        }
        panic!("no leader among {these:?} within {within:?}");
    }

    /// Makes `wanted` the leader of a complete cluster: only it times out.
    pub fn elect(&mut self, wanted: NodeId) {
        let now = self.now;
        self.node(wanted).step(now, Input::Timeout(Timer::Election));
        self.run_for(Duration::from_millis(20));
        assert_eq!(self.leaders(), [wanted]);
    }

    pub fn write(&mut self, node: NodeId, ticket: u64, command: &str) {
        let now = self.now;
        self.node(node).propose(now, ticket, command);
        self.run_for(Duration::from_millis(20));
    }

    /// Asserts that all nodes have chosen the same values, without gaps.
    pub fn assert_equal(&self, commands: &[&str]) {
        for node in self.nodes.values() {
            assert_eq!(node.commands(), commands, "{:?}", node.id());
        }
    }
}
