//! The steps of a search, and the order of operations that they define.

use crate::problem::Problem;
use std::collections::BTreeSet;

/// A step of a search from one configuration to the next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A completed operation takes effect.
    Completed(usize),
    /// A mark: a write could take effect here, where another write overwrites it at once.
    Overwritable(usize),
    /// A write took effect in the past, at its mark [`Step::Overwritable`].
    Overwritten(usize),
    /// A pending operation of this kind takes effect. It must have begun before the event `before`.
    Pending { kind: usize, before: usize },
}

/// Returns the records of the history in the order in which they took effect.
pub(super) fn records(steps: &[Step], problem: &Problem) -> Vec<usize> {
    let mut used = vec![0; problem.pending.len()];
    let overwritten = |step: &Step| if let Step::Overwritten(op) = step { Some(*op) } else { None };
    let overwritten: BTreeSet<_> = steps.iter().filter_map(overwritten).collect();
    let record = |step: &Step| match *step {
        Step::Completed(op) => Some(problem.completed[op].record),
        Step::Overwritable(op) => overwritten.contains(&op).then(|| problem.completed[op].record),
        Step::Overwritten(_) => None,
        Step::Pending { kind, .. } => {
            used[kind] += 1;
            Some(problem.pending[kind].calls[used[kind] - 1].record)
        }
    };
    steps.iter().filter_map(record).collect()
}
