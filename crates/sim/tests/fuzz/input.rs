//! Fuzzing of text input: histories for the checker.

use crate::{assert_memory_is_bounded, fuzz, mutated};
use arbtest::arbitrary::{Result, Unstructured};
use serde_json::{Value as Json, json};
use synod_checker::{
    History, Op, Options, Outcome, Txn, TxnOp, Value, from_json_lines, is_linearizable,
    to_json_lines,
};

/// Returns up to eight bytes. Longer ones would use up the input and leave none for mutations.
fn short<'a>(u: &mut Unstructured<'a>) -> Result<&'a [u8]> {
    let length = u.int_in_range(0..=8_usize)?;
    u.bytes(length.min(u.len()))
}

fn value(u: &mut Unstructured<'_>) -> Result<Value> {
    Ok(match u.int_in_range(0..=4)? {
        0 => Value::Nil,
        1 => Value::from(u.arbitrary::<i64>()?),
        2 => Value::from(u.arbitrary::<u64>()? % 3),
        3 => Value::from(&*String::from_utf8_lossy(short(u)?)),
        _ => Value::from(short(u)?),
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
            let txn = txn.then(TxnOp::put(key.clone(), value(u)?)).then(TxnOp::delete(key.clone()));
            txn.otherwise(TxnOp::get(key)).into()
        }
    })
}

fn history(u: &mut Unstructured<'_>) -> Result<History> {
    let mut history = History::new();
    for process in 0..u.int_in_range(0..=12_u64)? {
        let op = op(u)?;
        let outcome = match &op {
            Op::Get { .. } => Outcome::Read(value(u)?),
            Op::Delete { .. } if u.arbitrary()? => Outcome::Deleted(u.arbitrary()?),
            Op::Txn(_) if u.arbitrary()? => {
                Outcome::Txn { succeeded: false, results: vec![Some(value(u)?)] }
            }
            _ => Outcome::Done,
        };
        let call = history.invoke(process, op);
        match u.int_in_range(0..=4)? {
            0 => history.fail(call),
            1 => history.abandon(call),
            2 => Ok(()),
            _ => history.complete(call, outcome),
        }
        .expect("the operation is pending");
    }
    Ok(history)
}

/// Removes or replaces a part of a line. Random changes of bytes rarely produce another valid JSON
/// line.
fn mutate_line(line: &mut Json, u: &mut Unstructured<'_>) -> Result<()> {
    let is_here = u.ratio(1, 4)?;
    let is_gone = u.ratio(1, 5)?;
    match line {
        Json::Array(items) if !is_here && !items.is_empty() => {
            let at = u.choose_index(items.len())?;
            if !is_gone {
                return mutate_line(&mut items[at], u);
            }
            items.remove(at);
        }
        Json::Object(fields) if !is_here && !fields.is_empty() => {
            let at = u.choose_index(fields.len())?;
            let name = fields.keys().nth(at).expect("a field").clone();
            if !is_gone {
                return mutate_line(&mut fields[&name], u);
            }
            fields.remove(&name);
        }
        _ => {
            let others = [json!(null), json!(true), json!(-1), json!(0.5), json!("put")];
            let nested = [json!([]), json!([[]]), json!({}), json!({"bytes": [300]})];
            *line = u.choose(&[&others[..], &nested].concat())?.clone();
        }
    }
    Ok(())
}

/// Returns a history's lines, some of them mutated.
fn mutated_lines(lines: &str, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let line = |line| serde_json::from_str::<Json>(line).expect("a line is JSON");
    let mut lines: Vec<_> = lines.lines().map(line).collect();
    for _ in 0..u.int_in_range(1..=2)? {
        let at = u.choose_index(lines.len().max(1))?;
        lines.get_mut(at).map_or(Ok(()), |line| mutate_line(line, u))?;
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect::<String>().into_bytes())
}

/// A written history parses to the same history, and any parsed history can be checked.
#[test]
fn history_round_trips_and_any_parsed_history_can_be_checked() {
    fuzz(|u| {
        let history = history(u)?;
        let lines = to_json_lines(&history);
        assert_eq!(from_json_lines(lines.as_bytes()), Ok(history), "{lines}");
        let is_json = u.arbitrary()?;
        let bytes = if is_json { mutated_lines(&lines, u) } else { mutated(lines.as_bytes(), u) }?;
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
fn history_parser_accepts_or_rejects_arbitrary_bytes() {
    fuzz(|u| {
        let _ = from_json_lines(u.bytes(u.len())?);
        Ok(())
    });
}
