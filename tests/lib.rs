//! Code that the workspace's tests share with the programs `bugs` and `mutants`: the catalogue of bugs of other
//! projects, and the runner of planted bugs.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod bugs;
pub mod mutants;
