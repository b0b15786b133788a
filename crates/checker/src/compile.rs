//! From a history to independent searches: one for each group of keys that transactions join,
//! reduced to what can matter.

use crate::appends;
use crate::domain::{Domain, NIL, OTHER};
use crate::history::{End, History, Op, Outcome, Record, Step, Txn};
use crate::machine::{Action, Deal, Machine, Move, State};
use crate::options::{FailedCas, NilRead, Options};
use crate::value::Value;
use std::collections::BTreeMap;

/// Keys that are checked together, and what was done with them.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) machine: Machine,
    pub(crate) init: State,
    /// What must have taken effect, in the order of begin.
    pub(crate) musts: Vec<Must>,
    /// What may have: operations that nobody knows the end of, alike ones together.
    pub(crate) mays: Vec<May>,
}

/// An operation that took effect between its begin and its end.
#[derive(Clone, Debug)]
pub(crate) struct Must {
    pub(crate) action: Action,
    pub(crate) begin: usize,
    pub(crate) end: usize,
    pub(crate) hint: Option<u64>,
    /// Its place in the history.
    pub(crate) record: usize,
}

/// Operations that may take effect at any time after their begin, or never. All do the same, so
/// whichever began first serves first.
#[derive(Clone, Debug)]
pub(crate) struct May {
    pub(crate) action: Action,
    /// The begin of each, ascending, with its hint and its place in the history.
    pub(crate) calls: Vec<(usize, Option<u64>, usize)>,
}

/// What a record means: it happened, or it may happen.
enum Meaning<'a> {
    Must(usize, Told<'a>),
    May,
    Nothing,
}

/// What its client learnt.
#[derive(Clone, Copy)]
enum Told<'a> {
    Done(&'a Outcome),
    /// A compare-and-set that saw another value.
    Mismatch,
}

/// Splits a history by keys; the groups come in the order of their first mention.
pub(crate) fn groups(history: &History) -> Vec<Vec<usize>> {
    let mut numbers: BTreeMap<&Value, usize> = BTreeMap::new();
    let mut parents: Vec<usize> = Vec::new();
    for record in &history.records {
        let mut joined: Option<usize> = None;
        for key in record.op.keys() {
            let number = *numbers.entry(key).or_insert_with(|| {
                parents.push(parents.len());
                parents.len() - 1
            });
            let root = root(&parents, number);
            let other = *joined.get_or_insert(root);
            // The older one stays, so that the order is that of the first mention.
            parents[root.max(other)] = root.min(other);
            joined = Some(root.min(other));
        }
    }
    let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut keyless = Vec::new();
    for (index, record) in history.records.iter().enumerate() {
        match record.op.keys().first() {
            Some(key) => groups.entry(root(&parents, numbers[key])).or_default().push(index),
            // A transaction that does nothing at all can still have been answered wrongly.
            None => keyless.push(vec![index]),
        }
    }
    groups.into_values().chain(keyless).collect()
}

fn root(parents: &[usize], mut number: usize) -> usize {
    while parents[number] != number {
        number = parents[number];
    }
    number
}

/// What a record of the history means under these options.
fn meaning<'a>(record: &'a Record, options: &Options) -> Meaning<'a> {
    match (&record.op, &record.end) {
        (Op::Cas { .. }, End::Failed(at)) if options.failed_cas == FailedCas::Observed => {
            Meaning::Must(*at, Told::Mismatch)
        }
        (_, End::Failed(_)) | (Op::Get { .. }, End::Open | End::Lost(_)) => Meaning::Nothing,
        (Op::Get { .. }, End::Done(_, outcome)) if !is_told(outcome, options) => Meaning::Nothing,
        (_, End::Done(at, outcome)) => Meaning::Must(*at, Told::Done(outcome)),
        (_, End::Open | End::Lost(_)) => Meaning::May,
    }
}

/// Whether a get's outcome says anything.
fn is_told(outcome: &Outcome, options: &Options) -> bool {
    matches!(outcome, Outcome::Read(value) if is_seen(value, options))
}

fn is_seen(value: &Value, options: &Options) -> bool {
    *value != Value::Nil || options.nil_read == NilRead::Exact
}

/// The values that a record tells from others.
fn observed<'a>(record: &'a Record, meaning: &Meaning<'a>) -> Vec<&'a Value> {
    let mut values = Vec::new();
    match (&record.op, meaning) {
        (_, Meaning::Nothing) => {}
        (Op::Cas { old, .. }, _) => values.push(old),
        (Op::Txn(txn), meaning) => {
            values.extend(txn.compares.iter().map(|compare| &compare.value));
            if let Meaning::Must(_, Told::Done(Outcome::Txn { results, .. })) = meaning {
                values.extend(results.iter().flatten());
            }
        }
        (_, Meaning::Must(_, Told::Done(Outcome::Read(value)))) => values.push(value),
        _ => {}
    }
    values
}

/// Turns one group of a history's records into a search.
pub(crate) fn compile(history: &History, group: &[usize], options: &Options) -> Component {
    let records: Vec<_> = group
        .iter()
        .map(|index| (*index, &history.records[*index]))
        .map(|(index, record)| (index, record, meaning(record, options)))
        .collect();
    let mut keys: BTreeMap<&Value, usize> = BTreeMap::new();
    for key in records.iter().flat_map(|(_, record, _)| record.op.keys()) {
        let next = keys.len();
        keys.entry(key).or_insert(next);
    }
    let told = |(_, record, meaning): &(usize, &'_ Record, Meaning<'_>)| {
        !matches!(meaning, Meaning::Nothing) && matches!(record.op, Op::Append { .. })
    };
    let grows = records.iter().any(told);
    let seen = records.iter().flat_map(|(_, record, meaning)| observed(record, meaning)).collect();
    let mut machine = Machine::new(Domain::new(seen, grows), keys.len());
    let init = machine.domain.id(&options.init);
    let init = machine.uniform(init);

    let mut musts = Vec::new();
    let mut mays: BTreeMap<Action, May> = BTreeMap::new();
    let mut compiler = Compiler { keys: &keys, machine: &mut machine, options };
    for (index, record, meaning) in records {
        let (begin, hint) = (record.begin, record.hint);
        match meaning {
            Meaning::Nothing => {}
            Meaning::Must(end, told) => {
                let action = compiler.action(&record.op, Some(told));
                musts.push(Must { action, begin, end, hint, record: index });
            }
            Meaning::May => {
                let action = compiler.action(&record.op, None);
                if !action.is_observation() {
                    let may = || May { action: action.clone(), calls: Vec::new() };
                    let may = mays.entry(action.clone()).or_insert_with(may);
                    may.calls.push((begin, hint, index));
                }
            }
        }
    }
    let mut mays: Vec<_> = mays.into_values().collect();
    if machine.is_single() {
        appends::settle(&mut machine.domain, init, &mut musts, &mut mays);
        mays = merged(mays);
    }
    let mut actions = musts.iter().map(|it| &it.action).chain(mays.iter().map(|it| &it.action));
    if !actions.any(sees_others) {
        // What nobody observes need not have happened.
        mays.retain(|may| !matches!(may.action, Action::Write { value: OTHER, .. }));
        mays.retain(|may| !matches!(may.action, Action::Swap { new: OTHER, .. }));
    }
    Component { machine, init, musts, mays }
}

/// Joins kinds that have become alike.
fn merged(mays: Vec<May>) -> Vec<May> {
    let mut merged: BTreeMap<Action, May> = BTreeMap::new();
    for may in mays {
        let May { action, calls } = may;
        let may = merged.entry(action.clone());
        may.or_insert_with(|| May { action, calls: Vec::new() }).calls.extend(calls);
    }
    let mut mays: Vec<_> = merged.into_values().collect();
    mays.iter_mut().for_each(|may| may.calls.sort_unstable());
    mays
}

/// Whether an action can tell [`OTHER`] from some value.
pub(crate) fn sees_others(action: &Action) -> bool {
    matches!(action, Action::Differs { .. } | Action::Remove { .. } | Action::Deal(_))
}

struct Compiler<'a> {
    keys: &'a BTreeMap<&'a Value, usize>,
    machine: &'a mut Machine,
    options: &'a Options,
}

impl Compiler<'_> {
    /// What an operation does to the machine, with what its client was told of it.
    fn action(&mut self, op: &Op, told: Option<Told<'_>>) -> Action {
        let told_outcome = match told {
            Some(Told::Done(outcome)) => Some(outcome),
            _ => None,
        };
        match op {
            Op::Get { key } => {
                let want = match told_outcome {
                    Some(Outcome::Read(value)) => self.machine.domain.id(value),
                    _ => unreachable!("a get that says nothing means nothing"),
                };
                Action::Read { key: self.keys[key], want }
            }
            Op::Put { key, value } => {
                let value = self.machine.domain.id(value);
                Action::Write { key: self.keys[key], value }
            }
            Op::Delete { key } => {
                let key = self.keys[key];
                match told_outcome {
                    Some(Outcome::Deleted(true)) => Action::Remove { key },
                    Some(Outcome::Deleted(false)) => Action::Read { key, want: NIL },
                    _ => Action::Write { key, value: NIL },
                }
            }
            Op::Append { key, value } => {
                Action::Append { key: self.keys[key], text: value.as_text() }
            }
            Op::Cas { key, old, new } => {
                let same = old == new;
                let (key, old) = (self.keys[key], self.machine.domain.id(old));
                let new = self.machine.domain.id(new);
                match told {
                    Some(Told::Mismatch) => Action::Differs { key, old },
                    _ if same => Action::Read { key, want: old },
                    _ => Action::Swap { key, old, new },
                }
            }
            Op::Txn(txn) => self.deal(txn, told_outcome, told.is_some()),
        }
    }

    fn deal(&mut self, txn: &Txn, outcome: Option<&Outcome>, told: bool) -> Action {
        let (held, results) = match outcome {
            Some(Outcome::Txn { held, results }) => (Some(*held), results.as_slice()),
            _ => (None, &[][..]),
        };
        let compares = txn
            .compares
            .iter()
            .map(|it| (self.keys[&it.key], it.equal, self.machine.domain.id(&it.value)))
            .collect();
        // The branch that was not taken does not matter.
        let mut branch = |steps: &[Step], is_taken: bool| {
            if held.is_some() && !is_taken { Vec::new() } else { self.moves(steps, results) }
        };
        let then = branch(&txn.then, held == Some(true));
        let otherwise = branch(&txn.otherwise, held == Some(false));
        plain(Deal { compares, held, then, otherwise }, told)
    }

    fn moves(&mut self, steps: &[Step], results: &[Option<Value>]) -> Vec<Move> {
        let mut moves = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            let key = self.keys[step.key()];
            match (step, results.get(index).and_then(Option::as_ref)) {
                (Step::Get(_), Some(value)) if is_seen(value, self.options) => {
                    moves.push(Move::Read(key, self.machine.domain.id(value)));
                }
                (Step::Get(_), _) => {}
                (Step::Put(_, value), _) => {
                    moves.push(Move::Write(key, self.machine.domain.id(value)));
                }
                (Step::Delete(_), _) => moves.push(Move::Write(key, NIL)),
            }
        }
        moves
    }
}

/// A transaction that is but a plain operation, as many are: a search knows more about those.
/// One that was not `told` to be done may also be left out where it would change nothing.
fn plain(deal: Deal, told: bool) -> Action {
    let Deal { compares, held, then, otherwise } = &deal;
    let action = match (&compares[..], held, &then[..], &otherwise[..]) {
        ([], None | Some(true), [Move::Write(key, value)], _) => {
            Some(Action::Write { key: *key, value: *value })
        }
        ([], Some(true), [Move::Read(key, want)], _)
        | ([(key, true, want)], Some(true), [], _)
        | ([(key, false, want)], Some(false), _, []) => {
            Some(Action::Read { key: *key, want: *want })
        }
        ([(key, false, old)], Some(true), [], _) | ([(key, true, old)], Some(false), _, []) => {
            Some(Action::Differs { key: *key, old: *old })
        }
        ([(key, true, old)], Some(true), [Move::Write(at, new)], _)
        | ([(key, true, old)], None, [Move::Write(at, new)], [])
            if key == at && old != new && (held.is_some() || !told) =>
        {
            Some(Action::Swap { key: *key, old: *old, new: *new })
        }
        ([(key, true, old)], Some(false), _, [Move::Read(at, want)])
            if key == at && old != want =>
        {
            Some(Action::Read { key: *key, want: *want })
        }
        _ => None,
    };
    action.unwrap_or_else(|| Action::Deal(Box::new(deal)))
}
