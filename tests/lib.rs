//! What the tests that cross crates share with programs: the runner of planted bugs.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod mutants;
