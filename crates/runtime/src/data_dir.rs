//! The data folder of a node, and the checks that keep a node from starting on the wrong one.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use synod_storage::{LogStore, MemoryLog, MemoryState, StateStore, StorageError, StoreIdentity};
use synod_types::{Incarnation, NodeId};

/// The file of a data folder that names the protocol of its log.
const PROTOCOL_FILE: &str = "protocol";
/// The file of a data folder that names the founding members.
const MEMBERS_FILE: &str = "members";
/// The log store's part of a data folder.
const LOG_FOLDER: &str = "log";

/// A node's two stores.
pub struct Stores {
    /// The log.
    pub log: Box<dyn LogStore>,
    /// The state machine's.
    pub state: Box<dyn StateStore>,
}

impl Stores {
    /// Two new stores in memory. A node that stops loses its votes with them: it must not come back
    /// under the same id while its peers run.
    #[must_use]
    pub fn in_memory() -> Self {
        let log = Box::new(MemoryLog::new(Incarnation(random())));
        Self { log, state: Box::new(MemoryState::new()) }
    }
}

/// Reason that a data folder is refused. The folder is left as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The folder cannot be made, read or written.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// The step that failed.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's message.
        reason: String,
    },
    /// Another protocol wrote the log.
    #[error("{path}: the data is of the protocol {found:?}, not {protocol:?}")]
    Protocol {
        /// The folder.
        path: PathBuf,
        /// The protocol that wrote the log.
        found: String,
        /// The protocol that was to start.
        protocol: String,
    },
    /// The folder is not empty and not a node's.
    #[error("{path}: not a Synod node's data: the folder holds something else")]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The node has served before, and its log is gone.
    #[error(
        "{path}: the log is gone, and with it this node's votes; do not start this node on it: \
         restore the folder or replace the node"
    )]
    LogGone {
        /// The log's folder.
        path: PathBuf,
    },
    /// The cluster was founded by other members.
    #[error(
        "{path}: the data is of a cluster of the nodes {found}, not {members}: the members of a \
         cluster cannot be changed"
    )]
    Members {
        /// The folder.
        path: PathBuf,
        /// The founding members.
        found: String,
        /// The members that were given.
        members: String,
    },
    /// A store is damaged, another node's, or in use.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The program has no store for a folder.
    #[error("this program was built without RocksDB; the stores it has: memory")]
    NoRocksDb,
}

impl DataDirError {
    /// Returns the action that helps, after a colon, for errors whose text does not name one.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => ": start the protocol that wrote it, or name another folder",
            Self::Foreign { .. } => ": name an empty folder",
            Self::Members { .. } => ": give the founding members, or name another folder",
            Self::Io { .. } => ": repair the folder or its permissions, or name another one",
            Self::NoRocksDb => ": turn on the feature `rocksdb`",
            Self::Storage(StorageError::WrongIdentity { .. } | StorageError::Foreign { .. }) => {
                ": name this node's own folder"
            }
            Self::Storage(_) | Self::LogGone { .. } => "",
        }
    }

    fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), reason: error.to_string() }
    }
}

/// Opens a node's stores in a data folder; makes them if the folder is new.
///
/// # Errors
/// If the folder cannot be used, belongs to another node, cluster or protocol, was written by a
/// newer version or under other members, or is damaged.
pub fn open_data_dir(
    data: &Path,
    protocol: &str,
    identity: StoreIdentity,
    members: impl IntoIterator<Item = NodeId>,
) -> Result<Stores, DataDirError> {
    make_folder(data).map_err(|error| DataDirError::io("create the data folder", data, &error))?;
    check_protocol(data, protocol)?;
    check_log(data)?;
    let stores = rocksdb(data, identity)?;
    // Last: a folder of another node is refused as that, not for its members.
    check_members(data, members)?;
    Ok(stores)
}

#[cfg(feature = "rocksdb")]
fn rocksdb(data: &Path, identity: StoreIdentity) -> Result<Stores, DataDirError> {
    use synod_storage::{RocksLog, RocksState};
    let log = RocksLog::open(data.join(LOG_FOLDER), identity, Incarnation(random()))?;
    let state = RocksState::open(data.join("state"), identity)?;
    Ok(Stores { log: Box::new(log), state: Box::new(state) })
}

#[cfg(not(feature = "rocksdb"))]
fn rocksdb(_: &Path, _: StoreIdentity) -> Result<Stores, DataDirError> {
    Err(DataDirError::NoRocksDb)
}

/// Another protocol's records could decode as this one's, so the folder names their protocol.
fn check_protocol(data: &Path, protocol: &str) -> Result<(), DataDirError> {
    let file = data.join(PROTOCOL_FILE);
    let path = || data.to_owned();
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == protocol => Ok(()),
        Ok(found) => {
            let (found, protocol) = (found.trim().to_owned(), protocol.to_owned());
            Err(DataDirError::Protocol { path: path(), found, protocol })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let new = is_new(data, &draft_of(&file));
            if !new.map_err(|error| DataDirError::io("read", data, &error))? {
                return Err(DataDirError::Foreign { path: path() });
            }
            let written = write_whole(&file, &format!("{protocol}\n"));
            written.map_err(|error| DataDirError::io("write", &file, &error))
        }
        Err(error) => Err(DataDirError::io("read", &file, &error)),
    }
}

/// A log store makes itself where there is none. But a node that has lost its votes is no new node:
/// a file of members shows that a first start has made both stores.
fn check_log(data: &Path) -> Result<(), DataDirError> {
    let log = data.join(LOG_FOLDER);
    let is_empty = match fs::read_dir(&log) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if is_empty && data.join(MEMBERS_FILE).exists() {
        return Err(DataDirError::LogGone { path: log });
    }
    Ok(())
}

/// A node that accepted a shorter list of members could elect itself and lose what the whole
/// cluster has acknowledged. So the list is kept by ids; addresses may change.
fn check_members(
    data: &Path,
    members: impl IntoIterator<Item = NodeId>,
) -> Result<(), DataDirError> {
    let file = data.join(MEMBERS_FILE);
    let mut ids: Vec<_> = members.into_iter().collect();
    ids.sort_unstable();
    let ids = ids.iter().map(NodeId::to_string).collect::<Vec<_>>().join(" ");
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == ids => Ok(()),
        Ok(found) => {
            let (path, found) = (data.to_owned(), found.trim().to_owned());
            Err(DataDirError::Members { path, found, members: ids })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let written = write_whole(&file, &format!("{ids}\n"));
            written.map_err(|error| DataDirError::io("write", &file, &error))
        }
        Err(error) => Err(DataDirError::io("read", &file, &error)),
    }
}

/// Makes a folder and those above it, durably: a power cut that took one away would take the
/// node's votes with it.
fn make_folder(path: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Returns whether a folder is empty, but for the draft of a first start that was cut short.
fn is_new(data: &Path, draft: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(data)? {
        if entry?.path() != draft {
            return Ok(false);
        }
    }
    Ok(true)
}

fn draft_of(file: &Path) -> PathBuf {
    file.with_extension("new")
}

/// Writes a file so that it is there with all of its text or not at all, whatever fails.
fn write_whole(file: &Path, text: &str) -> io::Result<()> {
    let draft = draft_of(file);
    let mut out = fs::File::create(&draft)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// The size of all files in a folder and below it, in bytes; what cannot be read counts nothing.
#[must_use]
pub fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

/// A number that no other process draws: the standard library seeds its hashers from the system's
/// randomness.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_to_its_protocol() {
        let folder = tempfile::tempdir().unwrap();
        check_protocol(folder.path(), "raft").unwrap();
        check_protocol(folder.path(), "raft").unwrap();
        let error = check_protocol(folder.path(), "paxos").unwrap_err().to_string();
        assert!(error.ends_with("the data is of the protocol \"raft\", not \"paxos\""), "{error}");
    }

    #[test]
    fn a_first_start_that_was_cut_short_is_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("cluster/node-1");
        make_folder(&data).unwrap();
        fs::write(data.join("protocol.new"), "ra").unwrap();
        check_protocol(&data, "raft").unwrap();
        assert_eq!(fs::read_to_string(data.join(PROTOCOL_FILE)).unwrap(), "raft\n");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_folder_keeps_to_its_members_in_any_order() {
        let folder = tempfile::tempdir().unwrap();
        let check = |ids: &[u64]| check_members(folder.path(), ids.iter().copied().map(NodeId));
        check(&[1, 2, 3]).unwrap();
        check(&[3, 2, 1]).unwrap();
        for other in [&[1][..], &[1, 2, 4], &[1, 2, 3, 4]] {
            let error = check(other).unwrap_err();
            assert!(error.to_string().contains("a cluster of the nodes 1 2 3, not 1"), "{error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_node_that_has_served_needs_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        check_log(data).unwrap();
        fs::write(data.join(MEMBERS_FILE), "1 2 3\n").unwrap();
        let error = check_log(data).unwrap_err().to_string();
        assert!(error.contains("log: the log is gone"), "{error}");
        fs::create_dir(data.join(LOG_FOLDER)).unwrap();
        assert!(check_log(data).is_err(), "an empty folder is no log");
        fs::write(data.join(LOG_FOLDER).join("SYNOD"), "").unwrap();
        check_log(data).unwrap();
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("diary.txt"), "dear").unwrap();
        let error = check_protocol(folder.path(), "raft").unwrap_err().to_string();
        assert!(error.contains("not a Synod node's data"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_is_as_large_as_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/a"), [0; 100]).unwrap();
        fs::write(folder.path().join("b"), [0; 11]).unwrap();
        assert_eq!(folder_bytes(folder.path()), 111);
        assert_eq!(folder_bytes(&folder.path().join("missing")), 0);
    }

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn program_without_rocksdb_names_the_stores_that_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let identity = StoreIdentity { cluster: synod_types::ClusterId(7), node: NodeId(1) };
        let opened = open_data_dir(folder.path(), "raft", identity, [NodeId(1)]);
        assert_eq!(opened.err(), Some(DataDirError::NoRocksDb));
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
