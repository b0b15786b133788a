//! Operations of clients: their random draws as operations of the checker, and their translation to
//! commands of the store.
//!
//! The simulator draws the checker's operations and translates them, so the store and the checker
//! always see the same operation. Every write has a unique value: a read value identifies its
//! writer. Keys form pairs, and no transaction touches two pairs, so that a history splits into
//! parts that are checked separately.

use crate::rng::SimRng;
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_checker::{Compare, Op, Outcome, Txn, TxnOp, Value};
use synod_kv as kv;

/// Last observed value of each key, which transactions compare with.
#[derive(Debug, Default)]
pub(crate) struct ExpectedValues(BTreeMap<Value, Value>);

impl ExpectedValues {
    /// Returns the expected value of a key.
    fn of(&self, key: &Value) -> Value {
        self.0.get(key).cloned().unwrap_or_default()
    }

    /// Records the outcome of an operation.
    pub(crate) fn observe(&mut self, op: &Op, outcome: &Outcome) {
        let mut observe =
            |key: &Value, value: &Value| _ = self.0.insert(key.clone(), value.clone());
        match (op, outcome) {
            (Op::Get { key }, Outcome::Read(value)) | (Op::Put { key, value }, _) => {
                observe(key, value);
            }
            (Op::Delete { key }, _) => observe(key, &Value::Nil),
            (Op::Txn(txn), Outcome::Txn { succeeded, results }) => {
                let steps = if *succeeded { &txn.then } else { &txn.otherwise };
                for (step, result) in steps.iter().zip(results) {
                    match (step, result) {
                        (TxnOp::Get(key), Some(value)) | (TxnOp::Put(key, value), _) => {
                            observe(key, value);
                        }
                        (TxnOp::Delete(key), _) => observe(key, &Value::Nil),
                        (TxnOp::Get(_), None) => {}
                    }
                }
            }
            _ => {}
        }
    }
}

/// Returns a key by its number.
pub(crate) fn key(number: u64) -> Value {
    Value::Text(vec![b'a' + number as u8])
}

/// Returns the key that forms a pair with this one, if there are enough keys.
fn partner(number: u64, keys: u64) -> Option<Value> {
    let other = number ^ 1;
    (other < keys).then(|| key(other))
}

/// Draws a read of a key, or of a pair in one transaction.
pub(crate) fn read(rng: &mut SimRng, number: u64, keys: u64) -> Op {
    match partner(number, keys).filter(|_| rng.percent(25)) {
        Some(other) => Txn::new().then(TxnOp::get(key(number))).then(TxnOp::get(other)).into(),
        None => Op::get(key(number)),
    }
}

/// Draws a transaction that may change a key; some change its partner as well.
pub(crate) fn transaction(
    rng: &mut SimRng,
    number: u64,
    keys: u64,
    value: &str,
    expected: &ExpectedValues,
) -> Op {
    let key = key(number);
    let expected = expected.of(&key);
    let get = TxnOp::get(key.clone());
    let put = TxnOp::put(key.clone(), value);
    let txn = match (rng.below(100), partner(number, keys)) {
        (0..15, Some(other)) => {
            let both =
                Txn::new().when(key, expected).then(put).then(TxnOp::put(other.clone(), value));
            both.otherwise(get).otherwise(TxnOp::get(other))
        }
        (15..30, _) => {
            Txn::new().when(key.clone(), Value::Nil).then(put).otherwise(TxnOp::delete(key))
        }
        (30..45, _) => {
            Txn::new().when(key.clone(), expected).then(TxnOp::delete(key)).otherwise(get)
        }
        (45..55, _) => Txn::new().then(get).then(put),
        _ => Txn::new().when(key, expected).then(put).otherwise(get),
    };
    txn.into()
}

/// Translates an operation to the store's command.
pub(crate) fn command(op: &Op) -> kv::Command {
    match op {
        Op::Put { key, value } => kv::Command::Put(put(key, value)),
        Op::Delete { key } => kv::Command::DeleteRange(kv::DeleteRange::new(one(key))),
        Op::Txn(txn) => kv::Command::Txn(transactional(txn)),
        op => kv::Command::Query(query(op)),
    }
}

/// Translates a read to the store's query.
pub(crate) fn query(op: &Op) -> kv::Query {
    match op {
        Op::Get { key } => kv::Query::Range(kv::Range::new(one(key))),
        Op::Txn(txn) => kv::Query::Txn(transactional(txn)),
        op => unreachable!("{op} is not a read"),
    }
}

/// Translates the store's reply to the client's outcome; `None` if it does not match the operation.
pub(crate) fn outcome(op: &Op, reply: kv::Reply) -> Option<Outcome> {
    match (op, reply.result.ok()?) {
        (Op::Get { .. }, kv::ReplyBody::Op(kv::OpResult::Range(found))) => {
            Some(Outcome::Read(first(found)))
        }
        (Op::Put { .. }, kv::ReplyBody::Op(kv::OpResult::Put(_))) => Some(Outcome::Done),
        (Op::Delete { .. }, kv::ReplyBody::Op(kv::OpResult::DeleteRange(result))) => {
            Some(Outcome::Deleted(result.deleted > 0))
        }
        (Op::Txn(_), kv::ReplyBody::Txn(result)) => {
            let results = result.replies.into_iter().map(|reply| match reply.result {
                kv::OpResult::Range(found) => Some(first(found)),
                kv::OpResult::Put(_) | kv::OpResult::DeleteRange(_) => None,
            });
            Some(Outcome::Txn { succeeded: result.succeeded, results: results.collect() })
        }
        _ => None,
    }
}

fn first(found: kv::RangeResult) -> Value {
    found.kvs.into_iter().next().map(|found| found.value.to_vec()).into()
}

fn transactional(txn: &Txn) -> kv::Txn {
    let branch = |steps: &[TxnOp]| steps.iter().map(step).collect();
    kv::Txn {
        compares: txn.compares.iter().map(compare).collect(),
        success: branch(&txn.then),
        failure: branch(&txn.otherwise),
    }
}

fn step(step: &TxnOp) -> kv::Op {
    match step {
        TxnOp::Get(key) => kv::Op::Range(kv::Range::new(one(key))),
        TxnOp::Put(key, value) => kv::Op::Put(put(key, value)),
        TxnOp::Delete(key) => kv::Op::DeleteRange(kv::DeleteRange::new(one(key))),
    }
}

/// Translates a comparison. The store rejects value comparisons on missing keys, so clients only
/// compare a key's value or check its existence.
fn compare(compare: &Compare) -> kv::Compare {
    let operand = match &compare.value {
        Value::Nil => kv::CompareOperand::Version(kv::Version(0)),
        value => kv::CompareOperand::Value(bytes(value)),
    };
    let relation =
        if compare.equal { kv::CompareRelation::Equal } else { kv::CompareRelation::NotEqual };
    kv::Compare { keys: one(&compare.key), relation, operand }
}

fn put(key: &Value, value: &Value) -> kv::Put {
    kv::Put::new(bytes(key), bytes(value))
}

fn one(key: &Value) -> kv::KeyRange {
    kv::KeyRange::one(bytes(key))
}

fn bytes(value: &Value) -> Bytes {
    match value {
        Value::Text(text) => Bytes::copy_from_slice(text),
        value => value.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::kv::{Command, Machine, read_reply};
    use synod_checker::{History, Options, check};
    use synod_consensus::StateReader;

    fn draw(rng: &mut SimRng, id: u64, keys: u64, expected: &ExpectedValues) -> Op {
        let (kind, number, value) = (rng.below(4), rng.below(keys), format!("{id}."));
        match kind {
            0 => read(rng, number, keys),
            1 => Op::put(key(number), value),
            2 => Op::delete(key(number)),
            _ => transaction(rng, number, keys, &value, expected),
        }
    }

    /// Runs operations one after the other: store and checker give each the same result, and every
    /// branch of a transaction is taken.
    #[test]
    fn store_and_checker_agree_on_every_operation() {
        let (mut rng, mut machine, mut expected) =
            (SimRng::new(5), Machine::default(), ExpectedValues::default());
        let (mut history, mut held) = (History::new(), [0; 2]);
        for id in 1..=2000 {
            let op = draw(&mut rng, id, 5, &expected);
            let call = history.invoke(id, op.clone());
            let bytes = Command { id, body: command(&op) }.encode();
            let (reply, _) = machine.apply_alone(id, &bytes);
            let (replied_id, reply) = read_reply(&reply).unwrap();
            let observed = outcome(&op, reply).unwrap_or_else(|| panic!("{op} has no outcome"));
            if let Outcome::Txn { succeeded: is_held, .. } = &observed {
                held[usize::from(*is_held)] += 1;
            }
            // Some writes are not observed.
            if rng.percent(70) {
                expected.observe(&op, &observed);
            }
            assert_eq!(replied_id, id);
            history.complete(call, observed).unwrap();
        }
        assert!(check(&history, &Options::default()).is_linearizable());
        assert!(held.iter().all(|count| *count > 100), "{held:?}");
    }

    #[test]
    fn read_of_the_state_equals_read_through_the_log() {
        let mut machine = Machine::default();
        let bytes = Command::put(1, b'a', "1.").encode();
        machine.apply_alone(1, &bytes);
        let pair = Txn::new().then(TxnOp::get("a")).then(TxnOp::get("b"));
        for op in [Op::get("a"), Op::get("b"), pair.into()] {
            let reply = machine.query(&query(&op).encode()).unwrap();
            let observed = outcome(&op, kv::Reply::decode(&reply).unwrap());
            let logged = Command { id: 2, body: command(&op) }.encode();
            let (reply, _) = machine.apply_alone(2, &logged);
            assert_eq!(outcome(&op, read_reply(&reply).unwrap().1), observed);
            assert!(observed.is_some(), "{op}");
        }
    }

    #[test]
    fn reply_to_another_operation_has_no_outcome() {
        let mut machine = Machine::default();
        let mut execute = |op: &Op| {
            let bytes = Command { id: 1, body: command(op) }.encode();
            read_reply(&machine.apply_alone(1, &bytes).0).unwrap().1
        };
        let (get, put) = (Op::get("a"), Op::put("a", "1."));
        let (found, done) = (execute(&get), execute(&put));
        assert_eq!(outcome(&put, found), None);
        assert_eq!(outcome(&get, done), None);
    }
}
