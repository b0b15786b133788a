//! Hints: the recorded order in which operations took effect.

use crate::corpus::Rng;
use crate::reference::{Store, perform};
use std::collections::BTreeMap;
use synod_checker::{History, Op, OpId, Options, Outcome, Txn, TxnOp, Value, Verdict, check};

/// Returns one of two keys that transactions connect.
fn key(rng: &mut Rng) -> Value {
    Value::from(if rng.below(2) == 0 { "a" } else { "b" })
}

/// Returns a write of a unique value, a read of one key or both, or a conditional write that mostly fails.
fn op(rng: &mut Rng, number: u64, last: u64) -> Op {
    let key = key(rng);
    match rng.below(6) {
        0 => Op::put(key, number),
        1 => Op::delete(key),
        2 => Op::get(key),
        3 => Txn::new().then(TxnOp::get("a")).then(TxnOp::get("b")).into(),
        4 => Txn::new().when("a", last).then(TxnOp::put("b", number)).into(),
        _ => {
            let swap = Txn::new().when(key.clone(), last).then(TxnOp::put(key.clone(), number));
            swap.otherwise(TxnOp::get(key)).into()
        }
    }
}

/// Records operations that take effect one after the other, with overlapping intervals. One in ten has an
/// unknown outcome. `hint` returns the hint for the operation at a place.
fn recorded(seed: u64, operations: u64, hint: impl Fn(u64) -> Option<u64>) -> History {
    let (mut rng, mut store) = (Rng(seed), Store::new());
    let mut events = Vec::new();
    for place in 0..operations {
        let other = place.saturating_sub(1 + rng.below(3));
        let op = op(&mut rng, place, other);
        let outcome = perform(&mut store, &Value::Nil, &op);
        let (begin, end) = (place * 10 + rng.below(60), place * 10 + 61 + rng.below(60));
        let is_lost = rng.below(10) == 0;
        events.push((begin, place, Some(op), None));
        events.push((end, place, None, outcome.filter(|_| !is_lost)));
    }
    events.sort_by_key(|(at, place, op, _)| (*at, *place, op.is_none()));
    let mut history = History::new();
    let mut calls: BTreeMap<u64, OpId> = BTreeMap::new();
    for (_, place, op, outcome) in events {
        match (op, outcome) {
            (Some(op), _) => _ = calls.insert(place, history.invoke(place, op)),
            (None, Some(outcome)) => history.complete(calls[&place], outcome).unwrap(),
            (None, None) => history.abandon(calls[&place]).unwrap(),
        }
    }
    for (place, call) in calls {
        hint(place).into_iter().for_each(|hint| history.hint(call, hint).unwrap());
    }
    history
}

#[test]
fn correct_hints_decide_a_linearizable_history_without_a_search() {
    let options = Options { max_configurations: 0, ..Options::default() };
    for seed in 0..20 {
        let verdict = check(&recorded(seed, 1000, Some), &options);
        assert!(verdict.is_linearizable(), "seed {seed}: {verdict:?}");
        let unhinted = check(&recorded(seed, 1000, |_| None), &options);
        assert!(matches!(unhinted, Verdict::Unknown(_)), "seed {seed}: {unhinted:?}");
    }
}

#[test]
fn wrong_hints_do_not_change_the_verdict() {
    let operations = 12;
    // The verdicts without and with a last read, which may be stale.
    let late = |seed, hint: &dyn Fn(u64) -> Option<u64>| {
        let mut history = recorded(seed, operations, hint);
        let before = check(&history, &Options::default()).is_linearizable();
        let read = history.invoke("late", Op::get("a"));
        history.complete(read, Outcome::Read(Value::from(seed % operations))).unwrap();
        (before, check(&history, &Options::default()).is_linearizable())
    };
    let mut illegal = 0;
    for seed in 0..200 {
        let plain = late(seed, &|_| None);
        assert_eq!(late(seed, &|place| Some(operations - place)), plain, "seed {seed}");
        assert_eq!(late(seed, &|place| (place % 3 > 0).then_some(place)), plain, "seed {seed}");
        assert!(plain.0, "seed {seed}");
        illegal += u64::from(!plain.1);
    }
    assert!((50..200).contains(&illegal), "{illegal} of 200 are illegal");
}
