//! Compiler from a part of a history to a search problem. It omits operations and values that cannot affect the
//! verdict.

use crate::action::{Action, TxnModel, TxnStep};
use crate::appends::resolve_appends;
use crate::domain::{Domain, NIL, UNOBSERVED};
use crate::history::{End, History, Op, Outcome, Record, Txn, TxnOp};
use crate::options::{FailedCas, NilRead, Options};
use crate::problem::{Completed, Pending, PendingCall, Problem};
use crate::registers::Registers;
use crate::value::Value;
use std::collections::BTreeMap;

/// The constraint that a record adds to a problem.
enum Interpretation<'a> {
    /// The operation took effect before this event.
    Completed(usize, Response<'a>),
    /// The operation may take effect at any time after its start.
    Pending,
    /// The record adds no constraint.
    Irrelevant,
}

/// The response that a client received.
#[derive(Clone, Copy)]
enum Response<'a> {
    Done(&'a Outcome),
    /// A compare-and-set failed because the key held another value than the expected one.
    Mismatch,
}

/// Interprets a record under these options.
fn interpret<'a>(record: &'a Record, options: &Options) -> Interpretation<'a> {
    match (&record.op, &record.end) {
        (Op::Cas { .. }, End::Failed(at)) if options.failed_cas == FailedCas::Observed => {
            Interpretation::Completed(*at, Response::Mismatch)
        }
        (_, End::Failed(_)) | (Op::Get { .. }, End::Open | End::Abandoned(_)) => {
            Interpretation::Irrelevant
        }
        (Op::Get { .. }, End::Done(_, outcome)) if !is_informative(outcome, options) => {
            Interpretation::Irrelevant
        }
        (_, End::Done(at, outcome)) => Interpretation::Completed(*at, Response::Done(outcome)),
        (_, End::Open | End::Abandoned(_)) => Interpretation::Pending,
    }
}

/// Returns whether a get's outcome constrains the value that was read.
fn is_informative(outcome: &Outcome, options: &Options) -> bool {
    matches!(outcome, Outcome::Read(value) if is_observed(value, options))
}

/// Returns whether a result constrains the value that was read.
fn is_observed(value: &Value, options: &Options) -> bool {
    *value != Value::Nil || options.nil_read == NilRead::Exact
}

/// Returns the values that the operation of a record distinguishes from others.
fn observed_values<'a>(record: &'a Record, interpretation: &Interpretation<'a>) -> Vec<&'a Value> {
    let mut values = Vec::new();
    match (&record.op, interpretation) {
        (_, Interpretation::Irrelevant) => {}
        (Op::Cas { old, .. }, _) => values.push(old),
        (Op::Txn(txn), interpretation) => {
            values.extend(txn.compares.iter().map(|compare| &compare.value));
            if let Interpretation::Completed(_, Response::Done(Outcome::Txn { results, .. })) =
                interpretation
            {
                values.extend(results.iter().flatten());
            }
        }
        (_, Interpretation::Completed(_, Response::Done(Outcome::Read(value)))) => {
            values.push(value)
        }
        _ => {}
    }
    values
}

/// Compiles a part of a history's records into a search problem.
pub(crate) fn compile(history: &History, part: &[usize], options: &Options) -> Problem {
    let records: Vec<_> = part
        .iter()
        .map(|index| (*index, &history.records[*index]))
        .map(|(index, record)| (index, record, interpret(record, options)))
        .collect();
    let mut keys: BTreeMap<&Value, usize> = BTreeMap::new();
    for key in records.iter().flat_map(|(_, record, _)| record.op.keys()) {
        let next = keys.len();
        keys.entry(key).or_insert(next);
    }
    let is_append = |(_, record, interpretation): &(usize, &'_ Record, Interpretation<'_>)| {
        !matches!(interpretation, Interpretation::Irrelevant)
            && matches!(record.op, Op::Append { .. })
    };
    let has_appends = records.iter().any(is_append);
    let observed = records
        .iter()
        .flat_map(|(_, record, interpretation)| observed_values(record, interpretation))
        .collect();
    let mut registers = Registers::new(Domain::new(observed, has_appends), keys.len());
    let init = registers.domain.id(&options.init);
    let init = registers.uniform(init);

    let mut completed = Vec::new();
    let mut pending: BTreeMap<Action, Vec<PendingCall>> = BTreeMap::new();
    let mut compiler = Compiler { keys: &keys, registers: &mut registers, options };
    for (index, record, interpretation) in records {
        let (begin, hint) = (record.begin, record.hint);
        match interpretation {
            Interpretation::Irrelevant => {}
            Interpretation::Completed(end, response) => {
                let action = compiler.action(&record.op, Some(response));
                completed.push(Completed { action, begin, end, hint, record: index });
            }
            Interpretation::Pending => {
                let action = compiler.action(&record.op, None);
                if !action.is_observation() {
                    let call = PendingCall { begin, hint, record: index };
                    pending.entry(action).or_default().push(call);
                }
            }
        }
    }
    let mut pending: Vec<_> =
        pending.into_iter().map(|(action, calls)| Pending { action, calls }).collect();
    if registers.is_single() {
        resolve_appends(&mut registers.domain, init, &mut completed, &mut pending);
        pending = merged(pending);
    }
    let mut problem = Problem { registers, init, completed, pending };
    if !problem.distinguishes_unobserved() {
        // A pending operation that produces an unobserved value is not needed: only appends can take effect
        // between it and the next write, and an order without it explains the same outcomes.
        problem.pending.retain(|pending| !pending.action.is_unobserved_write());
        problem
            .pending
            .retain(|pending| !matches!(pending.action, Action::Cas { new: UNOBSERVED, .. }));
    }
    problem
}

/// Merges pending operations whose actions have become equal.
fn merged(pending: Vec<Pending>) -> Vec<Pending> {
    let mut merged: BTreeMap<Action, Vec<PendingCall>> = BTreeMap::new();
    for Pending { action, calls } in pending {
        merged.entry(action).or_default().extend(calls);
    }
    let sorted = |(action, mut calls): (Action, Vec<PendingCall>)| {
        calls.sort_unstable();
        Pending { action, calls }
    };
    merged.into_iter().map(sorted).collect()
}

struct Compiler<'a> {
    keys: &'a BTreeMap<&'a Value, usize>,
    registers: &'a mut Registers,
    options: &'a Options,
}

impl Compiler<'_> {
    /// Returns the action of an operation: of a completed one if there is a response, else of a pending one.
    fn action(&mut self, op: &Op, response: Option<Response<'_>>) -> Action {
        let outcome = match response {
            Some(Response::Done(outcome)) => Some(outcome),
            _ => None,
        };
        match op {
            Op::Get { key } => {
                let want = match outcome {
                    Some(Outcome::Read(value)) => self.registers.domain.id(value),
                    _ => unreachable!("a get without a value was left out as irrelevant"),
                };
                Action::Read { key: self.keys[key], want }
            }
            Op::Put { key, value } => {
                let value = self.registers.domain.id(value);
                Action::Write { key: self.keys[key], value }
            }
            Op::Delete { key } => {
                let key = self.keys[key];
                match outcome {
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
                let (key, old) = (self.keys[key], self.registers.domain.id(old));
                let new = self.registers.domain.id(new);
                match response {
                    Some(Response::Mismatch) => Action::Differs { key, old },
                    _ if same => Action::Read { key, want: old },
                    _ => Action::Cas { key, old, new },
                }
            }
            Op::Txn(txn) => self.txn(txn, outcome, response.is_some()),
        }
    }

    fn txn(&mut self, txn: &Txn, outcome: Option<&Outcome>, is_completed: bool) -> Action {
        let (succeeded, results) = match outcome {
            Some(Outcome::Txn { succeeded, results }) => (Some(*succeeded), results.as_slice()),
            _ => (None, &[][..]),
        };
        let compares = txn
            .compares
            .iter()
            .map(|it| (self.keys[&it.key], it.equal, self.registers.domain.id(&it.value)))
            .collect();
        // The branch that was not executed has no effect.
        let mut branch = |steps: &[TxnOp], is_taken: bool| {
            if succeeded.is_some() && !is_taken {
                Vec::new()
            } else {
                self.txn_steps(steps, results)
            }
        };
        let then = branch(&txn.then, succeeded == Some(true));
        let otherwise = branch(&txn.otherwise, succeeded == Some(false));
        simplify(TxnModel { compares, succeeded, then, otherwise }, is_completed)
    }

    fn txn_steps(&mut self, ops: &[TxnOp], results: &[Option<Value>]) -> Vec<TxnStep> {
        let mut compiled = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            let key = self.keys[op.key()];
            match (op, results.get(index).and_then(Option::as_ref)) {
                (TxnOp::Get(_), Some(value)) if is_observed(value, self.options) => {
                    compiled.push(TxnStep::Read(key, self.registers.domain.id(value)));
                }
                (TxnOp::Get(_), _) => {}
                (TxnOp::Put(_, value), _) => {
                    compiled.push(TxnStep::Write(key, self.registers.domain.id(value)));
                }
                (TxnOp::Delete(_), _) => compiled.push(TxnStep::Write(key, NIL)),
            }
        }
        compiled
    }
}

/// Replaces a transaction by a simpler action with the same effect, if there is one: more pruning rules apply to
/// simple actions. A pending transaction may be treated as a compare-and-set, because an order never needs it
/// where its comparison does not hold and it changes nothing.
fn simplify(txn: TxnModel, is_completed: bool) -> Action {
    let TxnModel { compares, succeeded, then, otherwise } = &txn;
    let action = match (&compares[..], succeeded, &then[..], &otherwise[..]) {
        ([], None | Some(true), [TxnStep::Write(key, value)], _) => {
            Some(Action::Write { key: *key, value: *value })
        }
        ([], Some(true), [TxnStep::Read(key, want)], _)
        | ([(key, true, want)], Some(true), [], _)
        | ([(key, false, want)], Some(false), _, []) => {
            Some(Action::Read { key: *key, want: *want })
        }
        ([(key, false, old)], Some(true), [], _) | ([(key, true, old)], Some(false), _, []) => {
            Some(Action::Differs { key: *key, old: *old })
        }
        ([(key, true, old)], Some(true), [TxnStep::Write(at, new)], _)
        | ([(key, true, old)], None, [TxnStep::Write(at, new)], [])
            if key == at && old != new && (succeeded.is_some() || !is_completed) =>
        {
            Some(Action::Cas { key: *key, old: *old, new: *new })
        }
        ([(key, true, old)], Some(false), _, [TxnStep::Read(at, want)])
            if key == at && old != want =>
        {
            Some(Action::Read { key: *key, want: *want })
        }
        _ => None,
    };
    action.unwrap_or_else(|| Action::Txn(Box::new(txn)))
}
