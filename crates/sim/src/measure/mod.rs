//! Costs of a protocol without faults, and its time to recover from the crash of a leader.
//!
//! A healthy cluster serves proposers that have one pending write each and submit the next one as
//! soon as it is acknowledged. Everything is counted in the simulation, so a seed gives the same
//! results on every machine. The processor time of cores and codecs is not measured; that is the
//! task of benchmarks.
//!
//! ```
//! use synod_consensus::Protocol;
//! use synod_sim::Violation;
//! use synod_sim::measure::{Effort, Profile, Table};
//! use synod_types::{Membership, NodeId};
//!
//! /// One protocol's rows of a comparison.
//! fn rows<P: Protocol>(
//!     config: fn(NodeId, &Membership, &Profile) -> P::Config,
//! ) -> Result<String, Violation> {
//!     let mut table = Table::new(Effort::default());
//!     table.add::<P>(config)?;
//!     Ok(table.to_string())
//! }
//! ```
//!
//! Proposers that are served together submit together again, so their commands share rounds and
//! messages as well as possible. Where nodes compete, they also synchronise, and collide less than
//! they would in practice.
//!
//! Out of scope: bandwidth and processor time, which are unlimited in a simulated node, so that
//! proposers wait only for messages, syncs and one another.

mod profile;
mod proposers;
mod steady;
mod table;
mod times;

pub use crate::cluster::traffic::Traffic;
pub use profile::{ClientLoad, Configure, Effort, Profile, ProposerHome};
pub use steady::{SteadyState, fail_over, steady};
pub use table::{Row, Table};
pub use times::Times;
