//! Whose folder it is.

use crate::{BORN, ME, copy, scratch};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use synod_storage::{
    Batch, Identity, LogOp, LogStore, RocksLog, RocksState, StateStore, StorageError,
};
use synod_types::{Changes, ClusterId, GroupId, Incarnation, NodeId};

fn log(path: &Path) -> Result<RocksLog, StorageError> {
    RocksLog::open(path, ME, BORN)
}

fn refusal<T>(opened: Result<T, StorageError>) -> StorageError {
    opened.err().expect("the folder is refused")
}

/// Every file below a folder with its content.
fn files(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    found
}

#[test]
fn a_foreign_folder_is_refused_and_left_as_it_is() {
    let root = scratch();
    let photos = root.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("me.jpg"), b"smile").unwrap();
    // A database of someone else, which RocksDB itself would open.
    let theirs = root.path().join("theirs");
    let ours = root.path().join("ours");
    drop(log(&ours).unwrap());
    copy(&ours.join("db"), &theirs);
    for path in [&photos, &theirs] {
        let before = files(path);
        let error = refusal(log(path));
        assert!(matches!(&error, StorageError::Foreign { path: found, .. } if found == path));
        let error = refusal(RocksState::open(path, ME));
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
        assert_eq!(files(path), before);
    }
}

#[test]
fn a_log_is_no_state_and_a_state_no_log() {
    let root = scratch();
    let (one, other) = (root.path().join("log"), root.path().join("state"));
    drop(log(&one).unwrap());
    drop(RocksState::open(&other, ME).unwrap());
    let error = refusal(RocksState::open(&one, ME));
    assert!(error.to_string().contains("it is a synod log store, not a synod state store"));
    let error = refusal(log(&other));
    assert!(error.to_string().contains("it is a synod state store, not a synod log store"));
    log(&one).unwrap();
}

#[test]
fn another_nodes_store_is_refused_with_both_names() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    for (cluster, node) in [(77, 3), (78, 2)] {
        let identity = Identity { cluster: ClusterId(cluster), node: NodeId(node) };
        let error = refusal(RocksLog::open(root.path(), identity, BORN));
        let text = error.to_string();
        assert!(matches!(error, StorageError::WrongIdentity { .. }), "{text}");
        assert!(text.contains("belongs to node 2 of cluster 77"), "{text}");
        assert!(text.contains(&format!("node {node} of cluster {cluster}")), "{text}");
    }
}

#[test]
fn a_newer_format_is_refused_before_the_database_is_touched() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    let mut text = String::from("synod log store\nformat 2\nwho knows what\n");
    text.push_str(&format!("checksum {:08x}\n", crc32fast::hash(text.as_bytes())));
    fs::write(root.path().join("SYNOD"), text).unwrap();
    let before = files(root.path());
    let error = refusal(log(root.path()));
    assert!(matches!(error, StorageError::TooNew { found: 2, known: 1, .. }), "{error}");
    assert_eq!(files(root.path()), before);
}

#[test]
fn a_folder_that_is_none_is_an_io_error() {
    let root = scratch();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = refusal(log(&file));
    assert!(matches!(&error, StorageError::Io { path, .. } if *path == file), "{error}");
    let below = refusal(log(&file.join("below")));
    assert!(matches!(below, StorageError::Io { .. }), "{below}");
}

#[test]
fn the_incarnation_stays_and_a_wiped_store_has_another() {
    let root = scratch();
    let path = root.path().join("a/b/log");
    assert_eq!(log(&path).unwrap().life().incarnation, BORN);
    let again = RocksLog::open(&path, ME, Incarnation(1)).unwrap();
    assert_eq!((again.life().incarnation, again.life().boot), (BORN, 2));
    drop(again);
    fs::remove_dir_all(&path).unwrap();
    let wiped = RocksLog::open(&path, ME, Incarnation(1)).unwrap();
    assert_eq!((wiped.life().incarnation, wiped.life().boot), (Incarnation(1), 1));
}

#[test]
fn a_making_that_was_cut_short_is_done_again() {
    let root = scratch();
    let whole = root.path().join("whole");
    drop(log(&whole).unwrap());
    // Only the last step of making a store is missing.
    fs::rename(whole.join("SYNOD"), whole.join("SYNOD.new")).unwrap();
    let mut again = RocksLog::open(&whole, ME, Incarnation(5)).unwrap();
    assert_eq!(again.life().incarnation, Incarnation(5));
    assert_eq!(again.life().boot, 1);
    let ops = vec![(GroupId(1), LogOp::HardState(b"x".to_vec().into()))];
    again.commit(&Batch { ops }).unwrap();
    drop(again);
    assert!(log(&whole).unwrap().load(GroupId(1)).unwrap().hard_state.is_some());
    // Nothing but a lock: someone was just about to begin.
    let locked = root.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("LOCK"), b"").unwrap();
    log(&locked).unwrap();
}

#[test]
fn a_lost_marker_does_not_make_the_folder_new() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    let marker = root.path().join("SYNOD");
    fs::remove_file(&marker).unwrap();
    let error = refusal(log(root.path()));
    assert!(matches!(&error, StorageError::Damaged { path, .. } if *path == marker), "{error}");
}

#[test]
fn the_database_of_another_store_is_refused() {
    let root = scratch();
    let (mine, old) = (root.path().join("mine"), root.path().join("old"));
    drop(RocksLog::open(&mine, ME, Incarnation(1)).unwrap());
    drop(RocksLog::open(&old, ME, Incarnation(2)).unwrap());
    fs::remove_dir_all(mine.join("db")).unwrap();
    copy(&old.join("db"), &mine.join("db"));
    let error = refusal(log(&mine));
    assert!(matches!(&error, StorageError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("database of another store"), "{error}");
}

#[test]
fn a_view_is_not_moved_by_what_other_views_read() {
    let root = scratch();
    let mut state = RocksState::open(root.path(), ME).unwrap();
    let mut changes = Changes::new();
    changes.put("a", "1");
    changes.put("b", "2");
    state.write(&changes).unwrap();
    let (one, two) = (state.view().unwrap(), state.view().unwrap());
    let reader = std::thread::scope(|scope| {
        // A view may be read on another thread: a snapshot leaves while the state is served.
        scope.spawn(move || one.range(b"", None).map(Result::unwrap).count()).join().unwrap()
    });
    assert_eq!(reader, 2);
    assert_eq!(two.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}
