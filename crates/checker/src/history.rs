//! What clients asked for, when, and what they were told.

use crate::value::Value;
use std::fmt;

/// An operation that a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads a key.
    Get {
        /// Which one.
        key: Value,
    },
    /// Gives a key a value. [`Value::Nil`] takes the key away.
    Put {
        /// Which one.
        key: Value,
        /// Its new value.
        value: Value,
    },
    /// Takes a key away: it reads as [`Value::Nil`] afterwards.
    Delete {
        /// Which one.
        key: Value,
    },
    /// Appends to a key's text; a key that is not there counts as empty.
    Append {
        /// Which one.
        key: Value,
        /// What is appended; a number is appended in decimal.
        value: Value,
    },
    /// Gives a key a value if it holds the expected one.
    Cas {
        /// Which one.
        key: Value,
        /// What it must hold.
        old: Value,
        /// Its new value.
        new: Value,
    },
    /// Several steps at once, on any number of keys.
    Txn(Txn),
}

/// A transaction: if all comparisons hold, `then` is done, else `otherwise`, in one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// What is compared; nothing to compare holds.
    pub compares: Vec<Compare>,
    /// Done in order if all comparisons hold.
    pub then: Vec<Step>,
    /// Done in order if one does not.
    pub otherwise: Vec<Step>,
}

/// One comparison of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Whose value.
    pub key: Value,
    /// Whether it must be `value`, or must not be.
    pub equal: bool,
    /// What it is compared with; [`Value::Nil`] asks whether the key is there.
    pub value: Value,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reads a key.
    Get(Value),
    /// Gives a key a value.
    Put(Value, Value),
    /// Takes a key away.
    Delete(Value),
}

/// What a client was told when its operation was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done. Says nothing more; of a get it says nothing at all.
    Done,
    /// The value that a get read.
    Read(Value),
    /// Whether a delete found the key.
    Deleted(bool),
    /// How a transaction ended.
    Txn {
        /// Whether all comparisons held.
        held: bool,
        /// What the steps that were done returned, in order: what a get read. `None` says
        /// nothing, nor do the results of other steps, nor does a list that ends early.
        results: Vec<Option<Value>>,
    },
}

/// An operation of a history, as [`History::invoke`] handed it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Call(pub(crate) usize);

/// What clients did, in the order of real time: each call of a method is one event, later than
/// all events before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub(crate) records: Vec<Record>,
    /// How many events there were: the time of the next.
    pub(crate) events: usize,
}

/// One operation from its begin to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) process: Value,
    pub(crate) op: Op,
    pub(crate) begin: usize,
    pub(crate) end: End,
    pub(crate) hint: Option<u64>,
}

/// How an operation ended, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It has not.
    Open,
    /// Its client has given up: it may take effect at any time, or never.
    Lost(usize),
    /// It did not happen.
    Failed(usize),
    /// It was done.
    Done(usize, Outcome),
}

/// An end that does not fit its operation: [`History::complete`] and its like report it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The operation is not one of this history.
    #[error("no such operation")]
    Unknown,
    /// The operation has ended before.
    #[error("the operation has ended before")]
    Ended,
    /// An operation of this kind does not end like that.
    #[error("the outcome is of another kind than the operation")]
    Kind,
}

impl History {
    /// A history without events.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A process begins an operation. The process is only a name for the explanations: any
    /// number of its operations may be under way.
    pub fn invoke(&mut self, process: impl Into<Value>, op: Op) -> Call {
        let begin = self.tick();
        let process = process.into();
        self.records.push(Record { process, op, begin, end: End::Open, hint: None });
        Call(self.records.len() - 1)
    }

    /// An operation was done.
    ///
    /// # Errors
    /// If the operation has ended before, or cannot end like that. Nothing is recorded then.
    pub fn complete(&mut self, call: Call, outcome: Outcome) -> Result<(), Misfit> {
        let record = self.open(call)?;
        let fits = match (&record.op, &outcome) {
            (_, Outcome::Done)
            | (Op::Get { .. }, Outcome::Read(_))
            | (Op::Delete { .. }, Outcome::Deleted(_)) => true,
            (Op::Txn(txn), Outcome::Txn { held, results }) => {
                results.len() <= if *held { txn.then.len() } else { txn.otherwise.len() }
            }
            _ => false,
        };
        if !fits {
            return Err(Misfit::Kind);
        }
        self.end(call, |at| End::Done(at, outcome));
        Ok(())
    }

    /// An operation did not happen and never will. A compare-and-set that fails may have seen
    /// another value than the expected one: see [`FailedCas`](crate::FailedCas).
    ///
    /// # Errors
    /// If the operation has ended before.
    pub fn fail(&mut self, call: Call) -> Result<(), Misfit> {
        self.open(call)?;
        self.end(call, End::Failed);
        Ok(())
    }

    /// A client stops waiting for its operation, which stays open: it may take effect later, or
    /// never. So does an operation whose end is not recorded at all.
    ///
    /// # Errors
    /// If the operation has ended before.
    pub fn lose(&mut self, call: Call) -> Result<(), Misfit> {
        self.open(call)?;
        self.end(call, End::Lost);
        Ok(())
    }

    /// Where the recorder believes that the operation took effect, among all hinted ones. It
    /// makes a search faster that finds the belief confirmed, and decides nothing.
    ///
    /// # Errors
    /// If there is no such operation.
    pub fn hint(&mut self, call: Call, place: u64) -> Result<(), Misfit> {
        self.records.get_mut(call.0).ok_or(Misfit::Unknown)?.hint = Some(place);
        Ok(())
    }

    /// How many operations have begun.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What was known before the event number `events` (counted from 0).
    pub(crate) fn prefix(&self, events: usize) -> Self {
        let mut records = self.records.clone();
        records.retain(|record| record.begin < events);
        for record in &mut records {
            let at = match record.end {
                End::Open => continue,
                End::Lost(at) | End::Failed(at) | End::Done(at, _) => at,
            };
            if at >= events {
                record.end = End::Open;
            }
        }
        Self { records, events: events.min(self.events) }
    }

    fn open(&self, call: Call) -> Result<&Record, Misfit> {
        let record = self.records.get(call.0).ok_or(Misfit::Unknown)?;
        if record.end == End::Open { Ok(record) } else { Err(Misfit::Ended) }
    }

    fn end(&mut self, call: Call, end: impl FnOnce(usize) -> End) {
        let at = self.tick();
        self.records[call.0].end = end(at);
    }

    fn tick(&mut self) -> usize {
        self.events += 1;
        self.events - 1
    }
}

impl Op {
    /// Reads a key.
    pub fn get(key: impl Into<Value>) -> Self {
        Self::Get { key: key.into() }
    }

    /// Gives a key a value.
    pub fn put(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Put { key: key.into(), value: value.into() }
    }

    /// Takes a key away.
    pub fn delete(key: impl Into<Value>) -> Self {
        Self::Delete { key: key.into() }
    }

    /// Appends to a key's text.
    pub fn append(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Append { key: key.into(), value: value.into() }
    }

    /// Gives a key a value if it holds the expected one.
    pub fn cas(key: impl Into<Value>, old: impl Into<Value>, new: impl Into<Value>) -> Self {
        Self::Cas { key: key.into(), old: old.into(), new: new.into() }
    }

    /// The keys that it may read or change, in the order of their mention.
    pub(crate) fn keys(&self) -> Vec<&Value> {
        match self {
            Self::Get { key }
            | Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Append { key, .. }
            | Self::Cas { key, .. } => vec![key],
            Self::Txn(txn) => {
                let steps = txn.then.iter().chain(&txn.otherwise).map(Step::key);
                txn.compares.iter().map(|compare| &compare.key).chain(steps).collect()
            }
        }
    }
}

impl Txn {
    /// A transaction without comparisons and steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// And if the key holds the value; [`Value::Nil`]: if it is not there.
    #[must_use]
    pub fn when(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.compares.push(Compare { key: key.into(), equal: true, value: value.into() });
        self
    }

    /// And if the key holds anything but the value; [`Value::Nil`]: if it is there.
    #[must_use]
    pub fn unless(mut self, key: impl Into<Value>, value: impl Into<Value>) -> Self {
        self.compares.push(Compare { key: key.into(), equal: false, value: value.into() });
        self
    }

    /// And then does this.
    #[must_use]
    pub fn then(mut self, step: Step) -> Self {
        self.then.push(step);
        self
    }

    /// And does this if a comparison does not hold.
    #[must_use]
    pub fn otherwise(mut self, step: Step) -> Self {
        self.otherwise.push(step);
        self
    }
}

impl From<Txn> for Op {
    fn from(txn: Txn) -> Self {
        Self::Txn(txn)
    }
}

impl Step {
    /// Reads a key.
    pub fn get(key: impl Into<Value>) -> Self {
        Self::Get(key.into())
    }

    /// Gives a key a value.
    pub fn put(key: impl Into<Value>, value: impl Into<Value>) -> Self {
        Self::Put(key.into(), value.into())
    }

    /// Takes a key away.
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

impl fmt::Display for Step {
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
            Self::Deleted(found) => f.write_str(if *found { "deleted" } else { "not there" }),
            Self::Txn { held, results } => {
                f.write_str(if *held { "then" } else { "else" })?;
                results.iter().try_for_each(|result| match result {
                    Some(value) => write!(f, " {value}"),
                    None => f.write_str(" ?"),
                })
            }
        }
    }
}
