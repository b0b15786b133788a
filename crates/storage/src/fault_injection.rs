//! Damage of a log below its contract, for simulators and tests.
//!
//! A [`MemoryDisk`] can export its log as records, in the form of every durable store of this crate.
//! Damaged records that are put back pass through the checks of a real store, so that the effects of
//! damage can be tested without a real disk.

use crate::MemoryDisk;
pub use crate::record_set::RecordSet;

/// Returns the log of a disk as records.
#[must_use]
pub fn log_records(disk: &MemoryDisk) -> RecordSet {
    disk.records()
}

/// Replaces the log of a disk by records. A load or a commit fails where they are damaged, and all
/// open handles on the log become invalid.
pub fn replace_log(disk: &MemoryDisk, records: RecordSet) {
    disk.replace(records);
}
