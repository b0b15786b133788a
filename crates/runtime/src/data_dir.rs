//! Data folder of a node, and the checks that prevent a start on a wrong folder.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use synod_storage::{LogStore, MemoryLog, MemoryState, StateStore, StorageError, StoreIdentity};
use synod_types::{Incarnation, NodeId};

/// File of a data folder that names the protocol of its log.
const PROTOCOL_FILE: &str = "protocol";
/// File of a data folder that lists the ids of the members.
const MEMBERS_FILE: &str = "members";
/// Subfolder of the log store.
const LOG_FOLDER: &str = "log";

/// Stores of a node.
pub struct Stores {
    /// Store of the log.
    pub log: Box<dyn LogStore>,
    /// Store of the applied state.
    pub state: Box<dyn StateStore>,
}

impl Stores {
    /// Returns new stores in memory. A node that stops loses its votes with them, so it must not start
    /// again under the same id while its peers run.
    #[must_use]
    pub fn in_memory() -> Self {
        let log = Box::new(MemoryLog::new(Incarnation(random())));
        Self { log, state: Box::new(MemoryState::new()) }
    }
}

/// Error of a data folder that cannot be used. The check changes nothing in the folder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The folder cannot be created, read or written.
    #[error("cannot {action} {path}: {reason}")]
    Io {
        /// Step that failed.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Message of the operating system.
        reason: String,
    },
    /// Another protocol wrote the log.
    #[error("{path}: the data is of the protocol {found:?}, not {protocol:?}")]
    Protocol {
        /// Data folder.
        path: PathBuf,
        /// Protocol that wrote the log.
        found: String,
        /// Protocol that was to start.
        protocol: String,
    },
    /// The folder has files, but not those of a node.
    #[error("{path}: not a Synod data folder: the folder holds other files")]
    Foreign {
        /// Data folder.
        path: PathBuf,
    },
    /// The node has run before, and its log is missing.
    #[error(
        "{path}: the log is missing, and with it this node's votes; do not start this node on it: \
         restore the folder or replace the node"
    )]
    LogGone {
        /// Folder of the log.
        path: PathBuf,
    },
    /// The node first started with other members.
    #[error(
        "{path}: the data is of a cluster of the nodes {found}, not {members}: the members of a \
         cluster cannot be changed"
    )]
    Members {
        /// Data folder.
        path: PathBuf,
        /// Members at the first start.
        found: String,
        /// Members of this start.
        members: String,
    },
    /// A store is damaged, another node's, or in use.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The program was built without a store for data folders.
    #[error("this program was built without RocksDB; available stores: memory")]
    NoRocksDb,
}

impl DataDirError {
    /// Returns the action for the operator, after a colon, if the error's text names none.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Protocol { .. } => ": start the protocol that wrote it, or use another folder",
            Self::Foreign { .. } => ": use an empty folder",
            Self::Members { .. } => ": start with the original members, or use another folder",
            Self::Io { .. } => ": repair the folder or its permissions, or use another folder",
            Self::NoRocksDb => ": enable the feature `rocksdb`",
            Self::Storage(StorageError::WrongIdentity { .. } | StorageError::Foreign { .. }) => {
                ": use this node's own folder"
            }
            Self::Storage(_) | Self::LogGone { .. } => "",
        }
    }

    fn io(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), reason: error.to_string() }
    }
}

/// Opens a node's stores in a data folder; creates them if the folder is new.
///
/// # Errors
/// If the folder cannot be read or written, is of another node, cluster, protocol or list of members,
/// was written by a newer version, or is damaged.
pub fn open_data_dir(
    data: &Path,
    protocol: &str,
    identity: StoreIdentity,
    members: impl IntoIterator<Item = NodeId>,
) -> Result<Stores, DataDirError> {
    create_folder(data)
        .map_err(|error| DataDirError::io("create the data folder", data, &error))?;
    check_protocol(data, protocol)?;
    check_log(data)?;
    let stores = rocksdb(data, identity)?;
    // Checked last: the identity of another node is the better error than its members.
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

/// Checks the protocol of the folder's log; a new folder records it. The records alone do not show it:
/// those of another protocol might decode without an error.
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
            // Only an empty folder is new: other files could be those of another program.
            let new = is_new(data, &draft_of(&file));
            if !new.map_err(|error| DataDirError::io("read", data, &error))? {
                return Err(DataDirError::Foreign { path: path() });
            }
            let written = write_atomically(&file, &format!("{protocol}\n"));
            written.map_err(|error| DataDirError::io("write", &file, &error))
        }
        Err(error) => Err(DataDirError::io("read", &file, &error)),
    }
}

/// Checks that a node that ran before still has its log. The log store would create a new one, and the
/// node would have lost its votes. The file of members shows that both stores were created before.
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

/// Checks the ids of the members; a new folder records them. With a shorter list a node could elect
/// itself and lose commands that the cluster has acknowledged. Addresses may change.
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
            let written = write_atomically(&file, &format!("{ids}\n"));
            written.map_err(|error| DataDirError::io("write", &file, &error))
        }
        Err(error) => Err(DataDirError::io("read", &file, &error)),
    }
}

/// Creates a folder and its missing parents durably: a power failure that removed one would remove the
/// node's votes.
fn create_folder(path: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Returns whether a folder is empty, except for the draft file of an interrupted first start.
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

/// Writes a file atomically and durably: after a crash it has its whole text or does not exist.
fn write_atomically(file: &Path, text: &str) -> io::Result<()> {
    let draft = draft_of(file);
    let mut out = fs::File::create(&draft)?;
    out.write_all(text.as_bytes())?;
    out.sync_all()?;
    fs::rename(&draft, file)?;
    fs::File::open(file.parent().unwrap_or(Path::new(".")))?.sync_all()
}

/// Returns the size of all files in a folder and its subfolders, in bytes. Files that cannot be read
/// count as 0.
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

/// Returns a random number, for incarnations and seeds. Its source is the operating system's
/// randomness, which seeds the standard library's hashers.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_another_protocol_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        check_protocol(folder.path(), "raft").unwrap();
        check_protocol(folder.path(), "raft").unwrap();
        let error = check_protocol(folder.path(), "paxos").unwrap_err().to_string();
        assert!(error.ends_with("the data is of the protocol \"raft\", not \"paxos\""), "{error}");
    }

    #[test]
    fn interrupted_first_start_is_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("cluster/node-1");
        create_folder(&data).unwrap();
        fs::write(data.join("protocol.new"), "ra").unwrap();
        check_protocol(&data, "raft").unwrap();
        assert_eq!(fs::read_to_string(data.join(PROTOCOL_FILE)).unwrap(), "raft\n");
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn members_may_change_their_order_but_not_their_ids() {
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
    fn node_that_ran_before_does_not_start_without_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        check_log(data).unwrap();
        fs::write(data.join(MEMBERS_FILE), "1 2 3\n").unwrap();
        let error = check_log(data).unwrap_err().to_string();
        assert!(error.contains("log: the log is missing"), "{error}");
        fs::create_dir(data.join(LOG_FOLDER)).unwrap();
        assert!(check_log(data).is_err(), "an empty folder is no log");
        fs::write(data.join(LOG_FOLDER).join("SYNOD"), "").unwrap();
        check_log(data).unwrap();
    }

    #[test]
    fn folder_with_other_files_is_rejected_and_left_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("diary.txt"), "dear").unwrap();
        let error = check_protocol(folder.path(), "raft").unwrap_err().to_string();
        assert!(error.contains("not a Synod data folder"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folder_bytes_counts_all_files_and_subfolders() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("below")).unwrap();
        fs::write(folder.path().join("below/a"), [0; 100]).unwrap();
        fs::write(folder.path().join("b"), [0; 11]).unwrap();
        assert_eq!(folder_bytes(folder.path()), 111);
        assert_eq!(folder_bytes(&folder.path().join("missing")), 0);
    }

    #[cfg(not(feature = "rocksdb"))]
    #[test]
    fn program_without_rocksdb_rejects_a_data_folder() {
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
