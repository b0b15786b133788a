//! Exhaustive model checking of the shipped protocol cores.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
