//! Pruning rule: of candidates with the same action only the one that ends first is tried.
//!
//! Soundness: let a completion start with candidate `b`, and let candidate `a` with the same action and an
//! earlier end take effect later. Exchange them. The states stay the same, because the actions are equal.
//! Real time permits this: `a` is a candidate now, and `b` has not ended where `a` took effect,
//! because `a` ends before `b`. This is a symmetry reduction, with the exchange argument of
//! earliest-deadline-first scheduling. Pending operations have no end: those with the same action form one
//! kind (see [`Pending`](crate::problem::Pending)).
//!
//! The exchange fails where `a` takes effect in the past, at its mark (see `overwritten_writes.rs`), and
//! `b` has no mark. Therefore a marked `a` does not stand for an unmarked `b`: both are tried. If `a` gets
//! its mark later, `b` gets the same one.

use crate::action::Action;
use crate::problem::Completed;
use std::collections::BTreeMap;

/// Returns the class of each operation: a number that all operations with the same action share.
pub(super) fn equivalence_classes(completed: &[Completed]) -> Vec<usize> {
    let mut classes: BTreeMap<&Action, usize> = BTreeMap::new();
    completed.iter().map(|it| *classes.entry(&it.action).or_insert(it.record)).collect()
}
