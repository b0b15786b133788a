//! The state of a search: the values of a problem's registers.

use crate::action::{Action, TxnModel, TxnStep};
use crate::domain::{Domain, Id, NIL};
use std::collections::BTreeMap;

/// A state of [`Registers`]: the value of the only register, or the number of an interned list of values.
pub(crate) type State = u32;

/// One register for each key of a problem, and the states that occurred.
#[derive(Debug)]
pub(crate) struct Registers {
    pub(crate) domain: Domain,
    width: usize,
    /// The numbers of the states. Empty with one register, whose value is the state.
    numbers: BTreeMap<Vec<Id>, State>,
    states: Vec<Vec<Id>>,
}

impl Registers {
    /// Creates `width` registers.
    pub(crate) fn new(domain: Domain, width: usize) -> Self {
        Self { domain, width, numbers: BTreeMap::new(), states: Vec::new() }
    }

    /// Returns the number of registers.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Returns whether there is only one register.
    pub(crate) fn is_single(&self) -> bool {
        self.width == 1
    }

    /// Returns the state in which all registers hold `value`.
    pub(crate) fn uniform(&mut self, value: Id) -> State {
        if self.is_single() { value } else { self.number(vec![value; self.width]) }
    }

    /// Returns the state after an action, or `None` if the state does not meet the action's requirements.
    pub(crate) fn apply(&mut self, action: &Action, state: State) -> Option<State> {
        match action {
            Action::Read { key, want } => (self.get(state, *key) == *want).then_some(state),
            Action::Differs { key, old } => (self.get(state, *key) != *old).then_some(state),
            Action::Write { key, value } => Some(self.set(state, *key, *value)),
            Action::Remove { key } => {
                let exists = self.get(state, *key) != NIL;
                exists.then(|| self.set(state, *key, NIL))
            }
            Action::Cas { key, old, new } => {
                let matches = self.get(state, *key) == *old;
                matches.then(|| self.set(state, *key, *new))
            }
            Action::Append { key, text } => {
                let value = self.get(state, *key);
                let grown = self.domain.append(value, text);
                Some(self.set(state, *key, grown))
            }
            Action::Txn(txn) => self.apply_txn(txn, state),
        }
    }

    fn apply_txn(&mut self, txn: &TxnModel, state: State) -> Option<State> {
        let holds =
            |(key, equal, value): &(usize, bool, Id)| (self.get(state, *key) == *value) == *equal;
        let succeeded = txn.compares.iter().all(holds);
        if txn.succeeded.is_some_and(|known| known != succeeded) {
            return None;
        }
        let steps = if succeeded { &txn.then } else { &txn.otherwise };
        steps.iter().try_fold(state, |state, step| match step {
            TxnStep::Read(key, want) => (self.get(state, *key) == *want).then_some(state),
            TxnStep::Write(key, value) => Some(self.set(state, *key, *value)),
        })
    }

    /// Returns the value of a register.
    pub(crate) fn get(&self, state: State, key: usize) -> Id {
        if self.is_single() { state } else { self.states[state as usize][key] }
    }

    fn set(&mut self, state: State, key: usize, value: Id) -> State {
        if self.is_single() {
            return value;
        }
        let mut values = self.states[state as usize].clone();
        values[key] = value;
        self.number(values)
    }

    /// Interns a list of values, and returns its number.
    fn number(&mut self, values: Vec<Id>) -> State {
        if let Some(state) = self.numbers.get(&values) {
            return *state;
        }
        let state = State::try_from(self.states.len())
            .expect("the number of distinct states should be below 2^32");
        self.states.push(values.clone());
        self.numbers.insert(values, state);
        state
    }
}
