//! One node: a core in its host, its timers, and its disk.

use std::collections::{BTreeSet, VecDeque};
use synod_consensus::{Host, Protocol, RecoveryError, Saved, Write};
use synod_types::{NodeId, Seq, Slot};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node<P: Protocol> {
    pub host: Host<P>,
    /// The timers that run. Any of them may run out next: how long they were set for is no matter.
    pub timers: BTreeSet<P::Timer>,
    /// What is durable.
    pub disk: Saved<P>,
    /// Batches that are handed out and not durable, the oldest first.
    pub unsynced: VecDeque<Batch<P>>,
}

/// Writes that become durable together.
pub(crate) type Batch<P> = Vec<Logged<P>>;

/// A write, and whether it is a vote: made in the very round that it is stamped with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Logged<P: Protocol> {
    pub write: Write<P>,
    pub is_vote: bool,
}

impl<P: Protocol> Node<P> {
    /// A node as it comes up from its disk, before its first input.
    pub fn recover(id: NodeId, config: P::Config, disk: Saved<P>) -> Result<Self, RecoveryError> {
        let host = Host::recover(id, config, disk.clone())?;
        Ok(Self { host, timers: BTreeSet::new(), disk, unsynced: VecDeque::new() })
    }

    /// The core.
    pub fn core(&self) -> &P {
        self.host.core()
    }

    /// Last slot that is applied: reported as chosen, or part of the state that the node started
    /// on.
    pub fn emitted(&self) -> Slot {
        self.host.chosen()
    }

    /// Slots that the state on disk may be applied through after a crash: the state is written
    /// behind the log, and may lag as far as what it held when the node started.
    pub fn applied_after_crash(&self) -> impl Iterator<Item = Slot> + use<P> {
        let first = self.disk.applied.max(self.disk.base.through);
        (first.0..=self.host.durable().max(first).0).map(Slot)
    }

    /// Everything that was written, durable or not.
    pub fn written(&self) -> Saved<P> {
        written(&self.disk, &self.unsynced)
    }

    /// Number of the oldest batch that is not durable.
    pub fn oldest(&self) -> Seq {
        Seq(self.host.newest().0 - self.unsynced.len() as u64 + 1)
    }
}

/// A disk as it is once these batches are durable.
pub(crate) fn written<P: Protocol>(disk: &Saved<P>, unsynced: &VecDeque<Batch<P>>) -> Saved<P> {
    let mut saved = disk.clone();
    unsynced.iter().flatten().for_each(|logged| saved.apply(&logged.write));
    saved
}
