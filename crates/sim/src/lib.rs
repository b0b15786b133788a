//! A deterministic simulator for consensus: virtual clock, network, disks, faults and invariants.
//!
//! It runs the shipped driver, [`Replica`](synod_replica::Replica), with its codec, fences and
//! sessions, over simulated disks and a simulated network, in one thread, under a clock that jumps
//! to whatever happens next. One seed decides everything.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod campaign;
mod check;
mod clients;
mod cluster;
pub mod conformance;
mod dice;
mod digest;
mod disk;
mod drive;
mod faults;
mod inject;
mod journal;
mod kv;
mod network;
mod node;
mod plan;
mod queue;
mod run;
pub mod script;
mod violation;

pub use campaign::{Campaign, Summary};
pub use cluster::{Cluster, ConfigFn};
pub use faults::{Family, Fault, FaultSet};
pub use plan::{ClientPlan, DiskPlan, InjectionPlan, NetworkPlan, Plan};
pub use run::{Options, Report, run_seed};
pub use violation::{Violation, ViolationKind};
