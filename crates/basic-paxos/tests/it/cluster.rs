//! Test cluster with configurations, messages and disks of basic Paxos.

use std::ops::{Deref, DerefMut};
use synod_basic_paxos::{
    Accept, Accepted, Arity, Config, HardState, Learned, Message, MessageBatch, Nack, PaxosLog,
    Prepare, Promise,
};
use synod_consensus::{Run, RunLog, Saved};
use synod_explore::{ClusterNode, CoreChecks, TestCluster};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Value, Values};

/// Time at which a cluster starts.
const START: Instant = Instant(1_000_000_000);

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

/// Message in flight. Messages of a batch travel one by one here, so that each may be lost.
pub type InFlight = synod_explore::InFlight<Message>;

pub type Node<K> = ClusterNode<PaxosLog<K>>;

pub struct Cluster<K: Arity>(TestCluster<PaxosLog<K>, Message>);

impl<K: Arity> Deref for Cluster<K> {
    type Target = TestCluster<PaxosLog<K>, Message>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K: Arity> DerefMut for Cluster<K> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

fn checks<K: Arity>() -> CoreChecks<PaxosLog<K>> {
    CoreChecks { invariants: PaxosLog::check_invariants, ..CoreChecks::default() }
}

/// Returns a node without a cluster, not started yet.
pub fn lone_node<K: Arity>(config: Config, disk: Saved<PaxosLog<K>>) -> Node<K> {
    Node::recover(config.id(), config, disk, checks())
}

impl<K: Arity> Cluster<K> {
    /// Creates a cluster of `voters` new nodes, all started.
    pub fn new(voters: u64) -> Self {
        Self::with(voters, |config| config)
    }

    pub fn with(voters: u64, settings: impl Fn(Config) -> Config) -> Self {
        let all = (1..=voters).map(NodeId);
        Self::from_disks(all.map(|id| (settings(config(id, voters)), Saved::default())).collect())
    }

    /// Creates a cluster whose nodes restart from these disks.
    pub fn from_disks(disks: Vec<(Config, Saved<PaxosLog<K>>)>) -> Self {
        let nodes = disks.into_iter().map(|(config, disk)| (config.id(), config, disk));
        Self(TestCluster::new(checks(), MessageBatch::into_messages, START, nodes))
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

/// Returns a disk with chosen slots, promises and votes.
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

/// Creates a cluster of n1 alone, of three voters; the test sends for the others.
pub fn alone<K: Arity>(disk: Saved<PaxosLog<K>>) -> Cluster<K> {
    Cluster::from_disks(vec![(config(N1, 3), disk)])
}

/// Removes and returns the messages in flight, without receivers and adjacent duplicates.
pub fn sent<K: Arity>(cluster: &mut Cluster<K>) -> Vec<Message> {
    let mut sent: Vec<_> = cluster.wire.drain(..).map(|flight| flight.message).collect();
    sent.dedup();
    sent
}
