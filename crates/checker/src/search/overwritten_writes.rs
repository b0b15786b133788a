//! Rule: a write may have taken effect right before any other write to its key during its interval.
//!
//! Soundness: between two adjacent writes to one key no operation observes the first, so a candidate
//! write can be inserted before another write to its key without a change of any later state. The
//! search inserts it as a mark only, [`Step::Overwritable`], and leaves open whether it took effect
//! there. When the write is the next that must take effect, [`Step::Overwritten`] places it at its
//! mark; until then it can still take effect visibly. The mark loses no linearization, because it
//! removes no choice, and it saves the choice between both cases at each overwriting write.

use super::linearization::Linearization;
use super::step::Step;
use crate::action::Action;

impl Linearization<'_> {
    /// Marks all candidate writes to a key except `other`, which overwrites them.
    pub(super) fn mark_overwritable(&mut self, key: usize, other: Option<usize>) {
        let completed = &self.problem.completed;
        let is_write = |op: &usize| matches!(completed[*op].action, Action::Write { key: at, .. } if at == key);
        let is_unmarked =
            |op: &usize| !self.overwritable[*op] && is_write(op) && Some(*op) != other;
        let unmarked: Vec<_> = self.window.candidates().filter(is_unmarked).collect();
        unmarked.into_iter().for_each(|op| self.advance(Step::Overwritable(op)));
    }
}
