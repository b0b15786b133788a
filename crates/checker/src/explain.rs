//! Explanation of an illegal history: its longest linearizable prefix, and the operation that ends next.

use crate::history::{End, History, Op, OpId, Outcome, Record, TxnOp};
use crate::options::Options;
use crate::search::find_order;
use crate::value::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Maximum number of operations that a text lists. Of a longer order it lists the last ones.
const SHOWN: usize = 30;

/// Explanation of an illegal history: its longest linearizable prefix, and the operation after it.
///
/// The prefix ends just before the response of an operation, the culprit: with this response it is illegal.
/// Operations in flight at the end of the prefix count as pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Keys whose operations no order explains: one key, or several that transactions connect.
    pub keys: Vec<Value>,
    /// Operation whose outcome no order explains.
    pub culprit: OpId,
    /// Number of events of the whole history before the culprit's response. In this prefix the operations on
    /// `keys` are linearizable, unless [`is_exact`](Self::is_exact) is false.
    pub events: usize,
    /// True if the prefix is known to be linearizable. False if a search reached its limit: the prefix with the
    /// culprit's response is illegal, but the prefix without it may be illegal as well.
    pub is_exact: bool,
    /// Order in which the operations of the prefix can have taken effect. Empty if none was found.
    pub order: Vec<OpId>,
}

/// Explains an illegal part of a history.
pub(crate) fn explain(
    history: &History,
    part: &[usize],
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Explanation {
    let records = part.iter().map(|index| history.records[*index].clone()).collect();
    let whole = History { records, events: history.events };
    let mut ends: Vec<_> = responses(&whole.records).collect();
    ends.sort_unstable();
    let mut search_before = |event: usize| {
        let prefix = whole.prefix(event);
        let all: Vec<_> = (0..prefix.records.len()).collect();
        find_order(&prefix, &all, options, stop)
    };
    // The prefix with the first `low` ends is not known to be illegal, and that with `high` ends is illegal.
    let (mut low, mut high, mut is_exact) = (0, ends.len(), true);
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        match search_before(ends[middle - 1].0 + 1) {
            Ok(None) => high = middle,
            Ok(Some(_)) => low = middle,
            Err(_) => (low, is_exact) = (middle, false),
        }
    }
    let (events, culprit) = ends[high - 1];
    let order = search_before(events).ok().flatten().unwrap_or_default();
    let mut keys: Vec<_> = whole.records.iter().flat_map(|record| record.op.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    Explanation {
        keys: keys.into_iter().cloned().collect(),
        culprit: OpId(part[culprit]),
        events,
        is_exact,
        order: order.into_iter().map(|index| OpId(part[index])).collect(),
    }
}

/// Returns the event of each response, and the index of its operation.
fn responses(records: &[Record]) -> impl Iterator<Item = (usize, usize)> {
    records.iter().enumerate().filter_map(|(index, record)| Some((response_event(record)?, index)))
}

/// Returns the event of an operation's response, if the client received one.
pub(crate) fn response_event(record: &Record) -> Option<usize> {
    match record.end {
        End::Open | End::Abandoned(_) => None,
        End::Failed(at) | End::Done(at, _) => Some(at),
    }
}

impl Explanation {
    /// Returns the explanation in plain text. `history` and `options` must be those of the check. Events are
    /// numbered from 1. In a file they are the lines other than blank ones and ignored `info` lines.
    ///
    /// # Panics
    /// May panic if `history` is not the history that was checked.
    #[must_use]
    pub fn text(&self, history: &History, options: &Options) -> String {
        let mut text = String::new();
        let keys: Vec<_> = self.keys.iter().map(Value::to_string).collect();
        let culprit = describe(&history.records[self.culprit.0]);
        let known = if self.is_exact { "linearizable" } else { "not known to be illegal" };
        let subject = if keys.len() == 1 { "this key" } else { "these keys" };
        let _ = writeln!(
            text,
            "key {}: no order explains the outcome of this operation:",
            keys.join(", ")
        );
        let _ = writeln!(text, "  {culprit}");
        let _ = writeln!(
            text,
            "In the first {} events of the history, the operations on {subject} are {known}{}",
            self.events,
            if self.order.is_empty() { "." } else { ", in this order:" }
        );
        let states = self.states(history, options);
        let hidden = states.len().saturating_sub(SHOWN);
        if hidden > 0 {
            let _ = writeln!(text, "  ({hidden} earlier operations)");
        }
        for (id, state) in &states[hidden..] {
            let _ = writeln!(text, "  {}; then {state}", describe(&history.records[id.0]));
        }
        let pending = self.pending(history);
        if !pending.is_empty() {
            let _ = writeln!(
                text,
                "Operations that were pending when this one ended, and are not part of the order:"
            );
        }
        for id in pending.iter().take(SHOWN) {
            let _ = writeln!(text, "  {}", describe(&history.records[id.0]));
        }
        if pending.len() > SHOWN {
            let _ = writeln!(text, "  ({} more)", pending.len() - SHOWN);
        }
        text
    }

    /// Returns the operations of the order, each with the state after it.
    pub(crate) fn states(&self, history: &History, options: &Options) -> Vec<(OpId, String)> {
        let mut registers: BTreeMap<&Value, Value> =
            self.keys.iter().map(|key| (key, options.init.clone())).collect();
        let mut states = Vec::new();
        for id in &self.order {
            replay(&history.records[id.0], &mut registers);
            let state: Vec<_> =
                registers.iter().map(|(key, value)| format!("{key} = {value}")).collect();
            states.push((*id, state.join(", ")));
        }
        states
    }

    /// Returns the operations that were pending when the culprit ended and are not part of the order.
    pub(crate) fn pending(&self, history: &History) -> Vec<OpId> {
        let has_key = |record: &Record| record.op.keys().iter().any(|key| self.keys.contains(key));
        let is_pending = |(index, record): &(usize, &Record)| {
            let has_ended = match record.end {
                End::Open | End::Abandoned(_) => matches!(record.op, Op::Get { .. }),
                End::Failed(at) => at < self.events || !matches!(record.op, Op::Cas { .. }),
                End::Done(at, _) => at < self.events,
            };
            record.begin < self.events
                && !has_ended
                && has_key(record)
                && *index != self.culprit.0
                && !self.order.contains(&OpId(*index))
        };
        let records = history.records.iter().enumerate();
        records.filter(is_pending).map(|(index, _)| OpId(index)).collect()
    }
}

/// Describes an operation with its process, its outcome and its events.
pub(crate) fn describe(record: &Record) -> String {
    let Record { process, op, begin, .. } = record;
    let begin = begin + 1;
    match &record.end {
        End::Open => format!("{process}: {op}, invoked at event {begin}, no end recorded"),
        End::Abandoned(at) => {
            format!("{process}: {op}, events {begin} to {}, outcome unknown", at + 1)
        }
        End::Failed(at) => format!("{process}: {op}, events {begin} to {}, failed", at + 1),
        End::Done(at, outcome) => {
            format!("{process}: {op} -> {outcome}, events {begin} to {}", at + 1)
        }
    }
}

/// Applies an operation of the order to the registers.
fn replay<'a>(record: &'a Record, registers: &mut BTreeMap<&'a Value, Value>) {
    match &record.op {
        Op::Get { .. } => {}
        Op::Put { key, value } => _ = registers.insert(key, value.clone()),
        Op::Delete { key } => _ = registers.insert(key, Value::Nil),
        Op::Append { key, value } => {
            let mut text = registers.get(key).map(Value::as_text).unwrap_or_default();
            text.extend(value.as_text());
            registers.insert(key, Value::Text(text));
        }
        Op::Cas { key, old, new } => {
            if registers.get(key) == Some(old) {
                registers.insert(key, new.clone());
            }
        }
        Op::Txn(txn) => {
            let holds = txn
                .compares
                .iter()
                .all(|it| (registers.get(&it.key) == Some(&it.value)) == it.equal);
            let succeeded = match record.end {
                End::Done(_, Outcome::Txn { succeeded, .. }) => succeeded,
                _ => holds,
            };
            for op in if succeeded { &txn.then } else { &txn.otherwise } {
                match op {
                    TxnOp::Get(_) => {}
                    TxnOp::Put(key, value) => _ = registers.insert(key, value.clone()),
                    TxnOp::Delete(key) => _ = registers.insert(key, Value::Nil),
                }
            }
        }
    }
}
