//! Torn writes at the end of a write-ahead log or a manifest after a power loss.
//!
//! Unsynced writes reach a disk page by page and in any order, so a power loss may leave holes in them: a
//! later page is present, an earlier one is missing. In a write-ahead log only the last batch can be in that
//! state, because each batch is written after the sync of the previous one. A fault is a torn write, and is
//! dropped, if both conditions hold:
//!
//! - No valid record after the fault starts an entry, and no later write-ahead log has content. The start
//!   of an entry proves that the previous entry was synced.
//! - The valid entries before the fault reach the high-water mark.
//!
//! Otherwise the fault is damage, and the store is rejected.
//!
//! # Limit
//! The mark is not synced with each write of a log, so one case is not detected: the last batch of all was
//! reported as durable, the power failed before the mark reached the disk, and the disk lost that
//! batch. This needs a disk that reports a sync too early, or that damages exactly this batch.
//!
//! # Manifests
//! The same rule applies to the edits of a manifest, with two differences. RocksDB may write several edits
//! before one sync: in a log's manifest a valid edit after a torn one counts as damage, which is safe. A
//! state can be recovered from the log, and its mark is synced with each of its syncs: in a state's manifest
//! any fault is the end, and only the mark decides.

use super::data_dir::Kind;
use super::framing::{Scan, scan};
use crate::StorageError;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

/// Torn entry that was dropped.
#[derive(Debug)]
pub(super) struct TornEntry {
    pub(super) path: PathBuf,
    pub(super) reason: String,
}

/// Scans the manifest and the write-ahead logs of a database, and drops the torn entry of the last
/// write. `reached` is the high-water mark. Unreadable files are skipped: RocksDB reports them.
///
/// # Errors
/// [`StorageError::Damaged`] with the file's name if a fault is damage, and [`StorageError::Io`] if a file
/// cannot be truncated.
pub(super) fn drop_torn_entry(
    database: &Path,
    kind: Kind,
    reached: u64,
) -> Result<Option<TornEntry>, StorageError> {
    let paths = manifest(database).into_iter().chain(logs(database));
    let look = |path: PathBuf| Some((File::open(&path).and_then(scan).ok()?, path));
    let files: Vec<_> = paths.filter_map(look).collect();
    // All files are checked before the first is cut: a rejected store stays as it is.
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

/// Rejects faults that a power loss cannot cause.
fn check(files: &[(Scan, PathBuf)], kind: Kind, reached: u64) -> Result<(), StorageError> {
    let mut last = None;
    for (index, (found, path)) in files.iter().enumerate() {
        let is_log = is_log(path);
        // The last write before the fault may be in an earlier file.
        last = found.last.filter(|_| is_log).or(last);
        let Some(fault) = &found.fault else { continue };
        let has_content = |(newer, _): &(Scan, _)| newer.end > 0 || newer.fault.is_some();
        // A torn write is the last one, so any proof that another write followed makes the fault damage.
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

/// Returns the proof by a later entry of the file: the entry at the fault was durable.
fn later_entry(found: &Scan) -> Option<String> {
    let later = found.later?;
    Some(format!("an entry starts at byte {later}, so the one before it was durable"))
}

/// Returns the proof by a newer write-ahead log: this one was durable when the newer one was created.
fn later_log(has_content: bool) -> Option<String> {
    has_content.then(|| "a newer write-ahead log has content, so this one was durable".into())
}

/// Returns the proof by the high-water mark: it covers more writes than the log, which ends at `last`.
fn marked(last: Option<u64>, reached: u64) -> Option<String> {
    let last = last.filter(|last| *last < reached)?;
    Some(format!("the log is valid up to write {last}, but write {reached} was durable"))
}

/// Truncates a file durably.
fn cut(path: &Path, end: u64) -> Result<(), StorageError> {
    let file = OpenOptions::new().write(true).open(path);
    let done = file.and_then(|file| {
        // Synced before RocksDB appends: the old end must not reappear after the next power loss.
        file.set_len(end)?;
        file.sync_all()
    });
    done.map_err(|error| StorageError::Io {
        path: path.into(),
        reason: format!("cannot truncate the torn end of the file: {error}"),
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
    // The names are numbers of six or more digits, so shorter names are older.
    logs.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
    logs
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "log")
}
