//! Checks recorded histories for linearizability.
fn main() {}
