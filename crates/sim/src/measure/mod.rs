//! Costs of a protocol without faults, and its time to recover from the crash of a leader.
//!
//! A healthy cluster serves proposers that have one pending write each and submit the next one as
//! soon as it is acknowledged. All results are in simulated time, so a seed gives the same results
//! on every machine. The processor time of protocol cores and codecs is left to benchmarks.
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
//! Proposers that are served together submit together again. So their commands are batched better
//! than in practice, and proposers of competing nodes synchronise and collide less.
//!
//! Out of scope: limited bandwidth and processor time. Proposers wait only for message delays,
//! syncs and one another.

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
