//! Actions: the effects of operations on the registers of a search.

use crate::domain::{Id, NIL, UNOBSERVED};
use std::collections::BTreeSet;

/// The effect of an operation, and what its outcome requires of the state. Keys are indices in the problem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// Requires that the key holds `want`.
    Read { key: usize, want: Id },
    /// Requires that the key does not hold `old`.
    Differs { key: usize, old: Id },
    /// Sets the key to `value`.
    Write { key: usize, value: Id },
    /// Requires that the key exists, and deletes it.
    Remove { key: usize },
    /// Requires that the key holds `old`, and sets it to another value, `new`.
    Cas { key: usize, old: Id, new: Id },
    /// Appends to the text of the key.
    Append { key: usize, text: Vec<u8> },
    /// A transaction that no other action expresses.
    Txn(Box<TxnModel>),
}

/// The comparisons of a transaction and the steps of its branches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TxnModel {
    /// Each comparison: the key, true if it must equal the value (else it must differ), and the value.
    pub(crate) compares: Vec<(usize, bool, Id)>,
    /// The recorded result of the comparisons, if the client received it.
    pub(crate) succeeded: Option<bool>,
    pub(crate) then: Vec<TxnStep>,
    pub(crate) otherwise: Vec<TxnStep>,
}

/// One step of a transaction's branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TxnStep {
    /// Requires that the key holds the value.
    Read(usize, Id),
    /// Sets the key to the value.
    Write(usize, Id),
}

impl Action {
    /// Returns whether the action never changes the state.
    pub(crate) fn is_observation(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Differs { .. } => true,
            Self::Txn(txn) => txn.is_observation(),
            _ => false,
        }
    }

    /// Returns whether the action is possible in every state, and leaves the same value in its key in each.
    pub(crate) fn is_unconditional(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    /// Returns whether the action may distinguish [`UNOBSERVED`] from some other value.
    pub(crate) fn distinguishes_unobserved(&self) -> bool {
        matches!(self, Self::Differs { .. } | Self::Remove { .. } | Self::Txn(_))
    }

    /// Returns whether the action writes a value that no operation observes.
    pub(crate) fn is_unobserved_write(&self) -> bool {
        matches!(self, Self::Write { value: UNOBSERVED, .. })
    }

    /// Returns the value that the key must hold, if the action requires one value of one key.
    pub(crate) fn required_value(&self) -> Option<Id> {
        match self {
            Self::Read { want, .. } => Some(*want),
            Self::Cas { old, .. } => Some(*old),
            _ => None,
        }
    }

    /// Returns the required values. Each has its key, and true if the action replaces it by another value.
    pub(crate) fn required_values(&self) -> Vec<(usize, Id, bool)> {
        match self {
            Self::Read { key, want } => vec![(*key, *want, false)],
            Self::Cas { key, old, .. } => vec![(*key, *old, true)],
            Self::Txn(txn) => txn.required_values(),
            _ => Vec::new(),
        }
    }

    /// Returns the values that the action may produce, with their keys.
    pub(crate) fn produced_values(&self) -> Vec<(usize, Id)> {
        match self {
            Self::Txn(txn) => txn.branches().flat_map(writes).collect(),
            action => {
                action.produced_value().map(|value| (action.keys()[0], value)).into_iter().collect()
            }
        }
    }

    /// Returns the keys that the action reads or changes.
    pub(crate) fn keys(&self) -> Vec<usize> {
        match self {
            Self::Read { key, .. }
            | Self::Differs { key, .. }
            | Self::Write { key, .. }
            | Self::Remove { key }
            | Self::Cas { key, .. }
            | Self::Append { key, .. } => vec![*key],
            Self::Txn(txn) => {
                let compared = txn.compares.iter().map(|compare| compare.0);
                let in_steps = txn.branches().flatten().map(|step| match step {
                    TxnStep::Read(key, _) | TxnStep::Write(key, _) => *key,
                });
                compared.chain(in_steps).collect()
            }
        }
    }

    /// Returns the value that the action writes, if it is the same in every state.
    pub(crate) fn produced_value(&self) -> Option<Id> {
        match self {
            Self::Write { value, .. } => Some(*value),
            Self::Cas { new, .. } => Some(*new),
            Self::Remove { .. } => Some(NIL),
            _ => None,
        }
    }
}

/// Returns the writes among some steps.
fn writes(steps: &[TxnStep]) -> impl DoubleEndedIterator<Item = (usize, Id)> + '_ {
    steps.iter().filter_map(|step| match step {
        TxnStep::Write(key, value) => Some((*key, *value)),
        TxnStep::Read(..) => None,
    })
}

impl TxnModel {
    /// Returns the branches that may have been executed.
    fn branches(&self) -> impl Iterator<Item = &[TxnStep]> {
        let then = (self.succeeded != Some(false)).then_some(&self.then[..]);
        then.into_iter().chain((self.succeeded != Some(true)).then_some(&self.otherwise[..]))
    }

    fn required_values(&self) -> Vec<(usize, Id, bool)> {
        let Some(succeeded) = self.succeeded else { return Vec::new() };
        let mut required_values = BTreeSet::new();
        if succeeded {
            let equal = self.compares.iter().filter(|(_, is_equal, _)| *is_equal);
            required_values.extend(equal.map(|(key, _, value)| (*key, *value)));
        }
        let steps = if succeeded { &self.then } else { &self.otherwise };
        for (index, step) in steps.iter().enumerate() {
            // A read after a write of the same branch and key does not depend on the state before the transaction.
            if let TxnStep::Read(key, want) = step
                && writes(&steps[..index]).all(|(written, _)| written != *key)
            {
                required_values.insert((*key, *want));
            }
        }
        let last_write = |key| writes(steps).rev().find(|(written, _)| *written == key);
        let is_overwritten = |key, value| last_write(key).is_some_and(|(_, last)| last != value);
        let required_values = required_values.into_iter();
        required_values.map(|(key, value)| (key, value, is_overwritten(key, value))).collect()
    }

    fn is_observation(&self) -> bool {
        let reads = |steps: &[TxnStep]| steps.iter().all(|step| matches!(step, TxnStep::Read(..)));
        match self.succeeded {
            Some(true) => reads(&self.then),
            Some(false) => reads(&self.otherwise),
            None => reads(&self.then) && reads(&self.otherwise),
        }
    }
}
