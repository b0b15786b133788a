//! Compaction of a group's journal: the part that is still needed.

use crate::LogOp;
use std::collections::VecDeque;
use synod_types::Slot;

/// Index of one journal: the highest live slot of each operation.
///
/// Compaction removes a prefix of the journal. As long as the first operation has a live slot after
/// the base, it stays with all that follow. Removing such a prefix changes no slot after the base: the
/// slots that the removed operations wrote there were truncated later, and a truncation that remains
/// has nothing to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CompactionIndex {
    first: u64,
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
                Slot::ZERO
            }
            LogOp::HardState(_) | LogOp::Compact { .. } => {
                unreachable!("only slots go through the journal")
            }
        };
        self.last_live.push_back(last);
    }

    /// Removes the prefix of operations without a live slot after `through`. Afterwards
    /// [`first`](Self::first) is the oldest that remains.
    pub(crate) fn compact(&mut self, through: Slot) {
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
    fn operation_is_removed_with_its_last_live_slot() {
        let mut index = index_of(&[put(1, 4), put(5, 6), LogOp::TruncateFrom(Slot(7)), put(7, 1)]);
        index.compact(Slot(3));
        assert_eq!((index.first(), index.next()), (0, 4));
        index.compact(Slot(4));
        assert_eq!((index.first(), index.next()), (1, 4));
        index.compact(Slot(6));
        assert_eq!((index.first(), index.next()), (3, 4), "7 to 10 were cut off: 5 and 6 decide");
        index.compact(Slot(7));
        assert_eq!((index.first(), index.next()), (4, 4));
    }

    #[test]
    fn live_operation_keeps_all_later_ones() {
        let mut index = index_of(&[put(5, 6), put(1, 2)]);
        index.compact(Slot(9));
        assert_eq!((index.first(), index.next()), (0, 2));
        index.compact(Slot(10));
        assert_eq!((index.first(), index.next()), (2, 2));
    }
}
