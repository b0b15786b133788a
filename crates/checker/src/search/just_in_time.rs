//! Rule: a pending operation takes effect only if the next operation builds on it.
//!
//! Soundness: if an operation follows that shares no key with a pending one before it, the two can be
//! exchanged without a change of any later state; and an unconditional write to the only key that
//! pending operations have changed makes these superfluous: they may never have taken effect. So after
//! pending operations the search continues only with an operation on one of their keys. The rule is
//! Lowe's just-in-time linearization, restricted to operations that need not take effect at all.

use crate::action::Action;
use crate::problem::Problem;

/// All keys, and any key from the 64th on.
pub(super) const ALL_KEYS: u64 = u64::MAX;

/// The keys of operations as bit sets.
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

    /// Returns the keys that may be next after a pending operation of this kind.
    pub(super) fn after_pending(&self, kind: usize, open: u64) -> u64 {
        self.pending[kind] | if open == ALL_KEYS { 0 } else { open }
    }
}

/// Returns whether a write discards all effects of the pending operations before it.
pub(super) fn discards_pending_effects(action: &Action, open: u64) -> bool {
    matches!(action, Action::Write { key, .. } if *key < 64 && open == 1 << key)
}
