//! Rule: a write of a value that no operation observes goes right before another write, or as late
//! as it can.
//!
//! The rule holds with one register, and where no operation can tell an unobserved value from others.
//!
//! Soundness: after such a write only appends and further writes can take effect until a write of
//! another value, since everything else requires an observed value. Moving it right before that write
//! changes no state that an operation depends on. Without such a write, nothing that follows depends
//! on the state, and the write can wait until it must take effect. Hence all candidates of this sort
//! take effect with the next write, and none is a choice before its turn.

use super::linearization::Linearization;
use super::step::Step;

impl Linearization<'_> {
    /// Lets all unobserved candidate writes except `other` take effect, right before another write.
    pub(super) fn absorb_unobserved_writes(&mut self, other: Option<usize>) {
        let absorbed: Vec<_> = self.unobserved_writes().filter(|op| Some(*op) != other).collect();
        absorbed.into_iter().for_each(|op| self.advance(Step::Completed(op)));
    }

    /// Returns the candidates that the rule is about.
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
