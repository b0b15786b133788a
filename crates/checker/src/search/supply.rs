//! Pruning rule: a configuration is a dead end if a value is required more often than it can be produced.
//!
//! The rule applies to problems without appends, whose actions produce values that do not depend on the
//! state.
//!
//! Soundness: some operations require a value of a key and leave another value there. Between two of them
//! some operation must produce the value again. So by the end of an operation, the operations that must
//! have taken effect and overwrite a value cannot outnumber its productions: the present state, the
//! completed operations that have begun, and the pending ones that can be used. An operation that only
//! observes the value needs one production, which it shares with others. The rule counts each production
//! that is possible by that end, in any order, so it rejects a configuration only if no order works.
//! It considers only the next [`HORIZON`] events. Later events could only reject further configurations.
//!
//! The same counts show whether a step loses a required value: it replaces a value that an operation still
//! requires, and no remaining operation can produce it again.

use super::window::Window;
use crate::action::Action;
use crate::domain::Id;
use crate::problem::Problem;
use crate::registers::{Registers, State};
use std::collections::BTreeMap;

/// The number of events that the search looks ahead.
pub(super) const HORIZON: usize = 256;

/// The index of a value of a key that some operation requires.
type ValueIndex = usize;

/// The required and the produced values of the remaining operations.
#[derive(Debug)]
pub(super) struct Supply {
    indices: BTreeMap<(usize, Id), ValueIndex>,
    completed: Vec<ValueUse>,
    balances: Vec<Balance>,
    /// Scratch space of [`Supply::is_insufficient`]: for each value the number of productions so far, and of
    /// operations that require and overwrite it.
    ahead: Vec<(usize, usize)>,
    /// The elements of `ahead` that the present call has changed and must reset.
    touched: Vec<ValueIndex>,
}

/// The values that one operation requires and produces.
#[derive(Debug)]
struct ValueUse {
    /// The required values. True if the operation overwrites the value.
    required: Vec<(ValueIndex, bool)>,
    produces: Vec<ValueIndex>,
}

/// The numbers of completed operations that require and that produce one value.
#[derive(Clone, Debug, Default)]
struct Balance {
    required: u32,
    producers: u32,
    /// The kinds of pending operations that produce the value.
    kinds: Vec<usize>,
}

impl Supply {
    /// Counts all operations of a problem. Returns `None` if there are appends.
    pub(super) fn new(problem: &Problem) -> Option<Self> {
        if problem.actions().any(|action| matches!(action, Action::Append { .. })) {
            return None;
        }
        let mut indices = BTreeMap::new();
        for (key, value, _) in problem.completed.iter().flat_map(|it| it.action.required_values()) {
            let next = indices.len();
            indices.entry((key, value)).or_insert(next);
        }
        let produces = |action: &Action| -> Vec<ValueIndex> {
            let produced = action.produced_values();
            produced.iter().filter_map(|value| indices.get(value).copied()).collect()
        };
        let value_use = |action: &Action| ValueUse {
            required: action
                .required_values()
                .into_iter()
                .map(|(key, value, is_overwritten)| (indices[&(key, value)], is_overwritten))
                .collect(),
            produces: produces(action),
        };
        let completed: Vec<_> = problem.completed.iter().map(|it| value_use(&it.action)).collect();
        let mut balances = vec![Balance::default(); indices.len()];
        for (kind, pending) in problem.pending.iter().enumerate() {
            produces(&pending.action)
                .into_iter()
                .for_each(|index| balances[index].kinds.push(kind));
        }
        let ahead = vec![(0, 0); indices.len()];
        let mut supply = Self { indices, completed, balances, ahead, touched: Vec::new() };
        (0..supply.completed.len()).for_each(|op| supply.count(op, |count| *count += 1));
        Some(supply)
    }

    /// Changes the counts when an operation takes effect, or when this is undone.
    pub(super) fn count(&mut self, op: usize, change: impl Fn(&mut u32)) {
        let ValueUse { required, produces } = &self.completed[op];
        required.iter().for_each(|(index, _)| change(&mut self.balances[*index].required));
        produces.iter().for_each(|index| change(&mut self.balances[*index].producers));
    }

    /// Returns whether a step replaces a value that an operation still requires, and that no remaining operation
    /// can produce again.
    pub(super) fn loses_required_value(
        &self,
        registers: &Registers,
        from: State,
        to: State,
        is_used_up: impl Fn(usize) -> bool,
    ) -> bool {
        (0..registers.width()).any(|key| {
            let value = registers.get(from, key);
            let index = if value == registers.get(to, key) {
                None
            } else {
                self.indices.get(&(key, value))
            };
            index.map(|index| &self.balances[*index]).is_some_and(|balance| {
                balance.required > 0
                    && balance.producers == 0
                    && balance.kinds.iter().all(|kind| is_used_up(*kind))
            })
        })
    }

    /// Returns whether a value is required more often than it can be produced in time. `available`
    /// returns the number of operations of a kind that can be used before the end of an operation.
    pub(super) fn is_insufficient(
        &mut self,
        registers: &Registers,
        state: State,
        window: &Window,
        available: impl Fn(usize, usize) -> usize,
    ) -> bool {
        for key in 0..registers.width() {
            if let Some(index) = self.indices.get(&(key, registers.get(state, key))) {
                self.ahead[*index].0 += 1;
                self.touched.push(*index);
            }
        }
        let mut is_insufficient = false;
        'events: for (op, is_end) in window.events().take(HORIZON) {
            let ValueUse { required, produces } = &self.completed[op];
            if !is_end {
                produces.iter().for_each(|index| self.ahead[*index].0 += 1);
                self.touched.extend(produces);
                continue;
            }
            for (index, is_overwritten) in required {
                let (produced, overwritten) = &mut self.ahead[*index];
                *overwritten += usize::from(*is_overwritten);
                self.touched.push(*index);
                let missing = (*overwritten).max(1).saturating_sub(*produced);
                if missing == 0 {
                    continue;
                }
                let kinds = self.balances[*index].kinds.iter();
                let found = kinds.map(|kind| available(*kind, op)).fold(0, usize::saturating_add);
                if found < missing {
                    is_insufficient = true;
                    break 'events;
                }
            }
        }
        self.touched.drain(..).for_each(|index| self.ahead[index] = (0, 0));
        is_insufficient
    }
}
