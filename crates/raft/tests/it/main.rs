//! Tests of the core through its public API: the paper's rules, bugs that shipped elsewhere, and
//! arbitrary input.

mod arbitrary;
mod bugs;
mod cluster;
mod elections;
mod flow;
mod reads;
mod replication;
mod snapshots;
mod terms;
mod walk;
mod wire;
