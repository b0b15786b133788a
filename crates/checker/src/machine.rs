//! The register, or the few registers, that one search is about.

use crate::domain::{Domain, Id, NIL};
use std::collections::{BTreeMap, BTreeSet};

/// A state of a [`Machine`]. With one key it is that key's value.
pub(crate) type State = u32;

/// What an operation means to the machine. A key is its place in the component.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    /// The key holds this.
    Read { key: usize, want: Id },
    /// The key holds anything else.
    Differs { key: usize, old: Id },
    /// Holds this from now on.
    Write { key: usize, value: Id },
    /// The key is there, and no longer.
    Remove { key: usize },
    /// Holds `old`, and from now on `new`, which is another value.
    Swap { key: usize, old: Id, new: Id },
    /// Grows by the text.
    Append { key: usize, text: Vec<u8> },
    /// A transaction.
    Deal(Box<Deal>),
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deal {
    /// The key holds the value, or must not.
    pub(crate) compares: Vec<(usize, bool, Id)>,
    /// Whether the comparisons are known to have held.
    pub(crate) held: Option<bool>,
    pub(crate) then: Vec<Move>,
    pub(crate) otherwise: Vec<Move>,
}

/// A step of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Move {
    /// The key holds this.
    Read(usize, Id),
    /// Holds this from now on.
    Write(usize, Id),
}

impl Action {
    /// Whether it never changes the state.
    pub(crate) fn is_observation(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Differs { .. } => true,
            Self::Deal(deal) => deal.is_observation(),
            _ => false,
        }
    }

    /// Whether the state that it leads to has nothing to do with the one before.
    pub(crate) fn is_unconditional(&self) -> bool {
        matches!(self, Self::Write { .. })
    }

    /// The value without which it cannot be.
    pub(crate) fn need(&self) -> Option<Id> {
        match self {
            Self::Read { want, .. } => Some(*want),
            Self::Swap { old, .. } => Some(*old),
            _ => None,
        }
    }

    /// All values that must be there: the key, the value, and whether it is no longer there then.
    pub(crate) fn needs(&self) -> Vec<(usize, Id, bool)> {
        match self {
            Self::Read { key, want } => vec![(*key, *want, false)],
            Self::Swap { key, old, .. } => vec![(*key, *old, true)],
            Self::Deal(deal) => deal.needs(),
            _ => Vec::new(),
        }
    }

    /// All values that may be there then, and were not before.
    pub(crate) fn makes(&self) -> Vec<(usize, Id)> {
        match self {
            Self::Deal(deal) => deal.branches().flat_map(writes).collect(),
            action => action.made().map(|value| (action.keys()[0], value)).into_iter().collect(),
        }
    }

    /// The keys that it looks at or changes.
    pub(crate) fn keys(&self) -> Vec<usize> {
        match self {
            Self::Read { key, .. }
            | Self::Differs { key, .. }
            | Self::Write { key, .. }
            | Self::Remove { key }
            | Self::Swap { key, .. }
            | Self::Append { key, .. } => vec![*key],
            Self::Deal(deal) => {
                let compared = deal.compares.iter().map(|compare| compare.0);
                let moved = deal.branches().flatten().map(|step| match step {
                    Move::Read(key, _) | Move::Write(key, _) => *key,
                });
                compared.chain(moved).collect()
            }
        }
    }

    /// The value that it always leads to.
    pub(crate) fn made(&self) -> Option<Id> {
        match self {
            Self::Write { value, .. } => Some(*value),
            Self::Swap { new, .. } => Some(*new),
            Self::Remove { .. } => Some(NIL),
            _ => None,
        }
    }
}

/// What these steps write.
fn writes(moves: &[Move]) -> impl DoubleEndedIterator<Item = (usize, Id)> + '_ {
    moves.iter().filter_map(|step| match step {
        Move::Write(key, value) => Some((*key, *value)),
        Move::Read(..) => None,
    })
}

impl Deal {
    /// What may be done.
    fn branches(&self) -> impl Iterator<Item = &[Move]> {
        let then = (self.held != Some(false)).then_some(&self.then[..]);
        then.into_iter().chain((self.held != Some(true)).then_some(&self.otherwise[..]))
    }

    fn needs(&self) -> Vec<(usize, Id, bool)> {
        let Some(held) = self.held else { return Vec::new() };
        let mut needs = BTreeSet::new();
        if held {
            let equal = self.compares.iter().filter(|(_, is_equal, _)| *is_equal);
            needs.extend(equal.map(|(key, _, value)| (*key, *value)));
        }
        let moves = if held { &self.then } else { &self.otherwise };
        for (index, step) in moves.iter().enumerate() {
            // What it has written itself it need not find.
            if let Move::Read(key, want) = step
                && writes(&moves[..index]).all(|(written, _)| written != *key)
            {
                needs.insert((*key, *want));
            }
        }
        let left = |key| writes(moves).rev().find(|(written, _)| *written == key);
        let is_taken = |key, value| left(key).is_some_and(|(_, left)| left != value);
        needs.into_iter().map(|(key, value)| (key, value, is_taken(key, value))).collect()
    }

    fn is_observation(&self) -> bool {
        let reads = |moves: &[Move]| moves.iter().all(|step| matches!(step, Move::Read(..)));
        match self.held {
            Some(true) => reads(&self.then),
            Some(false) => reads(&self.otherwise),
            None => reads(&self.then) && reads(&self.otherwise),
        }
    }
}

/// One or several registers.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) domain: Domain,
    width: usize,
    /// The states of several registers.
    numbers: BTreeMap<Vec<Id>, State>,
    states: Vec<Vec<Id>>,
}

impl Machine {
    /// A machine of `width` registers.
    pub(crate) fn new(domain: Domain, width: usize) -> Self {
        Self { domain, width, numbers: BTreeMap::new(), states: Vec::new() }
    }

    /// How many registers there are.
    pub(crate) fn width(&self) -> usize {
        self.width
    }

    /// Whether it has but one register.
    pub(crate) fn is_single(&self) -> bool {
        self.width == 1
    }

    /// All registers hold the same.
    pub(crate) fn uniform(&mut self, value: Id) -> State {
        if self.is_single() { value } else { self.number(vec![value; self.width]) }
    }

    /// The state after an action, `None` if it cannot be done in this one.
    pub(crate) fn apply(&mut self, action: &Action, state: State) -> Option<State> {
        match action {
            Action::Read { key, want } => (self.get(state, *key) == *want).then_some(state),
            Action::Differs { key, old } => (self.get(state, *key) != *old).then_some(state),
            Action::Write { key, value } => Some(self.set(state, *key, *value)),
            Action::Remove { key } => {
                let is_there = self.get(state, *key) != NIL;
                is_there.then(|| self.set(state, *key, NIL))
            }
            Action::Swap { key, old, new } => {
                let matches = self.get(state, *key) == *old;
                matches.then(|| self.set(state, *key, *new))
            }
            Action::Append { key, text } => {
                let value = self.get(state, *key);
                let grown = self.domain.append(value, text);
                Some(self.set(state, *key, grown))
            }
            Action::Deal(deal) => self.deal(deal, state),
        }
    }

    fn deal(&mut self, deal: &Deal, state: State) -> Option<State> {
        let holds =
            |(key, equal, value): &(usize, bool, Id)| (self.get(state, *key) == *value) == *equal;
        let held = deal.compares.iter().all(holds);
        if deal.held.is_some_and(|known| known != held) {
            return None;
        }
        let moves = if held { &deal.then } else { &deal.otherwise };
        moves.iter().try_fold(state, |state, step| match step {
            Move::Read(key, want) => (self.get(state, *key) == *want).then_some(state),
            Move::Write(key, value) => Some(self.set(state, *key, *value)),
        })
    }

    /// What a register holds.
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

    fn number(&mut self, values: Vec<Id>) -> State {
        if let Some(state) = self.numbers.get(&values) {
            return *state;
        }
        let state = State::try_from(self.states.len()).expect("fewer states than fit into memory");
        self.states.push(values.clone());
        self.numbers.insert(values, state);
        state
    }
}
