//! The check of a history: partition it by keys, search for an order of each part, explain a failure.

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

/// Checks a history. If it is illegal, explains why.
///
/// One illegal key makes the history illegal, even if the search of another key reached a limit.
#[must_use]
pub fn check(history: &History, options: &Options) -> Verdict {
    check_until(history, options, &mut || false)
}

/// Checks a history like [`check`], but stops when `stop` returns true, for example at a deadline. The search
/// calls `stop` about every thousand steps. A part of the history whose search was stopped is
/// [unknown](SearchLimit::Stopped).
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

/// Checks a history like [`check_until`], but does not explain an illegal one. An explanation takes longer than
/// the verdict.
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
