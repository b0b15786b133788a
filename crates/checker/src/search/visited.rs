//! Rule: no configuration is entered again, and none that is dominated by an earlier one.
//!
//! Soundness: a configuration is the set of operations that have taken effect and the state. From one
//! that was left without success nothing can be gained by entering it again: this is Lowe's memory of
//! configurations. One configuration dominates another if each continuation of the latter is one of the
//! former: the same state, the same changes left, no more operations that must still take effect, no
//! fewer writes that can, no fewer keys open, and no more uses of pending operations. Hence a search
//! keeps only configurations that no other dominates (subsumption, as in the antichains of model
//! checking).

use crate::problem::Completed;
use crate::registers::State;
use std::collections::{BTreeMap, BTreeSet};

/// A set of concurrent operations that have not been linearized, each by its slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct UnlinearizedSet {
    low: u64,
    /// The slots from 64 on. Empty where 64 slots are enough.
    high: Box<[u64]>,
}

impl UnlinearizedSet {
    /// Creates an empty set with room for this many slots.
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

/// Assigns each operation a slot of its own among concurrent ones. Returns also the number of slots.
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

/// The part of a configuration in which two must agree to be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConfigurationKey {
    pub(super) state: State,
    /// The candidates that change the state, except writes.
    pub(super) changes: UnlinearizedSet,
}

/// The part of a configuration that can be better or worse.
#[derive(Debug)]
pub(super) struct Variant {
    /// The candidates that must still take effect, observations and writes: the fewer the better.
    pub(super) required: UnlinearizedSet,
    /// The candidate writes that can still take effect: the more the better.
    pub(super) spare_writes: UnlinearizedSet,
    /// The keys that the next operation may be about: the more the better.
    pub(super) open: u64,
    /// The number of uses of each counted kind of pending operations: the fewer the better.
    pub(super) uses: Box<[u32]>,
}

impl Variant {
    /// Returns whether each continuation of the other one is a continuation of this one.
    fn dominates(&self, other: &Self) -> bool {
        let mut uses = self.uses.iter().zip(&other.uses);
        self.required.is_subset(&other.required)
            && other.spare_writes.is_subset(&self.spare_writes)
            && other.open & !self.open == 0
            && uses.all(|(mine, theirs)| mine <= theirs)
    }
}

/// The configurations, by the operation that must take effect next.
#[derive(Debug)]
pub(super) struct Visited {
    configurations: Vec<BTreeMap<ConfigurationKey, Vec<Variant>>>,
    pub(super) count: usize,
}

impl Visited {
    pub(super) fn new(completed: usize) -> Self {
        Self { configurations: (0..completed).map(|_| BTreeMap::new()).collect(), count: 0 }
    }

    /// Enters a configuration. Returns `false` if one that was entered before is the same or dominates it.
    pub(super) fn enter(&mut self, next: usize, key: ConfigurationKey, variant: Variant) -> bool {
        let variants = self.configurations[next].entry(key).or_default();
        if variants.iter().any(|known| known.dominates(&variant)) {
            return false;
        }
        let before = variants.len();
        variants.retain(|known| !variant.dominates(known));
        if variants.is_empty() {
            // Most keys have one variant, and a vector would reserve four.
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
    fn slot_is_reused_after_the_end_of_its_operation() {
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
    fn visited_or_dominated_configuration_is_not_entered() {
        let mut visited = Visited::new(2);
        let mut enter = |next, open, required: &[usize], spare_writes: &[usize], uses: [u32; 2]| {
            let key = ConfigurationKey { state: 3, changes: set(&[1, 190]) };
            let (required, spare_writes, uses) = (set(required), set(spare_writes), uses.into());
            let is_new = visited.enter(next, key, Variant { required, spare_writes, open, uses });
            (is_new, visited.count)
        };
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (true, 1));
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (false, 1), "the same");
        assert_eq!(enter(0, 3, &[70, 199], &[3], [1, 1]), (false, 1), "more to do");
        assert_eq!(enter(0, 3, &[70], &[], [1, 1]), (false, 1), "less at hand");
        assert_eq!(enter(0, 2, &[70], &[3], [1, 1]), (false, 1), "fewer keys");
        assert_eq!(enter(0, 3, &[70], &[3], [0, 2]), (true, 2), "neither better nor worse");
        assert_eq!(enter(0, 3, &[], &[], [1, 1]), (true, 3), "neither better nor worse");
        assert_eq!(enter(0, 4, &[], &[3, 4], [0, 1]), (true, 4), "neither better nor worse");
        assert_eq!(enter(0, 7, &[], &[3, 4], [0, 1]), (true, 1), "better than all");
        assert_eq!(enter(1, 0, &[], &[], [9, 9]), (true, 2), "elsewhere");
    }
}
