//! Pruning rule: a pending operation may be used repeatedly until an order is found that does so.
//! A kind is the set of all pending operations with the same action (see [`Pending`]).
//!
//! Soundness: without counting, a pending operation may take effect any number of times once it has begun.
//! This relaxed problem permits more orders than the exact one. If it has none, the exact problem has none
//! either. It has far fewer configurations, because these do not differ by the subset of pending
//! operations that was used.
//!
//! An order of the relaxed problem may be spurious: it may use a kind more often than operations of this
//! kind have begun. Then a strict round looks for an order that uses no kind too often. It stores only the
//! total number of uses in a configuration, so it may miss an order, and only its success counts. If it
//! fails, the overused kinds are counted exactly in the next round. Each round counts more kinds, and a
//! round that counts all kinds is exact, so the rounds end.
//!
//! This is counterexample-guided abstraction refinement (Clarke et al., 2000).

use super::linearization::Linearization;
use super::step::Step;
use crate::problem::Pending;

/// The next unused operation of a kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextPending {
    pub(super) begin: usize,
    pub(super) hint: Option<u64>,
}

/// Returns the kinds that an order uses more often than operations of this kind had begun at that place, or
/// `None` if there are none.
pub(super) fn overused(steps: &[Step], pending: &[Pending]) -> Option<Vec<usize>> {
    let mut used = vec![0; pending.len()];
    let mut over = Vec::new();
    for step in steps {
        let Step::Pending { kind, before } = *step else { continue };
        let is_available =
            pending[kind].calls.get(used[kind]).is_some_and(|call| call.begin < before);
        if !is_available && !over.contains(&kind) {
            over.push(kind);
        }
        used[kind] += 1;
    }
    (!over.is_empty()).then_some(over)
}

impl Linearization<'_> {
    /// Returns the number of operations of a kind that can be used before an event.
    pub(super) fn pending_left(&self, kind: usize, before: usize) -> usize {
        pending_left(&self.problem.pending[kind], before, self.uses(kind))
    }

    /// Returns the number of uses of a kind, or `None` where uses are not counted.
    pub(super) fn uses(&self, kind: usize) -> Option<usize> {
        (self.is_strict || self.counted[kind]).then(|| self.used[kind] as usize)
    }

    /// Returns the next operation of a kind, if it began before an event.
    pub(super) fn next_pending(&self, kind: usize, before: usize) -> Option<NextPending> {
        let uses = self.uses(kind);
        let calls = &self.problem.pending[kind].calls;
        let call = calls.get(uses.unwrap_or_default())?;
        let (begin, hint) = (call.begin, call.hint);
        if begin >= before {
            return None;
        }
        // Without counting, any operation of the kind may be the next one. Choose the first hint after that
        // of the latest completed operation with a hint.
        if uses.is_some() || hint.is_none() {
            return Some(NextPending { begin, hint });
        }
        let hinted = |step: &Step| match step {
            Step::Completed(op) => self.problem.completed[*op].hint,
            _ => None,
        };
        let place = self.steps.iter().rev().find_map(hinted).unwrap_or_default();
        let later = calls.iter().filter_map(|call| call.hint).filter(|hint| *hint > place);
        Some(NextPending { begin, hint: later.min() })
    }
}

/// Returns the number of operations of a kind that can be used before an event, after `uses` uses. Without
/// counting the number is unbounded if any has begun.
pub(super) fn pending_left(pending: &Pending, before: usize, uses: Option<usize>) -> usize {
    let begun = pending.calls.partition_point(|call| call.begin < before);
    match uses {
        Some(uses) => begun.saturating_sub(uses),
        None if begun > 0 => usize::MAX,
        None => 0,
    }
}
