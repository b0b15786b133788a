//! Intermediate representation: a search problem, compiled from a part of a history.

use crate::action::Action;
use crate::registers::{Registers, State};

/// The operations on keys that are checked together.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) registers: Registers,
    pub(crate) init: State,
    /// Operations that must have taken effect, by ascending start.
    pub(crate) completed: Vec<Completed>,
    /// Operations that may have taken effect, one kind for each distinct action.
    pub(crate) pending: Vec<Pending>,
}

/// An operation that took effect between its start and its end.
#[derive(Clone, Debug)]
pub(crate) struct Completed {
    pub(crate) action: Action,
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) hint: Option<u64>,
    /// Its index in the history.
    pub(crate) record: usize,
}

/// All pending operations with the same action, called a kind. Each may take effect once at any time after
/// its start, or never. They have no end, so they are interchangeable, and the search uses the one that started
/// first.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) action: Action,
    /// The operations, by ascending start.
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

    /// Returns whether some operation distinguishes an unobserved value from others.
    pub(crate) fn distinguishes_unobserved(&self) -> bool {
        self.actions().any(Action::distinguishes_unobserved)
    }
}
