//! Rule: a configuration is a dead end if the next required value cannot come about.
//!
//! Soundness: among the operations that may take effect before the next end of one that requires a
//! value, some operation must produce that value, or the state must have it already. Where texts grow,
//! the rule overestimates: an append counts if the value ends with its text, and the state may grow
//! into the value or be reset. So a state is given up only if no order of these operations works.
//! Without appends [`Supply`](super::supply::Supply) decides instead, which also counts.

use super::linearization::Linearization;
use super::pending_uses::pending_left;
use super::supply::HORIZON;
use crate::action::Action;
use crate::domain::Id;
use crate::problem::Problem;
use crate::registers::State;

impl Linearization<'_> {
    /// Returns whether the step from one state to another gives up a value for good that an operation
    /// still requires.
    pub(super) fn loses_required_value(&self, from: State, to: State) -> bool {
        let is_used_up = |kind| self.pending_left(kind, usize::MAX) == 0;
        let registers = &self.problem.registers;
        let supply = self.supply.as_ref();
        supply.is_some_and(|it| it.loses_required_value(registers, from, to, is_used_up))
    }

    /// Returns whether some operation that requires a value soon cannot find it.
    pub(super) fn is_dead_end(&mut self, state: State) -> bool {
        if let Some(supply) = &mut self.supply {
            let Problem { registers, completed, pending, .. } = &*self.problem;
            let is_counted = |kind: usize| self.is_strict || self.counted[kind];
            let available = |kind: usize, op: usize| {
                let uses = is_counted(kind).then(|| self.used[kind] as usize);
                pending_left(&pending[kind], completed[op].end, uses)
            };
            return supply.is_insufficient(registers, state, &self.window, available);
        }
        if !self.problem.registers.is_single() {
            return false;
        }
        let completed = &self.problem.completed;
        let mut changes = Vec::new();
        for (op, is_end) in self.window.events().take(HORIZON) {
            let action = &completed[op].action;
            match (is_end, action.required_value()) {
                (false, _) if !action.is_observation() => changes.push(op),
                (true, Some(required)) => {
                    let others = changes.iter().filter(|change| **change != op);
                    let others = others.map(|change| &completed[*change].action);
                    let end = completed[op].end;
                    let kinds = (0..self.problem.pending.len())
                        .filter(|kind| self.next_pending(*kind, end).is_some())
                        .map(|kind| &self.problem.pending[kind].action);
                    let actions: Vec<_> = others.chain(kinds).collect();
                    return !self.can_become(state, required, &actions);
                }
                _ => {}
            }
        }
        false
    }

    /// Returns whether these actions, in some order, might turn the state into the required value.
    fn can_become(&self, state: State, required: Id, actions: &[&Action]) -> bool {
        let domain = &self.problem.registers.domain;
        let resets = |action: &&&Action| !matches!(action, Action::Append { .. });
        let can_restart = actions.iter().any(|action| resets(&action));
        let produces = |action: &&Action| match action {
            Action::Append { text, .. } => {
                (can_restart || domain.may_grow_into(state, required))
                    && domain.ends_with(required, text)
            }
            Action::Txn(_) => true,
            action => action.produced_value() == Some(required),
        };
        state == required || actions.iter().any(produces)
    }
}
