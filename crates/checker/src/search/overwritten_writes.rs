//! Pruning rule: a position where a write could take effect and be overwritten at once is only marked. The
//! write is placed there if it has found no other place by its end.
//!
//! Soundness: let a write to a key take effect next, and let `w` be another candidate write to that key.
//! `w` could take effect right before it: real time permits this because `w` is a candidate, nothing
//! observes `w` there, and no later state changes. The search sets a mark at that place,
//! [`Step::Overwritable`], and leaves open whether `w` took effect there. `w` stays a candidate that can
//! take effect visibly, so the mark loses no linearization. When `w` is the next operation that must take
//! effect, [`Step::Overwritten`] can place it at the mark, which is a legal place for it, so the mark
//! permits no illegal order.
//!
//! Without marks each overwriting write would double the configurations: one with `w`, one without. With
//! marks one configuration stands for both (see `visited.rs`).

use super::linearization::Linearization;
use super::step::Step;
use crate::action::Action;

impl Linearization<'_> {
    /// Marks all candidate writes to a key except `overwriting`, which takes effect next.
    pub(super) fn mark_overwritable(&mut self, key: usize, overwriting: Option<usize>) {
        let completed = &self.problem.completed;
        let is_write = |op: &usize| matches!(completed[*op].action, Action::Write { key: at, .. } if at == key);
        let is_unmarked =
            |op: &usize| !self.overwritable[*op] && is_write(op) && Some(*op) != overwriting;
        let unmarked: Vec<_> = self.window.candidates().filter(is_unmarked).collect();
        unmarked.into_iter().for_each(|op| self.advance(Step::Overwritable(op)));
    }
}
