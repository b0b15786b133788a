//! Runs of seeds: one, a search of many, the shrinking of a failure, and its replay.

pub(crate) mod campaign;
pub(crate) mod case;
pub(crate) mod load_run;
pub(crate) mod run;
pub mod search;
pub(crate) mod shrink;
pub(crate) mod spec;
mod wait;
