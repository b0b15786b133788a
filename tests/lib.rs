//! What the tests that cross crates share with programs: the list of bugs that shipped elsewhere,
//! and the runner of planted ones.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bugs;
pub mod mutants;
