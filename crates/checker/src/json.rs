//! Histories as lines of JSON.

use crate::history::{Compare, End, History, HistoryError, Op, OpId, Outcome, Record, Txn, TxnOp};
use crate::value::Value;
use serde::{Deserialize, Deserializer};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;

/// Error for a line that is not a valid event of a history.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct ParseError {
    /// Number of the line, from 1.
    pub line: usize,
    /// Reason for the rejection.
    pub reason: String,
}

/// The JSON fields of a line.
#[derive(Deserialize)]
struct Line {
    p: Json,
    t: String,
    #[serde(default)]
    f: Option<String>,
    #[serde(default)]
    k: Json,
    /// `None` if the field is missing, which differs from null.
    #[serde(default, deserialize_with = "present")]
    v: Option<Json>,
}

/// Deserializes a field that is present, null or not.
fn present<'de, D: Deserializer<'de>>(field: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(field).map(Some)
}

/// Parses a history from lines of JSON.
///
/// Each line is one event, in real-time order: `{"p": process, "t": type, "f": operation, "k":
/// key, "v": value}`. Other fields and blank lines are ignored.
///
/// - `t` is `invoke`, `ok` (the operation took effect), `fail` (it did not, or a compare-and-set did not
///   find the expected value) or `info` (the outcome is unknown). An `info` of a process without an
///   operation in flight is ignored.
/// - `f` is `read` or `get`, `write` or `put`, `cas`, `append`, `delete` or `txn`. Only `invoke` requires it.
/// - `k` is any JSON value. An `invoke` without `k` has the key null; other lines need no `k`.
/// - `v` is the value to write or append; `[old, new]` for a `cas`; in the `ok` of a read the value that
///   was read, or null for nil; in the `ok` of a `delete` true if the key existed, false if not, and null if
///   this is unknown. Elsewhere it is ignored. A `write`, `append`, `cas` or `txn` without `v` is rejected, so
///   that a truncated `write` does not count as a delete. `v` is optional in the `ok` of a read, because some
///   recorders omit null.
/// - The `v` of a `txn` is `{"if": [[key, "=", value], [key, "!=", value]], "then": [["get", key],
///   ["put", key, value], ["delete", key]], "else": [..]}`; each part is optional. The `v` of its `ok`
///   is null, or `{"held": true or false, "results": [..]}` with one result for each executed step:
///   `[value]` for a get, null for an unknown result and for other steps.
///
/// A process has at most one operation in flight. After an `info` it may invoke another. Numbers and texts
/// are different values. Bytes that are not UTF-8 are written as `{"bytes": [0, 255]}`.
///
/// # Errors
/// The first line that is not a valid event.
pub fn from_json_lines(bytes: &[u8]) -> Result<History, ParseError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = Reader::default();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if !text.trim_ascii().is_empty() {
            reader.line(text).map_err(|reason| ParseError { line, reason })?;
        }
    }
    Ok(reader.history)
}

/// Formats a history as lines of JSON.
#[must_use]
pub fn to_json_lines(history: &History) -> String {
    let mut events = BTreeMap::new();
    for record in &history.records {
        let Record { process, op, begin, end, .. } = record;
        events.insert(*begin, event(process, "invoke", op, invocation_json(op)));
        match end {
            End::Open => {}
            End::Abandoned(at) => _ = events.insert(*at, event(process, "info", op, Json::Null)),
            End::Failed(at) => _ = events.insert(*at, event(process, "fail", op, Json::Null)),
            End::Done(at, outcome) => {
                events.insert(*at, event(process, "ok", op, outcome_json(outcome)));
            }
        }
    }
    events.into_values().map(|line| format!("{line}\n")).collect()
}

impl Value {
    /// Parses a value from its JSON form. Returns `None` if the text is not JSON, or is a number without an
    /// exact representation.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        value(&serde_json::from_str(text).ok()?).ok()
    }
}

impl Line {
    /// Returns the value `v` of a line that ends an operation, or null if it is missing.
    fn end_value(&self) -> &Json {
        self.v.as_ref().unwrap_or(&Json::Null)
    }
}

/// Parser of the lines of a history.
#[derive(Default)]
struct Reader {
    history: History,
    /// The operation in flight of each process.
    open: BTreeMap<Value, OpId>,
}

impl Reader {
    fn line(&mut self, text: &[u8]) -> Result<(), String> {
        let line: Line = serde_json::from_slice(text).map_err(|error| {
            // Each line is parsed by itself, so the line number of the JSON parser is always 1.
            let text = error.to_string();
            text.replacen(" at line 1", " at", 1)
        })?;
        if line.p.is_null() {
            return Err("\"p\" is missing or null: add the process".into());
        }
        let process = value(&line.p)?;
        let kind = line.t.trim_start_matches(':');
        if kind == "invoke" {
            return self.invoke(process, &line);
        }
        let Some(id) = self.open.get(&process).copied() else {
            return match kind {
                "info" => Ok(()),
                "ok" | "fail" => Err(format!("process {process} has no operation in flight")),
                other => Err(unknown_type(other)),
            };
        };
        self.check_end(id, &line)?;
        let ended = match kind {
            "ok" => {
                let outcome = outcome(&self.history.records[id.0].op, line.end_value())?;
                self.history.complete(id, outcome)
            }
            "fail" => self.history.fail(id),
            "info" => self.history.abandon(id),
            other => return Err(unknown_type(other)),
        };
        ended.map_err(|error: HistoryError| error.to_string())?;
        self.open.remove(&process);
        Ok(())
    }

    fn invoke(&mut self, process: Value, line: &Line) -> Result<(), String> {
        if self.open.contains_key(&process) {
            return Err(format!("process {process} already has an operation in flight"));
        }
        let name = line.f.as_deref().ok_or("\"f\" is missing: add the operation")?;
        let op = op(name, value(&line.k)?, line.v.as_ref())?;
        let id = self.history.invoke(process.clone(), op);
        self.open.insert(process, id);
        Ok(())
    }

    /// Checks that the operation and the key of a line that ends an operation, if present, are those of the
    /// operation in flight.
    fn check_end(&self, id: OpId, line: &Line) -> Result<(), String> {
        let op = &self.history.records[id.0].op;
        if let Some(name) = &line.f
            && canonical(name)? != self::name(op)
        {
            return Err(format!(
                "\"f\" is {name:?}, but {op} is in flight: use the same operation"
            ));
        }
        let is_other = |key: &Value| op.keys().first().is_none_or(|ours| *ours != key);
        if !line.k.is_null() && !matches!(op, Op::Txn(_)) && is_other(&value(&line.k)?) {
            return Err(format!(
                "\"k\" is not the key of {op}, which is in flight: use the same key"
            ));
        }
        Ok(())
    }
}

/// Returns the canonical name of an operation, given any of its names.
fn canonical(name: &str) -> Result<&'static str, String> {
    Ok(match name.trim_start_matches(':') {
        "read" | "get" => "get",
        "write" | "put" => "put",
        "delete" => "delete",
        "append" => "append",
        "cas" => "cas",
        "txn" => "txn",
        _ => {
            return Err(format!(
                "unknown operation {name:?}: use get, put, delete, append, cas or txn"
            ));
        }
    })
}

fn unknown_type(name: &str) -> String {
    format!("unknown type {name:?}: use invoke, ok, fail or info")
}

fn name(op: &Op) -> &'static str {
    match op {
        Op::Get { .. } => "get",
        Op::Put { .. } => "put",
        Op::Delete { .. } => "delete",
        Op::Append { .. } => "append",
        Op::Cas { .. } => "cas",
        Op::Txn(_) => "txn",
    }
}

fn op(name: &str, key: Value, v: Option<&Json>) -> Result<Op, String> {
    let operand = |what: &str| v.ok_or_else(|| format!("{name:?} has no \"v\": add {what}"));
    let new_value = || value(operand("the new value, or null for nil")?);
    Ok(match canonical(name)? {
        "get" => Op::Get { key },
        "put" => Op::Put { key, value: new_value()? },
        "delete" => Op::Delete { key },
        "append" => Op::Append { key, value: new_value()? },
        "cas" => match operand("[old, new]")?.as_array().map(Vec::as_slice) {
            Some([old, new]) => Op::Cas { key, old: value(old)?, new: value(new)? },
            _ => return Err("the value of a cas must be [old, new]".into()),
        },
        _ => Op::Txn(txn(operand("an object with \"if\", \"then\" and \"else\"")?)?),
    })
}

fn txn(v: &Json) -> Result<Txn, String> {
    let part = |name: &str| match &v[name] {
        Json::Null => Ok(&[][..]),
        Json::Array(parts) => Ok(parts.as_slice()),
        _ => Err(format!("{name:?} of a transaction must be a list")),
    };
    if !v.is_object() {
        return Err("the value of a transaction must be an object".into());
    }
    let steps = |name| part(name)?.iter().map(step).collect::<Result<_, String>>();
    Ok(Txn {
        compares: part("if")?.iter().map(compare).collect::<Result<_, String>>()?,
        then: steps("then")?,
        otherwise: steps("else")?,
    })
}

fn compare(v: &Json) -> Result<Compare, String> {
    match v.as_array().map(Vec::as_slice) {
        Some([key, Json::String(relation), expected]) if relation == "=" || relation == "!=" => {
            let (key, value) = (value(key)?, value(expected)?);
            Ok(Compare { key, equal: relation == "=", value })
        }
        _ => Err("a comparison must be [key, \"=\" or \"!=\", value]".into()),
    }
}

fn step(v: &Json) -> Result<TxnOp, String> {
    match v.as_array().map(Vec::as_slice) {
        Some([Json::String(name), key]) if name == "get" => Ok(TxnOp::Get(value(key)?)),
        Some([Json::String(name), key]) if name == "delete" => Ok(TxnOp::Delete(value(key)?)),
        Some([Json::String(name), key, new]) if name == "put" => {
            Ok(TxnOp::Put(value(key)?, value(new)?))
        }
        _ => {
            Err("a step must be [\"get\", key], [\"put\", key, value] or [\"delete\", key]".into())
        }
    }
}

fn outcome(op: &Op, v: &Json) -> Result<Outcome, String> {
    Ok(match op {
        Op::Get { .. } => Outcome::Read(value(v)?),
        Op::Delete { .. } => v.as_bool().map_or(Outcome::Done, Outcome::Deleted),
        Op::Txn(_) if !v.is_null() => {
            let succeeded = v["held"].as_bool().ok_or("\"held\" must be true or false")?;
            let results = match &v["results"] {
                Json::Null => &[][..],
                Json::Array(results) => results,
                _ => return Err("\"results\" must be a list".into()),
            };
            let result = |result: &Json| match result {
                Json::Null => Ok(None),
                Json::Array(read) if read.len() == 1 => value(&read[0]).map(Some),
                _ => Err("a result must be null or a list of one value".to_owned()),
            };
            Outcome::Txn {
                succeeded,
                results: results.iter().map(result).collect::<Result<_, _>>()?,
            }
        }
        _ => Outcome::Done,
    })
}

/// Converts a JSON value. A number without an exact representation is rejected.
fn value(v: &Json) -> Result<Value, String> {
    Ok(match v {
        Json::Null => Value::Nil,
        Json::String(text) => Value::from(text.as_str()),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), ..) => Value::from(number),
            (_, Some(number), _) => Value::from(number),
            (.., Some(number)) if number.abs() >= 9_007_199_254_740_992.0 => {
                return Err(format!(
                    "{number:e} has no exact representation: use integers of at most 64 bits"
                ));
            }
            // Some recorders write 2 as 2.0.
            (.., Some(number)) if number.fract() == 0.0 => Value::Int(number as i128),
            _ => Value::Json(number.to_string()),
        },
        Json::Object(fields) if fields.len() == 1 && fields.contains_key("bytes") => {
            let bytes = Vec::<u8>::deserialize(&v["bytes"]);
            bytes.map_or_else(|_| Value::Json(v.to_string()), Value::Text)
        }
        other => Value::Json(other.to_string()),
    })
}

/// Returns the JSON form of an event.
fn event(process: &Value, kind: &str, op: &Op, v: Json) -> Json {
    let key = match op {
        Op::Txn(_) => Json::Null,
        op => op.keys().first().map_or(Json::Null, |key| to_json(key)),
    };
    json!({"p": to_json(process), "t": kind, "f": name(op), "k": key, "v": v})
}

/// Returns the value `v` of the line that invokes an operation.
fn invocation_json(op: &Op) -> Json {
    let steps = |steps: &[TxnOp]| {
        let step = |step: &TxnOp| match step {
            TxnOp::Get(key) => json!(["get", to_json(key)]),
            TxnOp::Put(key, value) => json!(["put", to_json(key), to_json(value)]),
            TxnOp::Delete(key) => json!(["delete", to_json(key)]),
        };
        steps.iter().map(step).collect::<Vec<_>>()
    };
    match op {
        Op::Get { .. } | Op::Delete { .. } => Json::Null,
        Op::Put { value, .. } | Op::Append { value, .. } => to_json(value),
        Op::Cas { old, new, .. } => json!([to_json(old), to_json(new)]),
        Op::Txn(txn) => {
            let compare = |it: &Compare| {
                json!([to_json(&it.key), if it.equal { "=" } else { "!=" }, to_json(&it.value)])
            };
            let compares: Vec<_> = txn.compares.iter().map(compare).collect();
            json!({"if": compares, "then": steps(&txn.then), "else": steps(&txn.otherwise)})
        }
    }
}

/// Returns the value `v` of the line that completes an operation.
fn outcome_json(outcome: &Outcome) -> Json {
    match outcome {
        Outcome::Done => Json::Null,
        Outcome::Read(value) => to_json(value),
        Outcome::Deleted(found) => json!(found),
        Outcome::Txn { succeeded, results } => {
            let result =
                |it: &Option<Value>| it.as_ref().map_or(Json::Null, |it| json!([to_json(it)]));
            json!({"held": succeeded, "results": results.iter().map(result).collect::<Vec<_>>()})
        }
    }
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) => json!(number),
            _ => json!(number.to_string()),
        },
        Value::Text(text) => match str::from_utf8(text) {
            Ok(text) => json!(text),
            Err(_) => json!({ "bytes": text }),
        },
        Value::Json(json) => serde_json::from_str(json).unwrap_or(Json::Null),
    }
}
