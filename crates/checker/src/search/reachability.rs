//! Pruning rule: a configuration is a dead end if the value that is required next cannot be produced.
//!
//! The rule applies to problems with appends and one register. Without appends
//! [`Supply`](super::supply::Supply) decides instead, which also counts productions.
//!
//! Soundness: let `o` be the first operation to end among the remaining ones that require a value. It must take
//! effect before its end, in a state that holds the value. Either the register holds it now, or some other
//! operation that begins before this end must produce it. The rule overestimates what is possible: a write,
//! compare-and-set or removal can produce its value regardless of its own requirements. An append can produce
//! the value if the value ends with its text, and if either the state may grow into the value or some operation
//! can replace the state. So a configuration is rejected only if no order of these operations produces the
//! value.

use super::linearization::Linearization;
use super::pending_uses::pending_left;
use super::supply::HORIZON;
use crate::action::Action;
use crate::domain::Id;
use crate::problem::Problem;
use crate::registers::State;

impl Linearization<'_> {
    /// Returns whether a step between these states replaces a value that an operation still requires, and that
    /// no remaining operation can produce again.
    pub(super) fn loses_required_value(&self, from: State, to: State) -> bool {
        let is_used_up = |kind| self.pending_left(kind, usize::MAX) == 0;
        let registers = &self.problem.registers;
        let supply = self.supply.as_ref();
        supply.is_some_and(|it| it.loses_required_value(registers, from, to, is_used_up))
    }

    /// Returns whether an operation that ends soon requires a value that cannot be produced in time.
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

    /// Returns whether some order of these actions may turn the state into the required value. May return
    /// true if none does.
    fn can_become(&self, state: State, required: Id, actions: &[&Action]) -> bool {
        let domain = &self.problem.registers.domain;
        let replaces_state = |action: &&Action| !matches!(action, Action::Append { .. });
        let can_be_replaced = actions.iter().any(replaces_state);
        let produces = |action: &&Action| match action {
            Action::Append { text, .. } => {
                (can_be_replaced || domain.may_grow_into(state, required))
                    && domain.ends_with(required, text)
            }
            Action::Txn(_) => true,
            action => action.produced_value() == Some(required),
        };
        state == required || actions.iter().any(produces)
    }
}
