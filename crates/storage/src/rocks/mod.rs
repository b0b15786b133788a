//! RocksDB behind both traits (feature `rocksdb`).
//!
//! A store is a folder:
//!
//! | name | what |
//! |---|---|
//! | `SYNOD` | text: kind of store, format, cluster, node, incarnation; written once, as the last file |
//! | `HIGH` | the high-water mark: the last write that is known to be durable |
//! | `LOCK` | held by the process that has the store open |
//! | `db/` | the database |
//!
//! RocksDB checks the data that it reads, but it cannot detect missing data: a write-ahead log that was
//! deleted or truncated is a valid shorter one. For an acceptor that would be a lost promise. So after
//! every durable write its sequence number goes into `HIGH`, and a database that does not reach that
//! number is rejected. `HIGH` itself is not synced with every write of a log: a killed process loses
//! nothing of it, and after a power loss it may be old, which only makes the check weaker.
//!
//! A power loss may tear the one write whose sync had not returned, with holes in any place of it.
//! `tail.rs` tells that write from damage: nothing was written after it, and the mark does not
//! cover it. It is cut off before RocksDB reads the file. Any other fault is rejected by name.
//!
//! A state has no write-ahead log. Its writes stay in memory until a sync, or RocksDB's own need
//! of room, puts them into a table, and the manifest names that table in one edit. So a state
//! opens at the last of these points, whatever else a power loss or a kill left; the log has what
//! is missing.
//!
//! A log's database holds, under one byte that names the kind of key:
//!
//! | key | value |
//! |---|---|
//! | `m` | owner and boot count of the store |
//! | `g` group | the group's head: hard state, base, where its journal begins and ends |
//! | `j` group sequence | one operation of the journal: a run of slots, or a truncation |
//!
//! The head is rewritten with every batch of its group: one small record, so that hard state,
//! base and journal cannot contradict each other. Compaction removes the journal's oldest
//! operations, as far as they have no live slot after the base.
//!
//! Numbers in keys are big-endian, so a group's journal lies together and in order. Sequence
//! numbers have no gap: a lost operation is found, whichever it is. Every value is a version
//! byte, the record in postcard, and a CRC-32 over the key and both, so that a record at the
//! wrong place is found too.
//!
//! A state's database holds `m` and, after the byte `d`, the keys of the state machine with their
//! values as they are: RocksDB's own checksums cover blocks, write-ahead log and manifest, and
//! replicas compare their states' hashes besides.
//!
//! Not provided on purpose: repair, or recovery of the content of a damaged file; a check of the
//! whole database at open (data is checked when it is read, and a node reads its log
//! whole when it starts); a defence against a whole folder put back to an older copy of itself,
//! mark included, which is what incarnations and boots are for.

mod data_dir;
mod database;
mod framing;
mod high_water;
mod log;
mod state;
mod tail;

pub use log::RocksLog;
pub use state::RocksState;
