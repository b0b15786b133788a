//! Folder of a store: its lock and its marker, the file `SYNOD`.

use crate::record_codec::FORMAT;
use crate::{StorageError, StoreIdentity};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use synod_types::{ClusterId, Incarnation, NodeId};

const LOCK: &str = "LOCK";
/// Number of retries if a folder is locked.
const LOCK_TRIES: u32 = 20;
/// Pause before each retry.
const LOCK_PAUSE: Duration = Duration::from_millis(10);
const MARKER: &str = "SYNOD";
/// Name of the marker until the creation of the store is complete.
const UNFINISHED: &str = "SYNOD.new";
const HIGH: &str = "HIGH";
const DATABASE: &str = "db";

/// Kind of store in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Log,
    State,
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Log => "synod log store",
            Self::State => "synod state store",
        }
    }
}

/// Content of the file `SYNOD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    pub(super) kind: Kind,
    pub(super) identity: StoreIdentity,
    pub(super) incarnation: Incarnation,
}

/// Folder of a store, locked until this is dropped.
pub(super) struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Locks a file. Retries for a short time: a forked child inherits the locks of its parent until it executes
/// its program, so a released lock may be held for some milliseconds more.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    file.try_lock()
}

impl DataDir {
    /// Inspects and locks the folder, and creates it if it does not exist. A foreign folder is not changed.
    pub(super) fn lock(path: &Path) -> Result<Self, StorageError> {
        // Before the lock file is created: no file may be added to a foreign folder.
        inspect(path)?;
        fs::create_dir_all(path).map_err(|error| io(path, "cannot be created", &error))?;
        let file = path.join(LOCK);
        let lock = OpenOptions::new().write(true).create(true).truncate(false).open(&file);
        let lock = lock.map_err(|error| io(&file, "cannot be opened", &error))?;
        match try_lock(&lock) {
            Ok(()) => Ok(Self { path: path.into(), _lock: lock }),
            // Two processes with one log would both vote with it.
            Err(TryLockError::WouldBlock) => Err(StorageError::Io {
                path: path.into(),
                reason: "the store is in use: another process has it open, or this process opened \
                         it twice"
                    .into(),
            }),
            Err(TryLockError::Error(error)) => Err(io(&file, "cannot be locked", &error)),
        }
    }

    /// Returns the marker of the store, or `None` if the folder has no complete store. Removes the database
    /// of an incomplete one.
    pub(super) fn marker(&self) -> Result<Option<Marker>, StorageError> {
        // Inspected again, because another process may have changed it before the lock was acquired.
        match inspect(&self.path)? {
            DirContent::Store => {
                let path = self.path.join(MARKER);
                let text = fs::read(&path).map_err(|error| io(&path, "cannot be read", &error))?;
                Marker::parse(&path, &text).map(Some)
            }
            DirContent::Unfinished => {
                // The process stopped before it used the store, so its content is not needed.
                let database = self.database();
                match fs::remove_dir_all(&database) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(io(&database, "cannot be removed", &error))
                    }
                    _ => Ok(None),
                }
            }
            DirContent::Empty => Ok(None),
        }
    }

    /// Marks the folder as an incomplete store, so that an interrupted creation is repeated.
    pub(super) fn begin_creation(&self, marker: &Marker) -> Result<(), StorageError> {
        let path = self.path.join(UNFINISHED);
        let fail = |error| io(&path, "cannot be written", &error);
        let mut file = File::create(&path).map_err(fail)?;
        file.write_all(marker.text().as_bytes()).map_err(fail)?;
        // Content before name: otherwise a power loss could leave an empty marker under its final name.
        file.sync_all().map_err(fail)?;
        sync_folder(&self.path)?;
        // The folder itself may be new: its name in the parent must be durable, too.
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
            _ => Ok(()),
        }
    }

    /// Marks the store as complete. Afterwards a missing file is damage.
    pub(super) fn finish_creation(&self) -> Result<(), StorageError> {
        // A rename is atomic: after a crash the folder has exactly one of the two names.
        let (from, to) = (self.path.join(UNFINISHED), self.path.join(MARKER));
        fs::rename(&from, &to).map_err(|error| io(&to, "cannot be written", &error))?;
        sync_folder(&self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the path of the database.
    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    /// Returns the path of the high-water mark.
    pub(super) fn high_water(&self) -> PathBuf {
        self.path.join(HIGH)
    }
}

enum DirContent {
    /// No files, except possibly a lock.
    Empty,
    /// A store whose creation was interrupted.
    Unfinished,
    /// A complete store.
    Store,
}

/// Classifies the content of a folder. Rejects a folder with foreign files.
fn inspect(path: &Path) -> Result<DirContent, StorageError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(DirContent::Empty),
        Err(error) => return Err(io(path, "cannot be read", &error)),
    };
    let names: Result<BTreeSet<_>, _> = entries.map(|entry| entry.map(|e| e.file_name())).collect();
    let names = names.map_err(|error| io(path, "cannot be read", &error))?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has(MARKER) {
        return Ok(DirContent::Store);
    }
    if has(UNFINISHED) {
        return Ok(DirContent::Unfinished);
    }
    // Without this check a store that lost its marker would be reported as a foreign folder.
    if has(HIGH) && has(DATABASE) {
        let reason = "the file is missing, but the folder contains a store".into();
        return Err(StorageError::Damaged { path: path.join(MARKER), reason });
    }
    match names.iter().find(|name| *name != LOCK) {
        None => Ok(DirContent::Empty),
        Some(other) => Err(StorageError::Foreign {
            path: path.into(),
            reason: format!("the folder contains {}, but no file {MARKER}", other.display()),
        }),
    }
}

impl Marker {
    fn text(&self) -> String {
        let StoreIdentity { cluster, node } = self.identity;
        let (title, incarnation) = (self.kind.title(), self.incarnation);
        let mut text = format!(
            "{title}\nformat {FORMAT}\ncluster {cluster}\nnode {node}\nincarnation {incarnation}\n"
        );
        let checksum = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("checksum {checksum:08x}\n"));
        text
    }

    /// Parses a marker. In every format the last line is the checksum of the lines above it, which
    /// distinguishes a newer format from damage.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, StorageError> {
        let damaged = || StorageError::Damaged {
            path: path.into(),
            reason: "the owner of the store is unreadable: invalid checksum or content".into(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| damaged())?;
        let (body, last) = text.trim_end_matches('\n').rsplit_once('\n').ok_or_else(damaged)?;
        let sum = last.strip_prefix("checksum ").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        if sum != Some(crc32fast::hash(format!("{body}\n").as_bytes())) {
            return Err(damaged());
        }
        let mut lines = body.lines();
        let title = lines.next();
        // The format decides before the other lines are parsed: a newer version may have changed them.
        let format: u32 = number(lines.next(), "format ").ok_or_else(damaged)?;
        if format > FORMAT {
            let path = path.parent().unwrap_or(path).into();
            return Err(StorageError::TooNew { path, found: format, known: FORMAT });
        }
        let kind = [Kind::Log, Kind::State].into_iter().find(|kind| title == Some(kind.title()));
        let cluster = number(lines.next(), "cluster ").map(ClusterId);
        let node = number(lines.next(), "node ").map(NodeId);
        let incarnation = number(lines.next(), "incarnation ").map(Incarnation);
        match (kind, cluster, node, incarnation, lines.next()) {
            // `None`: this format has no further lines.
            (Some(kind), Some(cluster), Some(node), Some(incarnation), None) => {
                Ok(Self { kind, identity: StoreIdentity { cluster, node }, incarnation })
            }
            _ => Err(damaged()),
        }
    }

    /// Checks that the store has this kind and this owner.
    pub(super) fn check(
        &self,
        folder: &Path,
        kind: Kind,
        identity: StoreIdentity,
    ) -> Result<(), StorageError> {
        if self.kind != kind {
            let reason =
                format!("the folder contains a {}, not a {}", self.kind.title(), kind.title());
            return Err(StorageError::Foreign { path: folder.into(), reason });
        }
        if self.identity != identity {
            return Err(StorageError::WrongIdentity {
                path: folder.into(),
                found_node: self.identity.node,
                found_cluster: self.identity.cluster,
                node: identity.node,
                cluster: identity.cluster,
            });
        }
        Ok(())
    }
}

fn number<T: FromStr>(line: Option<&str>, name: &str) -> Option<T> {
    line?.strip_prefix(name)?.parse().ok()
}

/// Makes the file names in a folder durable. Only Unix needs this call and supports it.
fn sync_folder(path: &Path) -> Result<(), StorageError> {
    if cfg!(unix) {
        let synced = File::open(path).and_then(|folder| folder.sync_all());
        synced.map_err(|error| io(path, "cannot be synced", &error))?;
    }
    Ok(())
}

fn io(path: &Path, what: &str, error: &std::io::Error) -> StorageError {
    StorageError::Io { path: path.into(), reason: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker() -> Marker {
        let identity = StoreIdentity { cluster: ClusterId(77), node: NodeId(2) };
        Marker { kind: Kind::Log, identity, incarnation: Incarnation(u64::MAX) }
    }

    #[test]
    fn marker_text_does_not_change() {
        let text = marker().text();
        assert_eq!(
            text,
            "synod log store\nformat 1\ncluster 77\nnode 2\nincarnation 18446744073709551615\n\
             checksum 849b85c3\n"
        );
        assert_eq!(Marker::parse(Path::new("x/SYNOD"), text.as_bytes()).unwrap(), marker());
    }

    #[test]
    fn damaged_marker_is_rejected() {
        let text = marker().text();
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                match Marker::parse(Path::new("x/SYNOD"), &bytes) {
                    Err(StorageError::Damaged { .. }) => {}
                    // The case of a hexadecimal digit and the end of the last line are not significant.
                    Ok(found) => assert_eq!(found, marker(), "byte {at} bit {bit}"),
                    Err(other) => panic!("byte {at} bit {bit}: {other}"),
                }
            }
            let cut = Marker::parse(Path::new("x/SYNOD"), &text.as_bytes()[..at]);
            assert!(at + 1 == text.len() || cut.is_err(), "truncated at byte {at}");
        }
    }

    #[test]
    fn marker_of_a_newer_format_is_reported_as_too_new() {
        let mut text = String::from("synod other store\nformat 9\nunknown field\n");
        let sum = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("checksum {sum:08x}\n"));
        match Marker::parse(Path::new("x/SYNOD"), text.as_bytes()) {
            Err(StorageError::TooNew { path, found: 9, known: FORMAT }) => {
                assert_eq!(path, Path::new("x"));
            }
            other => panic!("{other:?}"),
        }
    }
}
