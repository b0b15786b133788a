//! A recorder that knows the order in which operations took effect, and says so.

use crate::corpus::Dice;
use crate::reference::{Store, perform};
use std::collections::BTreeMap;
use synod_checker::{Call, History, Op, Options, Outcome, Step, Txn, Value, Verdict, check};

/// One of two keys that transactions join.
fn key(dice: &mut Dice) -> Value {
    Value::from(if dice.below(2) == 0 { "a" } else { "b" })
}

/// Writes of values of their own, reads of one key and of both, swaps that mostly fail.
fn op(dice: &mut Dice, number: u64, last: u64) -> Op {
    let key = key(dice);
    match dice.below(6) {
        0 => Op::put(key, number),
        1 => Op::delete(key),
        2 => Op::get(key),
        3 => Txn::new().then(Step::get("a")).then(Step::get("b")).into(),
        4 => Txn::new().when("a", last).then(Step::put("b", number)).into(),
        _ => {
            let swap = Txn::new().when(key.clone(), last).then(Step::put(key.clone(), number));
            swap.otherwise(Step::get(key)).into()
        }
    }
}

/// So many operations, one a tick, each begun and answered up to some ticks before and after; one
/// in ten is never answered. `hint` says where the recorder believes the operation at a place.
fn recorded(seed: u64, operations: u64, hint: impl Fn(u64) -> Option<u64>) -> History {
    let (mut dice, mut store) = (Dice(seed), Store::new());
    let mut events = Vec::new();
    for place in 0..operations {
        let other = place.saturating_sub(1 + dice.below(3));
        let op = op(&mut dice, place, other);
        let outcome = perform(&mut store, &Value::Nil, &op);
        let (begin, end) = (place * 10 + dice.below(60), place * 10 + 61 + dice.below(60));
        let is_lost = dice.below(10) == 0;
        events.push((begin, place, Some(op), None));
        events.push((end, place, None, outcome.filter(|_| !is_lost)));
    }
    events.sort_by_key(|(at, place, op, _)| (*at, *place, op.is_none()));
    let mut history = History::new();
    let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
    for (_, place, op, outcome) in events {
        match (op, outcome) {
            (Some(op), _) => _ = calls.insert(place, history.invoke(place, op)),
            (None, Some(outcome)) => history.complete(calls[&place], outcome).unwrap(),
            (None, None) => history.lose(calls[&place]).unwrap(),
        }
    }
    for (place, call) in calls {
        hint(place).into_iter().for_each(|hint| history.hint(call, hint).unwrap());
    }
    history
}

/// Nothing need be searched: not for operations that nobody knows the end of, nor for
/// observations.
#[test]
fn an_order_that_is_known_is_not_searched_for() {
    let options = Options { max_configurations: 0, ..Options::default() };
    for seed in 0..20 {
        let verdict = check(&recorded(seed, 1000, Some), &options);
        assert!(verdict.is_linearizable(), "seed {seed}: {verdict:?}");
        let blind = check(&recorded(seed, 1000, |_| None), &options);
        assert!(matches!(blind, Verdict::Unknown(_)), "seed {seed}: {blind:?}");
    }
}

/// An order that the recorder is wrong about neither saves a history nor condemns it.
#[test]
fn a_wrong_belief_decides_nothing() {
    let operations = 12;
    let late = |seed, hint: &dyn Fn(u64) -> Option<u64>| {
        let mut history = recorded(seed, operations, hint);
        let honest = check(&history, &Options::default()).is_linearizable();
        let read = history.invoke("late", Op::get("a"));
        history.complete(read, Outcome::Read(Value::from(seed % operations))).unwrap();
        (honest, check(&history, &Options::default()).is_linearizable())
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
