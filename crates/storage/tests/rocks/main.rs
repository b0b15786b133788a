//! The stores on RocksDB pass the conformance suites, and reject folders and files that they must not open.

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

/// A store's folder. A crash copies it while the store is still open, as a killed process would
/// leave it, and goes on with the copy.
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

/// Returns a folder in memory where the system has one: these tests open thousands of stores.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Copies a folder that may be in use, as a crash would leave it: all of it as of one moment.
/// RocksDB tidies up in the background, so a copy during which anything changed is made again.
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

/// Every file below a folder, with its length and when it was written last.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, SystemTime)> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        // A file that goes while it is looked at makes the next listing a different one.
        let Ok(about) = entry.metadata() else { continue };
        if about.is_dir() {
            files.append(&mut listing(&entry.path()));
        } else {
            files.insert(entry.path(), (about.len(), about.modified().unwrap()));
        }
    }
    files
}

/// Copies what is there; files that go meanwhile are left out.
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
fn log_passes_the_suite() {
    conformance::log_store(|| Log(Disk::new()));
}

#[test]
fn state_passes_the_suite() {
    conformance::state_store(|| State(Disk::new()));
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(12) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn log_agrees_with_the_reference_on_any_script(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        conformance::check_log(Log(Disk::new()), &conformance::log_steps(&bytes));
    }

    #[test]
    fn state_agrees_with_the_reference_on_any_script(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        conformance::check_state(State(Disk::new()), &conformance::state_steps(&bytes));
    }
}
