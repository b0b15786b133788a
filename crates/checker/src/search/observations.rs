//! Rule: an observation that the state confirms takes effect at once.
//!
//! Soundness: let an observation be a candidate, and let the state confirm it. In any linearization
//! of the remaining operations it can be moved to the front. No remaining operation has ended before
//! its begin, so real time permits this; and an observation changes no state, so that every other
//! operation finds the state that it found before. The other choices are therefore not tried: a
//! partial-order reduction.

use super::linearization::Linearization;
use super::step::Step;
use crate::problem::Problem;
use crate::registers::State;

impl Linearization<'_> {
    /// Lets all observations that the state confirms take effect, and returns whether there was one.
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
