//! Tests of the stores on RocksDB: conformance, damaged files, power losses, foreign folders, and locks.

mod damage;
mod data_dir;
mod power_loss;
mod process;

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use synod_storage::conformance::{self, Fixture};
use synod_storage::{RocksLog, RocksState, StoreIdentity};
use synod_types::{ClusterId, Incarnation, NodeId};
use tempfile::TempDir;

const ME: StoreIdentity = StoreIdentity { cluster: ClusterId(77), node: NodeId(2) };

const BORN: Incarnation = Incarnation(0xABCD);

/// Folder of a store. A crash copies it while the store is open, as a killed process would leave it, and
/// continues with the copy.
struct Disk {
    root: TempDir,
    crashes: u32,
}

impl Disk {
    fn new() -> Self {
        Self { root: scratch(), crashes: 0 }
    }

    fn path(&self) -> PathBuf {
        self.root.path().join(self.crashes.to_string())
    }

    fn crash<T>(&mut self, store: T) {
        let from = self.path();
        self.crashes += 1;
        copy(&from, &self.path());
        drop(store);
        fs::remove_dir_all(from).unwrap();
    }
}

struct Log(Disk);

impl Fixture for Log {
    type Store = RocksLog;

    fn open(&mut self) -> RocksLog {
        RocksLog::open(self.0.path(), ME, BORN).unwrap()
    }

    fn crash(&mut self, store: RocksLog) {
        self.0.crash(store);
    }
}

struct State(Disk);

impl Fixture for State {
    type Store = RocksState;

    fn open(&mut self) -> RocksState {
        RocksState::open(self.0.path(), ME).unwrap()
    }

    fn crash(&mut self, store: RocksState) {
        self.0.crash(store);
    }
}

/// Creates a temporary folder, in memory if the system supports it: these tests open thousands of stores.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder that may be in use, in one consistent state, as a crash would leave it. RocksDB deletes
/// files in the background, so the copy is repeated if anything changed meanwhile.
fn copy(from: &Path, to: &Path) {
    loop {
        let before = listing(from);
        copy_files(from, to);
        if listing(from) == before {
            return;
        }
        fs::remove_dir_all(to).unwrap();
    }
}

/// Returns every file below a folder with its length and the time of its last write.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        // A file that is deleted meanwhile is missing in the next listing, too, so the copy is repeated.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            files.append(&mut listing(&entry.path()));
        } else {
            files.insert(entry.path(), (about.len(), about.modified().unwrap()));
        }
    }
    files
}

/// Copies the files of a folder, except those that are deleted meanwhile.
fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &target);
            continue;
        }
        match fs::copy(entry.path(), target) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => drop(copied.unwrap()),
        }
    }
}

#[test]
fn rocks_log_passes_the_conformance_suite() {
    conformance::log_store(|| Log(Disk::new()));
}

#[test]
fn rocks_state_passes_the_conformance_suite() {
    conformance::state_store(|| State(Disk::new()));
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn rocks_log_equals_the_model_for_any_script(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        conformance::check_log(Log(Disk::new()), &conformance::log_steps(&bytes));
    }

    #[test]
    fn rocks_state_equals_the_model_for_any_script(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        conformance::check_state(State(Disk::new()), &conformance::state_steps(&bytes));
    }
}
