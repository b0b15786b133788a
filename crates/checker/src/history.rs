//! Histories: the operations of clients, their times and their outcomes.

use crate::value::Value;
use std::fmt;

/// Operation that a client invokes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads a key.
    Get {
        /// Key.
        key: Value,
    },
    /// Sets a key. [`Value::Nil`] deletes it.
    Put {
        /// Key.
        key: Value,
        /// New value.
        value: Value,
    },
    /// Deletes a key: it reads as [`Value::Nil`] afterwards.
    Delete {
        /// Key.
        key: Value,
    },
    /// Appends to a key's text. A key that does not exist counts as empty.
    Append {
        /// Key.
        key: Value,
        /// Appended text. A number is appended in decimal.
        value: Value,
    },
    /// Sets a key if it holds the expected value.
    Cas {
        /// Key.
        key: Value,
        /// Expected value.
        old: Value,
        /// New value.
        new: Value,
    },
    /// Executes a [`Txn`] atomically, on any number of keys.
    Txn(Txn),
}

/// Transaction: executes `then` if all comparisons hold, and `otherwise` if not. Comparisons and operations take
/// effect at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// Comparisons. If there are none, `then` is executed.
    pub compares: Vec<Compare>,
    /// Operations in order if all comparisons hold.
    pub then: Vec<TxnOp>,
    /// Operations in order if a comparison does not hold.
    pub otherwise: Vec<TxnOp>,
}

/// Comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Key whose value is compared.
    pub key: Value,
    /// Required relation: equal to `value` if true, else different.
    pub equal: bool,
    /// Value to compare with. [`Value::Nil`] stands for a key that does not exist.
    pub value: Value,
}

/// Operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxnOp {
    /// Reads a key.
    Get(Value),
    /// Sets a key.
    Put(Value, Value),
    /// Deletes a key.
    Delete(Value),
}

/// Outcome of an operation that took effect, as the client received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success without a result. For a get it adds no constraint.
    Done,
    /// Value that a get read.
    Read(Value),
    /// Result of a delete: true if the key existed.
    Deleted(bool),
    /// Result of a transaction.
    Txn {
        /// Result of the comparisons: true if all succeeded.
        succeeded: bool,
        /// Results of the executed operations in order. Only the value of a get adds a constraint: `None`
        /// means an unknown result, results of other operations are ignored, and the list may be shorter
        /// than that of the operations.
        results: Vec<Option<Value>>,
    },
}

/// Identifier of an operation in a [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub(crate) usize);

/// Operations of clients in real-time order: each call of a recording method adds one event, later than all
/// earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub(crate) records: Vec<Record>,
    /// Number of events so far. The next event has this number as its time.
    pub(crate) events: usize,
}

/// An operation with its start and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) process: Value,
    pub(crate) op: Op,
    pub(crate) begin: usize,
    pub(crate) end: End,
    pub(crate) hint: Option<u64>,
}

/// The end of an operation, with its event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// No end was recorded: the outcome is unknown.
    Open,
    /// The client stopped waiting: the outcome is unknown.
    Abandoned(usize),
    /// The operation took no effect.
    Failed(usize),
    /// The operation took effect.
    Done(usize, Outcome),
}

/// Reason why a history rejects an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// The history has no operation with this identifier: it belongs to another history.
    #[error("the operation does not belong to this history")]
    UnknownOperation,
    /// The end of the operation has been recorded before. An operation ends once.
    #[error("the operation has already ended")]
    AlreadyEnded,
    /// The operation cannot have this outcome: it is of another kind, or has more results than the executed
    /// branch of the transaction has operations.
    #[error("the operation cannot have this kind or number of results")]
    OutcomeMismatch,
}

impl History {
    /// Creates a history without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Records that a process begins an operation. The process only serves as a name in explanations: any
    /// number of its operations may be concurrent.
    pub fn invoke(&mut self, process: impl Into<Value>, op: Op) -> OpId {
        let begin = self.tick();
        let process = process.into();
        self.records.push(Record { process, op, begin, end: End::Open, hint: None });
        OpId(self.records.len() - 1)
    }

    /// Records that an operation took effect, with its outcome.
    ///
    /// # Errors
    /// If the operation has already ended, or cannot have this outcome. Then nothing is recorded.
    pub fn complete(&mut self, id: OpId, outcome: Outcome) -> Result<(), HistoryError> {
        let record = self.open(id)?;
        let fits = match (&record.op, &outcome) {
            (_, Outcome::Done)
            | (Op::Get { .. }, Outcome::Read(_))
            | (Op::Delete { .. }, Outcome::Deleted(_)) => true,
            (Op::Txn(txn), Outcome::Txn { succeeded, results }) => {
                results.len() <= if *succeeded { txn.then.len() } else { txn.otherwise.len() }
            }
            _ => false,
        };
        if !fits {
            return Err(HistoryError::OutcomeMismatch);
        }
        self.end(id, |at| End::Done(at, outcome));
        Ok(())
    }

    /// Records that an operation did not take effect and never will. A failed compare-and-set may mean that the
    /// key held another value than the expected one: see [`FailedCas`](crate::FailedCas).
    ///
    /// # Errors
    /// If the operation has already ended.
    pub fn fail(&mut self, id: OpId) -> Result<(), HistoryError> {
        self.open(id)?;
        self.end(id, End::Failed);
        Ok(())
    }

    /// Records that a client stopped waiting for an operation. The operation stays pending: it may take effect
    /// later, or never. The same holds for an operation without a recorded end.
    ///
    /// # Errors
    /// If the operation has already ended.
    pub fn abandon(&mut self, id: OpId) -> Result<(), HistoryError> {
        self.open(id)?;
        self.end(id, End::Abandoned);
        Ok(())
    }

    /// Sets a hint: the assumed position of an operation in the order in which operations took effect, such as its
    /// slot in a replicated log. Correct hints make the search faster. Wrong hints never change the verdict.
    ///
    /// # Errors
    /// If the operation does not belong to this history.
    pub fn hint(&mut self, id: OpId, place: u64) -> Result<(), HistoryError> {
        self.records.get_mut(id.0).ok_or(HistoryError::UnknownOperation)?.hint = Some(place);
        Ok(())
    }

    /// Returns the number of operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns whether there is no operation.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns the prefix of the history with the first `events` events.
    pub(crate) fn prefix(&self, events: usize) -> Self {
        let mut records = self.records.clone();
        records.retain(|record| record.begin < events);
        for record in &mut records {
            let at = match record.end {
                End::Open => continue,
                End::Abandoned(at) | End::Failed(at) | End::Done(at, _) => at,
            };
            if at >= events {
                record.end = End::Open;
            }
        }
        Self { records, events: events.min(self.events) }
    }

    /// Returns an operation that has no recorded end.
    fn open(&self, id: OpId) -> Result<&Record, HistoryError> {
        let record = self.records.get(id.0).ok_or(HistoryError::UnknownOperation)?;
        if record.end == End::Open { Ok(record) } else { Err(HistoryError::AlreadyEnded) }
    }

    fn end(&mut self, id: OpId, end: impl FnOnce(usize) -> End) {
        let at = self.tick();
        self.records[id.0].end = end(at);
    }

    /// Returns the time of a new event.
    fn tick(&mut self) -> usize {
        self.events += 1;
        self.events - 1
    }
}

impl Op {
    /// Creates a get.
    pub fn get(key: impl Into<Value>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Creates a put.
    pub fn put(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Creates a delete.
    pub fn delete(key: impl Into<Value>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Creates an append.
    pub fn append(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Append { key: key.into(), value: value.into() }
    }

    /// Creates a compare-and-set.
    pub fn cas(key: impl Into<Value>, old: impl Into<Value>, new: impl Into<Value>) -> Self {
        Self::Cas { key: key.into(), old: old.into(), new: new.into() }
    }

    /// Returns the keys that the operation may read or change, in order of appearance.
    pub(crate) fn keys(&self) -> Vec<&Value> {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Append { key, .. }
            | Self::Cas { key, .. } => vec![key],
            Self::Txn(txn) => {
                let steps = txn.then.iter().chain(&txn.otherwise).map(TxnOp::key);
                txn.compares.iter().map(|compare| &compare.key).chain(steps).collect()
            }
        }
    }
}

impl Txn {
    /// Creates a transaction that has neither comparisons nor operations.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the comparison that the key holds the value. [`Value::Nil`] requires that it does not exist.
    #[must_use]
    pub fn when(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.compares.push(Compare { key: key.into(), equal: true, value: value.into() });
        self
    }

    /// Adds the comparison that the key does not hold the value. [`Value::Nil`] requires that it exists.
    #[must_use]
    pub fn unless(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.compares.push(Compare { key: key.into(), equal: false, value: value.into() });
        self
    }

    /// Adds an operation for the case that all comparisons hold.
    #[must_use]
    pub fn then(mut self, op: TxnOp) -> Self {
        self.then.push(op);
        self
    }

    /// Adds an operation for the case that a comparison does not hold.
    #[must_use]
    pub fn otherwise(mut self, op: TxnOp) -> Self {
        self.otherwise.push(op);
        self
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}

impl TxnOp {
    /// Creates a get.
    pub fn get(key: impl Into<Value>) -> Self {
        Self::Get(key.into())
    }

    /// Creates a put.
    pub fn put(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Put(key.into(), value.into())
    }

    /// Creates a delete.
    pub fn delete(key: impl Into<Value>) -> Self {
        Self::Delete(key.into())
    }

    pub(crate) fn key(&self) -> &Value {
        match self {
            Self::Get(key) | Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get { key } => write!(f, "get {key}"),
            Self::Put { key, value } => write!(f, "put {key} {value}"),
            Self::Delete { key } => write!(f, "delete {key}"),
            Self::Append { key, value } => write!(f, "append {key} {value}"),
            Self::Cas { key, old, new } => write!(f, "cas {key} {old} {new}"),
            Self::Txn(txn) => write!(f, "{txn}"),
        }
    }
}

impl fmt::Display for Txn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("if")?;
        for compare in &self.compares {
            let relation = if compare.equal { "=" } else { "!=" };
            write!(f, " {}{relation}{}", compare.key, compare.value)?;
        }
        f.write_str(" then")?;
        self.then.iter().try_for_each(|step| write!(f, " {step}"))?;
        f.write_str(" else")?;
        self.otherwise.iter().try_for_each(|step| write!(f, " {step}"))
    }
}

impl fmt::Display for TxnOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Get(key) => write!(f, "(get {key})"),
            Self::Put(key, value) => write!(f, "(put {key} {value})"),
            Self::Delete(key) => write!(f, "(delete {key})"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Read(value) => write!(f, "{value}"),
            Self::Deleted(found) => f.write_str(if *found { "deleted" } else { "not found" }),
            Self::Txn { succeeded, results } => {
                f.write_str(if *succeeded { "then" } else { "else" })?;
                results.iter().try_for_each(|result| match result {
                    Some(value) => write!(f, " {value}"),
                    None => f.write_str(" ?"),
                })
            }
        }
    }
}
