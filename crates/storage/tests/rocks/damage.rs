//! Tests of damaged files: the store is rejected with the file's name and never opens with a shorter log.

use crate::{BORN, ME, copy, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use synod_storage::conformance::{Slots, flatten};
use synod_storage::{Batch, LogOp, LogStore, RocksLog, StorageError, StoredGroup, StoredRun};
use synod_types::{GroupId, Slot, Value, Values};
use tempfile::TempDir;

const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

/// Content of a log, independent of the form of its journal.
pub(crate) type Content = Vec<(Option<bytes::Bytes>, Option<(Slot, bytes::Bytes)>, Slots)>;

fn run(first: u64, stamp: u8, count: usize) -> LogOp {
    sized_run(first, stamp, count, 40)
}

pub(crate) fn sized_run(first: u64, stamp: u8, count: usize, size: usize) -> LogOp {
    // No zero bytes, so that a write of zeros is damage.
    let command = |at| Value::Command(vec![0x80 | stamp ^ at as u8; size].into());
    let values: Values = (0..count).map(command).collect();
    LogOp::Put(StoredRun { first: Slot(first), stamp: vec![stamp].into(), values })
}

/// Returns a batch like those of a protocol: runs with a vote, a truncation or a compaction.
fn batch(at: u64) -> Batch {
    let mut ops = vec![(GROUPS[0], run(at, at as u8, 2))];
    match at % 4 {
        0 => ops.push((GROUPS[1], LogOp::HardState(at.to_le_bytes().to_vec().into()))),
        1 => ops.push((GROUPS[1], run(at, 9, 3))),
        2 => ops.push((GROUPS[0], LogOp::TruncateFrom(Slot(at + 1)))),
        _ => {
            let (through, base) = (Slot(at.saturating_sub(6)), at.to_string().into());
            ops.push((GROUPS[0], LogOp::Compact { through, base }));
        }
    }
    Batch { ops }
}

pub(crate) fn content(log: &mut RocksLog) -> Result<Content, StorageError> {
    let loaded: Result<Vec<StoredGroup>, _> =
        GROUPS.into_iter().map(|group| log.load(group)).collect();
    Ok(loaded?
        .into_iter()
        .map(|saved| (saved.hard_state.clone(), saved.base.clone(), flatten(&saved)))
        .collect())
}

pub(crate) fn read(path: &Path) -> Result<Content, StorageError> {
    content(&mut RocksLog::open(path, ME, BORN)?)
}

/// Folder of a log as a killed process leaves it, and its content. Older batches are in a table, newer ones
/// in the write-ahead log.
struct Victim {
    root: TempDir,
    holds: Content,
    tries: u32,
}

impl Victim {
    fn new() -> Self {
        let root = scratch();
        let live = root.path().join("live");
        let mut log = RocksLog::open(&live, ME, BORN).unwrap();
        (1..=12).for_each(|at| log.commit(&batch(at)).unwrap());
        drop(log);
        // An open flushes the write-ahead log to a table.
        let mut log = RocksLog::open(&live, ME, BORN).unwrap();
        (13..=24).for_each(|at| log.commit(&batch(at)).unwrap());
        let holds = content(&mut log).unwrap();
        let root_path = root.path().to_owned();
        copy(&live, &root_path.join("killed"));
        drop(log);
        Self { root, holds, tries: 0 }
    }

    fn killed(&self) -> PathBuf {
        self.root.path().join("killed")
    }

    /// Returns the matching paths of the database's files, relative to the store's folder.
    fn files(&self, is: impl Fn(&str) -> bool) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.killed().join("db"))
            .unwrap()
            .map(|entry| format!("db/{}", entry.unwrap().file_name().to_str().unwrap()))
            .filter(|name| is(name))
            .collect();
        names.sort();
        names
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.killed().join(name)).unwrap()
    }

    /// Opens a copy in which one file is replaced, or deleted if `bytes` is `None`.
    fn with(
        &mut self,
        name: &str,
        bytes: Option<&[u8]>,
    ) -> (PathBuf, Result<Content, StorageError>) {
        let path = self.root.path().join(format!("try{}", self.tries));
        self.tries += 1;
        copy(&self.killed(), &path);
        match bytes {
            Some(bytes) => fs::write(path.join(name), bytes).unwrap(),
            None => fs::remove_file(path.join(name)).unwrap(),
        }
        let found = read(&path);
        fs::remove_dir_all(&path).unwrap();
        (path, found)
    }

    /// Returns whether the damaged store is rejected. Otherwise its content must be complete.
    fn is_rejected(&mut self, name: &str, bytes: Option<&[u8]>, how: &str) -> bool {
        let (path, found) = self.with(name, bytes);
        match found {
            Ok(found) => {
                assert!(found == self.holds, "{how} of {name}: the log opens with wrong content");
                false
            }
            Err(StorageError::Damaged { path: named, reason }) => {
                assert!(named.starts_with(&path), "{how} of {name}: {named:?} {reason}");
                true
            }
            Err(other) => panic!("{how} of {name}: {other}"),
        }
    }

    /// Asserts that the damaged store is rejected with the file's name.
    fn assert_rejected(&mut self, name: &str, bytes: Option<&[u8]>, how: &str) {
        let (path, found) = self.with(name, bytes);
        match found {
            Err(StorageError::Damaged { path: named, reason }) => {
                assert_eq!(named, path.join(name), "{how} of {name}: {reason}");
            }
            Err(other) => panic!("{how} of {name}: {other}"),
            Ok(found) => {
                panic!("{how} of {name}: the log opens; complete: {}", found == self.holds)
            }
        }
    }
}

pub(crate) fn flipped(bytes: &[u8], at: usize, bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1 << (bit % 8);
    bytes
}

/// Returns the name of the only write-ahead log with content.
fn wal(victim: &Victim) -> String {
    let mut names = victim.files(|name| name.ends_with(".log"));
    names.retain(|name| !victim.bytes(name).is_empty());
    assert_eq!(names.len(), 1, "not exactly one write-ahead log: {names:?}");
    names.remove(0)
}

#[test]
fn undamaged_copy_opens_with_all_its_content() {
    let victim = Victim::new();
    assert_eq!(read(&victim.killed()).unwrap(), victim.holds);
    assert!(!wal(&victim).is_empty());
    assert!(!victim.files(|name| name.ends_with(".sst")).is_empty(), "the database has no table");
}

#[test]
fn damage_of_the_write_ahead_log_is_rejected_by_name() {
    let mut victim = Victim::new();
    let name = wal(&victim);
    let bytes = victim.bytes(&name);
    for at in (0..bytes.len()).step_by(19) {
        victim.assert_rejected(&name, Some(&flipped(&bytes, at, at)), &format!("bit flip at {at}"));
        victim.assert_rejected(&name, Some(&bytes[..at]), &format!("cut at {at}"));
    }
    for at in (0..bytes.len()).step_by(97) {
        let zeros = zeroed(&bytes, at, 200);
        victim.assert_rejected(&name, Some(&zeros), &format!("zeros at {at}"));
    }
    let zeros = zeroed(&bytes, 0, bytes.len());
    victim.assert_rejected(&name, Some(&zeros), "zeros everywhere");
    let (path, found) = victim.with(&name, None);
    match found {
        // The deleted file cannot be named, so the error names another file of the database.
        Err(StorageError::Damaged { path: named, reason }) => {
            assert!(named.starts_with(path.join("db")), "{named:?}");
            assert!(reason.contains("write-ahead log"), "{reason}");
        }
        Err(other) => panic!("a deleted write-ahead log: {other}"),
        Ok(_) => panic!("a deleted write-ahead log is not detected"),
    }
}

/// RocksDB writes its log in blocks of 32 KiB. It handles damage in the last block, or at the start of a
/// block, differently from damage elsewhere.
#[test]
fn damage_of_a_write_ahead_log_of_many_blocks_is_rejected_by_name() {
    const BLOCK: usize = 32 << 10;
    let mut victim = Victim::new();
    let mut log = RocksLog::open(victim.killed(), ME, BORN).unwrap();
    for at in 25..40 {
        let ops = vec![(GROUPS[0], sized_run(at, 1, 2, 5000))];
        log.commit(&Batch { ops }).unwrap();
    }
    victim.holds = content(&mut log).unwrap();
    let grown = victim.root.path().join("grown");
    copy(&victim.killed(), &grown);
    drop(log);
    fs::remove_dir_all(victim.killed()).unwrap();
    copy(&grown, &victim.killed());
    let name = wal(&victim);
    let bytes = victim.bytes(&name);
    assert!(bytes.len() > 4 * BLOCK);
    for at in (0..bytes.len()).step_by(4096).flat_map(|page| page + 3..page + 7) {
        victim.assert_rejected(&name, Some(&flipped(&bytes, at, at)), &format!("bit flip at {at}"));
    }
    for page in (0..bytes.len()).step_by(4096) {
        let zeros = zeroed(&bytes, page, 4096);
        victim.assert_rejected(&name, Some(&zeros), &format!("zeros at {page}"));
        victim.assert_rejected(&name, Some(&bytes[..page]), &format!("cut at {page}"));
    }
    for block in (0..bytes.len() - 2 * BLOCK).step_by(BLOCK) {
        let (one, two) = (block..block + BLOCK, block + BLOCK..block + 2 * BLOCK);
        let mut swapped = bytes.clone();
        swapped[one.clone()].copy_from_slice(&bytes[two.clone()]);
        victim.is_rejected(&name, Some(&swapped), &format!("block duplicated at {block}"));
        swapped[two].copy_from_slice(&bytes[one]);
        victim.is_rejected(&name, Some(&swapped), &format!("blocks swapped at {block}"));
    }
}

#[test]
fn damage_of_other_files_is_rejected_or_harmless() {
    let mut victim = Victim::new();
    let manifest = victim.files(|name| name.starts_with("db/MANIFEST")).remove(0);
    let table = victim.files(|name| name.ends_with(".sst")).remove(0);
    for name in [manifest.as_str(), &table, "db/CURRENT", "SYNOD", "HIGH"] {
        let bytes = victim.bytes(name);
        let step = bytes.len().div_ceil(40);
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(step) {
            let flip = flipped(&bytes, at, at);
            refused +=
                u32::from(victim.is_rejected(name, Some(&flip), &format!("bit flip at {at}")));
            let cut = &bytes[..at];
            refused += u32::from(victim.is_rejected(name, Some(cut), &format!("cut at {at}")));
            let zeros = zeroed(&bytes, at, 4096);
            refused += u32::from(victim.is_rejected(name, Some(&zeros), &format!("zeros at {at}")));
        }
        // The file has two copies of the mark with unused bytes between them.
        let least = if name == "HIGH" { 1 } else { 20 };
        assert!(refused >= least, "{name}: only {refused} rejected, expected at least {least}");
    }
    victim.assert_rejected("HIGH", None, "delete");
    victim.assert_rejected("SYNOD", None, "delete");
    victim.assert_rejected("db/CURRENT", None, "delete");
    victim.assert_rejected(&manifest, None, "delete");
    victim.assert_rejected(&table, None, "delete");
    let bytes = victim.bytes(&table);
    victim.assert_rejected(&table, Some(&bytes[..bytes.len() - 1]), "cut");
    for at in [0, bytes.len() / 5] {
        victim.assert_rejected(&table, Some(&flipped(&bytes, at, 3)), &format!("bit flip at {at}"));
    }
}

/// Flips every bit of every relevant file. RocksDB must not hang on any of them, either.
#[test]
#[ignore = "takes minutes; run it after every update of RocksDB"]
fn every_flipped_bit_is_rejected_or_harmless() {
    let mut victim = Victim::new();
    let data = |name: &str| [".log", ".sst"].iter().any(|end| name.ends_with(end));
    let mut names = victim.files(|name| data(name) || name.starts_with("db/MANIFEST"));
    names.extend(["db/CURRENT".into(), "SYNOD".into()]);
    for name in names {
        let bytes = victim.bytes(&name);
        for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let how = format!("bit {bit} of byte {at}");
            victim.is_rejected(&name, Some(&flipped(&bytes, at, bit)), &how);
        }
        println!("{name}: {} bits", bytes.len() * 8);
    }
}

/// One flipped bit changes the type of a record to one of recycled logs. RocksDB would read its header in an
/// endless loop.
#[test]
fn record_types_of_recycled_logs_are_rejected_by_name() {
    let mut victim = Victim::new();
    let manifest = victim.files(|name| name.starts_with("db/MANIFEST")).remove(0);
    for name in [wal(&victim), manifest] {
        let bytes = victim.bytes(&name);
        let mut at = 0;
        while at + 7 <= bytes.len() {
            let (bad, how) = (flipped(&bytes, at + 6, 2), format!("type at {at}"));
            let next = at + 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
            if name.ends_with(".log") || next < bytes.len() {
                victim.assert_rejected(&name, Some(&bad), &how);
            } else {
                // The last edit of the manifest may count as torn: the content must be complete without it.
                victim.is_rejected(&name, Some(&bad), &how);
            }
            at = next;
        }
        assert_eq!(at, bytes.len(), "{name}");
    }
}

#[test]
fn older_files_among_newer_ones_are_rejected() {
    let mut victim = Victim::new();
    // `yesterday` is the older copy. Since then the store committed more, and an open flushed its
    // write-ahead log to a table.
    let yesterday = victim.root.path().join("yesterday");
    copy(&victim.killed(), &yesterday);
    let mut log = RocksLog::open(victim.killed(), ME, BORN).unwrap();
    (25..=40).for_each(|at| log.commit(&batch(at)).unwrap());
    victim.holds = content(&mut log).unwrap();
    drop(log);
    // The whole older database with the newer high-water mark.
    let path = victim.root.path().join("mixed");
    copy(&victim.killed(), &path);
    fs::remove_dir_all(path.join("db")).unwrap();
    copy(&yesterday.join("db"), &path.join("db"));
    let error = read(&path).expect_err("an older database opens");
    assert!(matches!(&error, StorageError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("was durable"), "{error}");
    // One older file under the name of a newer one.
    let pairs = [("db/CURRENT", "db/CURRENT".to_owned()), ("HIGH", "HIGH".to_owned())];
    let newest = |folder: &Path| {
        let names = fs::read_dir(folder.join("db")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let logs = names.filter(|name| name.ends_with(".log"));
        logs.max().map(|name| format!("db/{name}")).unwrap()
    };
    let wal = (newest(&victim.killed()), newest(&yesterday));
    for (today, old) in pairs.iter().map(|(a, b)| (*a, b)).chain([(wal.0.as_str(), &wal.1)]) {
        let bytes = fs::read(yesterday.join(old)).unwrap();
        victim.is_rejected(today, Some(&bytes), "older copy");
    }
}

/// A power loss may tear only the one write that is not durable.
#[test]
fn torn_write_after_the_durable_ones_is_dropped() {
    let root = scratch();
    let (live, copied) = (root.path().join("live"), root.path().join("copied"));
    let mut log = RocksLog::open(&live, ME, BORN).unwrap();
    (1..=5).for_each(|at| log.commit(&batch(at)).unwrap());
    let durable = content(&mut log).unwrap();
    let high = fs::read(live.join("HIGH")).unwrap();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    let name = fs::read_dir(live.join("db"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max_by_key(|path| length(path))
        .unwrap();
    let before = length(&name) as usize;
    log.commit(&batch(6)).unwrap();
    let after = content(&mut log).unwrap();
    let whole = fs::read(&name).unwrap();
    assert!(whole.len() > before + 60);
    for end in (before..=whole.len()).step_by(7).chain([whole.len()]) {
        copy(&live, &copied);
        // The process was killed before it recorded the last write in the high-water mark.
        fs::write(copied.join("HIGH"), &high).unwrap();
        let torn = copied.join("db").join(name.file_name().unwrap());
        fs::write(&torn, &whole[..end]).unwrap();
        let mut again = RocksLog::open(&copied, ME, BORN).unwrap();
        let found = content(&mut again).unwrap();
        assert_eq!(found, if end == whole.len() { after.clone() } else { durable.clone() });
        // The store accepts further writes, and they are durable.
        again.commit(&batch(7)).unwrap();
        let next = content(&mut again).unwrap();
        drop(again);
        assert_eq!(read(&copied).unwrap(), next);
        fs::remove_dir_all(&copied).unwrap();
    }
}

/// Damage that RocksDB's checksums cannot detect: valid blocks with wrong records.
#[test]
fn lost_surplus_and_misplaced_records_are_found() {
    type Change = fn(&rocksdb::DB, &[Vec<u8>]);
    let changes: [(&str, Change); 6] = [
        ("a middle record is lost", |db, keys| db.delete(&keys[1]).unwrap()),
        ("the first record is lost", |db, keys| db.delete(&keys[0]).unwrap()),
        ("the last record is lost", |db, keys| db.delete(&keys[3]).unwrap()),
        ("a record after the end in the head", |db, keys| {
            let value = db.get(&keys[3]).unwrap().unwrap();
            let mut next = keys[3].clone();
            *next.last_mut().unwrap() += 1;
            db.put(next, value).unwrap();
        }),
        ("two records are swapped", |db, keys| {
            let (one, two) = (db.get(&keys[1]).unwrap(), db.get(&keys[2]).unwrap());
            db.put(&keys[1], two.unwrap()).unwrap();
            db.put(&keys[2], one.unwrap()).unwrap();
        }),
        ("the head is lost", |db, keys| {
            let mut head = keys[0][..9].to_vec();
            head[0] = b'g';
            db.delete(head).unwrap();
        }),
    ];
    for (what, change) in changes {
        let root = scratch();
        let mut log = RocksLog::open(root.path(), ME, BORN).unwrap();
        for first in [1, 3, 5, 7] {
            log.commit(&Batch { ops: vec![(GROUPS[0], run(first, 1, 2))] }).unwrap();
        }
        drop(log);
        let db = rocksdb::DB::open(&rocksdb::Options::default(), root.path().join("db")).unwrap();
        let keys: Vec<_> = db
            .prefix_iterator(b"j")
            .map(|entry| entry.unwrap().0.into_vec())
            .take_while(|key| key[0] == b'j')
            .collect();
        assert_eq!(keys.len(), 4);
        change(&db, &keys);
        drop(db);
        let mut log = RocksLog::open(root.path(), ME, BORN).unwrap();
        let error = log.load(GROUPS[0]).expect_err(what);
        assert!(matches!(&error, StorageError::Damaged { .. }), "{what}: {error}");
        let error = log.commit(&batch(1)).expect_err(what);
        assert!(matches!(&error, StorageError::Damaged { .. }), "{what}: {error}");
    }
}

pub(crate) fn zeroed(bytes: &[u8], at: usize, count: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let end = bytes.len().min(at + count);
    bytes[at..end].fill(0);
    bytes
}
