//! The order in which choices are tried. It affects the duration of a search and never its result.
//!
//! The rank consists, in this order, of
//! - the recorder's hint, if there is one;
//! - the distance: choices that lead to the value that is required next, or to a state that may grow into
//!   it, come first; actions that are possible only in some states come before those that are
//!   possible in every state; pending operations come last, because they stay available;
//! - the end of a completed operation, or the start of a pending one.

use super::linearization::Linearization;
use super::pending_uses::NextPending;
use super::supply::HORIZON;
use crate::action::Action;
use crate::domain::Id;
use crate::registers::State;

/// The rank of a choice: hint, distance, 1 if it is pending, time. The lowest is tried first.
pub(super) type Rank = (u64, u8, u8, usize);

/// A value that an operation requires of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequiredValue {
    key: usize,
    value: Id,
}

/// The additional distance of pending operations, which are tried after all completed ones.
const PENDING_DISTANCE: u8 = 4;

impl Linearization<'_> {
    /// Ranks a completed operation that leads to this state.
    pub(super) fn rank_completed(
        &self,
        op: usize,
        to: State,
        required: Option<RequiredValue>,
    ) -> Rank {
        let completed = &self.problem.completed[op];
        let distance = self.distance(to, required, &completed.action);
        (self.first_hint(op, completed.hint), distance, 0, completed.end)
    }

    /// Ranks the next pending operation of a kind, which leads to this state.
    pub(super) fn rank_pending(
        &self,
        kind: usize,
        next: NextPending,
        to: State,
        required: Option<RequiredValue>,
    ) -> Rank {
        let distance = self.distance(to, required, &self.problem.pending[kind].action);
        (next.hint.unwrap_or(u64::MAX), PENDING_DISTANCE + distance, 1, next.begin)
    }

    /// Ranks the placement of the write that must take effect next at its mark.
    pub(super) fn rank_overwritten(
        &self,
        next: usize,
        state: State,
        required: Option<RequiredValue>,
    ) -> Rank {
        let is_near = required.is_none_or(|required| self.is_near(state, required));
        (u64::MAX, u8::from(!is_near), 0, self.problem.completed[next].end)
    }

    /// Returns the lowest hint among the candidates of an operation's class, if it has a hint itself.
    fn first_hint(&self, op: usize, own: Option<u64>) -> u64 {
        let Some(own) = own else { return u64::MAX };
        let is_equivalent =
            |other: &usize| self.equivalence_class[*other] == self.equivalence_class[op];
        let hints = self.window.candidates().filter(is_equivalent);
        hints.filter_map(|other| self.problem.completed[other].hint).min().unwrap_or(own)
    }

    /// Returns a value that the next operation to end requires, among those with requirements: one that
    /// the state lacks, if there is one.
    pub(super) fn required(&self, state: State) -> Option<RequiredValue> {
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

    /// Returns whether a state holds a value, or appends may grow it into that value.
    fn is_near(&self, state: State, required: RequiredValue) -> bool {
        let value = self.problem.registers.get(state, required.key);
        value == required.value
            || self.problem.registers.domain.may_grow_into(value, required.value)
    }

    /// Returns the distance of an action that leads to a state: 0 to 3.
    fn distance(&self, to: State, required: Option<RequiredValue>, action: &Action) -> u8 {
        let is_near = required.is_some_and(|required| self.is_near(to, required));
        u8::from(!is_near) + 2 * u8::from(action.is_unconditional())
    }
}
