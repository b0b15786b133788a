//! Pruning rule: an observation that the state confirms takes effect at once, and nothing else is tried.
//!
//! Soundness: let an observation be a candidate that the state confirms, and take any completion. Move the
//! observation to its front. Real time permits this, because no remaining operation ends before a
//! candidate begins. An observation changes no state, so every other operation finds the state that it
//! found before. The rule is a partial-order reduction.

use super::linearization::Linearization;
use super::step::Step;
use crate::problem::Problem;
use crate::registers::State;

impl Linearization<'_> {
    /// Lets all observations that the state confirms take effect. Returns whether there was one.
    pub(super) fn confirm_observations(&mut self, state: State) -> bool {
        let mut confirmed = false;
        loop {
            let Problem { registers, completed, .. } = &mut *self.problem;
            let mut agrees = |op: &usize| {
                let action = &completed[*op].action;
                action.is_observation() && registers.apply(action, state).is_some()
            };
            let agreeing: Vec<_> = self.window.candidates().filter(|op| agrees(op)).collect();
            if agreeing.is_empty() {
                return confirmed;
            }
            confirmed = true;
            agreeing.into_iter().for_each(|op| self.advance(Step::Completed(op)));
        }
    }
}
