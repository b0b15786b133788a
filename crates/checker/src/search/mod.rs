//! The search for a linearization: an order of operations that explains all recorded outcomes.
//!
//! The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's
//! memoization of configurations ("Testing for linearizability", 2017). A configuration is the set of
//! operations that have taken effect, with the resulting state. A candidate is a remaining operation that
//! can take effect next: no other remaining operation ends before it begins ([`window`]). The search tries
//! one candidate after the other, and backtracks when no candidate is left ([`depth_first`]). The problem is
//! NP-complete (Gibbons and Korach, "Testing shared memories", 1997). In practice the following rules prune
//! most candidates. Each file starts with the soundness argument of its rule:
//!
//! - [`observations`]: an observation that the state confirms takes effect at once.
//! - [`equivalence`]: of candidates with the same action only the one that ends first is tried.
//! - [`overwritten_writes`]: if a write could take effect unobserved right before another write, this position
//!   is marked, and the write is placed there only if it has found no other place by its end.
//! - [`unobserved_writes`]: a write of an unobserved value takes effect right before another write, or at
//!   its end.
//! - [`just_in_time`]: after pending operations only an operation that depends on them is tried.
//! - [`pending_uses`]: pending operations may be used repeatedly until an order is found that does so.
//! - [`supply`], [`reachability`]: a configuration is a dead end if a required value cannot be produced in
//!   time.
//! - [`visited`]: a configuration that an earlier one equals or dominates is not entered.
//!
//! [`ranking`] and [`hint_order`] prune nothing: they define what is tried first.
//!
//! # Soundness of the whole
//! No illegal history is accepted: each step respects real time and the state. Omitting choices cannot change that.
//! Only [`pending_uses`] relaxes the problem, and it verifies each order that it finds.
//!
//! No linearizable history is rejected. A completion of a configuration is an order of the remaining
//! operations that explains their outcomes. For each rule, one of two statements holds. Either the rule keeps
//! a choice with which some completion starts, because every completion can be rearranged so that it starts
//! with such a choice. Or the rule rejects only configurations without a completion. The rules can be
//! combined, because the rearrangements of all rules can be applied until nothing changes: observations only
//! move forward; completed operations only move in front of pending ones, which may be left out; unobserved
//! writes only move next to another write or to their end; and operations with the same action only exchange
//! positions. The tests compare the verdicts with a search through all orders.

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

/// Additional configurations that a strict round (see [`pending_uses`]) may visit, compared with the round
/// before it.
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
        // A strict round may find an order that uses each pending operation once. If it finds none, there may
        // still be one.
        let mut round = DepthFirst::new(problem, &counted, true);
        let small_budget = (visited + STRICT_EXTRA).min(max_configurations);
        if let Ok(true) = round.run(small_budget, stop) {
            let steps = round.into_steps();
            return Ok(Some(records(&steps, problem)));
        }
        kinds.into_iter().for_each(|kind| counted[kind] = true);
    }
}
