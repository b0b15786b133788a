//! Code that workspace-wide tests share with programs: the catalogue of bugs that shipped elsewhere,
//! and the runner of planted bugs.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bugs;
pub mod mutants;
