//! Which part of a group's journal is still needed.

use crate::LogOp;
use std::collections::VecDeque;
use synod_types::Slot;

/// For every operation of one journal, the highest slot that it may still give the log.
///
/// Compaction removes a prefix of the journal: as long as the first operation gives a slot behind
/// the base, it stays, and so does all that follows. Dropping such a prefix changes no slot behind
/// the base: what the dropped operations wrote there was truncated later, and a truncation that
/// stays behind has nothing left to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveOps {
    first: u64,
    tops: VecDeque<Slot>,
}

impl LiveOps {
    /// An empty journal whose next operation has the sequence number `first`.
    pub(crate) fn starting_at(first: u64) -> Self {
        Self { first, tops: VecDeque::new() }
    }

    /// The sequence number of the oldest operation kept.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The sequence number of the operation to come.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.tops.len() as u64
    }

    /// Takes the next operation of the journal.
    pub(crate) fn push(&mut self, op: &LogOp) {
        let top = match op {
            LogOp::Put(run) => last_slot(run.first, run.values.len()),
            LogOp::TruncateFrom(from) => {
                let end = from.prev();
                self.tops.iter_mut().for_each(|top| *top = end.min(*top));
                Slot::ZERO
            }
            LogOp::HardState(_) | LogOp::Compact { .. } => {
                unreachable!("only slots go through the journal")
            }
        };
        self.tops.push_back(top);
    }

    /// Forgets the operations that give no slot behind `through`; afterwards
    /// [`first`](Self::first) is the oldest that stays.
    pub(crate) fn compact(&mut self, through: Slot) {
        while self.tops.front().is_some_and(|top| *top <= through) {
            self.tops.pop_front();
            self.first += 1;
        }
    }
}

/// The last of `count` slots from `first` on; the slot before `first` if there is none.
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

    fn ops(list: &[LogOp]) -> LiveOps {
        let mut ops = LiveOps::default();
        list.iter().for_each(|op| ops.push(op));
        ops
    }

    #[test]
    fn an_operation_goes_with_its_last_live_slot() {
        let mut live = ops(&[put(1, 4), put(5, 6), LogOp::TruncateFrom(Slot(7)), put(7, 1)]);
        live.compact(Slot(3));
        assert_eq!((live.first(), live.next()), (0, 4));
        live.compact(Slot(4));
        assert_eq!((live.first(), live.next()), (1, 4));
        live.compact(Slot(6));
        assert_eq!((live.first(), live.next()), (3, 4), "7 to 10 were cut off: 5 and 6 decide");
        live.compact(Slot(7));
        assert_eq!((live.first(), live.next()), (4, 4));
    }

    #[test]
    fn a_live_operation_holds_back_all_behind_it() {
        let mut live = ops(&[put(5, 6), put(1, 2)]);
        live.compact(Slot(9));
        assert_eq!((live.first(), live.next()), (0, 2));
        live.compact(Slot(10));
        assert_eq!((live.first(), live.next()), (2, 2));
    }
}
