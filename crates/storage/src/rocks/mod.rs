//! Implementations of both traits on RocksDB (feature `rocksdb`).
//!
//! # Folder
//! A store is a folder:
//!
//! | name | content |
//! |---|---|
//! | `SYNOD` | text: kind of store, format, cluster, node, incarnation; written last when the store is created |
//! | `HIGH` | the high-water mark: the number of the last write that is known to be durable |
//! | `LOCK` | locked by the process that has the store open |
//! | `db/` | the database |
//!
//! # Missing data
//! RocksDB checks the data that it reads, but cannot detect missing data: a deleted or truncated
//! write-ahead log looks like a valid shorter one. For an acceptor, missing data is a lost promise. So
//! each durable write records its sequence number in `HIGH`, and an open rejects a database that ends
//! before that number. A log does not sync `HIGH` with every write. A killed process loses nothing of it;
//! after a power loss it may be old, which only makes the check weaker.
//!
//! # Torn writes
//! A power loss may tear the one write whose sync had not returned, with holes anywhere in it. `tail.rs`
//! distinguishes it from damage: no write follows it, and the high-water mark does not cover it. A torn
//! write is cut off before RocksDB reads the file. Any other fault is an error with the name of the file.
//!
//! A state has no write-ahead log. Its writes stay in memory until a sync, or a full write buffer, flushes
//! them to a table, which one edit of the manifest adds to the database. After a power loss or a kill the
//! state therefore opens with the content of the last flush, and the node applies the rest from the log.
//!
//! # Keys and values of a log
//! The first byte of a key is its kind:
//!
//! | key | value |
//! |---|---|
//! | `m` | owner and boot count of the store |
//! | `g` group | the group's head: hard state, base, first and next sequence number of the journal |
//! | `j` group sequence | one operation of the journal: a run of slots, or a truncation |
//!
//! The head is rewritten with every batch of its group. Hard state, base and the bounds of the journal are
//! one record, so that they cannot contradict each other. Compaction removes the journal's oldest
//! operations, as long as they have no live slot after the base.
//!
//! Numbers in keys are big-endian, so that the journal of a group is one ordered range of keys. Sequence
//! numbers have no gaps, so that any lost operation is detected. Every value is a version byte, the record
//! in postcard, and a CRC-32 over the key and both, so that a record under a wrong key is detected, too.
//!
//! # Keys and values of a state
//! The database holds `m` and, after the byte `d`, the keys of the state machine. Values are stored without
//! a checksum of their own: RocksDB's checksums cover blocks, write-ahead log and manifest, and replicas
//! compare hashes of their states.
//!
//! # Not supported
//! - Repair of a damaged file, or recovery of its content.
//! - A check of the whole database at open. Data is checked when it is read, and a node reads its whole
//!   log when it starts.
//! - Detection of a folder that was replaced by an older copy of itself, including `HIGH`. Peers detect this
//!   by incarnations and boot counts.

mod data_dir;
mod database;
mod framing;
mod high_water;
mod log;
mod state;
mod tail;

pub use log::RocksLog;
pub use state::RocksState;
