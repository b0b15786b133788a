//! The check of a history: partition, search, explanation.

use crate::explain::{Explanation, explain};
use crate::history::History;
use crate::options::{Options, SearchLimit};
use crate::partition::partition;
use crate::search::find_order;

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order of the operations explains all outcomes.
    Linearizable,
    /// No order of the operations explains all outcomes.
    Illegal(Box<Explanation>),
    /// The search reached a limit before a verdict.
    Unknown(SearchLimit),
}

impl Verdict {
    /// Returns whether the history is linearizable.
    #[must_use]
    pub fn is_linearizable(&self) -> bool {
        *self == Self::Linearizable
    }
}

/// Checks a history. Explains an illegal one.
///
/// A history with illegal and unknown keys is illegal: more time would not make it linearizable.
#[must_use]
pub fn check(history: &History, options: &Options) -> Verdict {
    check_until(history, options, &mut || false)
}

/// Checks a history like [`check`], until `stop` returns true. The search calls it about every thousand
/// steps, so it can impose a time limit.
#[must_use]
pub fn check_until(
    history: &History,
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Verdict {
    let mut unknown = None;
    for part in partition(history) {
        match find_order(history, &part, options, stop) {
            Ok(Some(_)) => {}
            Ok(None) => return Verdict::Illegal(Box::new(explain(history, &part, options, stop))),
            Err(limit) => unknown = Some(limit),
        }
    }
    unknown.map_or(Verdict::Linearizable, Verdict::Unknown)
}

/// Checks a history like [`check_until`], without an explanation, which takes longer than the verdict.
///
/// # Errors
/// The limit that was reached before a verdict.
pub fn is_linearizable(
    history: &History,
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Result<bool, SearchLimit> {
    let mut verdict = Ok(true);
    for part in partition(history) {
        match find_order(history, &part, options, stop) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(limit) => verdict = Err(limit),
        }
    }
    verdict
}
