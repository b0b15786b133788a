//! The real program, in real processes.
#![forbid(unsafe_code)]

mod cli;
mod cluster;
mod dev;
mod kill;
mod partition;
mod support;
