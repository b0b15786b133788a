//! Shared code of the benchmarks in `benches/`: a Criterion benchmark for each of three layers, and the
//! comparison of the protocols in the simulator.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod core;
pub mod protocols;
