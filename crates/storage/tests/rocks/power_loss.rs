//! Tests of power losses, which tear unsynced writes page by page and in any order. A store opens with all
//! synced writes. Damage of synced writes is reported with the file's name, even if the high-water mark is old.

use crate::damage::{content, flipped, read, sized_run, zeroed};
use crate::{BORN, ME, copy, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use synod_storage::{Batch, LogStore, RocksLog, RocksState, StateStore, StorageError};
use synod_types::{Changes, GroupId};

const PAGE: usize = 4096;

/// Content of a page that was not written: zeros, or the previous content of the disk's block.
const UNWRITTEN: [u8; 2] = [0, 0xA5];

fn commit(log: &mut RocksLog, slot: u64, values: usize) {
    let ops = vec![(GroupId(1), sized_run(slot, 1, values, 1000))];
    log.commit(&Batch { ops }).unwrap();
}

/// Returns the largest file of a database among those with a matching name.
fn file(store: &Path, is: impl Fn(&str) -> bool) -> PathBuf {
    let paths = fs::read_dir(store.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let named = paths.filter(|path| is(path.file_name().unwrap().to_str().unwrap()));
    named.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("a file with this name")
}

fn wal(store: &Path) -> PathBuf {
    file(store, |name| name.ends_with(".log"))
}

/// Returns every set of one or two lost pages among those that contain bytes after `synced`.
fn losses(synced: usize, length: usize) -> Vec<Vec<usize>> {
    let pages: Vec<_> = (synced / PAGE..length.div_ceil(PAGE)).collect();
    let alone = pages.iter().map(|page| vec![*page]);
    let pairs = pages.iter().flat_map(|one| {
        pages.iter().filter(move |other| one < *other).map(move |other| vec![*one, *other])
    });
    alone.chain(pairs).collect()
}

/// Returns the file with its first `synced` bytes and without the later content of the lost pages.
fn torn(whole: &[u8], synced: usize, pages: &[usize], unwritten: u8) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for page in pages {
        let from = (page * PAGE).max(synced);
        let to = (page * PAGE + PAGE).min(bytes.len());
        // The rest of the page that contains the last synced byte was zero.
        let old = if page * PAGE < synced { 0 } else { unwritten };
        bytes[from..to].fill(old);
    }
    bytes
}

/// Copy of a log whose last batch was written, but not synced. The high-water mark is the one of its open,
/// because only that one is certain to be durable.
struct Unsynced {
    root: tempfile::TempDir,
    path: PathBuf,
    /// Length of the write-ahead log before each batch, and after the last one.
    ends: Vec<usize>,
    whole: Vec<u8>,
    synced: crate::damage::Content,
    all: crate::damage::Content,
}

impl Unsynced {
    fn new() -> Self {
        let root = scratch();
        let live = root.path().join("live");
        drop(RocksLog::open(&live, ME, BORN).unwrap());
        let mut log = RocksLog::open(&live, ME, BORN).unwrap();
        let mark = fs::read(live.join("HIGH")).unwrap();
        let mut ends = vec![];
        let wal = wal(&live);
        let length = || fs::metadata(&wal).unwrap().len() as usize;
        for slot in 0..9 {
            ends.push(length());
            commit(&mut log, 1 + 5 * slot, 5);
        }
        ends.push(length());
        let synced = content(&mut log).unwrap();
        commit(&mut log, 46, 40);
        ends.push(length());
        let all = content(&mut log).unwrap();
        let path = root.path().join("copied");
        copy(&live, &path);
        fs::write(path.join("HIGH"), mark).unwrap();
        let whole = fs::read(&wal).unwrap();
        assert!(ends[10] - ends[9] > 9 * PAGE, "the last batch has too few pages");
        Self { root, path, ends, whole, synced, all }
    }

    /// Opens a copy of the store with this content of the write-ahead log.
    fn with(&self, bytes: &[u8]) -> (PathBuf, Result<crate::damage::Content, StorageError>) {
        let path = self.root.path().join("try");
        copy(&self.path, &path);
        let name = wal(&path);
        fs::write(&name, bytes).unwrap();
        let found = read(&path);
        if let Ok(found) = &found {
            accepts_writes(&path, found);
        }
        fs::remove_dir_all(&path).unwrap();
        (name, found)
    }

    fn assert_rejected(&self, bytes: &[u8], how: &str) {
        match self.with(bytes) {
            (name, Err(StorageError::Damaged { path, .. })) => assert_eq!(path, name, "{how}"),
            (_, Err(other)) => panic!("{how}: {other}"),
            (_, Ok(found)) => {
                panic!("{how}: the store opens; it has all synced writes: {}", found == self.synced)
            }
        }
    }
}

/// Checks that the store accepts writes, and that the next open finds its old and its new content.
fn accepts_writes(path: &Path, found: &crate::damage::Content) {
    let mut log = RocksLog::open(path, ME, BORN).unwrap();
    assert_eq!(&content(&mut log).unwrap(), found);
    commit(&mut log, 300, 2);
    let next = content(&mut log).unwrap();
    drop(log);
    assert_eq!(read(path).unwrap(), next);
}

#[test]
fn log_opens_with_all_synced_batches_for_any_lost_pages_of_the_last_batch() {
    let store = Unsynced::new();
    let (synced, length) = (store.ends[9], store.ends[10]);
    assert!(store.with(&store.whole).1.unwrap() == store.all, "the intact store lost content");
    for pages in losses(synced, length) {
        for unwritten in UNWRITTEN {
            let (_, found) = store.with(&torn(&store.whole, synced, &pages, unwritten));
            let found = found.unwrap_or_else(|error| panic!("pages {pages:?} are lost: {error}"));
            assert!(found == store.synced, "pages {pages:?} are lost: unexpected content");
        }
    }
}

/// Each open creates a write-ahead log, whose first batch increments the boot count. The power fails before
/// that batch is synced.
#[test]
fn log_opens_after_a_power_loss_while_it_was_opened() {
    let root = scratch();
    let (live, path) = (root.path().join("live"), root.path().join("try"));
    let mut log = RocksLog::open(&live, ME, BORN).unwrap();
    commit(&mut log, 1, 5);
    let holds = content(&mut log).unwrap();
    drop(log);
    let mark = fs::read(live.join("HIGH")).unwrap();
    let log = RocksLog::open(&live, ME, BORN).unwrap();
    let whole = fs::read(wal(&live)).unwrap();
    for at in 0..whole.len() {
        for bytes in [whole[..at].to_vec(), flipped(&whole, at, at)] {
            copy(&live, &path);
            fs::write(path.join("HIGH"), &mark).unwrap();
            fs::write(wal(&path), bytes).unwrap();
            let mut again = RocksLog::open(&path, ME, BORN).unwrap();
            assert_eq!(again.boot_id().boot, 2, "the interrupted open is counted");
            assert_eq!(content(&mut again).unwrap(), holds);
            drop(again);
            fs::remove_dir_all(&path).unwrap();
        }
    }
    drop(log);
}

#[test]
fn log_with_a_lost_page_is_rejected_once_the_mark_covers_the_batch() {
    let store = Unsynced::new();
    fs::copy(store.root.path().join("live/HIGH"), store.path.join("HIGH")).unwrap();
    for pages in losses(store.ends[9], store.ends[10]) {
        store.assert_rejected(
            &torn(&store.whole, store.ends[9], &pages, 0),
            &format!("pages {pages:?}"),
        );
    }
}

#[test]
fn damage_before_the_last_batch_is_rejected_by_name_even_if_the_mark_is_old() {
    let store = Unsynced::new();
    // The start of the batch before the last one proves that all earlier batches were synced.
    let durable = store.ends[8];
    for at in (0..durable).step_by(PAGE / 3) {
        let how = format!("bit flip at {at}");
        store.assert_rejected(&flipped(&store.whole, at, at), &how);
        let tail = torn(&store.whole, store.ends[9], &[store.ends[10] / PAGE], 0);
        store.assert_rejected(&flipped(&tail, at, at), &format!("{how}, and a torn tail"));
    }
    for page in 0..durable / PAGE {
        let zeros = zeroed(&store.whole, page * PAGE, PAGE);
        store.assert_rejected(&zeros, &format!("zeros at page {page}"));
    }
}

/// Writes a batch with its own key, and with its number under the key `last`.
fn put(state: &mut RocksState, at: u8) {
    let mut changes = Changes::new();
    changes.put(vec![at], vec![at; 3000]);
    changes.put("last", vec![at]);
    state.write(&changes).unwrap();
}

/// Returns the number of the last batch in a state, and checks that all earlier batches are complete.
fn last(path: &Path) -> Result<u8, StorageError> {
    let state = RocksState::open(path, ME)?.reader();
    let last = state.get(b"last")?.expect("a first batch was synced")[0];
    let keys: Result<Vec<_>, _> = state.range(b"", Some(b"l")).map(|e| e.map(|e| e.0)).collect();
    let expected: Vec<_> = (0..=last).map(|at| vec![at]).collect();
    assert_eq!(keys?, expected, "the state is not a prefix of the batches");
    Ok(last)
}

#[test]
fn state_opens_at_its_last_sync_if_the_next_one_is_torn() {
    let root = scratch();
    let (live, before) = (root.path().join("live"), root.path().join("before"));
    let mut state = RocksState::open(&live, ME).unwrap();
    (0..20).for_each(|at| put(&mut state, at));
    state.sync().unwrap();
    (20..40).for_each(|at| put(&mut state, at));
    copy(&live, &before);
    assert_eq!(last(&before).unwrap(), 19, "unsynced batches are on disk");
    fs::remove_dir_all(&before).unwrap();
    copy(&live, &before);
    state.sync().unwrap();

    // The power fails during this sync, which writes and syncs a table, then adds it to the manifest.
    let is_manifest = |name: &str| name.starts_with("MANIFEST");
    let path = root.path().join("try");
    let opened = |manifest: &[u8], table: Option<&[u8]>| {
        copy(&live, &path);
        fs::copy(before.join("HIGH"), path.join("HIGH")).unwrap();
        fs::write(file(&path, is_manifest), manifest).unwrap();
        if let Some(table) = table {
            fs::write(file(&path, |name| name.ends_with(".sst")), table).unwrap();
        }
        let found = last(&path);
        fs::remove_dir_all(&path).unwrap();
        found
    };
    let old = fs::read(file(&before, is_manifest)).unwrap();
    let new = fs::read(file(&live, is_manifest)).unwrap();
    assert!(new.len() > old.len() && new.starts_with(&old), "the sync adds an edit");
    assert_eq!(opened(&new, None).unwrap(), 39);
    // The first edit adds the table; a second one has no effect on the content.
    let mut found = [0, 0];
    let mut count = |manifest: &[u8], how: &str| match opened(manifest, None).unwrap() {
        19 => found[0] += 1,
        39 => found[1] += 1,
        last => panic!("{how}: the last batch is {last}"),
    };
    for from in (old.len()..new.len()).step_by(9) {
        count(&new[..from], &format!("truncated at byte {from}"));
        for unwritten in UNWRITTEN {
            let mut torn = new.clone();
            torn[from..(from + 9).min(new.len())].fill(unwritten);
            count(&torn, &format!("a hole at {from}"));
        }
    }
    assert!(found[0] > 20 && found[1] > 5, "states before and after the sync: {found:?}");
    let tables = |path: &Path| {
        let names = fs::read_dir(path.join("db")).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|end| end == "sst")).count()
    };
    assert_eq!(tables(&live), tables(&before) + 1);
    let table = fs::read(file(&live, |name| name.ends_with(".sst"))).unwrap();
    for pages in losses(0, table.len()) {
        for unwritten in UNWRITTEN {
            let table = torn(&table, 0, &pages, unwritten);
            assert_eq!(opened(&old, Some(&table)).unwrap(), 19, "pages {pages:?} of the table");
        }
    }
}

#[test]
fn state_that_ends_before_its_last_sync_is_rejected() {
    let root = scratch();
    let (live, path) = (root.path().join("live"), root.path().join("try"));
    let mut state = RocksState::open(&live, ME).unwrap();
    (0..20).for_each(|at| put(&mut state, at));
    state.sync().unwrap();
    (20..30).for_each(|at| put(&mut state, at));
    let killed = root.path().join("killed");
    copy(&live, &killed);
    drop(state);
    for end in ["MANIFEST", ".sst"] {
        let name = file(&killed, |name| name.starts_with(end) || name.ends_with(end));
        let bytes = fs::read(&name).unwrap();
        let (mut refused, mut harmless) = (0, 0);
        for at in (0..bytes.len()).step_by(bytes.len().div_ceil(60)) {
            for damaged in [bytes[..at].to_vec(), flipped(&bytes, at, at), zeroed(&bytes, at, 100)]
            {
                copy(&killed, &path);
                fs::write(path.join("db").join(name.file_name().unwrap()), damaged).unwrap();
                match last(&path) {
                    // The damage is in bytes that no read depends on, such as the padding of a table.
                    Ok(last) => {
                        harmless += 1;
                        assert_eq!(last, 19, "damage of {end} at {at}");
                    }
                    Err(StorageError::Damaged { path: named, reason }) => {
                        refused += 1;
                        assert_eq!(named.file_name(), name.file_name(), "at {at}: {reason}");
                    }
                    Err(other) => panic!("damage of {end} at {at}: {other}"),
                }
                fs::remove_dir_all(&path).unwrap();
            }
        }
        assert!(refused > 100, "{end}: {refused} rejected, {harmless} harmless");
    }
}
