//! Tests of a store's folder: kind, owner, format, incarnation, and creation.

use crate::{BORN, ME, copy, scratch};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use synod_storage::{
    Batch, LogOp, LogStore, RocksLog, RocksState, StateStore, StorageError, StoreIdentity,
};
use synod_types::{Changes, ClusterId, GroupId, Incarnation, NodeId};

fn log(path: &Path) -> Result<RocksLog, StorageError> {
    RocksLog::open(path, ME, BORN)
}

fn rejection<T>(opened: Result<T, StorageError>) -> StorageError {
    opened.err().expect("the folder is rejected")
}

/// Returns every file below a folder with its content.
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
fn foreign_folder_is_rejected_and_not_changed() {
    let root = scratch();
    let photos = root.path().join("photos");
    fs::create_dir(&photos).unwrap();
    fs::write(photos.join("me.jpg"), b"smile").unwrap();
    // A RocksDB database of another application: RocksDB itself would open it.
    let theirs = root.path().join("theirs");
    let ours = root.path().join("ours");
    drop(log(&ours).unwrap());
    copy(&ours.join("db"), &theirs);
    for path in [&photos, &theirs] {
        let before = files(path);
        let error = rejection(log(path));
        assert!(matches!(&error, StorageError::Foreign { path: found, .. } if found == path));
        let error = rejection(RocksState::open(path, ME));
        assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
        assert_eq!(files(path), before);
    }
}

#[test]
fn store_of_the_other_kind_is_rejected() {
    let root = scratch();
    let (one, other) = (root.path().join("log"), root.path().join("state"));
    drop(log(&one).unwrap());
    drop(RocksState::open(&other, ME).unwrap());
    let error = rejection(RocksState::open(&one, ME));
    assert!(error.to_string().contains("a synod log store, not a synod state store"), "{error}");
    let error = rejection(log(&other));
    assert!(error.to_string().contains("a synod state store, not a synod log store"), "{error}");
    log(&one).unwrap();
}

#[test]
fn store_of_another_node_is_rejected_with_both_names() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    for (cluster, node) in [(77, 3), (78, 2)] {
        let identity = StoreIdentity { cluster: ClusterId(cluster), node: NodeId(node) };
        let error = rejection(RocksLog::open(root.path(), identity, BORN));
        let text = error.to_string();
        assert!(matches!(error, StorageError::WrongIdentity { .. }), "{text}");
        assert!(text.contains("belongs to node 2 of cluster 77"), "{text}");
        assert!(text.contains(&format!("node {node} of cluster {cluster}")), "{text}");
    }
}

#[test]
fn newer_format_is_rejected_before_the_database_is_touched() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    let mut text = String::from("synod log store\nformat 2\nunknown field\n");
    text.push_str(&format!("checksum {:08x}\n", crc32fast::hash(text.as_bytes())));
    fs::write(root.path().join("SYNOD"), text).unwrap();
    let before = files(root.path());
    let error = rejection(log(root.path()));
    assert!(matches!(error, StorageError::TooNew { found: 2, known: 1, .. }), "{error}");
    assert_eq!(files(root.path()), before);
}

#[test]
fn path_of_a_file_is_an_io_error() {
    let root = scratch();
    let file = root.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = rejection(log(&file));
    assert!(matches!(&error, StorageError::Io { path, .. } if *path == file), "{error}");
    let below = rejection(log(&file.join("below")));
    assert!(matches!(below, StorageError::Io { .. }), "{below}");
}

#[test]
fn store_keeps_its_incarnation_until_it_is_wiped() {
    let root = scratch();
    let path = root.path().join("a/b/log");
    assert_eq!(log(&path).unwrap().boot_id().incarnation, BORN);
    let again = RocksLog::open(&path, ME, Incarnation(1)).unwrap();
    assert_eq!((again.boot_id().incarnation, again.boot_id().boot), (BORN, 2));
    drop(again);
    fs::remove_dir_all(&path).unwrap();
    let wiped = RocksLog::open(&path, ME, Incarnation(1)).unwrap();
    assert_eq!((wiped.boot_id().incarnation, wiped.boot_id().boot), (Incarnation(1), 1));
}

#[test]
fn interrupted_creation_is_repeated() {
    let root = scratch();
    let whole = root.path().join("whole");
    drop(log(&whole).unwrap());
    // The state before the last step of a creation: the marker has its temporary name.
    fs::rename(whole.join("SYNOD"), whole.join("SYNOD.new")).unwrap();
    let mut again = RocksLog::open(&whole, ME, Incarnation(5)).unwrap();
    assert_eq!(again.boot_id().incarnation, Incarnation(5));
    assert_eq!(again.boot_id().boot, 1);
    let ops = vec![(GroupId(1), LogOp::HardState(b"x".to_vec().into()))];
    again.commit(&Batch { ops }).unwrap();
    drop(again);
    assert!(log(&whole).unwrap().load(GroupId(1)).unwrap().hard_state.is_some());
    // The state after the first step: the folder contains only the lock file.
    let locked = root.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("LOCK"), b"").unwrap();
    log(&locked).unwrap();
}

#[test]
fn folder_with_a_lost_marker_is_rejected() {
    let root = scratch();
    drop(log(root.path()).unwrap());
    let marker = root.path().join("SYNOD");
    fs::remove_file(&marker).unwrap();
    let error = rejection(log(root.path()));
    assert!(matches!(&error, StorageError::Damaged { path, .. } if *path == marker), "{error}");
}

#[test]
fn database_of_another_store_is_rejected() {
    let root = scratch();
    let (mine, old) = (root.path().join("mine"), root.path().join("old"));
    drop(RocksLog::open(&mine, ME, Incarnation(1)).unwrap());
    drop(RocksLog::open(&old, ME, Incarnation(2)).unwrap());
    fs::remove_dir_all(mine.join("db")).unwrap();
    copy(&old.join("db"), &mine.join("db"));
    let error = rejection(log(&mine));
    assert!(matches!(&error, StorageError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("database of another store"), "{error}");
}

#[test]
fn views_do_not_affect_each_other() {
    let root = scratch();
    let mut state = RocksState::open(root.path(), ME).unwrap();
    let mut changes = Changes::new();
    changes.put("a", "1");
    changes.put("b", "2");
    state.write(&changes).unwrap();
    let reader = state.reader();
    let (one, two) = (reader.view().unwrap(), reader.view().unwrap());
    assert_eq!(one.range(b"", None).map(Result::unwrap).count(), 2);
    drop(one);
    assert_eq!(two.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}

#[test]
fn state_is_locked_until_its_last_view_is_dropped() {
    let root = scratch();
    let mut state = RocksState::open(root.path(), ME).unwrap();
    let mut changes = Changes::new();
    changes.put("a", "1");
    state.write(&changes).unwrap();
    state.sync().unwrap();
    let (reader, view) = (state.reader(), state.reader().view().unwrap());
    drop(state);
    assert!(matches!(RocksState::open(root.path(), ME), Err(StorageError::Io { .. })));
    drop(reader);
    assert!(matches!(RocksState::open(root.path(), ME), Err(StorageError::Io { .. })));
    assert_eq!(view.get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
    drop(view);
    let state = RocksState::open(root.path(), ME).unwrap();
    assert_eq!(state.reader().get(b"a").unwrap().as_deref(), Some(&b"1"[..]));
}
