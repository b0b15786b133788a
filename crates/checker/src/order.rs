//! The steps of a search, and the order of operations that they come to.

use crate::compile::{Component, May};
use std::collections::BTreeSet;

/// Something took effect, or could have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Must(usize),
    /// A write that may have taken effect here, where another one overwrites it at once.
    Cover(usize),
    /// A write did so at its [`Step::Cover`].
    Hide(usize),
    /// One of a kind of operations with unknown ends, before this event.
    May {
        kind: usize,
        before: usize,
    },
}

/// The kinds that an order uses more often than they were begun at the time.
pub(crate) fn overused(steps: &[Step], mays: &[May]) -> Option<Vec<usize>> {
    let mut used = vec![0; mays.len()];
    let mut over = Vec::new();
    for step in steps {
        let Step::May { kind, before } = *step else { continue };
        let is_there = mays[kind].calls.get(used[kind]).is_some_and(|call| call.0 < before);
        if !is_there && !over.contains(&kind) {
            over.push(kind);
        }
        used[kind] += 1;
    }
    (!over.is_empty()).then_some(over)
}

/// The records of the history in the order in which they took effect.
pub(crate) fn records(steps: &[Step], component: &Component) -> Vec<usize> {
    let mut used = vec![0; component.mays.len()];
    let hidden = |step: &Step| if let Step::Hide(op) = step { Some(*op) } else { None };
    let hidden: BTreeSet<_> = steps.iter().filter_map(hidden).collect();
    let record = |step: &Step| match *step {
        Step::Must(op) => Some(component.musts[op].record),
        Step::Cover(op) => hidden.contains(&op).then(|| component.musts[op].record),
        Step::Hide(_) => None,
        Step::May { kind, .. } => {
            used[kind] += 1;
            Some(component.mays[kind].calls[used[kind] - 1].2)
        }
    };
    steps.iter().filter_map(record).collect()
}
