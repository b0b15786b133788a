//! Storage of a replica's log and state: two traits, and an implementation of both in memory. The
//! feature `rocksdb` adds one on RocksDB (`RocksLog`, `RocksState`).
//!
//! - A [`LogStore`] commits atomic batches, which are durable when [`commit`](LogStore::commit) returns.
//! - A [`StateStore`] holds ordered keys. It may lag behind the log until it is
//!   [synced](StateStore::sync). Other threads read it through a [`StoreReader`].
//!
//! Calls on both block, so the caller dedicates a thread to each. The crate is independent of the
//! protocol: it stores stamps, hard states and bases as opaque bytes.
//!
//! ```
//! use synod_storage::{Batch, LogOp, LogStore, MemoryDisk, StoredRun, conformance};
//! use synod_types::{GroupId, Incarnation, Slot, Values};
//!
//! # fn main() -> Result<(), synod_storage::StorageError> {
//! let disk = MemoryDisk::new(Incarnation(7));
//! let mut log = disk.open_log();
//! let values = Values::command_only(b"set x");
//! let run = StoredRun { first: Slot(1), stamp: vec![1].into(), values };
//! let group = GroupId(1);
//! log.commit(&Batch {
//!     ops: vec![(group, LogOp::HardState(b"vote".to_vec().into())), (group, LogOp::Put(run))],
//! })?;
//!
//! // The node crashes and restarts.
//! disk.crash(0);
//! let mut log = disk.open_log();
//! assert_eq!(log.boot_id().boot, 2);
//! let saved = log.load(group)?;
//! assert_eq!(saved.hard_state.as_deref(), Some(&b"vote"[..]));
//! assert_eq!(conformance::flatten(&saved).len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # After a power loss
//! Only the last batch of a RocksDB log can be unsynced, because each batch is written after the sync
//! of the previous one. A torn last batch is dropped. Any other fault is damage: `open` or `load` fails
//! with the name of the file. A RocksDB state has no write-ahead log: a sync writes a table, the store
//! opens with the content of its last flush, and the node applies the rest from the log again.
//!
//! # Testing
//! To test your own store, run the suites of [`conformance`] on it: see `examples/own_log_store.rs`.
//! [`fault_injection`] corrupts the records of a log in memory.
//!
//! # Not supported
//! - Threads and queues: a writer merges batches with [`Batch::append`] and commits them in one call.
//! - Transfer of snapshots: a state machine reads them from a [view](StoreReader::view).
//! - Repair, except that a torn last batch is dropped.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod compaction;
pub mod conformance;
mod error;
pub mod fault_injection;
mod log;
mod memory;
mod record_codec;
mod record_set;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod state;

pub use error::StorageError;
pub use log::{Batch, BootId, LogOp, LogStore, StoreIdentity, StoredGroup, StoredRun};
pub use memory::{MemoryDisk, MemoryLog, MemoryState};
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksLog, RocksState};
pub use state::{StateStore, StoreEntries, StoreReader, StoreView};
