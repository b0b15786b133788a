//! Pruning rule: a write of an unobserved value takes effect right before another write, or at its end.
//!
//! The rule applies to problems with one register in which no operation distinguishes an unobserved value
//! from others.
//!
//! Soundness: while the register holds an unobserved value, only writes and appends can take effect,
//! because everything else requires an observed value. Writes and appends fit any state. Let `u` be a
//! candidate that writes an unobserved value, and take any completion.
//! - If another write takes effect before `u` must, move `u` right before the first such write. No
//!   operation observes it there. At its former place, `u` was followed by appends up to the next write,
//!   and these do not depend on the state.
//! - Otherwise delay `u` until it is the next operation that must take effect. It passes only appends, and
//!   the register holds an unobserved value after it as before.
//!
//! Hence each write absorbs all other candidate writes of unobserved values: they take effect right before it.
//! Otherwise such a write is not a choice until it must take effect.

use super::linearization::Linearization;
use super::step::Step;

impl Linearization<'_> {
    /// Lets all candidate writes of unobserved values take effect, right before the write
    /// `overwriting`, a completed one, or a pending one if it is `None`.
    pub(super) fn absorb_unobserved_writes(&mut self, overwriting: Option<usize>) {
        let absorbed: Vec<_> =
            self.unobserved_writes().filter(|op| Some(*op) != overwriting).collect();
        absorbed.into_iter().for_each(|op| self.advance(Step::Completed(op)));
    }

    /// Returns the candidate writes of unobserved values, if the rule applies.
    pub(super) fn unobserved_writes(&self) -> impl Iterator<Item = usize> {
        let applies = self.ignores_unobserved();
        let completed = &self.problem.completed;
        let is_unobserved = move |op: &usize| completed[*op].action.is_unobserved_write();
        self.window.candidates().filter(move |op| applies && is_unobserved(op))
    }

    /// Returns whether the rule applies to this problem.
    pub(super) fn ignores_unobserved(&self) -> bool {
        self.problem.registers.is_single() && !self.distinguishes_unobserved
    }
}
