//! Linearizability of recorded histories: a checker as a library and a program.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
