//! Window of the log that a core keeps in memory.

use crate::{Run, Stamp};
use alloc::collections::VecDeque;
use core::hash::{Hash, Hasher};
use synod_types::{Slot, ValueRef, ValuesBuilder};

/// Log window: runs of consecutive slots under one stamp, after a compacted base.
///
/// Gaps are allowed (Multi-Paxos has them). Two logs are equal if they hold the same slots, in any
/// division into runs. A look-up costs O(1) near the end and O(log runs) elsewhere; adding at the end
/// costs O(1).
#[derive(Clone, Debug)]
pub struct RunLog<S> {
    base: Slot,
    base_stamp: S,
    runs: VecDeque<Run<S>>,
    bytes: usize,
}

impl<S: Stamp> Default for RunLog<S> {
    fn default() -> Self {
        Self::new(Slot::ZERO, S::default())
    }
}

impl<S: Stamp> RunLog<S> {
    /// Creates an empty log after `base`.
    #[must_use]
    pub fn new(base: Slot, base_stamp: S) -> Self {
        Self { base, base_stamp, runs: VecDeque::new(), bytes: 0 }
    }

    /// Returns the last slot that was compacted away.
    #[must_use]
    pub fn base(&self) -> Slot {
        self.base
    }

    /// Returns the last slot held, or the base if none is.
    #[must_use]
    pub fn last(&self) -> Slot {
        self.runs.back().map_or(self.base, Run::last)
    }

    /// Returns the stamp of the last slot held, or the base's.
    #[must_use]
    pub fn last_stamp(&self) -> S {
        self.runs.back().map_or(self.base_stamp, |run| run.stamp)
    }

    /// Returns the size of the values held, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.bytes
    }

    /// Returns the stamp of `slot`: `None` before the base, in a gap and after the end.
    #[must_use]
    pub fn stamp_at(&self, slot: Slot) -> Option<S> {
        // A snapshot keeps the stamp of its last slot, for the consistency check of the entry after it
        // (Raft §7, lastIncludedTerm).
        if slot == self.base {
            return Some(self.base_stamp);
        }
        self.run_at(slot).map(|run| run.stamp)
    }

    /// Returns the stamp and the value of `slot`, if it is held.
    #[must_use]
    pub fn get(&self, slot: Slot) -> Option<(S, ValueRef<'_>)> {
        let run = self.run_at(slot)?;
        Some((run.stamp, run.values.get((slot.0 - run.first.0) as usize)))
    }

    /// Returns the run that holds `slot`.
    #[must_use]
    pub fn run_at(&self, slot: Slot) -> Option<&Run<S>> {
        let run = self.runs.get(self.seek(slot))?;
        // The first run that ends at or after a slot in a gap begins after it.
        (run.first <= slot).then_some(run)
    }

    /// Returns all runs, in order.
    pub fn runs(&self) -> impl DoubleEndedIterator<Item = &Run<S>> + ExactSizeIterator {
        self.runs.iter()
    }

    /// Returns all runs from `slot` on; the first may be cut. They share the buffers.
    pub fn runs_from(&self, slot: Slot) -> impl Iterator<Item = Run<S>> + '_ {
        self.runs
            .range(self.seek(slot)..)
            .map(move |run| if run.first < slot { run.from(slot) } else { run.clone() })
    }

    /// Returns one run to send from `slot` on, which ends at or before `through`: at most `max_bytes`
    /// bytes, but at least one value. Short neighbours under one stamp are merged into one buffer; a run
    /// that is long enough by itself is shared. `None` if `slot` is not held.
    #[must_use]
    pub fn chunk(&self, slot: Slot, through: Slot, max_bytes: usize) -> Option<Run<S>> {
        // Fast path: most peers lack exactly the newest run, which has no later neighbour to merge.
        if let Some(newest) = self.runs.back()
            && newest.first == slot
            && newest.last() <= through
            && newest.values.byte_len() <= max_bytes
        {
            return Some(newest.clone());
        }
        let at = self.seek(slot);
        let run = self.runs.get(at).filter(|run| run.first <= slot && slot <= through)?;
        let head = cut(&run.from(slot), through, max_bytes);
        // A message carries one stamp, so only runs of the same one can travel together.
        let mut next = head.last().next();
        let joins = |run: &&Run<S>, next: Slot| run.stamp == head.stamp && run.first == next;
        let mut neighbours = self.runs.range(at + 1..);
        let Some(first) = neighbours.next().filter(|run| joins(run, next) && next <= through)
        else {
            return Some(head);
        };
        // Checked before anything is copied: a run that fills a message is shared as it is.
        if head.values.byte_len() + first.values.byte_len() > max_bytes {
            return Some(head);
        }
        let mut merged = ValuesBuilder::new();
        merged.extend(&head.values);
        let mut candidate = Some(first);
        while let Some(run) = candidate.filter(|run| joins(run, next) && next <= through) {
            // Whole runs only, up to `through`: the rest of one would be sent as a run of its own.
            let part = cut(run, through, usize::MAX);
            if merged.byte_len() + part.values.byte_len() > max_bytes {
                break;
            }
            merged.extend(&part.values);
            next = part.last().next();
            candidate = neighbours.next();
        }
        Some(Run { first: slot, stamp: head.stamp, values: merged.finish() })
    }

    /// Returns the first slot after `slot` that is not held. Adjacent runs have no gap between them.
    #[must_use]
    pub fn gap_after(&self, slot: Slot) -> Slot {
        let mut next = slot.next();
        for run in self.runs.range(self.seek(next)..) {
            if run.first > next {
                break;
            }
            // Runs are disjoint and in order, so this only moves forward.
            next = run.last().next();
        }
        next
    }

    /// Writes slots, and replaces what they held. Slots at or before the base are left out: they are
    /// chosen and compacted. O(1) at the end of the log, O(runs) elsewhere.
    pub fn put(&mut self, run: Run<S>) {
        let mut run = run;
        // Messages arrive late, so a run may begin before slots that are compacted by now.
        if run.first <= self.base {
            if run.last() <= self.base {
                return;
            }
            run = run.from(self.base.next());
        }
        // No run in the log is empty, so each look-up that finds one finds a slot.
        if run.values.is_empty() {
            return;
        }
        if run.first <= self.last() && !self.runs.is_empty() {
            self.overwrite(run);
        } else {
            self.bytes += run.values.byte_len();
            self.runs.push_back(run);
        }
    }

    /// Removes `slot` and all after it; the base stays.
    pub fn truncate_from(&mut self, slot: Slot) {
        // From the end, since all slots after `slot` go, too.
        while let Some(run) = self.runs.back_mut() {
            if run.last() < slot {
                return;
            }
            let before = run.values.byte_len();
            // The run continues before the cut. The part that stays shares the buffer.
            if run.first < slot {
                *run = run.prefix((slot.0 - run.first.0) as usize);
                self.bytes -= before - run.values.byte_len();
                return;
            }
            self.bytes -= before;
            self.runs.pop_back();
        }
    }

    /// Moves the base forward to `through` and keeps the slots after it, without a comparison of
    /// stamps. A base at or before the present one changes nothing.
    pub fn compact(&mut self, through: Slot, stamp: S) {
        // Snapshots may complete out of order. A log never gets its compacted slots back.
        if through <= self.base {
            return;
        }
        while let Some(run) = self.runs.front_mut() {
            if run.first > through {
                break;
            }
            let before = run.values.byte_len();
            if run.last() > through {
                *run = run.from(through.next());
                self.bytes -= before - run.values.byte_len();
                break;
            }
            self.bytes -= before;
            self.runs.pop_front();
        }
        // `through` may lie after the end, as a snapshot of a peer does: then the log is empty.
        self.base = through;
        self.base_stamp = stamp;
    }

    /// Returns the index of the first run that ends at or after `slot`: exponential search from the end,
    /// where nearly all look-ups are.
    fn seek(&self, slot: Slot) -> usize {
        // All runs from `high` on end at or after `slot`.
        let mut high = self.runs.len();
        let mut step = 1;
        while high > 0 {
            let probe = high.saturating_sub(step);
            if self.runs[probe].last() < slot {
                // The step went past the result: binary search between the two.
                let mut low = probe + 1;
                while low < high {
                    let middle = low.midpoint(high);
                    if self.runs[middle].last() < slot {
                        low = middle + 1;
                    } else {
                        high = middle;
                    }
                }
                return low;
            }
            high = probe;
            step *= 2;
        }
        0
    }

    fn overwrite(&mut self, run: Run<S>) {
        let from = self.seek(run.first);
        let mut to = from;
        // The part of the first old run before the new one, the new run, and the part of the last old
        // run after it: the same old run may leave both parts.
        let mut pieces: [Option<Run<S>>; 3] = [None, None, None];
        while let Some(old) = self.runs.get(to).filter(|old| old.first <= run.last()) {
            self.bytes -= old.values.byte_len();
            if old.first < run.first {
                pieces[0] = Some(old.prefix((run.first.0 - old.first.0) as usize));
            }
            if old.last() > run.last() {
                pieces[2] = Some(old.from(run.last().next()));
            }
            to += 1;
        }
        pieces[1] = Some(run);
        self.runs.drain(from..to);
        // Backwards, as each insertion at `from` moves the earlier ones up.
        for piece in pieces.into_iter().rev().flatten() {
            self.bytes += piece.values.byte_len();
            self.runs.insert(from, piece);
        }
    }

    fn slots(&self) -> impl Iterator<Item = (Slot, S, ValueRef<'_>)> {
        self.runs.iter().flat_map(|run| {
            let values = run.values.iter().enumerate();
            values.map(|(index, value)| (run.first.plus(index), run.stamp, value))
        })
    }
}

/// Returns the front of `run`, up to `through`: at most `max_bytes` bytes, but at least one value.
fn cut<S: Stamp>(run: &Run<S>, through: Slot, max_bytes: usize) -> Run<S> {
    // `through` may be the last slot that a number can name, so the count must not overflow.
    let room = usize::try_from(through.0 - run.first.0).unwrap_or(usize::MAX).saturating_add(1);
    run.prefix(run.values.fitting(max_bytes).min(room))
}

impl<S: Stamp> PartialEq for RunLog<S> {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base
            && self.base_stamp == other.base_stamp
            && self.last() == other.last()
            && self.slots().eq(other.slots())
    }
}

impl<S: Stamp> Eq for RunLog<S> {}

impl<S: Stamp> Hash for RunLog<S> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.base.hash(state);
        self.base_stamp.hash(state);
        // Slot by slot: logs that are divided differently are equal, so they must hash the same.
        for run in &self.runs {
            for index in 0..run.values.len() {
                run.first.plus(index).hash(state);
                run.stamp.hash(state);
                run.values.slice(index, index + 1).hash(state);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use synod_types::{Term, Value};

    #[derive(Clone, Debug)]
    enum Op {
        Put(u64, u64, Vec<u8>),
        Truncate(u64),
        Compact(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (1..30_u64, 1..4_u64, prop::collection::vec(any::<u8>(), 1..6))
                .prop_map(|(first, term, bytes)| Op::Put(first, term, bytes)),
            1 => (1..30_u64).prop_map(Op::Truncate),
            1 => (1..30_u64).prop_map(Op::Compact),
        ]
    }

    fn run(first: u64, term: u64, bytes: &[u8]) -> Run<Term> {
        let commands = bytes.iter().map(|byte| Value::Command(alloc::vec![*byte].into()));
        Run { first: Slot(first), stamp: Term(term), values: commands.collect() }
    }

    type Model = BTreeMap<Slot, (Term, Value)>;

    fn apply(log: &mut RunLog<Term>, model: &mut Model, op: &Op) {
        match op {
            Op::Put(first, term, bytes) => {
                let run = run(*first, *term, bytes);
                for (index, value) in run.values.iter().enumerate() {
                    if run.first.plus(index) > log.base() {
                        model.insert(run.first.plus(index), (run.stamp, value.to_value()));
                    }
                }
                log.put(run);
            }
            Op::Truncate(slot) => {
                model.retain(|at, _| *at < Slot(*slot));
                log.truncate_from(Slot(*slot));
            }
            Op::Compact(slot) => {
                if Slot(*slot) > log.base() {
                    model.retain(|at, _| *at > Slot(*slot));
                }
                log.compact(Slot(*slot), Term(99));
            }
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_slots(ops in prop::collection::vec(op(), 1..40)) {
            let (mut log, mut model) = (RunLog::<Term>::default(), Model::new());
            for op in &ops {
                apply(&mut log, &mut model, op);
                let held: Vec<_> =
                    log.slots().map(|(slot, term, value)| (slot, (term, value.to_value()))).collect();
                prop_assert_eq!(held, model.clone().into_iter().collect::<Vec<_>>());
                let bytes: usize = log.runs().map(|run| run.values.byte_len()).sum();
                prop_assert_eq!(log.byte_len(), bytes);
                for slot in (1..40).map(Slot).filter(|slot| *slot != log.base()) {
                    prop_assert_eq!(log.stamp_at(slot), model.get(&slot).map(|held| held.0));
                    let gap = (slot.0 + 1..).map(Slot).find(|at| !model.contains_key(at));
                    prop_assert_eq!(Some(log.gap_after(slot)), gap);
                }
            }
        }

        #[test]
        fn chunk_has_one_stamp_is_within_bounds_and_starts_at_the_requested_slot(
            ops in prop::collection::vec(op(), 1..20),
            slot in 1..30_u64, through in 1..40_u64, max_bytes in 0..12_usize,
        ) {
            let (mut log, mut model) = (RunLog::<Term>::default(), Model::new());
            ops.iter().for_each(|op| apply(&mut log, &mut model, op));
            let chunk = log.chunk(Slot(slot), Slot(through), max_bytes);
            let held = model.contains_key(&Slot(slot)) && slot <= through;
            prop_assert_eq!(chunk.is_some(), held);
            if let Some(chunk) = chunk {
                prop_assert_eq!(chunk.first, Slot(slot));
                prop_assert!(chunk.last() <= Slot(through));
                prop_assert!(chunk.values.len() == 1 || chunk.values.byte_len() <= max_bytes);
                for (index, value) in chunk.values.iter().enumerate() {
                    let expected = &model[&chunk.first.plus(index)];
                    prop_assert_eq!((chunk.stamp, value.to_value()), expected.clone());
                }
            }
        }
    }

    #[test]
    fn logs_with_equal_slots_are_equal_in_any_division_into_runs() {
        let mut whole = RunLog::default();
        whole.put(run(1, 1, b"abc"));
        let mut pieces = RunLog::default();
        pieces.put(run(1, 1, b"a"));
        pieces.put(run(2, 1, b"bc"));
        assert_eq!(whole, pieces);
        pieces.truncate_from(Slot(3));
        assert_ne!(whole, pieces);
    }

    #[test]
    fn chunk_merges_short_runs_within_its_bounds() {
        let mut log = RunLog::default();
        for slot in 1..=4 {
            log.put(run(slot, 1, b"x"));
        }
        assert_eq!(log.chunk(Slot(1), Slot(4), 6).unwrap().values.len(), 3);
        for end in [4, 9, u64::MAX] {
            assert_eq!(log.chunk(Slot(2), Slot(end), 100).unwrap().values.len(), 3);
        }
    }
}
