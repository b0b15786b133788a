//! The stores that this program knows, by name, and the node's data folder.

use crate::settings::{Member, Settings, StoreKind};
use anyhow::{Context, bail};
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use synod_storage::{Identity, LogStore, MemoryLog, MemoryState, StateStore};
use synod_types::Incarnation;

/// The file of a data folder that says which protocol wrote its log.
const PROTOCOL_FILE: &str = "protocol";
/// The file of a data folder that says who founded the cluster.
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

/// Opens the stores that the settings name; makes them if the folder is new.
///
/// # Errors
/// If the folder cannot be used, belongs to another node, cluster or protocol, was written by a
/// newer version or under other members, or is damaged.
pub fn open(settings: &Settings) -> anyhow::Result<Stores> {
    let identity = Identity { cluster: settings.cluster, node: settings.node };
    match settings.store {
        StoreKind::Memory => Ok(Stores {
            log: Box::new(MemoryLog::new(Incarnation(random()))),
            state: Box::new(MemoryState::new()),
        }),
        StoreKind::Rocksdb => {
            make_folder(&settings.data).with_context(|| {
                format!("cannot make the data folder {}", settings.data.display())
            })?;
            check_protocol(&settings.data, &settings.protocol)?;
            check_log(&settings.data)?;
            let stores = rocksdb(&settings.data, identity)?;
            // Last: whoever names another node's folder should hear that it is another node's.
            check_members(&settings.data, &settings.members)?;
            Ok(stores)
        }
    }
}

#[cfg(feature = "rocksdb")]
fn rocksdb(data: &Path, identity: Identity) -> anyhow::Result<Stores> {
    use synod_storage::{RocksLog, RocksState};
    let log = RocksLog::open(data.join(LOG_FOLDER), identity, Incarnation(random()))?;
    let state = RocksState::open(data.join("state"), identity)?;
    Ok(Stores { log: Box::new(log), state: Box::new(state) })
}

#[cfg(not(feature = "rocksdb"))]
fn rocksdb(_: &Path, _: Identity) -> anyhow::Result<Stores> {
    bail!("this program was built without RocksDB; the stores it has: memory")
}

/// Another protocol's records could look like this one's, so the folder says whose they are.
fn check_protocol(data: &Path, protocol: &str) -> anyhow::Result<()> {
    let file = data.join(PROTOCOL_FILE);
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == protocol => Ok(()),
        Ok(found) => bail!(
            "{}: the data is of the protocol {:?}, not {protocol:?}",
            data.display(),
            found.trim()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let new = is_new(data, &draft_of(&file));
            if !new.with_context(|| format!("cannot read {}", data.display()))? {
                bail!(
                    "{}: not a Synod node's data: the folder holds something else",
                    data.display()
                );
            }
            let written = write_whole(&file, &format!("{protocol}\n"));
            written.with_context(|| format!("cannot write {}", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// A log store makes itself where there is none. But a node that has forgotten its votes is no new
/// node, and the members, which are written after the first start has made both stores, tell.
fn check_log(data: &Path) -> anyhow::Result<()> {
    let log = data.join(LOG_FOLDER);
    let is_empty = match fs::read_dir(&log) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    };
    if is_empty && data.join(MEMBERS_FILE).exists() {
        bail!(
            "{}: the log is gone, and with it this node's votes; do not start this node on it: \
             restore the folder or replace the node",
            log.display()
        );
    }
    Ok(())
}

/// A node that took a shorter list of members for true could elect itself and lose what the whole
/// cluster has acknowledged. So the list is kept by ids; addresses may change.
fn check_members(data: &Path, members: &[Member]) -> anyhow::Result<()> {
    let file = data.join(MEMBERS_FILE);
    let ids: Vec<_> = members.iter().map(|member| member.id.to_string()).collect();
    let ids = ids.join(" ");
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == ids => Ok(()),
        Ok(found) => bail!(
            "{}: the data is of a cluster of the nodes {}, not {ids}: the members of a cluster \
             cannot be changed",
            data.display(),
            found.trim()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let written = write_whole(&file, &format!("{ids}\n"));
            written.with_context(|| format!("cannot write {}", file.display()))
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}

/// Makes a folder and those above it, durably: a power cut that took one away would take the
/// node's votes with it.
fn make_folder(path: &Path) -> std::io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<_> = path.ancestors().take_while(is_missing).collect();
    fs::create_dir_all(path)?;
    for parent in missing.into_iter().filter_map(Path::parent) {
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Whether a folder is empty, but for the draft that a first start left behind when it was cut
/// short.
fn is_new(data: &Path, draft: &Path) -> std::io::Result<bool> {
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
fn write_whole(file: &Path, text: &str) -> std::io::Result<()> {
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
    fn a_folder_keeps_to_its_members_but_not_to_their_addresses() {
        let folder = tempfile::tempdir().unwrap();
        let members = |ids: &[u64], host: &str| {
            let member = |id: &u64| format!("{id}={host}:1,http://{host}:2").parse().unwrap();
            ids.iter().map(member).collect::<Vec<Member>>()
        };
        check_members(folder.path(), &members(&[1, 2, 3], "old")).unwrap();
        check_members(folder.path(), &members(&[1, 2, 3], "new")).unwrap();
        for other in [&[1][..], &[1, 2, 4], &[1, 2, 3, 4]] {
            let error = check_members(folder.path(), &members(other, "old")).unwrap_err();
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

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
