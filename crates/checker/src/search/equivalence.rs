//! Rule: of candidates with the same action only the one that ends first is tried.
//!
//! Soundness: let a linearization use candidate `b` next and candidate `a`, with the same action and
//! an earlier end, later on. Exchange the two. The states stay the same. `a` is a candidate now; and
//! `b` is still running where `a` was, because that place is before the end of `a`. This is a symmetry
//! reduction, with the exchange argument of earliest-deadline-first scheduling. Pending operations
//! with the same action form one kind from the start and are used in the order of their begins.
//!
//! Writes that are overwritable and those that are not count as two classes: only the former can
//! still take effect in the past (see `overwritten_writes.rs`).

use crate::action::Action;
use crate::problem::Completed;
use std::collections::BTreeMap;

/// Returns a number for each operation, the same for all with the same action.
pub(super) fn equivalence_classes(completed: &[Completed]) -> Vec<usize> {
    let mut classes: BTreeMap<&Action, usize> = BTreeMap::new();
    completed.iter().map(|it| *classes.entry(&it.action).or_insert(it.record)).collect()
}
