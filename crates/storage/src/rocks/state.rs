//! The state in RocksDB.

use super::database::Database;
use super::folder::Kind;
use crate::{Entries, Identity, StateStore, StateView, StorageError};
use bytes::Bytes;
use rocksdb::{DB, DBRawIteratorWithThreadMode, ReadOptions, SnapshotWithThreadMode, WriteBatch};
use std::path::Path;
use synod_types::{Change, Changes, Incarnation};

/// A state in a folder of its own; see the crate's page about its files.
pub struct RocksState {
    database: Database,
    /// The buffer that keys are put together in.
    key: Vec<u8>,
}

/// Stands before every key of the state machine.
const DATA: u8 = b'd';

/// The first key behind them all.
const DATA_END: [u8; 1] = [DATA + 1];

impl RocksState {
    /// Opens the state in `path`; makes it if there is nothing.
    ///
    /// # Errors
    /// [`Foreign`](StorageError::Foreign) if the folder holds anything but a state (it is left as
    /// it is), [`WrongIdentity`](StorageError::WrongIdentity) if it is another node's,
    /// [`TooNew`](StorageError::TooNew) if a newer version wrote it,
    /// [`Damaged`](StorageError::Damaged) if it is damaged or ends before its last sync, and
    /// [`Io`](StorageError::Io) if it cannot be read or written, or is in use.
    pub fn open(path: impl AsRef<Path>, identity: Identity) -> Result<Self, StorageError> {
        // A state has no lives: what it holds is a copy of what the log decided.
        let (database, _) = Database::open(path.as_ref(), Kind::State, identity, Incarnation(0))?;
        Ok(Self { database, key: Vec::new() })
    }
}

impl StateView for RocksState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.database.db().get_pinned(inside(key));
        let value = value.map_err(|error| self.database.explain(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        let cursor = self.database.db().raw_iterator_opt(up_to(to));
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

    fn view(&self) -> Result<Box<dyn StateView + Send + '_>, StorageError> {
        Ok(Box::new(View { database: &self.database, snapshot: self.database.db().snapshot() }))
    }
}

/// A RocksDB snapshot.
struct View<'s> {
    database: &'s Database,
    snapshot: SnapshotWithThreadMode<'s, DB>,
}

impl StateView for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        let value = self.snapshot.get_pinned(inside(key));
        let value = value.map_err(|error| self.database.explain(&error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        let cursor = self.snapshot.raw_iterator_opt(up_to(to));
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
        cursor.seek(inside(from));
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
        // The end of the range and a failed read look alike until one asks.
        self.ended = true;
        self.cursor.status().err().map(|error| Err(self.database.explain(&error)))
    }
}

fn inside(key: &[u8]) -> Vec<u8> {
    let mut inside = Vec::with_capacity(1 + key.len());
    inside.push(DATA);
    inside.extend_from_slice(key);
    inside
}

fn up_to(to: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(to.map_or_else(|| DATA_END.to_vec(), inside));
    options
}
