//! The search for a linearization: an order of operations that explains all answers.
//!
//! The algorithm is Wing and Gong's ("Testing and verifying concurrent objects", 1993) with Lowe's
//! memory of visited configurations ("Testing for linearizability", 2017). It goes forward by letting
//! one candidate after the other take effect ([`window`]), and backtracks when none is left
//! ([`depth_first`]). The problem is NP-complete (Gibbons and Korach, "Testing shared memories", 1997);
//! in practice the following rules leave few choices. Each file starts with its soundness argument:
//!
//! - [`observations`]: an observation that the state confirms takes effect at once.
//! - [`equivalence`]: of operations with the same action the one that ends first goes first.
//! - [`overwritten_writes`]: a write may go unnoticed right before another one to its key.
//! - [`unobserved_writes`]: a write of a value that no operation observes goes right before another
//!   write, or as late as it can.
//! - [`just_in_time`]: a pending operation takes effect only if the next operation builds on it.
//! - [`pending_uses`]: uses of pending operations are not counted until an order uses too many.
//! - [`supply`], [`reachability`]: a state is given up if a value that is needed soon cannot come about.
//! - [`visited`]: no configuration is entered again, and none that is no better than an earlier one.
//!
//! [`ranking`] and [`hint_order`] prune nothing: they choose what is tried first.

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

/// Additional configurations of a strict round, beyond those of the round before.
const STRICT_EXTRA: usize = 100_000;

/// Returns the records of a part of a history in an order that explains it, or `None` if there is
/// none.
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

/// Searches in rounds, as [`pending_uses`] explains.
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
        // The next round remembers as many again.
        budget = budget.saturating_sub(visited);
        if !found {
            return Ok(None);
        }
        let Some(kinds) = overused(&steps, &problem.pending) else {
            return Ok(Some(records(&steps, problem)));
        };
        // An order that uses none too often may be easy to find.
        let mut round = DepthFirst::new(problem, &counted, true);
        let small_budget = (visited + STRICT_EXTRA).min(max_configurations);
        if let Ok(true) = round.run(small_budget, stop) {
            let steps = round.into_steps();
            return Ok(Some(records(&steps, problem)));
        }
        kinds.into_iter().for_each(|kind| counted[kind] = true);
    }
}
