//! A power loss tears unsynced writes, page by page and in any order: the store opens with all that was
//! synced. Damage of synced writes is rejected by name, even when the high-water mark is old.

use crate::damage::{content, flipped, read, sized_run, zeroed};
use crate::{BORN, ME, copy, scratch};
use std::fs;
use std::path::{Path, PathBuf};
use synod_storage::{Batch, LogStore, RocksLog, RocksState, StateStore, StorageError};
use synod_types::{Changes, GroupId};

const PAGE: usize = 4096;

/// A page that was not written holds zeros, or what the disk's blocks held before.
const UNWRITTEN: [u8; 2] = [0, 0xA5];

fn commit(log: &mut RocksLog, slot: u64, values: usize) {
    let ops = vec![(GroupId(1), sized_run(slot, 1, values, 1000))];
    log.commit(&Batch { ops }).unwrap();
}

/// The file of a database that ends so and is the largest.
fn file(store: &Path, is: impl Fn(&str) -> bool) -> PathBuf {
    let paths = fs::read_dir(store.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let named = paths.filter(|path| is(path.file_name().unwrap().to_str().unwrap()));
    named.max_by_key(|path| fs::metadata(path).unwrap().len()).expect("such a file")
}

fn wal(store: &Path) -> PathBuf {
    file(store, |name| name.ends_with(".log"))
}

/// Every choice of one page, and of two, out of those that reach past `synced`.
fn losses(synced: usize, length: usize) -> Vec<Vec<usize>> {
    let pages: Vec<_> = (synced / PAGE..length.div_ceil(PAGE)).collect();
    let alone = pages.iter().map(|page| vec![*page]);
    let pairs = pages.iter().flat_map(|one| {
        pages.iter().filter(move |other| one < *other).map(move |other| vec![*one, *other])
    });
    alone.chain(pairs).collect()
}

/// The file with pages as they were when `synced` bytes were all there was.
fn torn(whole: &[u8], synced: usize, pages: &[usize], unwritten: u8) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for page in pages {
        let from = (page * PAGE).max(synced);
        let to = (page * PAGE + PAGE).min(bytes.len());
        // The block that was written in part held nothing else.
        let old = if page * PAGE < synced { 0 } else { unwritten };
        bytes[from..to].fill(old);
    }
    bytes
}

/// A log whose last batch was written and not synced: copied, with the mark of its opening, which
/// is the last that is certain to be on the disk.
struct Unsynced {
    root: tempfile::TempDir,
    path: PathBuf,
    /// How long the write-ahead log was before each batch, and how long it is.
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
        assert!(ends[10] - ends[9] > 9 * PAGE, "a tail of many pages");
        Self { root, path, ends, whole, synced, all }
    }

    /// Opens a copy with this write-ahead log.
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
            (_, Ok(found)) => panic!("{how}: opened, with all synced: {}", found == self.synced),
        }
    }
}

/// The store takes writes, and is opened again with what it held and what it took.
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
    assert!(store.with(&store.whole).1.unwrap() == store.all, "nothing is lost");
    for pages in losses(synced, length) {
        for unwritten in UNWRITTEN {
            let (_, found) = store.with(&torn(&store.whole, synced, &pages, unwritten));
            let found = found.unwrap_or_else(|error| panic!("pages {pages:?} lost: {error}"));
            assert!(found == store.synced, "pages {pages:?} lost");
        }
    }
}

/// The first batch of a new write-ahead log is the one that counts the opening.
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
            assert_eq!(again.boot_id().boot, 2, "the opening that was cut short is not counted");
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
    // The batch before the last one begins here: it shows that those before it were durable.
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

/// A state and what it is to hold: the number of the last batch.
fn put(state: &mut RocksState, at: u8) {
    let mut changes = Changes::new();
    changes.put(vec![at], vec![at; 3000]);
    changes.put("last", vec![at]);
    state.write(&changes).unwrap();
}

/// The last batch that a state holds, which is a prefix of those written.
fn last(path: &Path) -> Result<u8, StorageError> {
    let state = RocksState::open(path, ME)?.reader();
    let last = state.get(b"last")?.expect("a first batch was synced")[0];
    let keys: Result<Vec<_>, _> = state.range(b"", Some(b"l")).map(|e| e.map(|e| e.0)).collect();
    let expected: Vec<_> = (0..=last).map(|at| vec![at]).collect();
    assert_eq!(keys?, expected, "a prefix of the batches");
    Ok(last)
}

#[test]
fn state_opens_at_its_last_sync_for_any_loss_of_the_next() {
    let root = scratch();
    let (live, before) = (root.path().join("live"), root.path().join("before"));
    let mut state = RocksState::open(&live, ME).unwrap();
    (0..20).for_each(|at| put(&mut state, at));
    state.sync().unwrap();
    (20..40).for_each(|at| put(&mut state, at));
    copy(&live, &before);
    assert_eq!(last(&before).unwrap(), 19, "what was not synced is in memory only");
    fs::remove_dir_all(&before).unwrap();
    copy(&live, &before);
    state.sync().unwrap();

    // The power fails in this sync. The table is written and synced, then named in the manifest.
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
    assert!(new.len() > old.len() && new.starts_with(&old), "one more edit");
    assert_eq!(opened(&new, None).unwrap(), 39);
    // The edit that names the table comes first; another one, without effect, follows it.
    let mut found = [0, 0];
    let mut count = |manifest: &[u8], how: &str| match opened(manifest, None).unwrap() {
        19 => found[0] += 1,
        39 => found[1] += 1,
        last => panic!("{how}: the state ends at {last}"),
    };
    for from in (old.len()..new.len()).step_by(9) {
        count(&new[..from], &format!("cut at {from}"));
        for unwritten in UNWRITTEN {
            let mut torn = new.clone();
            torn[from..(from + 9).min(new.len())].fill(unwritten);
            count(&torn, &format!("a hole at {from}"));
        }
    }
    assert!(found[0] > 20 && found[1] > 5, "before and after the sync: {found:?}");
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
                    // It hit what nothing reads, such as the padding of a table.
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
        assert!(refused > 100, "{end}: refused {refused}, harmless {harmless}");
    }
}
