//! Conformance suites for the stores of this crate and for your own.
//!
//! Implement a [`Fixture`] that opens your store, then call [`log_store`] or [`state_store`] from a test.
//! The suite panics if the store violates a rule; the message states the rule and the content found.
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
//! For property tests and fuzzers, [`log_steps`] and [`state_steps`] convert any bytes to a valid script.
//! [`check_log`] and [`check_state`] run the script on a store and compare it with a reference model.

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

    /// Opens the store, which is empty the first time. The previous store was dropped or passed to
    /// [`crash`](Self::crash) before.
    fn open(&mut self) -> Self::Store;

    /// Stops the store like a power loss, as far as the fixture can simulate one: data that is not durable
    /// may be lost, and the store must not flush or clean up.
    fn crash(&mut self, store: Self::Store);
}

/// Number of generated scripts that each suite runs.
const SCRIPTS: u64 = 24;
/// Number of random bytes from which a script is generated.
const SCRIPT_BYTES: usize = 600;

/// Returns pseudo-random bytes (SplitMix64). A seed has the same bytes on every machine, so that failures
/// are reproducible.
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
