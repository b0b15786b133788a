//! The interpretation of a history, and the limits of a search.

use crate::value::Value;

/// Interpretation of a history, and limit of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Initial value of every key. Default: [`Value::Nil`].
    pub init: Value,
    /// Meaning of a get that read [`Value::Nil`]. Default: [`NilRead::Exact`].
    pub nil_read: NilRead,
    /// Meaning of a failed compare-and-set. Default: [`FailedCas::Observed`].
    pub failed_cas: FailedCas,
    /// Maximum number of configurations that a search visits for one key, or for one set of keys that
    /// transactions connect. A configuration is a set of operations that have taken effect, with the resulting
    /// state. It takes about 200 bytes, more if over 64 operations are concurrent, so this limits the
    /// memory and the time of a search. Default: 4 million.
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

/// Meaning of a get that read [`Value::Nil`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NilRead {
    /// The key did not exist.
    #[default]
    Exact,
    /// No constraint: the recorder did not record the value.
    Any,
}

/// Meaning of a failed compare-and-set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedCas {
    /// At some time during the operation the key held another value than the expected one.
    #[default]
    Observed,
    /// No constraint: the operation may never have been executed.
    Never,
}

/// Limit at which a search ended without a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchLimit {
    /// [`Options::max_configurations`] was reached.
    Configurations,
    /// The caller's `stop` function returned true.
    Stopped,
}
