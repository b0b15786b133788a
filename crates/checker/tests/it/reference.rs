//! What linearizability means, spelled out: every order is tried. Knows nothing of the checker
//! but the types that describe a history.

use std::collections::{BTreeMap, BTreeSet};
use synod_checker::{FailedCas, History, NilRead, Op, Options, Outcome, Step, Txn, Value};

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Open,
    Lost,
    Failed,
    Done(Outcome),
}

/// An operation with the times of its begin and its end.
#[derive(Clone, Debug)]
pub struct Act {
    pub op: Op,
    pub begin: usize,
    pub end: usize,
    pub result: End,
}

/// What every key that was ever written holds, if it is not what it held at first.
pub type Store = BTreeMap<Value, Value>;

pub fn get(store: &Store, init: &Value, key: &Value) -> Value {
    store.get(key).unwrap_or(init).clone()
}

fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Nil => Vec::new(),
        Value::Int(number) => number.to_string().into(),
        Value::Text(text) => text.clone(),
        Value::Json(json) => json.clone().into(),
    }
}

/// Does an operation; what a client would be told, `None` for a compare-and-set that fails.
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
    let held = txn.compares.iter().all(|it| (get(store, init, &it.key) == it.value) == it.equal);
    let mut results = Vec::new();
    for step in if held { &txn.then } else { &txn.otherwise } {
        match step {
            Step::Get(key) => results.push(Some(get(store, init, key))),
            Step::Put(key, value) => {
                store.insert(key.clone(), value.clone());
                results.push(None);
            }
            Step::Delete(key) => {
                store.insert(key.clone(), Value::Nil);
                results.push(None);
            }
        }
    }
    Outcome::Txn { held, results }
}

/// Whether what happened is what the client was told.
fn agrees(told: &Outcome, happened: Option<&Outcome>, options: &Options) -> bool {
    let same = |told: &Value, happened: &Value| {
        *told == Value::Nil && options.nil_read == NilRead::Any || told == happened
    };
    match (told, happened) {
        (_, None) => false,
        (Outcome::Done, Some(_)) => true,
        (Outcome::Read(told), Some(Outcome::Read(happened))) => same(told, happened),
        (Outcome::Txn { held, results }, Some(Outcome::Txn { held: really, results: all })) => {
            held == really
                && results.iter().zip(all).all(|pair| match pair {
                    (Some(told), Some(happened)) => same(told, happened),
                    _ => true,
                })
        }
        (told, Some(happened)) => told == happened,
    }
}

/// Whether some order explains everything.
pub fn is_linearizable(acts: &[Act], options: &Options) -> bool {
    let counts = |act: &&Act| match (&act.op, &act.result) {
        (Op::Cas { .. }, End::Failed) => options.failed_cas == FailedCas::Observed,
        (_, End::Failed) => false,
        _ => true,
    };
    let left = (0..acts.len()).filter(|index| counts(&&acts[*index])).collect();
    Orders { acts, options, dead: BTreeSet::new() }.explain(left, &Store::new())
}

/// All orders of some acts.
struct Orders<'a> {
    acts: &'a [Act],
    options: &'a Options,
    /// From where there is no way on: what was left, and what the store held.
    dead: BTreeSet<(Vec<usize>, Store)>,
}

impl Orders<'_> {
    /// Whether some order of what is left explains it, from this store on.
    fn explain(&mut self, left: Vec<usize>, store: &Store) -> bool {
        let acts = self.acts;
        let is_open = |act: &Act| matches!(act.result, End::Open | End::Lost);
        let closed = left.iter().map(|index| &acts[*index]).filter(|act| !is_open(act));
        let Some(first_end) = closed.map(|act| act.end).min() else { return true };
        let place = (left, store.clone());
        if self.dead.contains(&place) {
            return false;
        }
        for index in place.0.iter().filter(|index| acts[**index].begin < first_end) {
            let act = &acts[*index];
            let mut store = store.clone();
            let happened = perform(&mut store, &self.options.init, &act.op);
            let fits = match &act.result {
                End::Open | End::Lost => true,
                End::Failed => happened.is_none(),
                End::Done(told) => agrees(told, happened.as_ref(), self.options),
            };
            let rest = place.0.iter().copied().filter(|other| other != index).collect();
            if fits && self.explain(rest, &store) {
                return true;
            }
        }
        self.dead.insert(place);
        false
    }
}

/// The same acts as the checker takes them.
pub fn history(acts: &[Act]) -> History {
    let mut events: Vec<(usize, usize, bool)> = Vec::new();
    for (index, act) in acts.iter().enumerate() {
        events.push((act.begin, index, false));
        if act.result != End::Open {
            events.push((act.end, index, true));
        }
    }
    events.sort_unstable();
    let mut history = History::new();
    let mut calls = BTreeMap::new();
    for (_, index, is_end) in events {
        let act = &acts[index];
        if !is_end {
            calls.insert(index, history.invoke(index as u64, act.op.clone()));
            continue;
        }
        let call = calls[&index];
        match &act.result {
            End::Open => unreachable!("filtered above"),
            End::Lost => history.lose(call).unwrap(),
            End::Failed => history.fail(call).unwrap(),
            End::Done(outcome) => history.complete(call, outcome.clone()).unwrap(),
        }
    }
    history
}
