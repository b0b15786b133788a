//! What a history means, how far a search may go, and what comes out of it.

use crate::explain::Explanation;
use crate::value::Value;

/// How a history is to be read, and how much may be spent on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What every key holds at the begin. Default: [`Value::Nil`].
    pub init: Value,
    /// What it means that a get read [`Value::Nil`]. Default: [`NilRead::Exact`].
    pub nil_read: NilRead,
    /// What a failed compare-and-set means. Default: [`FailedCas::Observed`].
    pub failed_cas: FailedCas,
    /// Bounds the memory and the time of a search: this many configurations (which operations
    /// have taken effect, and the state that came of it) are visited for each group of keys that
    /// is checked by itself. A configuration takes some 200 bytes, more if over 64 operations are
    /// under way at once; no more than these are in memory at a time. Default: 4 million.
    pub max_configurations: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            init: Value::Nil,
            nil_read: NilRead::Exact,
            failed_cas: FailedCas::Observed,
            max_configurations: 4_000_000,
        }
    }
}

/// What it means that a get read [`Value::Nil`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NilRead {
    /// The key was not there.
    #[default]
    Exact,
    /// Nothing: the recorder does not know what was read.
    Any,
}

/// What it means that a compare-and-set failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedCas {
    /// At some time while it was under way the key held another value than the expected one.
    #[default]
    Observed,
    /// Nothing: it may never have been tried.
    Never,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order of the operations that explains all that clients were told.
    Linearizable,
    /// There is none.
    Illegal(Box<Explanation>),
    /// A bound was reached before an answer was found.
    Unknown(Bound),
}

/// What ended a search without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// [`Options::max_configurations`].
    Configurations,
    /// The caller asked to stop.
    Stopped,
}

impl Verdict {
    /// Whether there is an order that explains everything.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        *self == Self::Linearizable
    }
}
