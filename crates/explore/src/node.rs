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
    /// Reported as chosen since the node started, through here.
    pub emitted: Slot,
}

/// Writes that become durable together, and the messages that wait for them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Batch<P: Protocol> {
    pub writes: Vec<Logged<P>>,
    pub held: Vec<(NodeId, P::Message)>,
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
        let emitted = disk.base.through;
        let core = P::recover(config, disk.clone())?;
        Ok(Self { core, timers: BTreeSet::new(), disk, unsynced: VecDeque::new(), emitted })
    }

    /// Everything that was written, durable or not.
    pub fn written(&self) -> Saved<P> {
        let mut saved = self.disk.clone();
        let batches = self.unsynced.iter().flat_map(|batch| &batch.writes);
        batches.for_each(|logged| saved.apply(&logged.write));
        saved
    }
}
