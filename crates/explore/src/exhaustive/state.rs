//! One state of a cluster: nodes, network, and what the checker remembers.

use crate::node::TestNode;
use crate::rule::RuleViolation;
use crate::safety::SafetyChecker;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;
use synod_consensus::{Protocol, RecoveryError, Saved};
use synod_types::{Instant, NodeId, Slot};

/// Bounds of each kind of event. Everything that can happen is bounded by these
/// numbers, so a search ends: all orders of all messages, with this much of everything else.
///
/// Losing a message costs nothing: a message that is never delivered is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Timers that run out.
    pub timeouts: u8,
    /// Crashes. A node that crashes keeps any prefix of the batches that it has not synced, and
    /// starts again at once: being down longer is like losing messages.
    pub crashes: u8,
    /// Commands that clients propose.
    pub proposals: u8,
    /// Messages that arrive once more than they were sent.
    pub duplicates: u8,
    /// Writes that take time: other things happen before they are durable, or a crash undoes them.
    /// All other writes are durable as soon as they are made.
    pub slow_writes: u8,
    /// Nodes that trim their logs, up to what they have reported as chosen.
    pub trims: u8,
}

/// A value with its hash, shared by all states that it is part of: a step copies and hashes the one
/// node that took it, and not the cluster.
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

    /// Takes a value that may be this very one.
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

/// A node and its timers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ModelNode<P: Protocol> {
    pub inner: TestNode<P>,
    /// The timers that run. Any of them may run out next: the durations that they were set for do
    /// not matter.
    pub timers: BTreeSet<P::Timer>,
}

impl<P: Protocol> ModelNode<P> {
    /// Recovers a node from its disk, before its first input.
    pub fn recover(id: NodeId, config: P::Config, disk: Saved<P>) -> Result<Self, RecoveryError> {
        Ok(Self { inner: TestNode::recover(id, config, disk)?, timers: BTreeSet::new() })
    }

    /// Returns the slots that the state on disk may be applied through after a crash: the state is
    /// written behind the log, and may lag as far as what it held when the node started.
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

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Packet<P: Protocol> {
    pub from: NodeId,
    pub to: NodeId,
    pub message: P::Message,
}

/// The messages on their way, as a set: one that is sent again while it is on its way changes
/// nothing. In the order of their hashes, so that equal sets are equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Network<P: Protocol>(Vec<Shared<Packet<P>>>);

impl<P: Protocol> Network<P> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

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

/// One state of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State<P: Protocol> {
    /// By id, from 1.
    pub(crate) nodes: Vec<Shared<ModelNode<P>>>,
    pub(crate) network: Network<P>,
    pub(crate) left: Budget,
    /// One clock for all.
    pub(crate) now: Instant,
    pub(crate) checker: Shared<SafetyChecker<P>>,
    /// A crash has undone a write.
    pub(crate) has_lost: bool,
    pub(crate) violation: Option<Box<RuleViolation>>,
}

impl<P: Protocol> State<P> {
    pub(crate) fn node(&self, id: NodeId) -> &ModelNode<P> {
        &self.nodes[index(id)]
    }
}

pub(crate) fn index(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).expect("a node id that fits")
}
