//! What every store must do, as tests: for the stores here and for yours.
//!
//! Tell the suite how to open your store with a [`Fixture`], then call [`log_store`] or
//! [`state_store`] from a test. A store that breaks a rule makes the suite panic with the rule and
//! what was found.
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
//! For searches of your own, [`log_steps`] and [`state_steps`] turn any bytes, from a property
//! test or a fuzzer, into a sensible script, and [`check_log`] and [`check_state`] run it against a
//! reference.

mod log;
mod model;
mod script;
mod state;

pub use log::{check_log, log_store};
pub use model::{Slots, flatten};
pub use script::{LogStep, StateStep, log_steps, state_steps};
pub use state::{check_state, state_store};

/// One store's disk, which outlives the store: how the suite opens it, again and again.
pub trait Fixture {
    /// The store.
    type Store;

    /// Opens the store; the first time there is nothing yet. The store that was opened before was
    /// dropped, or handed to [`crash`](Self::crash).
    fn open(&mut self) -> Self::Store;

    /// Ends the store as a power loss would, as near as the fixture can come to that: what is not
    /// durable may be lost, and nothing is tidied up.
    fn crash(&mut self, store: Self::Store);
}

/// Scripts that the suites run besides the written cases, and their length in bytes.
const SCRIPTS: u64 = 24;
const SCRIPT_BYTES: usize = 600;

/// Bytes that look random and are the same for a seed everywhere (SplitMix64).
fn noise(seed: u64) -> Vec<u8> {
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
