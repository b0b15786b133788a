//! Costs of a protocol while nothing fails, and its time to recover from the death of a leader.
//!
//! A healthy cluster serves proposers that have one pending write each: when it is acknowledged,
//! the next one follows at once. Everything is counted in the simulation, so the same seed measures
//! the same on every machine; no clock is read, and the time that cores and codecs take is not part
//! of it (that is what benchmarks are for).
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
//! Proposers that are served together ask together again, so their commands share rounds and
//! messages as well as they ever can; and where nodes compete, asking at once lets them fall into
//! step and collide less than they would in life.
//!
//! Left out on purpose: bandwidth and processor time, of which a simulated node has no end, so
//! that many proposers wait only for messages, syncs and one another.

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
