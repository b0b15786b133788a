//! The search for a linearization: an order of operations that explains all recorded outcomes.
//!
//! The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's
//! memoization of configurations ("Testing for linearizability", 2017). A configuration is the set of
//! operations that have taken effect, with the resulting state. A candidate is a remaining operation that
//! can take effect next: no other remaining operation ends before it begins ([`window`]). The search lets
//! one candidate after the other take effect, and backtracks where no candidate leads on
//! ([`depth_first`]). The problem is NP-complete (Gibbons and Korach, "Testing shared memories", 1997). In
//! practice the following rules leave few choices. Each file starts with its soundness argument:
//!
//! - [`observations`]: an observation that the state confirms takes effect at once.
//! - [`equivalence`]: of candidates with the same action only the one that ends first is tried.
//! - [`overwritten_writes`]: a write that could be overwritten at once is marked, and decided at its end.
//! - [`unobserved_writes`]: a write of an unobserved value takes effect right before another write, or at
//!   its end.
//! - [`just_in_time`]: after pending operations only an operation that depends on them is tried.
//! - [`pending_uses`]: uses of pending operations are not counted until an order uses too many.
//! - [`supply`], [`reachability`]: a configuration is a dead end if a required value cannot be produced in
//!   time.
//! - [`visited`]: a configuration that an earlier one equals or dominates is not entered.
//!
//! [`ranking`] and [`hint_order`] prune nothing: they define what is tried first.
//!
//! # Soundness of the whole
//! No illegal history is accepted: each step obeys real time and the state. To leave out choices cannot change that.
//! Only [`pending_uses`] relaxes the problem, and it verifies each order that it finds.
//!
//! No linearizable history is rejected: call the orders of the remaining operations that explain their
//! outcomes the completions of a configuration. Each rule turns any completion into one that starts with a
//! choice that the rule leaves, or it rejects only configurations without a completion. The rules can be
//! combined, because their exchanges can be applied until nothing changes: observations only move
//! forward; completed operations only move in front of pending ones, which may disappear; unobserved
//! writes only move next to another write or to their end; and operations with the same action only trade
//! places. The tests compare the verdicts with a search through all orders.

mod depth_first;
mod equivalence;
mod hint_order;
mod just_in_time;
mod linearization;
mod observations;
mod overwritten_writes;
mod pending_uses;
mod ranking;
mod reachability;
mod step;
mod supply;
mod unobserved_writes;
mod visited;
mod window;

use crate::compile::compile;
use crate::history::History;
use crate::options::{Options, SearchLimit};
use crate::problem::Problem;
use depth_first::DepthFirst;
use hint_order::follow_hints;
use pending_uses::overused;
use step::records;

/// Configurations that a strict round may visit in addition to the number that the round before visited.
const STRICT_EXTRA: usize = 100_000;

/// Returns the records of a part of a history in an order that explains it, or `None` if there is no
/// such order.
pub(crate) fn find_order(
    history: &History,
    part: &[usize],
    options: &Options,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<usize>>, SearchLimit> {
    let mut problem = compile(history, part, options);
    if let Some(order) = follow_hints(&mut problem) {
        return Ok(Some(order));
    }
    search(&mut problem, options.max_configurations, stop)
}

/// Searches in rounds: see [`pending_uses`].
fn search(
    problem: &mut Problem,
    max_configurations: usize,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Vec<usize>>, SearchLimit> {
    let mut counted = vec![false; problem.pending.len()];
    let mut budget = max_configurations;
    loop {
        let mut round = DepthFirst::new(problem, &counted, false);
        let found = round.run(budget, stop)?;
        let visited = round.visited_count();
        let steps = round.into_steps();
        // The configurations of all rounds count against the limit.
        budget = budget.saturating_sub(visited);
        if !found {
            return Ok(None);
        }
        let Some(kinds) = overused(&steps, &problem.pending) else {
            return Ok(Some(records(&steps, problem)));
        };
        // An order that uses no kind too often may be easy to find. A failure proves nothing.
        let mut round = DepthFirst::new(problem, &counted, true);
        let small_budget = (visited + STRICT_EXTRA).min(max_configurations);
        if let Ok(true) = round.run(small_budget, stop) {
            let steps = round.into_steps();
            return Ok(Some(records(&steps, problem)));
        }
        kinds.into_iter().for_each(|kind| counted[kind] = true);
    }
}
