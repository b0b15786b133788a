//! What arrives as text: histories for the checker.

use crate::{assert_memory_is_bounded, fuzz, mutated};
use arbtest::arbitrary::{Result, Unstructured};
use synod_checker::{
    History, Op, Options, Outcome, Step, Txn, Value, from_json_lines, is_linearizable,
    to_json_lines,
};

fn value(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Value::Nil,
        1 => Value::from(u.arbitrary::<i64>()?),
        2 => Value::from(u.arbitrary::<u64>()? % 3),
        3 => Value::from(u.arbitrary::<&str>()?),
        _ => Value::from(u.arbitrary::<&[u8]>()?),
    })
}

fn key(u: &mut Unstructured<'_>) -> Result<Value> {
    if u.ratio(1, 20)? { value(u) } else { Ok(Value::from(u.int_in_range(0..=1_u64)?)) }
}

fn op(u: &mut Unstructured<'_>) -> Result<Op> {
    let key = key(u)?;
    Ok(match u.int_in_range(0..=5)? {
        0 => Op::get(key),
        1 => Op::put(key, value(u)?),
        2 => Op::delete(key),
        3 => Op::append(key, value(u)?),
        4 => Op::cas(key, value(u)?, value(u)?),
        _ => {
            let txn = Txn::new().when(key.clone(), value(u)?).unless(key.clone(), value(u)?);
            let txn = txn.then(Step::put(key.clone(), value(u)?)).then(Step::delete(key.clone()));
            txn.otherwise(Step::get(key)).into()
        }
    })
}

fn history(u: &mut Unstructured<'_>) -> Result<History> {
    let mut history = History::new();
    for process in 0..u.int_in_range(0..=12_u64)? {
        let op = op(u)?;
        let told = match &op {
            Op::Get { .. } => Outcome::Read(value(u)?),
            Op::Delete { .. } if u.arbitrary()? => Outcome::Deleted(u.arbitrary()?),
            Op::Txn(_) if u.arbitrary()? => {
                Outcome::Txn { held: false, results: vec![Some(value(u)?)] }
            }
            _ => Outcome::Done,
        };
        let call = history.invoke(process, op);
        match u.int_in_range(0..=4)? {
            0 => history.fail(call),
            1 => history.lose(call),
            2 => Ok(()),
            _ => history.complete(call, told),
        }
        .expect("it has just begun");
    }
    Ok(history)
}

/// What is written is read again, and what is read can be checked, whatever it is.
#[test]
fn a_history_survives_its_file_and_no_file_breaks_the_checker() {
    fuzz(|u| {
        let history = history(u)?;
        let lines = to_json_lines(&history);
        assert_eq!(from_json_lines(lines.as_bytes()), Ok(history), "{lines}");
        let bytes = mutated(lines.as_bytes(), u)?;
        if let Ok(read) = from_json_lines(&bytes) {
            let again = to_json_lines(&read);
            assert_eq!(from_json_lines(again.as_bytes()).as_ref(), Ok(&read), "{again}");
            let options = Options { max_configurations: 300, ..Options::default() };
            let _ = is_linearizable(&read, &options, &mut || false);
        }
        Ok(())
    });
    assert_memory_is_bounded();
}

#[test]
fn any_bytes_are_a_history_or_none() {
    fuzz(|u| {
        let _ = from_json_lines(u.bytes(u.len())?);
        Ok(())
    });
}
