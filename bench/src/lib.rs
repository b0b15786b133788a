//! Shared code of the benchmarks. `benches/` has one criterion file per layer.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod core;
pub mod protocols;
