//! A deterministic simulator for consensus: virtual clock, network, disks, faults and invariants.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
