//! The end of a write-ahead log and of a manifest after a power loss.
//!
//! Unsynced writes reach a disk page by page and in any order, so a power loss may leave holes in them:
//! a later page is present, an earlier one is not. Of a write-ahead
//! log only the last batch is ever in that state, because the next is written after the sync of the
//! one before it. So a fault is a torn write, and is dropped, if all of this holds:
//!
//! - no undamaged record after it starts an entry, and no later write-ahead log has content: the
//!   start of an entry proves that the sync of the entry before it was reported;
//! - the good entries before it reach the high-water mark.
//!
//! Otherwise it is damage, and the store is rejected. The mark is not synced with each write of a log, so one
//! case cannot be told apart: the last batch of all was reported as durable, the power failed
//! before the mark reached the disk, and the disk lost the batch that it had reported as synced.
//! That takes a disk that reports a sync too early, or one that fails in that batch, at that moment.
//!
//! The same rule holds for the edits of a manifest, with two differences. RocksDB may write several
//! edits before one sync; of a log, one that is whole after a torn one is taken for damage, which
//! is the safe side. A state can be recovered from the log, and its mark is synced with each of its
//! syncs: of a state, any fault ends the manifest, and the mark alone decides.

use super::data_dir::Kind;
use super::framing::{Scan, scan};
use crate::StorageError;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// A torn entry that was dropped.
#[derive(Debug)]
pub(super) struct TornEntry {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// Scans the manifest and the write-ahead logs of a database, and drops the torn entry of the last
/// write. `reached` is the high-water mark.
///
/// # Errors
/// [`StorageError::Damaged`] with the file's name, and [`StorageError::Io`] if it cannot be cut.
/// A file that cannot be read is left for RocksDB to report.
pub(super) fn drop_torn_entry(
    database: &Path,
    kind: Kind,
    reached: u64,
) -> Result<Option<TornEntry>, StorageError> {
    let paths = manifest(database).into_iter().chain(logs(database));
    let look = |path: PathBuf| Some((File::open(&path).and_then(scan).ok()?, path));
    let files: Vec<_> = paths.filter_map(look).collect();
    // No file is cut before all are scanned.
    check(&files, kind, reached)?;
    let mut torn = None;
    for (found, path) in files {
        let Some(fault) = found.fault else { continue };
        cut(&path, found.end)?;
        let reason = format!("{} at byte {}", fault.what, fault.at);
        torn.get_or_insert(TornEntry { path, reason });
    }
    Ok(torn)
}

/// Rejects faults that no power loss leaves.
fn check(files: &[(Scan, PathBuf)], kind: Kind, reached: u64) -> Result<(), StorageError> {
    let mut last = None;
    for (index, (found, path)) in files.iter().enumerate() {
        let is_log = is_log(path);
        last = found.last.filter(|_| is_log).or(last);
        let Some(fault) = &found.fault else { continue };
        let has_content = |(newer, _): &(Scan, _)| newer.end > 0 || newer.fault.is_some();
        let proof = if is_log {
            let newer = files[index + 1..].iter().any(has_content);
            later_entry(found).or_else(|| later_log(newer)).or_else(|| marked(last, reached))
        } else if kind == Kind::Log {
            later_entry(found)
        } else {
            None
        };
        if let Some(proof) = proof {
            let reason = format!("{} at byte {}, and {proof}", fault.what, fault.at);
            return Err(StorageError::Damaged { path: path.clone(), reason });
        }
    }
    Ok(())
}

/// Returns that an entry after the fault shows the one at the fault to have been durable.
fn later_entry(found: &Scan) -> Option<String> {
    let later = found.later?;
    Some(format!("an entry starts at byte {later}, so the one before it was durable"))
}

/// Returns the same of a newer write-ahead log.
fn later_log(has_content: bool) -> Option<String> {
    has_content.then(|| "a newer write-ahead log has content, so this one was durable".into())
}

/// Returns that the mark covers more than the log still holds, up to its write `last`.
fn marked(last: Option<u64>, reached: u64) -> Option<String> {
    let last = last.filter(|last| *last < reached)?;
    Some(format!("the log is whole up to write {last}, but {reached} was durable"))
}

/// Shortens a file, durably.
fn cut(path: &Path, end: u64) -> Result<(), StorageError> {
    let file = OpenOptions::new().write(true).open(path);
    let done = file.and_then(|file| {
        file.set_len(end)?;
        file.sync_all()
    });
    done.map_err(|error| StorageError::Io {
        path: path.into(),
        reason: format!("its torn end cannot be cut off: {error}"),
    })
}

/// Returns the path of the manifest in use.
pub(super) fn manifest(database: &Path) -> Option<PathBuf> {
    let current = fs::read_to_string(database.join("CURRENT")).ok()?;
    let name = current.trim_end();
    name.starts_with("MANIFEST-").then(|| database.join(name))
}

/// Returns the paths of the write-ahead logs, oldest first.
pub(super) fn logs(database: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(database).into_iter().flatten().flatten();
    let mut logs: Vec<_> = entries.map(|entry| entry.path()).filter(|path| is_log(path)).collect();
    // Their names are numbers, of six digits or more.
    logs.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    logs
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}
