//! Brute-force reference checker, which tries every order. It shares with the checker only the types of a
//! history.

use std::collections::{BTreeMap, BTreeSet};
use synod_checker::{FailedCas, History, NilRead, Op, Options, Outcome, Txn, TxnOp, Value};

/// The end of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Open,
    Abandoned,
    Failed,
    Done(Outcome),
}

/// An operation with the times of its start and its end.
#[derive(Clone, Debug)]
pub struct Operation {
    pub op: Op,
    pub begin: usize,
    pub end: usize,
    pub result: End,
}

/// The values of all written keys.
pub type Store = BTreeMap<Value, Value>;

/// Returns the value of a key.
pub fn get(store: &Store, init: &Value, key: &Value) -> Value {
    store.get(key).unwrap_or(init).clone()
}

/// Returns the text to which an append adds.
fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Nil => Vec::new(),
        Value::Int(number) => number.to_string().into(),
        Value::Text(text) => text.clone(),
        Value::Json(json) => json.clone().into(),
    }
}

/// Executes an operation and returns its outcome, or `None` for a compare-and-set that fails.
pub fn perform(store: &mut Store, init: &Value, op: &Op) -> Option<Outcome> {
    match op {
        Op::Get { key } => return Some(Outcome::Read(get(store, init, key))),
        Op::Put { key, value } => _ = store.insert(key.clone(), value.clone()),
        Op::Delete { key } => {
            let found = get(store, init, key) != Value::Nil;
            store.insert(key.clone(), Value::Nil);
            return Some(Outcome::Deleted(found));
        }
        Op::Append { key, value } => {
            let mut grown = text(&get(store, init, key));
            grown.extend(text(value));
            store.insert(key.clone(), Value::Text(grown));
        }
        Op::Cas { key, old, new } => {
            if get(store, init, key) != *old {
                return None;
            }
            store.insert(key.clone(), new.clone());
        }
        Op::Txn(txn) => return Some(transact(store, init, txn)),
    }
    Some(Outcome::Done)
}

fn transact(store: &mut Store, init: &Value, txn: &Txn) -> Outcome {
    let succeeded =
        txn.compares.iter().all(|it| (get(store, init, &it.key) == it.value) == it.equal);
    let mut results = Vec::new();
    for step in if succeeded { &txn.then } else { &txn.otherwise } {
        match step {
            TxnOp::Get(key) => results.push(Some(get(store, init, key))),
            TxnOp::Put(key, value) => {
                store.insert(key.clone(), value.clone());
                results.push(None);
            }
            TxnOp::Delete(key) => {
                store.insert(key.clone(), Value::Nil);
                results.push(None);
            }
        }
    }
    Outcome::Txn { succeeded, results }
}

/// Returns whether a recorded outcome agrees with the one that the store returns.
fn agrees(recorded: &Outcome, returned: Option<&Outcome>, options: &Options) -> bool {
    let same = |recorded: &Value, returned: &Value| {
        *recorded == Value::Nil && options.nil_read == NilRead::Any || recorded == returned
    };
    match (recorded, returned) {
        (_, None) => false,
        (Outcome::Done, Some(_)) => true,
        (Outcome::Read(recorded), Some(Outcome::Read(returned))) => same(recorded, returned),
        (
            Outcome::Txn { succeeded, results },
            Some(Outcome::Txn { succeeded: expected, results: all }),
        ) => {
            succeeded == expected
                && results.iter().zip(all).all(|pair| match pair {
                    (Some(recorded), Some(returned)) => same(recorded, returned),
                    _ => true,
                })
        }
        (recorded, Some(returned)) => recorded == returned,
    }
}

/// Returns whether some order of the operations explains all outcomes.
pub fn is_linearizable(operations: &[Operation], options: &Options) -> bool {
    let is_relevant = |operation: &&Operation| match (&operation.op, &operation.result) {
        (Op::Cas { .. }, End::Failed) => options.failed_cas == FailedCas::Observed,
        (_, End::Failed) => false,
        _ => true,
    };
    let left = (0..operations.len()).filter(|index| is_relevant(&&operations[*index])).collect();
    Orders { operations, options, dead_ends: BTreeSet::new() }.explain(left, &Store::new())
}

/// The search through all orders of some operations.
struct Orders<'a> {
    operations: &'a [Operation],
    options: &'a Options,
    /// The configurations without a completion: remaining operations and store.
    dead_ends: BTreeSet<(Vec<usize>, Store)>,
}

impl Orders<'_> {
    /// Returns whether some order of the remaining operations explains their outcomes, from this store on.
    fn explain(&mut self, left: Vec<usize>, store: &Store) -> bool {
        let operations = self.operations;
        let is_open =
            |operation: &Operation| matches!(operation.result, End::Open | End::Abandoned);
        let closed =
            left.iter().map(|index| &operations[*index]).filter(|operation| !is_open(operation));
        let Some(first_end) = closed.map(|operation| operation.end).min() else { return true };
        let configuration = (left, store.clone());
        if self.dead_ends.contains(&configuration) {
            return false;
        }
        for index in configuration.0.iter().filter(|index| operations[**index].begin < first_end) {
            let operation = &operations[*index];
            let mut store = store.clone();
            let returned = perform(&mut store, &self.options.init, &operation.op);
            let fits = match &operation.result {
                End::Open | End::Abandoned => true,
                End::Failed => returned.is_none(),
                End::Done(recorded) => agrees(recorded, returned.as_ref(), self.options),
            };
            let rest = configuration.0.iter().copied().filter(|other| other != index).collect();
            if fits && self.explain(rest, &store) {
                return true;
            }
        }
        self.dead_ends.insert(configuration);
        false
    }
}

/// Returns the operations as a history of the checker.
pub fn history(operations: &[Operation]) -> History {
    let mut events: Vec<(usize, usize, bool)> = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        events.push((operation.begin, index, false));
        if operation.result != End::Open {
            events.push((operation.end, index, true));
        }
    }
    events.sort_unstable();
    let mut history = History::new();
    let mut calls = BTreeMap::new();
    for (_, index, is_end) in events {
        let operation = &operations[index];
        if !is_end {
            calls.insert(index, history.invoke(index as u64, operation.op.clone()));
            continue;
        }
        let call = calls[&index];
        match &operation.result {
            End::Open => unreachable!("filtered above"),
            End::Abandoned => history.abandon(call).unwrap(),
            End::Failed => history.fail(call).unwrap(),
            End::Done(outcome) => history.complete(call, outcome.clone()).unwrap(),
        }
    }
    history
}
