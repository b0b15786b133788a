//! Shared pieces of the benchmarks: one criterion file a layer is in `benches/`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod core;
pub mod protocols;
