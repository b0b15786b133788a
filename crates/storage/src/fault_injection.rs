//! Corruption of stored log records, for simulators and tests.
//!
//! A [`MemoryDisk`] exports its log as records, in the encoding of the durable stores of this crate.
//! A test corrupts the records and puts them back. The next load checks them as a RocksDB log
//! does, so that the effects of damage are tested without a real disk.

use crate::MemoryDisk;
pub use crate::record_set::RecordSet;

/// Returns the log of a disk as records.
#[must_use]
pub fn log_records(disk: &MemoryDisk) -> RecordSet {
    disk.records()
}

/// Replaces the log of a disk by records. Open handles on the log become invalid. Loads of a group with
/// damaged records, and commits to it, fail.
pub fn replace_log(disk: &MemoryDisk, records: RecordSet) {
    disk.replace(records);
}
