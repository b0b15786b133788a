//! Where Synod keeps its log and its state: two narrow traits, and memory behind both. RocksDB
//! comes with the feature `rocksdb`.
//!
//! Both traits block, on purpose: whoever drives them owns the thread. Nothing here knows a
//! protocol: stamps, hard states and bases are bytes.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod error;
mod log;
mod state;

pub use error::StorageError;
pub use log::{Batch, Identity, Life, LogOp, LogStore, Saved, StoredRun};
pub use state::{Entries, StateStore, StateView};
