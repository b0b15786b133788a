//! Where Synod keeps its log and its state: two narrow traits, and memory behind both. RocksDB
//! comes with the feature `rocksdb` (`RocksLog`, `RocksState`).
//!
//! A [`LogStore`] takes batches that are durable, whole, when [`commit`](LogStore::commit)
//! returns; a [`StateStore`] holds ordered keys and may lag behind until it is
//! [synced](StateStore::sync). Both block, on purpose: whoever drives them owns the thread.
//! Nothing here knows a protocol: stamps, hard states and bases are bytes.
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
//! // The node dies and starts again.
//! disk.crash(0);
//! let mut log = disk.open_log();
//! assert_eq!(log.life().boot, 2);
//! let saved = log.load(group)?;
//! assert_eq!(saved.hard_state.as_deref(), Some(&b"vote"[..]));
//! assert_eq!(conformance::flatten(&saved).len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # After a power loss
//! Only the last batch of a RocksDB log can be unsynced, because the next is written after its
//! sync. If it is torn, it is dropped; any other fault is damage and refused by name. A RocksDB
//! state has no write-ahead log: a sync writes a table, the store opens at its last flush, and the
//! log has the rest.
//!
//! A store of your own implements the trait and runs through the suite of [`conformance`]; see
//! `examples/own_log_store.rs`.
//!
//! Left out on purpose: threads and queues (a writer merges batches with [`Batch::append`] and
//! commits them in one call), snapshots that travel (a state machine reads them from a
//! [view](StateStore::view)), and any repair: beyond a torn last
//! batch, a damaged store is refused.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod conformance;
mod error;
mod journal;
mod log;
mod memory;
mod record;
mod records;
#[cfg(feature = "rocksdb")]
pub mod rocks;
mod state;

pub use error::StorageError;
pub use log::{Batch, Identity, Life, LogOp, LogStore, Saved, StoredRun};
pub use memory::{MemoryDisk, MemoryLog, MemoryState};
pub use records::Records;
#[cfg(feature = "rocksdb")]
pub use rocks::{RocksLog, RocksState};
pub use state::{Entries, StateStore, StateView};
