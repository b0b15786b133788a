//! The order in which choices are tried. It affects the time of a search and never its result.
//!
//! Hints come first: where the recorder names places, the search follows them. Then come actions that
//! lead to, or towards, the value that is required next. Actions that fit only the present state come
//! before those that fit any, and completed operations before pending ones, which stay available.

use super::linearization::Linearization;
use super::pending_uses::NextPending;
use super::supply::HORIZON;
use crate::action::Action;
use crate::domain::Id;
use crate::registers::State;

/// The rank of a choice: its hint, its distance, whether it is pending, and its time. Lower is first.
pub(super) type Rank = (u64, u8, u8, usize);

/// A value that an operation requires a key to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredValue {
    key: usize,
    value: Id,
}

/// The additional distance of pending operations. The fewer are used, the more are left for where no
/// other operation fits.
const PENDING_DISTANCE: u8 = 4;

impl Linearization<'_> {
    /// Ranks a completed operation that leads to this state.
    pub(super) fn rank_completed(
        &self,
        op: usize,
        to: State,
        wanted: Option<RequiredValue>,
    ) -> Rank {
        let completed = &self.problem.completed[op];
        let distance = self.distance(to, wanted, &completed.action);
        (self.first_hint(op, completed.hint), distance, 0, completed.end)
    }

    /// Ranks the next pending operation of a kind, which leads to this state.
    pub(super) fn rank_pending(
        &self,
        kind: usize,
        next: NextPending,
        to: State,
        wanted: Option<RequiredValue>,
    ) -> Rank {
        let distance = self.distance(to, wanted, &self.problem.pending[kind].action);
        (next.hint.unwrap_or(u64::MAX), PENDING_DISTANCE + distance, 1, next.begin)
    }

    /// Ranks the write that must take effect next, at the place where it was overwritten.
    pub(super) fn rank_overwritten(
        &self,
        next: usize,
        state: State,
        wanted: Option<RequiredValue>,
    ) -> Rank {
        let is_near = wanted.is_none_or(|wanted| self.is_near(state, wanted));
        (u64::MAX, u8::from(!is_near), 0, self.problem.completed[next].end)
    }

    /// Returns the first hint in the class of an operation that has a hint itself.
    fn first_hint(&self, op: usize, own: Option<u64>) -> u64 {
        let Some(own) = own else { return u64::MAX };
        let is_equivalent =
            |other: &usize| self.equivalence_class[*other] == self.equivalence_class[op];
        let hints = self.window.candidates().filter(is_equivalent);
        hints.filter_map(|other| self.problem.completed[other].hint).min().unwrap_or(own)
    }

    /// Returns a value of a key that the next operation with requirements requires.
    pub(super) fn wanted(&self, state: State) -> Option<RequiredValue> {
        let registers = &self.problem.registers;
        let ends = self.window.events().take(HORIZON).filter(|(_, is_end)| *is_end);
        let required = ends
            .map(|(op, _)| self.problem.completed[op].action.required_values())
            .find(|required| !required.is_empty())?;
        let is_missing = |it: &&(usize, Id, bool)| registers.get(state, it.0) != it.1;
        required
            .iter()
            .find(is_missing)
            .or(required.first())
            .map(|(key, value, _)| RequiredValue { key: *key, value: *value })
    }

    /// Returns whether a state has a value, or may grow into it.
    fn is_near(&self, state: State, wanted: RequiredValue) -> bool {
        let value = self.problem.registers.get(state, wanted.key);
        value == wanted.value || self.problem.registers.domain.may_grow_into(value, wanted.value)
    }

    /// Returns a measure of how far a state is from the wanted value. Actions that fit only the
    /// present state come before those that fit any state, unless the latter lead to that value.
    fn distance(&self, to: State, wanted: Option<RequiredValue>, action: &Action) -> u8 {
        let is_near = wanted.is_some_and(|wanted| self.is_near(to, wanted));
        u8::from(!is_near) + 2 * u8::from(action.is_unconditional())
    }
}
