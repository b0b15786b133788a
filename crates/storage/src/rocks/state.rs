//! State store on RocksDB.

use super::data_dir::Kind;
use super::database::{Database, OpenDb};
use crate::{StateStore, StorageError, StoreEntries, StoreIdentity, StoreReader, StoreView};
use bytes::Bytes;
use rocksdb::{
    DB, DBPinnableSlice, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode,
    WriteBatch,
};
use std::path::Path;
use std::sync::Arc;
use synod_types::{Change, Changes, Incarnation};

/// State store on RocksDB, in its own folder.
pub struct RocksState {
    database: Database,
    /// Buffer for prefixed keys.
    key: Vec<u8>,
}

/// Prefix of every key of the state machine.
const DATA: u8 = b'd';

/// First key after all keys of the state machine.
const DATA_END: [u8; 1] = [DATA + 1];

impl RocksState {
    /// Opens the state in `path`, or creates it.
    ///
    /// # Errors
    /// - [`Foreign`](StorageError::Foreign) if the folder does not contain a state. It is not changed.
    /// - [`WrongIdentity`](StorageError::WrongIdentity) if the state belongs to another node.
    /// - [`TooNew`](StorageError::TooNew) if a newer version wrote it.
    /// - [`Damaged`](StorageError::Damaged) if it is damaged or ends before its last sync.
    /// - [`Io`](StorageError::Io) if it cannot be read or written, or is in use.
    pub fn open(path: impl AsRef<Path>, identity: StoreIdentity) -> Result<Self, StorageError> {
        // A state needs no incarnation: it is a copy of the effects of the log.
        let (database, _) = Database::open(path.as_ref(), Kind::State, identity, Incarnation(0))?;
        Ok(Self { database, key: Vec::new() })
    }
}

impl StateStore for RocksState {
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError> {
        // RocksDB applies the changes of a batch in order and atomically.
        let mut batch = WriteBatch::default();
        for change in changes.as_slice() {
            self.key.clear();
            self.key.push(DATA);
            match change {
                Change::Put(key, value) => {
                    self.key.extend_from_slice(key);
                    batch.put(&self.key, value);
                }
                Change::Delete(key) => {
                    self.key.extend_from_slice(key);
                    batch.delete(&self.key);
                }
            }
        }
        self.database.write(batch)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.database.sync()
    }

    fn reader(&self) -> Arc<dyn StoreReader> {
        Arc::new(Reader(Arc::clone(self.database.open_db())))
    }
}

/// Reader of the current content.
struct Reader(Arc<OpenDb>);

impl StoreView for Reader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        copied(&self.0, self.0.db().get_pinned(prefixed(key)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let cursor = self.0.db().raw_iterator_opt(read_options(to));
        Box::new(Range::new(&self.0, cursor, from))
    }
}

impl StoreReader for Reader {
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError> {
        let snapshot = OwnedSnapshot::new(Arc::clone(&self.0), |open| open.db().snapshot());
        Ok(Arc::new(View(snapshot)))
    }
}

type Snapshot<'a> = SnapshotWithThreadMode<'a, DB>;

self_cell::self_cell!(
    /// RocksDB snapshot with the database that it borrows.
    struct OwnedSnapshot {
        owner: Arc<OpenDb>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// Reader of a RocksDB snapshot.
struct View(OwnedSnapshot);

impl StoreView for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        copied(self.0.borrow_owner(), self.0.borrow_dependent().get_pinned(prefixed(key)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let cursor = self.0.borrow_dependent().raw_iterator_opt(read_options(to));
        Box::new(Range::new(self.0.borrow_owner(), cursor, from))
    }
}

/// Copies a value out of RocksDB's memory.
fn copied(
    open: &OpenDb,
    value: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>,
) -> Result<Option<Bytes>, StorageError> {
    let value = value.map_err(|error| open.explain(&error))?;
    Ok(value.map(|value| Bytes::copy_from_slice(&value)))
}

struct Range<'a> {
    open: &'a OpenDb,
    cursor: DBRawIteratorWithThreadMode<'a, DB>,
    ended: bool,
}

impl<'a> Range<'a> {
    fn new(open: &'a OpenDb, mut cursor: DBRawIteratorWithThreadMode<'a, DB>, from: &[u8]) -> Self {
        cursor.seek(prefixed(from));
        Self { open, cursor, ended: false }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Some((key, value)) = self.cursor.item() {
            // Copied before the cursor moves: key and value are borrowed from its current block.
            let entry = (Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(value));
            self.cursor.next();
            return Some(Ok(entry));
        }
        // Only the status distinguishes the end of the range from a failed read.
        self.ended = true;
        self.cursor.status().err().map(|error| Err(self.open.explain(&error)))
    }
}

fn prefixed(key: &[u8]) -> Vec<u8> {
    let mut prefixed = Vec::with_capacity(1 + key.len());
    prefixed.push(DATA);
    prefixed.extend_from_slice(key);
    prefixed
}

fn read_options(to: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    // With an upper bound RocksDB does not read blocks, or skip deletions, after the range.
    options.set_iterate_upper_bound(to.map_or_else(|| DATA_END.to_vec(), prefixed));
    options
}
