//! State of a cluster: nodes, network, and the records of the safety checker.

use crate::node::TestNode;
use crate::rule::RuleViolation;
use crate::safety::SafetyChecker;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use synod_consensus::{Protocol, RecoveryError, Saved};
use synod_types::{Instant, NodeId, Slot};

/// Maximum number of events of each kind. A search covers all orders of messages with up to this many other
/// events. Without a bound it would not end.
///
/// The loss of a message costs nothing: a message that is never delivered is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Timers that fire.
    pub timeouts: u8,
    /// Crashes. A crashed node keeps any prefix of its unsynced batches, and restarts at once, because a
    /// longer outage is equivalent to the loss of messages.
    pub crashes: u8,
    /// Commands that clients propose.
    pub proposals: u8,
    /// Additional deliveries of a message.
    pub duplicates: u8,
    /// Slow writes: other events, including a crash that undoes the write, may happen before it is durable. All
    /// other writes are durable at once.
    pub slow_writes: u8,
    /// Log compactions, each through the last slot that the node has reported as chosen.
    pub compactions: u8,
    /// Linearizable reads of clients, at any node.
    pub reads: u8,
}

/// Value with its hash. All states that contain the value share it, so that a step copies and hashes one node
/// only.
#[derive(Debug)]
pub(crate) struct Shared<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    pub fn new(value: T) -> Self {
        Self::from_arc(Arc::new(value))
    }

    pub fn from_arc(value: Arc<T>) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self { hash: hasher.finish(), value }
    }

    pub fn to_arc(&self) -> Arc<T> {
        Arc::clone(&self.value)
    }

    /// Replaces the value, unless it is the same allocation.
    pub fn replace(&mut self, value: Arc<T>) {
        if !Arc::ptr_eq(&self.value, &value) {
            *self = Self::from_arc(value);
        }
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, value: Arc::clone(&self.value) }
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (Arc::ptr_eq(&self.value, &other.value) || **self == **other)
    }
}

impl<T: Eq> Eq for Shared<T> {}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Node of the model, with its running timers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModelNode<P: Protocol> {
    pub inner: TestNode<P>,
    /// Running timers. Any of them may fire next, regardless of its duration.
    pub timers: BTreeSet<P::Timer>,
}

impl<P: Protocol> ModelNode<P> {
    /// Recovers a node from its disk, before its first input.
    pub fn recover(id: NodeId, config: P::Config, disk: Saved<P>) -> Result<Self, RecoveryError> {
        Ok(Self { inner: TestNode::recover(id, config, disk)?, timers: BTreeSet::new() })
    }

    /// Returns the possible applied slots of the state on disk after a crash. The state is persisted later than
    /// the log: it may lag as far as the slot at which the node started.
    pub fn applied_after_crash(&self) -> impl Iterator<Item = Slot> + use<P> {
        let first = self.disk.applied.max(self.disk.base.through);
        (first.0..=self.host.durable().max(first).0).map(Slot)
    }
}

impl<P: Protocol> Deref for ModelNode<P> {
    type Target = TestNode<P>;

    fn deref(&self) -> &TestNode<P> {
        &self.inner
    }
}

/// Message in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet<P: Protocol> {
    pub from: NodeId,
    pub to: NodeId,
    pub message: P::Message,
}

/// Set of the messages in flight, so that retransmitting one changes nothing. Ordered by hash, so that equal
/// sets compare as equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network<P: Protocol>(Vec<Shared<Packet<P>>>);

impl<P: Protocol> Network<P> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds a message. Returns false if it is in flight already.
    pub fn add(&mut self, packet: Packet<P>) -> bool {
        let packet = Shared::new(packet);
        match self.0.binary_search_by_key(&packet.hash, |it| it.hash) {
            Ok(_) => false,
            Err(at) => {
                self.0.insert(at, packet);
                true
            }
        }
    }

    pub fn remove(&mut self, packet: &Shared<Packet<P>>) {
        self.0.retain(|it| it.hash != packet.hash);
    }

    pub fn iter(&self) -> impl Iterator<Item = &Shared<Packet<P>>> {
        self.0.iter()
    }
}

/// State of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State<P: Protocol> {
    /// Nodes by id, from 1.
    pub(crate) nodes: Vec<Shared<ModelNode<P>>>,
    pub(crate) network: Network<P>,
    /// Remaining budget.
    pub(crate) budget: Budget,
    /// Clock of all nodes.
    pub(crate) now: Instant,
    pub(crate) checker: Shared<SafetyChecker<P>>,
    /// True if a crash has undone a write.
    pub(crate) has_lost_write: bool,
    pub(crate) violation: Option<Box<RuleViolation>>,
}

impl<P: Protocol> State<P> {
    pub(crate) fn node(&self, id: NodeId) -> &ModelNode<P> {
        &self.nodes[index(id)]
    }
}

/// Returns the index of a node among all nodes.
pub(crate) fn index(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("a node id should fit into usize")
}
