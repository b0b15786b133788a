//! One node: a core, its timers, and its disk.

use std::collections::{BTreeSet, VecDeque};
use synod_consensus::{Protocol, RecoveryError, Saved, Write};
use synod_types::{NodeId, Slot};

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node<P: Protocol> {
    pub core: P,
    /// The timers that run. Any of them may run out next: how long they were set for is no matter.
    pub timers: BTreeSet<P::Timer>,
    /// What is durable.
    pub disk: Saved<P>,
    /// Batches that are handed out and not durable, the oldest first.
    pub unsynced: VecDeque<Batch<P>>,
    /// Last slot that is applied: reported as chosen, or part of the state that the node started on.
    pub emitted: Slot,
    /// Last slot whose effects may be in the durable state: applied, and durable in the own log.
    pub durable: Slot,
}

/// Writes that become durable together, and what waits for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Batch<P: Protocol> {
    pub writes: Vec<Logged<P>>,
    pub held: Vec<(NodeId, P::Message)>,
    /// Last slot that was applied when the batch was handed out, or before the next one was.
    pub emitted: Slot,
}

/// A write, and whether it is a vote: made in the very round that it is stamped with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Logged<P: Protocol> {
    pub write: Write<P>,
    pub is_vote: bool,
}

impl<P: Protocol> Node<P> {
    /// A node as it comes up from its disk, before its first input.
    pub fn recover(config: P::Config, disk: Saved<P>) -> Result<Self, RecoveryError> {
        let floor = disk.floor()?;
        let core = P::recover(config, disk.clone())?;
        Ok(Self {
            core,
            timers: BTreeSet::new(),
            disk,
            unsynced: VecDeque::new(),
            emitted: floor,
            durable: floor,
        })
    }

    /// Slots that the state on disk may be applied through after a crash: the state is written
    /// behind the log, and may lag as far as what it held when the node started.
    pub fn applied_after_crash(&self) -> impl Iterator<Item = Slot> + use<P> {
        let first = self.disk.applied.max(self.disk.base.through);
        (first.0..=self.durable.max(first).0).map(Slot)
    }

    /// Everything that was written, durable or not.
    pub fn written(&self) -> Saved<P> {
        let mut saved = self.disk.clone();
        let batches = self.unsynced.iter().flat_map(|batch| &batch.writes);
        batches.for_each(|logged| saved.apply(&logged.write));
        saved
    }
}
