//! Compaction of a group's journal: selection of the operations that are still needed.

use crate::LogOp;
use std::collections::VecDeque;
use synod_types::Slot;

/// Index of one journal: the highest live slot of each operation. A slot of an operation is live until a
/// later operation truncates it.
///
/// Compaction removes the longest prefix of operations without a live slot after the base. All
/// operations after the first one with such a slot stay. The removal changes no slot after the base:
/// slots that the removed operations wrote there were truncated later, and a remaining truncation of
/// them is a no-op.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompactionIndex {
    /// Sequence number of the oldest operation.
    first: u64,
    /// Highest live slot of each operation, oldest operation first.
    last_live: VecDeque<Slot>,
}

impl CompactionIndex {
    /// Creates the index of an empty journal whose next operation has the sequence number `first`.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, last_live: VecDeque::new() }
    }

    /// Returns the sequence number of the oldest operation.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Returns the sequence number of the next operation.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.last_live.len() as u64
    }

    /// Adds the next operation of the journal.
    pub(crate) fn push(&mut self, op: &LogOp) {
        let last = match op {
            LogOp::Put(run) => last_slot(run.first, run.values.len()),
            LogOp::TruncateFrom(from) => {
                let end = from.prev();
                self.last_live.iter_mut().for_each(|last| *last = end.min(*last));
                // A truncation writes no slot, so it never keeps the journal from being compacted.
                Slot::ZERO
            }
            LogOp::HardState(_) | LogOp::Compact { .. } => {
                unreachable!("the journal has only puts and truncations")
            }
        };
        self.last_live.push_back(last);
    }

    /// Removes the prefix of operations without a live slot after `through`, and raises
    /// [`first`](Self::first) to the oldest remaining operation.
    pub(crate) fn compact(&mut self, through: Slot) {
        // Only a prefix is removed, so that sequence numbers stay without gaps: a gap is damage.
        while self.last_live.front().is_some_and(|last| *last <= through) {
            self.last_live.pop_front();
            self.first += 1;
        }
    }
}

/// Returns the last of `count` slots from `first` on, or the slot before `first` if there is none.
fn last_slot(first: Slot, count: usize) -> Slot {
    if count == 0 { first.prev() } else { Slot(first.0.saturating_add(count as u64 - 1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoredRun;
    use bytes::Bytes;
    use synod_types::{Value, Values};

    fn put(first: u64, count: usize) -> LogOp {
        let values: Values = std::iter::repeat_n(Value::Noop, count).collect();
        LogOp::Put(StoredRun { first: Slot(first), stamp: Bytes::new(), values })
    }

    fn index_of(list: &[LogOp]) -> CompactionIndex {
        let mut index = CompactionIndex::default();
        list.iter().for_each(|op| index.push(op));
        index
    }

    #[test]
    fn operation_is_removed_when_the_base_covers_its_last_live_slot() {
        let mut index = index_of(&[put(1, 4), put(5, 6), LogOp::TruncateFrom(Slot(7)), put(7, 1)]);
        index.compact(Slot(3));
        assert_eq!((index.first(), index.next()), (0, 4));
        index.compact(Slot(4));
        assert_eq!((index.first(), index.next()), (1, 4));
        index.compact(Slot(6));
        assert_eq!((index.first(), index.next()), (3, 4), "only 5 and 6 of 5 to 10 were live");
        index.compact(Slot(7));
        assert_eq!((index.first(), index.next()), (4, 4));
    }

    #[test]
    fn operation_with_a_live_slot_keeps_all_later_operations() {
        let mut index = index_of(&[put(5, 6), put(1, 2)]);
        index.compact(Slot(9));
        assert_eq!((index.first(), index.next()), (0, 2));
        index.compact(Slot(10));
        assert_eq!((index.first(), index.next()), (2, 2));
    }
}
