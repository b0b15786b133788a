//! Exhaustive exploration: every state that a small cluster can reach within a budget.

pub(crate) mod model;
mod node_step;
pub(crate) mod search;
pub(crate) mod setup;
pub(crate) mod state;

pub(crate) use node_step::panicked;
