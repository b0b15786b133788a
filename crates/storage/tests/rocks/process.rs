//! Tests of stores that are open in another process.

use crate::{BORN, ME};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use synod_storage::{Batch, LogOp, LogStore, RocksLog, RocksState, StorageError};
use synod_types::GroupId;

const FOLDER: &str = "SYNOD_TEST_HELD_FOLDER";

fn number(group: u64, value: u64) -> Batch {
    let ops = vec![(GroupId(group), LogOp::HardState(value.to_le_bytes().to_vec().into()))];
    Batch { ops }
}

/// Process that commits until it is killed. Not a test: the test below starts it.
#[test]
#[ignore = "child process of commits_of_a_killed_process_are_durable"]
fn holder() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let mut log = RocksLog::open(Path::new(&folder), ME, BORN).unwrap();
    for value in 1.. {
        log.commit(&number(1, value)).unwrap();
        println!("\ncommitted {value}");
    }
}

#[test]
fn commits_of_a_killed_process_are_durable() {
    let root = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::holder", "--ignored", "--nocapture"])
        .env(FOLDER, root.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut committed = || loop {
        let line = lines.next().expect("the child process exited").unwrap();
        if let Some(value) = line.strip_prefix("committed ") {
            return value.parse::<u64>().unwrap();
        }
    };
    let mut last = 0;
    while last < 50 {
        last = committed();
    }
    let error = RocksLog::open(root.path(), ME, BORN).err().expect("the store is in use");
    assert!(matches!(&error, StorageError::Io { .. }), "{error}");
    assert!(error.to_string().contains("another process"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let mut log = RocksLog::open(root.path(), ME, BORN).unwrap();
    assert_eq!(log.boot_id().boot, 2);
    let found = log.load(GroupId(1)).unwrap().hard_state.unwrap();
    let found = u64::from_le_bytes(found[..].try_into().unwrap());
    assert!(found >= last, "value {last} was committed, but the store has {found}");
}

#[test]
fn store_that_is_open_cannot_be_opened_again() {
    let root = tempfile::tempdir().unwrap();
    let (log, state) = (root.path().join("log"), root.path().join("state"));
    let held = RocksLog::open(&log, ME, BORN).unwrap();
    let error = RocksLog::open(&log, ME, BORN).err().expect("the store is in use");
    assert!(error.to_string().contains("in use"), "{error}");
    drop(held);
    RocksLog::open(&log, ME, BORN).unwrap();
    let held = RocksState::open(&state, ME).unwrap();
    assert!(RocksState::open(&state, ME).is_err());
    drop(held);
    RocksState::open(&state, ME).unwrap();
}
