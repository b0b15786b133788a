//! The log store trait: atomic, durable batches.

use crate::StorageError;
use bytes::Bytes;
use synod_types::{ClusterId, GroupId, Incarnation, NodeId, Slot, Values};

/// Owner of a store: set when it is created, and checked at every open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// Cluster of the owner.
    pub cluster: ClusterId,
    /// Node of the owner.
    pub node: NodeId,
}

/// Identifier of one open of a store: the store's incarnation and the boot count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId {
    /// Random number of the store, drawn at its creation.
    pub incarnation: Incarnation,
    /// Number of opens of the store, including this one. It is durable before the open returns, so that
    /// each process has its own.
    pub boot: u64,
}

/// Consecutive slots with one stamp, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// Slot of the first value.
    pub first: Slot,
    /// Stamp of all slots, opaque.
    pub stamp: Bytes,
    /// Values of the slots.
    pub values: Values,
}

/// Change of one group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Replaces the hard state, which is opaque.
    HardState(Bytes),
    /// Writes slots and overwrites their previous content.
    Put(StoredRun),
    /// Removes this slot and all after it.
    TruncateFrom(Slot),
    /// Replaces the base and releases the slots up to `through`. Slots after it stay: to remove them,
    /// the same batch contains a `TruncateFrom`.
    Compact {
        /// Last slot that the base covers.
        through: Slot,
        /// Content of the base, opaque.
        base: Bytes,
    },
}

impl LogOp {
    /// Returns the size of the content in bytes.
    fn byte_len(&self) -> usize {
        match self {
            Self::HardState(bytes) | Self::Compact { base: bytes, .. } => bytes.len(),
            Self::Put(run) => run.stamp.len() + run.values.byte_len(),
            Self::TruncateFrom(_) => 0,
        }
    }
}

/// Atomic batch of changes to any number of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Changes in order, each with its group.
    pub ops: Vec<(GroupId, LogOp)>,
}

impl Batch {
    /// Returns whether the batch has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Returns the size of the content in bytes, without keys and checksums.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.ops.iter().map(|(_, op)| op.byte_len()).sum()
    }

    /// Moves all changes of `later` to the end of this batch. A writer thread merges pending batches, so
    /// that one sync makes all of them durable.
    pub fn append(&mut self, later: &mut Self) {
        self.ops.append(&mut later.ops);
    }
}

/// Content of a log store for one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredGroup {
    /// Latest hard state.
    pub hard_state: Option<Bytes>,
    /// Latest base, with the last slot that it covers.
    pub base: Option<(Slot, Bytes)>,
    /// `Put` and `TruncateFrom` operations that, applied in this order, result in the log after the
    /// base. They may include slots at or below the base.
    pub journal: Vec<LogOp>,
}

/// Durable log of a node's groups.
pub trait LogStore: Send {
    /// Returns the identifier of this open of the store.
    fn boot_id(&self) -> BootId;

    /// Reads one group. Returns an empty [`StoredGroup`] if it was never written.
    ///
    /// # Errors
    /// If the content differs from the committed content. A crash may lose only a batch whose
    /// [`commit`](Self::commit) did not return; any other loss must be an error, because it could include a vote.
    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError>;

    /// Writes a batch atomically. The batch is durable when this returns.
    ///
    /// # Errors
    /// Every error is final: the content of the disk is unknown afterwards, so the node must stop.
    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, MemoryLog, conformance};

    fn batch(first: u64, stamp: u8) -> Batch {
        let values = Values::command_only(&[stamp]);
        let run = StoredRun { first: Slot(first), stamp: vec![stamp].into(), values };
        let ops = vec![
            (GroupId(1), LogOp::HardState(vec![stamp].into())),
            (GroupId(1), LogOp::TruncateFrom(Slot(first))),
            (GroupId(1), LogOp::Put(run)),
        ];
        Batch { ops }
    }

    fn saved(mut log: MemoryLog) -> StoredGroup {
        log.load(GroupId(1)).unwrap()
    }

    #[test]
    fn merged_batch_equals_its_parts_in_order() {
        let parts = [batch(1, 1), batch(2, 1), batch(2, 2), batch(1, 3)];
        let (separate, merged) = (MemoryDisk::new(Incarnation(1)), MemoryDisk::new(Incarnation(1)));
        let mut log = separate.open_log();
        let mut all = Batch::default();
        for part in &parts {
            log.commit(part).unwrap();
            let mut part = part.clone();
            all.append(&mut part);
            assert!(part.is_empty(), "append moves all changes");
        }
        merged.open_log().commit(&all).unwrap();
        let (separate, merged) = (saved(separate.open_log()), saved(merged.open_log()));
        assert_eq!(separate, merged);
        assert_eq!(merged.hard_state.as_deref(), Some(&[3][..]));
        // The last part truncates from slot 1 and writes one slot.
        assert_eq!(conformance::flatten(&merged).len(), 1);
    }

    #[test]
    fn appending_an_empty_batch_adds_nothing() {
        let mut all = Batch::default();
        all.append(&mut Batch::default());
        assert!(all.is_empty());
        all.append(&mut batch(1, 1));
        assert_eq!(all, batch(1, 1));
    }
}
