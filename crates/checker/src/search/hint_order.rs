//! The order of the hints, which is tried in one pass before any search.
//!
//! The recorder of a replicated log knows the slot of each change. If the order of the slots explains the
//! history, no search is needed. If it does not, another order may, and the search decides.

use super::window::Window;
use crate::action::Action;
use crate::problem::{Completed, Pending, PendingCall, Problem};
use crate::registers::{Registers, State};

/// An operation with a hint that may change the state.
enum Change<'a> {
    Completed(usize),
    Pending(&'a Action, PendingCall),
}

/// The state of the pass, and the remaining operations.
struct HintPass<'a> {
    completed: &'a [Completed],
    registers: &'a mut Registers,
    window: Window,
    state: State,
    order: Vec<usize>,
}

/// Returns the records in the order of their hints, if every completed change has a hint and this order
/// explains all outcomes. An observation takes effect at the first state that confirms it.
pub(super) fn follow_hints(problem: &mut Problem) -> Option<Vec<usize>> {
    let Problem { registers, init, completed, pending } = problem;
    let mut changes = Vec::new();
    for (op, change) in completed.iter().enumerate().filter(|(_, it)| !it.action.is_observation()) {
        changes.push((change.hint?, Change::Completed(op)));
    }
    for Pending { action, calls } in pending.iter() {
        let hinted = calls.iter().filter_map(|call| call.hint.map(|hint| (hint, *call)));
        changes.extend(hinted.map(|(hint, call)| (hint, Change::Pending(action, call))));
    }
    changes.sort_by_key(|(hint, _)| *hint);
    let window = Window::new(completed);
    let mut pass = HintPass { completed, registers, window, state: *init, order: Vec::new() };
    for (_, change) in changes {
        pass.confirm_observations();
        match change {
            Change::Completed(op) => pass.completed(op)?,
            Change::Pending(action, call) => pass.pending(action, call),
        }
    }
    pass.confirm_observations();
    pass.window.first_end().is_none().then_some(pass.order)
}

impl HintPass<'_> {
    /// Lets all observations that the state confirms take effect.
    fn confirm_observations(&mut self) {
        let Self { completed, registers, state, .. } = self;
        let mut agrees = |op: &usize| {
            let action = &completed[*op].action;
            action.is_observation() && registers.apply(action, *state).is_some()
        };
        let mut agreeing: Vec<_> = self.window.candidates().filter(|op| agrees(op)).collect();
        while !agreeing.is_empty() {
            for op in agreeing {
                self.window.lift(op);
                self.order.push(completed[op].record);
            }
            agreeing = self.window.candidates().filter(|op| agrees(op)).collect();
        }
    }

    /// Lets a completed change take effect. Returns `None` if it cannot.
    fn completed(&mut self, op: usize) -> Option<()> {
        self.window.candidates().find(|candidate| *candidate == op)?;
        self.state = self.registers.apply(&self.completed[op].action, self.state)?;
        self.window.lift(op);
        self.order.push(self.completed[op].record);
        Some(())
    }

    /// Lets a pending change take effect if it can. Otherwise leaves it out.
    fn pending(&mut self, action: &Action, call: PendingCall) {
        let next = self.window.first_end();
        if next.is_none_or(|next| self.completed[next].end < call.begin) {
            return;
        }
        if let Some(state) = self.registers.apply(action, self.state) {
            self.state = state;
            self.order.push(call.record);
        }
    }
}
