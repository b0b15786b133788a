//! The log's side: atomic, durable batches.

use crate::StorageError;
use bytes::Bytes;
use synod_types::{ClusterId, GroupId, Incarnation, NodeId, Slot, Values};

/// Whose store this is; fixed when it is created, compared whenever it is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
}

/// Which life of which store this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life {
    /// Drawn when the store was created.
    pub incarnation: Incarnation,
    /// How often the store was opened, this time included. Durable before `open` returns, so no
    /// two processes ever share one.
    pub boot: u64,
}

/// Consecutive slots under one stamp, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRun {
    /// The slot of the first value.
    pub first: Slot,
    /// The stamp; opaque.
    pub stamp: Bytes,
    /// The values.
    pub values: Values,
}

/// One change of one group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Replaces the hard state; opaque.
    HardState(Bytes),
    /// Writes slots, over whatever they held.
    Put(StoredRun),
    /// Removes this slot and all behind it.
    TruncateFrom(Slot),
    /// Replaces the base; slots at or below `through` will not be read again. The slots behind
    /// stay: if they must go, a `TruncateFrom` in the same batch says so.
    Compact {
        /// The last slot that may go.
        through: Slot,
        /// What replaces it; opaque.
        base: Bytes,
    },
}

impl LogOp {
    /// The size of its contents, in bytes.
    fn byte_len(&self) -> usize {
        match self {
            Self::HardState(bytes) | Self::Compact { base: bytes, .. } => bytes.len(),
            Self::Put(run) => run.stamp.len() + run.values.byte_len(),
            Self::TruncateFrom(_) => 0,
        }
    }
}

/// Changes that become durable together or not at all, of any number of groups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes, in order.
    pub ops: Vec<(GroupId, LogOp)>,
}

impl Batch {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The size of what it writes, in bytes, without keys and checksums.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.ops.iter().map(|(_, op)| op.byte_len()).sum()
    }

    /// Moves all of `later` behind what is here: how a writer thread makes one sync of many.
    pub fn append(&mut self, later: &mut Self) {
        self.ops.append(&mut later.ops);
    }
}

/// What a store holds of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// The latest hard state.
    pub hard_state: Option<Bytes>,
    /// The latest base.
    pub base: Option<(Slot, Bytes)>,
    /// `Put` and `TruncateFrom` operations that, done in this order, give the log behind the
    /// base; slots at or below the base may still be among them.
    pub journal: Vec<LogOp>,
}

/// A durable log for a node's groups.
pub trait LogStore: Send {
    /// Which life of the store this is.
    fn life(&self) -> Life;

    /// Reads one group; an empty [`Saved`] if it was never written.
    ///
    /// # Errors
    /// If anything read is not exactly what was once written: a store never returns a shorter log
    /// that looks whole, save that a crash may have cut off writes that were never reported as
    /// durable.
    fn load(&mut self, group: GroupId) -> Result<Saved, StorageError>;

    /// Writes a batch: atomic, and durable when this returns.
    ///
    /// # Errors
    /// Any error is final: the disk's content is unknown, so the node must stop.
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

    fn saved(mut log: MemoryLog) -> Saved {
        log.load(GroupId(1)).unwrap()
    }

    #[test]
    fn a_merged_batch_does_what_its_parts_did_in_order() {
        let parts = [batch(1, 1), batch(2, 1), batch(2, 2), batch(1, 3)];
        let (one_by_one, merged) =
            (MemoryDisk::new(Incarnation(1)), MemoryDisk::new(Incarnation(1)));
        let mut log = one_by_one.open_log();
        let mut all = Batch::default();
        for part in &parts {
            log.commit(part).unwrap();
            let mut part = part.clone();
            all.append(&mut part);
            assert!(part.is_empty(), "an appended batch is empty, and its room can be used again");
        }
        merged.open_log().commit(&all).unwrap();
        let (apart, together) = (saved(one_by_one.open_log()), saved(merged.open_log()));
        assert_eq!(apart, together);
        assert_eq!(together.hard_state.as_deref(), Some(&[3][..]));
        assert_eq!(conformance::flatten(&together).len(), 1);
    }

    #[test]
    fn an_empty_batch_merges_into_nothing() {
        let mut all = Batch::default();
        all.append(&mut Batch::default());
        assert!(all.is_empty());
        all.append(&mut batch(1, 1));
        assert_eq!(all, batch(1, 1));
    }
}
