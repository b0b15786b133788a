//! The intermediate representation: one search problem, compiled from a part of a history.

use crate::action::Action;
use crate::registers::{Registers, State};

/// The operations on keys that are checked together.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) registers: Registers,
    pub(crate) init: State,
    /// Operations that must have taken effect, in the order of begin.
    pub(crate) completed: Vec<Completed>,
    /// Operations that may have taken effect, one element for each distinct action.
    pub(crate) pending: Vec<Pending>,
}

/// An operation that took effect between its begin and its end.
#[derive(Clone, Debug)]
pub(crate) struct Completed {
    pub(crate) action: Action,
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) hint: Option<u64>,
    /// Its index in the history.
    pub(crate) record: usize,
}

/// Pending operations with the same action: each may take effect once at any time after its begin,
/// or never. They are interchangeable, so the search uses them in the order of begin.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) action: Action,
    /// The operations, by ascending begin.
    pub(crate) calls: Vec<PendingCall>,
}

/// One pending operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PendingCall {
    pub(crate) begin: usize,
    pub(crate) hint: Option<u64>,
    /// Its index in the history.
    pub(crate) record: usize,
}

impl Problem {
    /// Returns all distinct actions of pending operations and the actions of all completed ones.
    pub(crate) fn actions(&self) -> impl Iterator<Item = &Action> {
        let pending = self.pending.iter().map(|pending| &pending.action);
        self.completed.iter().map(|completed| &completed.action).chain(pending)
    }

    /// Returns whether some operation can tell an unobserved value from another.
    pub(crate) fn distinguishes_unobserved(&self) -> bool {
        self.actions().any(Action::distinguishes_unobserved)
    }
}
