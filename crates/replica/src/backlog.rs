//! Work that a driver has handed to its disk and to its state machine, bounded and checked for
//! stalls.

use crate::driver::ChosenRun;
use std::collections::VecDeque;
use synod_consensus::{Protocol, Write};
use synod_types::{Instant, Seq, Slot};

/// Approximate encoded size of a write without its values, in bytes.
const WRITE_OVERHEAD: usize = 64;

/// Progress of the disk side or of the apply side.
///
/// A side is stalled when it completes nothing while work waits. The age of the oldest work does
/// not show a stall: under steady load on a slow disk it only measures the depth of the queue.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    /// Time of the last completion, or of the first work for an idle side. `None` while nothing is
    /// outstanding.
    since: Option<Instant>,
}

impl Progress {
    fn handed_out(&mut self, now: Instant) {
        // Only a completion restarts the time: new work for a busy side is no progress.
        self.since.get_or_insert(now);
    }

    fn completed(&mut self, now: Instant, is_idle: bool) {
        // Each completion restarts the time, even if the queue is still long.
        self.since = (!is_idle).then_some(now);
    }
}

/// Batches that are not durable yet.
#[derive(Default)]
pub(crate) struct DiskSide {
    unwritten: VecDeque<(Seq, usize)>,
    unwritten_bytes: usize,
    progress: Progress,
}

impl DiskSide {
    /// Returns the bytes that are not durable yet.
    pub(crate) fn outstanding_bytes(&self) -> usize {
        self.unwritten_bytes
    }

    /// Returns the time since when work has waited without a completion.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.progress.since
    }

    /// Records that a batch of `bytes` bytes was handed to the disk.
    pub(crate) fn hand_out(&mut self, now: Instant, seq: Seq, bytes: usize) {
        self.unwritten.push_back((seq, bytes));
        self.unwritten_bytes += bytes;
        self.progress.handed_out(now);
    }

    /// Records that everything through `seq` is durable.
    pub(crate) fn complete(&mut self, now: Instant, seq: Seq) {
        let before = self.unwritten.len();
        while let Some((_, bytes)) = self.unwritten.pop_front_if(|(front, _)| *front <= seq) {
            self.unwritten_bytes -= bytes;
        }
        // A repeated completion is no progress.
        if self.unwritten.len() < before {
            self.progress.completed(now, self.unwritten.is_empty());
        }
    }
}

/// Returns the approximate encoded size of a write, in bytes.
pub(crate) fn write_bytes<P: Protocol>(write: &Write<P>) -> usize {
    let values = match write {
        Write::Put(run) => run.values.byte_len(),
        Write::HardState(_) | Write::TruncateFrom(_) | Write::Compact(_) => 0,
    };
    values + WRITE_OVERHEAD
}

/// Chosen runs that are not applied yet.
pub(crate) struct ApplySide {
    /// Last slot applied.
    applied: Slot,
    /// Runs that are chosen and not handed out; they share their memory with the core's log.
    waiting: VecDeque<ChosenRun>,
    /// Runs that are handed out and not applied, as last slot and size in bytes.
    outstanding: VecDeque<(Slot, usize)>,
    outstanding_bytes: usize,
    progress: Progress,
}

impl ApplySide {
    /// Returns the apply side of a state machine that has applied through `applied`.
    pub(crate) fn new(applied: Slot) -> Self {
        Self {
            applied,
            waiting: VecDeque::new(),
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            progress: Progress::default(),
        }
    }

    /// Returns the last slot that the state machine has applied.
    pub(crate) fn applied(&self) -> Slot {
        self.applied
    }

    /// Adds a run that the core reported as chosen.
    pub(crate) fn push(&mut self, run: ChosenRun) {
        self.waiting.push_back(run);
    }

    /// Returns whether the state machine lags: chosen runs wait in the driver.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Returns the time since when work has waited without a completion.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.progress.since
    }

    /// Hands out runs while less than `max_bytes` and `max_slots` are outstanding.
    pub(crate) fn hand_out(
        &mut self,
        now: Instant,
        max_bytes: usize,
        max_slots: u64,
        out: &mut Vec<ChosenRun>,
    ) {
        while let Some(run) = self.waiting.front_mut() {
            // A bound on bytes alone would admit any number of small values, which take time, too.
            let slots = max_slots.saturating_sub(run.first.prev().0 - self.applied.0);
            if slots == 0 || self.outstanding_bytes >= max_bytes {
                return;
            }
            let slots = usize::try_from(slots).unwrap_or(usize::MAX);
            // `fitting` returns at least 1, so that a value longer than the bound is applied, too.
            let count = run.values.fitting(max_bytes - self.outstanding_bytes).min(slots);
            // `slice` copies no values: the parts share the run's memory.
            let piece = ChosenRun { first: run.first, values: run.values.slice(0, count) };
            if count == run.values.len() {
                self.waiting.pop_front();
            } else {
                run.values = run.values.slice(count, run.values.len());
                run.first = run.first.plus(count);
            }
            let bytes = piece.values.byte_len();
            self.outstanding.push_back((piece.last(), bytes));
            self.outstanding_bytes += bytes;
            self.progress.handed_out(now);
            out.push(piece);
        }
    }

    /// Records that everything through `through` is applied.
    pub(crate) fn complete(&mut self, now: Instant, through: Slot) {
        // A report without new slots is no progress: it must not hide a stall.
        if through <= self.applied {
            return;
        }
        self.applied = through;
        while let Some((_, bytes)) = self.outstanding.pop_front_if(|(last, _)| *last <= through) {
            self.outstanding_bytes -= bytes;
        }
        self.progress.completed(now, self.outstanding.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::{Value, Values};

    /// Returns a run from slot `first` on with values of these sizes in bytes.
    fn run(first: u64, sizes: &[usize]) -> ChosenRun {
        let values: Values =
            sizes.iter().map(|size| Value::Command(vec![7; *size].into())).collect();
        ChosenRun { first: Slot(first), values }
    }

    #[test]
    fn long_run_is_split_within_the_bounds_on_bytes_and_slots() {
        let sizes: Vec<usize> = (0..1000).map(|slot| (slot * 7919) % 300).collect();
        let whole = run(1, &sizes);
        let mut side = ApplySide::new(Slot::ZERO);
        side.push(whole.clone());
        let (mut next, mut rounds) = (Slot(1), 0);
        while next <= whole.last() {
            assert!(side.is_behind());
            let mut pieces = Vec::new();
            side.hand_out(Instant(rounds), 2000, 20, &mut pieces);
            let bytes: usize = pieces.iter().map(|piece| piece.values.byte_len()).sum();
            let slots: usize = pieces.iter().map(|piece| piece.values.len()).sum();
            assert!(
                (1..=20).contains(&slots) && bytes <= 2000 + 301,
                "{slots} slots, {bytes} bytes"
            );
            for piece in &pieces {
                assert_eq!(piece.first, next);
                let (from, to) = (next.0 as usize - 1, piece.last().0 as usize);
                assert_eq!(piece.values, whole.values.slice(from, to));
                next = piece.last().next();
            }
            let mut none = Vec::new();
            side.hand_out(Instant(rounds), 2000, slots as u64, &mut none);
            assert!(none.is_empty(), "the bound is reached");
            side.complete(Instant(rounds), next.prev());
            rounds += 1;
        }
        assert!(!side.is_behind() && side.waiting_since().is_none());
        assert!(rounds >= 50, "{rounds}");
    }

    #[test]
    fn value_larger_than_the_bound_is_handed_out_alone() {
        let mut side = ApplySide::new(Slot(4));
        side.push(run(5, &[5000, 1]));
        let mut pieces = Vec::new();
        side.hand_out(Instant(1), 100, 20, &mut pieces);
        assert_eq!(pieces, [run(5, &[5000])]);
    }
}
