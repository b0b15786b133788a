//! Runs: of one seed, of many, of a failure that is shrunk, and of a case that replays it.

pub(crate) mod campaign;
pub(crate) mod case;
pub(crate) mod load_run;
pub(crate) mod run;
pub mod search;
pub(crate) mod shrink;
pub(crate) mod spec;
mod wait;
