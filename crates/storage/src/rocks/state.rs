//! The state store on RocksDB.

use super::data_dir::Kind;
use super::database::Database;
use crate::{StateStore, StorageError, StoreEntries, StoreIdentity, StoreView};
use bytes::Bytes;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode, WriteBatch};
use std::path::Path;
use synod_types::{Change, Changes, Incarnation};

/// State store on RocksDB, in a folder of its own.
pub struct RocksState {
    database: Database,
    /// Buffer for prefixed keys.
    key: Vec<u8>,
}

/// Prefix of every key of the state machine.
const DATA: u8 = b'd';

/// The first key after them all.
const DATA_END: [u8; 1] = [DATA + 1];

impl RocksState {
    /// Opens the state in `path`, or creates it.
    ///
    /// # Errors
    /// [`Foreign`](StorageError::Foreign) if the folder does not hold a state (its content
    /// does not change), [`WrongIdentity`](StorageError::WrongIdentity) if it belongs to another node,
    /// [`TooNew`](StorageError::TooNew) if a newer version wrote it,
    /// [`Damaged`](StorageError::Damaged) if it is damaged or ends before its last sync, and
    /// [`Io`](StorageError::Io) if it cannot be read or written, or is in use.
    pub fn open(path: impl AsRef<Path>, identity: StoreIdentity) -> Result<Self, StorageError> {
        // A state needs no incarnation: it is a copy of the effects of the log.
        let (database, _) = Database::open(path.as_ref(), Kind::State, identity, Incarnation(0))?;
        Ok(Self { database, key: Vec::new() })
    }
}

impl StoreView for RocksState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.database.db().get_pinned(prefixed(key));
        let value = value.map_err(|error| self.database.explain(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let cursor = self.database.db().raw_iterator_opt(read_options(to));
        Box::new(Range::new(&self.database, cursor, from))
    }
}

impl StateStore for RocksState {
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError> {
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

    fn view(&self) -> Result<Box<dyn StoreView + Send + '_>, StorageError> {
        Ok(Box::new(View { database: &self.database, snapshot: self.database.db().snapshot() }))
    }
}

/// A RocksDB snapshot.
struct View<'s> {
    database: &'s Database,
    snapshot: SnapshotWithThreadMode<'s, DB>,
}

impl StoreView for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.snapshot.get_pinned(prefixed(key));
        let value = value.map_err(|error| self.database.explain(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let cursor = self.snapshot.raw_iterator_opt(read_options(to));
        Box::new(Range::new(self.database, cursor, from))
    }
}

struct Range<'a> {
    database: &'a Database,
    cursor: DBRawIteratorWithThreadMode<'a, DB>,
    ended: bool,
}

impl<'a> Range<'a> {
    fn new(
        database: &'a Database,
        mut cursor: DBRawIteratorWithThreadMode<'a, DB>,
        from: &[u8],
    ) -> Self {
        cursor.seek(prefixed(from));
        Self { database, cursor, ended: false }
    }
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        if let Some((key, value)) = self.cursor.item() {
            let entry = (Bytes::copy_from_slice(&key[1..]), Bytes::copy_from_slice(value));
            self.cursor.next();
            return Some(Ok(entry));
        }
        // The status distinguishes the end of the range from a failed read.
        self.ended = true;
        self.cursor.status().err().map(|error| Err(self.database.explain(&error)))
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
    options.set_iterate_upper_bound(to.map_or_else(|| DATA_END.to_vec(), prefixed));
    options
}
