//! Pruning rule: a configuration that an earlier one equals or dominates is not entered.
//!
//! Configuration `A` dominates `B` if each completion of `B` yields one of `A`: leave out the operations that
//! have already taken effect in `A`, and place the writes that remain only in `A` at their marks. This holds if
//! both have the same next end (the first end of a remaining operation), the same state and the same remaining
//! changes other than writes, and if `A`
//! - has no more observations and unmarked writes left, which must still take effect: the others may be
//!   left out of the completion, or took effect at their marks (see `overwritten_writes.rs`);
//! - has no fewer writes left, which can still take effect: a surplus one is marked, and takes effect at
//!   its mark when it must;
//! - permits all keys to the next operation that `B` permits (see `just_in_time.rs`);
//! - has used no counted kind of pending operations more often.
//!
//! Soundness: suppose that the search ends without success although an entered configuration has a
//! completion. Of all such configurations take one with the latest next end, and among these one with the
//! fewest choices until the operation of that end takes effect. The first choice of its completion leads
//! to a configuration `C` with a completion, and with a later next end or fewer choices. Either `C` was
//! entered, or an entered configuration dominates it, with the same next end and no more choices. Both
//! cases contradict the selection. The argument does not need that the choices of an earlier configuration
//! have all been tried, so it covers cycles: uncounted pending operations can lead back to a configuration
//! on the current path.
//!
//! For equal configurations this is Lowe's memoization ("Testing for linearizability", 2017). Domination
//! is subsumption, as in the antichain algorithms of model checking.

use crate::problem::Completed;
use crate::registers::State;
use std::collections::{BTreeMap, BTreeSet};

/// A set of concurrent operations that have not taken effect, by their slots.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnlinearizedSet {
    low: u64,
    /// The slots from 64 on. Empty if there are at most 64 slots.
    high: Box<[u64]>,
}

impl UnlinearizedSet {
    /// Creates an empty set for this number of slots.
    pub(super) fn empty(slots: usize) -> Self {
        let words = slots.saturating_sub(64).div_ceil(64);
        Self { low: 0, high: vec![0; words].into() }
    }

    pub(super) fn insert(&mut self, slot: usize) {
        match slot.checked_sub(64) {
            None => self.low |= 1 << slot,
            Some(slot) => self.high[slot / 64] |= 1 << (slot % 64),
        }
    }

    fn is_subset(&self, other: &Self) -> bool {
        let mut high = self.high.iter().zip(&other.high);
        self.low & !other.low == 0 && high.all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// Assigns a slot to each operation, so that concurrent operations have different slots. Returns the slots and
/// their number.
pub(super) fn assign_slots(completed: &[Completed]) -> (Vec<usize>, usize) {
    let mut free = BTreeSet::new();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut count = 0;
    let mut slots = Vec::with_capacity(completed.len());
    for operation in completed {
        while let Some(first) = taken.first_entry().filter(|first| *first.key() < operation.begin) {
            free.insert(first.remove());
        }
        let slot = free.pop_first().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        taken.insert(operation.end, slot);
        slots.push(slot);
    }
    (slots, count)
}

/// The part of a configuration that must be equal in both for one to dominate the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigurationKey {
    pub(super) state: State,
    /// The candidates that may change the state, except writes.
    pub(super) changes: UnlinearizedSet,
}

/// The part of a configuration that decides which one dominates.
#[derive(Debug)]
pub(super) struct Variant {
    /// The candidates that must still take effect: observations and unmarked writes. Fewer are better.
    pub(super) required: UnlinearizedSet,
    /// The candidate writes that can still take effect, marked or not. More are better.
    pub(super) spare_writes: UnlinearizedSet,
    /// The next completed operation must use one of these keys. More are better.
    pub(super) next_keys: u64,
    /// The number of uses of each counted kind of pending operations. Fewer are better.
    pub(super) uses: Box<[u32]>,
}

impl Variant {
    /// Returns whether this variant dominates the other one.
    fn dominates(&self, other: &Self) -> bool {
        let mut uses = self.uses.iter().zip(&other.uses);
        self.required.is_subset(&other.required)
            && other.spare_writes.is_subset(&self.spare_writes)
            && other.next_keys & !self.next_keys == 0
            && uses.all(|(mine, theirs)| mine <= theirs)
    }
}

/// The configurations that were entered, by the operation that must take effect next.
#[derive(Debug)]
pub(super) struct Visited {
    configurations: Vec<BTreeMap<ConfigurationKey, Vec<Variant>>>,
    pub(super) count: usize,
}

impl Visited {
    pub(super) fn new(completed: usize) -> Self {
        Self { configurations: (0..completed).map(|_| BTreeMap::new()).collect(), count: 0 }
    }

    /// Stores a configuration that the search enters. Returns false, and stores nothing, if an earlier one equals or
    /// dominates it.
    pub(super) fn enter(&mut self, next: usize, key: ConfigurationKey, variant: Variant) -> bool {
        let variants = self.configurations[next].entry(key).or_default();
        if variants.iter().any(|earlier| earlier.dominates(&variant)) {
            return false;
        }
        let before = variants.len();
        variants.retain(|earlier| !variant.dominates(earlier));
        if variants.is_empty() {
            // Most keys have one variant. A push into an empty vector would reserve four.
            variants.reserve_exact(1);
        }
        variants.push(variant);
        self.count = self.count + variants.len() - before;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    fn set(members: &[usize]) -> UnlinearizedSet {
        let mut set = UnlinearizedSet::empty(200);
        members.iter().for_each(|slot| set.insert(*slot));
        set
    }

    #[test]
    fn slot_is_reused_after_its_operation_ends() {
        let completed = |begin, end| Completed {
            action: Action::Read { key: 0, want: 0 },
            begin,
            end,
            hint: None,
            record: 0,
        };
        let operations = [completed(0, 2), completed(1, 5), completed(3, 4), completed(6, 7)];
        assert_eq!(assign_slots(&operations), (vec![0, 1, 0, 0], 2));
    }

    #[test]
    fn equal_or_dominated_configuration_is_not_entered() {
        let mut visited = Visited::new(2);
        let mut enter =
            |next, next_keys, required: &[usize], spare_writes: &[usize], uses: [u32; 2]| {
                let key = ConfigurationKey { state: 3, changes: set(&[1, 190]) };
                let (required, spare_writes, uses) =
                    (set(required), set(spare_writes), uses.into());
                let is_new =
                    visited.enter(next, key, Variant { required, spare_writes, next_keys, uses });
                (is_new, visited.count)
            };
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (true, 1));
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (false, 1), "equal");
        assert_eq!(
            enter(0, 3, &[70, 199], &[3], [1, 1]),
            (false, 1),
            "more operations must take effect"
        );
        assert_eq!(enter(0, 3, &[70], &[], [1, 1]), (false, 1), "fewer spare writes");
        assert_eq!(
            enter(0, 2, &[70], &[3], [1, 1]),
            (false, 1),
            "fewer keys for the next operation"
        );
        assert_eq!(enter(0, 3, &[70], &[3], [0, 2]), (true, 2), "incomparable");
        assert_eq!(enter(0, 3, &[], &[], [1, 1]), (true, 3), "incomparable");
        assert_eq!(enter(0, 4, &[], &[3, 4], [0, 1]), (true, 4), "incomparable");
        assert_eq!(enter(0, 7, &[], &[3, 4], [0, 1]), (true, 1), "dominates all");
        assert_eq!(enter(1, 0, &[], &[], [9, 9]), (true, 2), "another next end");
    }
}
