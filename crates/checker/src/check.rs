//! A history from end to end: split, searched, explained.

use crate::compile::{compile, groups};
use crate::explain::explain;
use crate::history::History;
use crate::options::{Bound, Options, Verdict};
use crate::search::{Bounds, search};

/// Checks a history, and explains why it is illegal if it is.
///
/// If some keys are illegal and others unknown, the history is illegal: more time would not make
/// it linearizable.
#[must_use]
pub fn check(history: &History, options: &Options) -> Verdict {
    check_until(history, options, &mut || false)
}

/// Like [`check`], but asks every thousand steps or so whether to stop: the way to a time limit.
#[must_use]
pub fn check_until(
    history: &History,
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Verdict {
    let mut unknown = None;
    for group in groups(history) {
        match search_group(history, &group, options, stop) {
            Ok(Some(_)) => {}
            Ok(None) => return Verdict::Illegal(Box::new(explain(history, &group, options, stop))),
            Err(bound) => unknown = Some(bound),
        }
    }
    unknown.map_or(Verdict::Linearizable, Verdict::Unknown)
}

/// Like [`check_until`], without the explanation, which takes longer than the verdict.
///
/// # Errors
/// The bound that was reached before an answer was found.
pub fn is_linearizable(
    history: &History,
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Result<bool, Bound> {
    let mut verdict = Ok(true);
    for group in groups(history) {
        match search_group(history, &group, options, stop) {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(false),
            Err(bound) => verdict = Err(bound),
        }
    }
    verdict
}

/// An order for the records of a group, by their places in the history; `None`: there is none.
pub(crate) fn search_group(
    history: &History,
    group: &[usize],
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<usize>>, Bound> {
    let mut component = compile(history, group, options);
    let mut bounds = Bounds { max_configurations: options.max_configurations, stop };
    search(&mut component, &mut bounds)
}
