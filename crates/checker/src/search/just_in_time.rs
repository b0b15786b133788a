//! Pruning rule: after pending operations only an operation that depends on them is tried.
//!
//! Soundness: a pending operation has no end, so it may take effect at any time after its start, or never.
//! Take any completion, and a run of pending operations in it.
//! - If the completed operation after the run shares no key with it, move that operation to the front of
//!   the run. It commutes with the run, so no later state changes, and real time permits it because no
//!   operation of the run ends.
//! - If the run concerns one key, and the operation after it writes that key unconditionally, leave out
//!   the run: nothing observes it. The operations of the run never took effect.
//! - If no completed operation follows, leave out the run.
//!
//! Repeat this until nothing changes. The repetition ends, because completed operations only move forward and
//! pending ones are only left out. In the resulting completion each run is followed by an operation that depends on
//! it.
//!
//! The rule is a partial-order reduction. It is related to Lowe's just-in-time linearization ("Testing for
//! linearizability", 2017), which delays every operation until some return needs it. Here only operations
//! that never return are delayed, until an operation on the same key needs them.

use crate::action::Action;
use crate::problem::Problem;

/// The set of all keys. Problems with 64 keys or more use it for every operation, which turns the rule off.
pub(super) const ALL_KEYS: u64 = u64::MAX;

/// The keys of each operation, as bit sets.
pub(super) struct KeySets {
    /// The keys of each completed operation.
    pub(super) completed: Vec<u64>,
    /// The keys of each kind of pending operations.
    pub(super) pending: Vec<u64>,
}

impl KeySets {
    pub(super) fn new(problem: &Problem) -> Self {
        let width = problem.registers.width();
        let keys = |action: &Action| match width {
            0..=63 => action.keys().iter().fold(0, |keys, key| keys | 1 << key),
            _ => ALL_KEYS,
        };
        Self {
            completed: problem.completed.iter().map(|it| keys(&it.action)).collect(),
            pending: problem.pending.iter().map(|it| keys(&it.action)).collect(),
        }
    }

    /// Returns the keys of the present run of pending operations, extended by one of this kind: the next
    /// completed operation must share a key with it. `next_keys` is the result for the run so far, or
    /// [`ALL_KEYS`] if there is no run.
    pub(super) fn after_pending(&self, kind: usize, next_keys: u64) -> u64 {
        self.pending[kind] | if next_keys == ALL_KEYS { 0 } else { next_keys }
    }
}

/// Returns whether an action overwrites all effects of the present run of pending operations.
pub(super) fn discards_pending_effects(action: &Action, next_keys: u64) -> bool {
    matches!(action, Action::Write { key, .. } if *key < 64 && next_keys == 1 << key)
}
