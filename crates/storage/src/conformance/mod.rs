//! Conformance suites for stores: the ones of this crate and your own.
//!
//! Implement a [`Fixture`] that opens your store, then call [`log_store`] or
//! [`state_store`] from a test. The suite panics with the rule that a store breaks and
//! the content that it found.
//!
//! ```
//! use synod_storage::conformance::{self, Fixture};
//! use synod_storage::{MemoryDisk, MemoryLog};
//! use synod_types::Incarnation;
//!
//! struct Memory(MemoryDisk);
//!
//! impl Fixture for Memory {
//!     type Store = MemoryLog;
//!
//!     fn open(&mut self) -> MemoryLog {
//!         self.0.open_log()
//!     }
//!
//!     fn crash(&mut self, _: MemoryLog) {
//!         self.0.crash(0);
//!     }
//! }
//!
//! conformance::log_store(|| Memory(MemoryDisk::new(Incarnation(7))));
//! ```
//!
//! For property tests and fuzzers, [`log_steps`] and [`state_steps`] turn any bytes into a valid script,
//! and [`check_log`] and [`check_state`] run it against a reference.

mod log;
mod model;
mod script;
mod state;

pub use log::{check_log, log_store};
pub use model::{Slots, flatten};
pub use script::{LogStep, StateStep, log_steps, state_steps};
pub use state::{check_state, state_store};

/// Disk of one store, which outlives the store and opens it.
pub trait Fixture {
    /// Store under test.
    type Store;

    /// Opens the store, which is empty the first time. The store of the previous call was dropped, or
    /// passed to [`crash`](Self::crash).
    fn open(&mut self) -> Self::Store;

    /// Ends the store in the manner of a power loss, as far as the fixture can: data that is not durable
    /// may be lost, and nothing is cleaned up.
    fn crash(&mut self, store: Self::Store);
}

/// The number of generated scripts that the suites run, and their length in bytes.
const SCRIPTS: u64 = 24;
const SCRIPT_BYTES: usize = 600;

/// Returns pseudo-random bytes, the same for a seed on every machine (SplitMix64).
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(SCRIPT_BYTES + 8);
    while bytes.len() < SCRIPT_BYTES {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes());
    }
    bytes
}
