//! Tests of the core through its public face: the paper's rules, bugs that shipped elsewhere, and
//! arbitrary input.

mod cluster;
mod elections;
