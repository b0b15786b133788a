//! RocksDB instance of a store: open, checks and writes.

use super::data_dir::{DataDir, Kind, Marker};
use super::high_water::HighWater;
use super::tail::{self, TornEntry};
use crate::record_codec::{META_KEY, Meta, seal, unseal};
use crate::record_set::LogMismatch;
use crate::{BootId, StorageError, StoreIdentity};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, DBRecoveryMode, ErrorKind,
    LogLevel, Options, WriteBatch, WriteOptions,
};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod_types::Incarnation;

/// Database of one store.
pub(super) struct Database {
    open: Arc<OpenDb>,
    kind: Kind,
    high_water: HighWater,
    /// True after a failed write: the content of the disk is unknown, so every later write is rejected.
    failed: bool,
}

/// RocksDB instance, shared with readers. It is closed when the store and all readers are dropped. The
/// fields are dropped in this order, so that the lock is released last.
pub(super) struct OpenDb {
    db: DB,
    dir: DataDir,
}

impl OpenDb {
    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn explain(&self, error: &rocksdb::Error) -> StorageError {
        explain(&self.dir.database(), None, error)
    }
}

impl Database {
    /// Opens the store, or creates it if the folder is empty. Each open increments the boot count durably
    /// before this returns.
    pub(super) fn open(
        path: &Path,
        kind: Kind,
        identity: StoreIdentity,
        incarnation: Incarnation,
    ) -> Result<(Self, BootId), StorageError> {
        let dir = DataDir::lock(path)?;
        match dir.marker()? {
            Some(marker) => {
                marker.check(path, kind, identity)?;
                Self::reopen(dir, &marker)
            }
            None => Self::create(dir, &Marker { kind, identity, incarnation }),
        }
    }

    fn create(dir: DataDir, marker: &Marker) -> Result<(Self, BootId), StorageError> {
        dir.begin_creation(marker)?;
        let path = dir.database();
        let db = DB::open(&options(marker.kind, true), &path);
        let db = db.map_err(|error| explain(&path, None, &error))?;
        let high_water = HighWater::create(&dir.high_water(), 0)?;
        let open = Arc::new(OpenDb { db, dir });
        let mut database = Self { open, kind: marker.kind, high_water, failed: false };
        let boot_id = database.record_boot(marker, 1)?;
        database.open.dir.finish_creation()?;
        Ok((database, boot_id))
    }

    fn reopen(dir: DataDir, marker: &Marker) -> Result<(Self, BootId), StorageError> {
        let path = dir.database();
        let high_water = HighWater::open(&dir.high_water())?;
        // The file that an error names if RocksDB names none: the newest write-ahead log, or the manifest
        // of a state. RocksDB accepts both if they are truncated.
        let end = match marker.kind {
            Kind::Log => tail::logs(&path).pop(),
            Kind::State => tail::manifest(&path),
        };
        let torn = tail::drop_torn_entry(&path, marker.kind, high_water.reached())?;
        let opened = DB::open(&options(marker.kind, false), &path);
        let opened = opened.map_err(|error| explain(&path, end.as_deref(), &error));
        let db = opened.map_err(|error| attribute_to_torn_entry(torn.as_ref(), error))?;
        let open = Arc::new(OpenDb { db, dir });
        let mut database = Self { open, kind: marker.kind, high_water, failed: false };
        database
            .check_high_water(end)
            .map_err(|error| attribute_to_torn_entry(torn.as_ref(), error))?;
        let meta = database.check_meta(marker)?;
        let boot_id = database.record_boot(marker, meta.boot + 1)?;
        Ok((database, boot_id))
    }

    /// Rejects a database that ends before the last write known to be durable.
    fn check_high_water(&self, end: Option<PathBuf>) -> Result<(), StorageError> {
        let (found, reached) = (self.open.db.latest_sequence_number(), self.high_water.reached());
        if found >= reached {
            return Ok(());
        }
        let what = match self.kind {
            Kind::Log => "a write-ahead log",
            // A state has no write-ahead log: only the manifest names its newest table.
            Kind::State => "the manifest",
        };
        Err(StorageError::Damaged {
            path: end.unwrap_or_else(|| self.open.dir.database()),
            reason: format!(
                "the database ends at write {found}, but write {reached} was durable: \
                 {what} is truncated or missing"
            ),
        })
    }

    fn check_meta(&self, marker: &Marker) -> Result<Meta, StorageError> {
        let meta: Meta = self
            .read(META_KEY)?
            .ok_or_else(|| self.damaged("the record of the database's owner is missing".into()))?;
        let StoreIdentity { cluster, node } = marker.identity;
        let expected = Meta { cluster, node, incarnation: marker.incarnation, boot: meta.boot };
        if meta == expected {
            return Ok(meta);
        }
        Err(self.damaged(format!(
            "the database of another store: node {} of cluster {}, incarnation {}",
            meta.node, meta.cluster, meta.incarnation
        )))
    }

    fn record_boot(&mut self, marker: &Marker, boot: u64) -> Result<BootId, StorageError> {
        let StoreIdentity { cluster, node } = marker.identity;
        let meta = Meta { cluster, node, incarnation: marker.incarnation, boot };
        let (mut batch, mut record) = (WriteBatch::default(), Vec::new());
        seal(META_KEY, &meta, &mut record);
        batch.put(META_KEY, &record);
        self.write_durably(batch)?;
        self.high_water.sync()?;
        Ok(BootId { incarnation: marker.incarnation, boot })
    }

    /// Writes a batch, which is durable when this returns.
    pub(super) fn write_durably(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        if self.kind == Kind::State {
            self.write(batch)?;
            return self.sync();
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.attempt(|this| {
            this.open.db.write_opt(batch, &options).map_err(|error| this.explain(&error))?;
            this.high_water.raise(this.open.db.latest_sequence_number())
        })
    }

    /// Writes a batch of a state to memory. It is durable after the next [`sync`](Self::sync).
    pub(super) fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.attempt(|this| {
            this.open.db.write_opt(batch, &options).map_err(|error| this.explain(&error))
        })
    }

    /// Makes all writes of a state durable as a table, then the high-water mark. Syncs of a state are rare,
    /// so each of them can afford the second sync, and the mark is never old.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.attempt(|this| {
            // The mark is raised last: it must never be ahead of the database.
            this.open.db.flush().map_err(|error| this.explain(&error))?;
            this.high_water.raise(this.open.db.latest_sequence_number())?;
            this.high_water.sync()
        })
    }

    /// Executes a write, unless an earlier one failed. A failed sync must not be retried: the kernel may
    /// have dropped the pages, and the next sync would succeed without them.
    fn attempt(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Io {
                path: self.open.dir.path().into(),
                reason: "an earlier write failed, so all later writes are rejected: stop the node"
                    .into(),
            });
        }
        let result = write(self);
        self.failed = result.is_err();
        result
    }

    /// Reads the record under `key`.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let value = self.open.db.get_pinned(key).map_err(|error| self.explain(&error))?;
        value.map(|value| self.decode(key, &value)).transpose()
    }

    /// Decodes a record found under `key`.
    pub(super) fn decode<T>(&self, key: &[u8], value: &[u8]) -> Result<T, StorageError>
    where
        T: DeserializeOwned,
    {
        unseal(key, value).map_err(|bad| self.mismatch(LogMismatch::of_record(key, bad)))
    }

    /// Converts a mismatch of the stored log to an error.
    pub(super) fn mismatch(&self, mismatch: LogMismatch) -> StorageError {
        let path = match mismatch {
            LogMismatch::TooNew(_) => self.open.dir.path().into(),
            LogMismatch::Damaged(_) => self.open.dir.database(),
        };
        mismatch.at(path)
    }

    /// Returns the shared instance, for readers.
    pub(super) fn open_db(&self) -> &Arc<OpenDb> {
        &self.open
    }

    pub(super) fn db(&self) -> &DB {
        &self.open.db
    }

    pub(super) fn explain(&self, error: &rocksdb::Error) -> StorageError {
        self.open.explain(error)
    }

    pub(super) fn damaged(&self, reason: String) -> StorageError {
        StorageError::Damaged { path: self.open.dir.database(), reason }
    }
}

/// Returns the options of RocksDB: one writer, few files, little memory. Compression is off, because the
/// library is built without it; commands are small, and the log is short-lived.
fn options(kind: Kind, create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_error_if_exists(create);
    options.set_compression_type(DBCompressionType::None);
    // Damage is an error, at open and later, and is never skipped.
    options.set_paranoid_checks(true);
    // A torn end is already cut off, so any fault is damage. The default mode would silently drop all
    // records after the first fault.
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    // A write-ahead log that was synced and closed must exist in its full length.
    options.set_track_and_verify_wals_in_manifest(true);
    // One flush and one compaction at a time leave the processor to the node.
    options.set_max_background_jobs(2);
    options.set_max_write_buffer_number(2);
    // No code reads RocksDB's statistics, and its text log stays small.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // A manifest is read completely at every open, so it stays small.
    options.set_max_manifest_file_size(4 << 20);
    let mut table = BlockBasedOptions::default();
    match kind {
        Kind::Log => {
            // Most operations are compacted away soon. A larger buffer would write fewer of them to
            // tables, but would make recovery slower.
            options.set_write_buffer_size(32 << 20);
            // All tables are opened, and thereby checked, at open: there are few.
            options.set_max_open_files(-1);
            // The log is read once, from start to end.
            table.set_block_cache(&Cache::new_lru_cache(1 << 20));
        }
        Kind::State => {
            // Each sync creates a table, often a small one. Universal compaction merges tables of similar
            // size, so that a small table does not cause a rewrite of a large one.
            options.set_compaction_style(DBCompactionStyle::Universal);
            options.set_write_buffer_size(32 << 20);
            options.set_max_open_files(512);
            // Tables are synced in parts while they are written, so that a sync waits for the last part only.
            options.set_bytes_per_sync(1 << 20);
            table.set_block_cache(&Cache::new_lru_cache(32 << 20));
            // Most reads are of one key, which is in one of many tables: the filter skips the others.
            table.set_bloom_filter(10.0, false);
        }
    }
    options.set_block_based_table_factory(&table);
    options
}

/// Attributes damage to the torn entry that was dropped before it was detected: the rest of the store
/// depends on that entry, so it was durable and not torn.
fn attribute_to_torn_entry(torn: Option<&TornEntry>, error: StorageError) -> StorageError {
    match (torn, error) {
        (Some(torn), StorageError::Damaged { reason, .. }) => StorageError::Damaged {
            path: torn.path.clone(),
            reason: format!("{}; without that entry: {reason}", torn.reason),
        },
        (_, other) => other,
    }
}

/// Converts an error of RocksDB, with the path of the file that its message names. `end` is the path for
/// damage without a name.
fn explain(database: &Path, end: Option<&Path>, error: &rocksdb::Error) -> StorageError {
    let reason = error.as_ref().to_owned();
    let missing = reason.contains("No such file") || reason.contains("does not exist");
    let named = file_named(&reason).map(|name| database.join(name));
    match error.kind() {
        ErrorKind::IOError if !missing => {
            StorageError::Io { path: named.unwrap_or_else(|| database.into()), reason }
        }
        // At open, damage without a file name is in the file that RocksDB reads last.
        ErrorKind::Corruption => {
            let path = named.or_else(|| end.map(Path::to_owned));
            StorageError::Damaged { path: path.unwrap_or_else(|| database.into()), reason }
        }
        // A missing file is damage: the database depends on every file that it opens.
        _ if missing => {
            StorageError::Damaged { path: named.unwrap_or_else(|| database.into()), reason }
        }
        _ => StorageError::Io { path: named.unwrap_or_else(|| database.into()), reason },
    }
}

/// Returns the name of the database file in a message. Data files come first, because RocksDB also names
/// the manifest when another file does not match it.
fn file_named(message: &str) -> Option<&str> {
    let words = message.split(|c: char| !(c.is_ascii_alphanumeric() || ".-_".contains(c)));
    let words: Vec<_> = words.map(|word| word.trim_end_matches('.')).collect();
    let numbered = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let data = |word: &str| {
        word.rsplit_once('.').is_some_and(|(n, end)| numbered(n) && ["sst", "log"].contains(&end))
    };
    let list =
        |word: &str| word == "CURRENT" || word.strip_prefix("MANIFEST-").is_some_and(numbered);
    let first = |is: &dyn Fn(&str) -> bool| words.iter().copied().find(|word| is(word));
    first(&data).or_else(|| first(&list))
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::{ClusterId, NodeId};

    #[test]
    fn no_write_follows_a_failed_one() {
        let folder = tempfile::tempdir().unwrap();
        let identity = StoreIdentity { cluster: ClusterId(1), node: NodeId(1) };
        let (mut database, _) =
            Database::open(folder.path(), Kind::Log, identity, Incarnation(1)).unwrap();
        let sequence = database.open.db.latest_sequence_number();
        let full = || StorageError::Io { path: folder.path().into(), reason: "full".into() };
        assert!(database.attempt(|_| Err(full())).is_err());
        let mut batch = WriteBatch::default();
        batch.put(b"k", b"v");
        let error = database.write_durably(batch).unwrap_err();
        assert!(error.to_string().contains("an earlier write failed"), "{error}");
        assert!(database.sync().is_err(), "a sync after a failed write succeeds");
        assert!(database.write(WriteBatch::default()).is_err());
        assert_eq!(database.open.db.latest_sequence_number(), sequence);
    }

    #[test]
    fn error_message_names_its_file() {
        let cases = [
            (
                "Corruption: block checksum mismatch: in /d/n.log/db/000012.sst offset 3",
                "000012.sst",
            ),
            (
                "While open a file: /d/db/000008.sst: No such file. MANIFEST-000005 may be",
                "000008.sst",
            ),
            (
                "Corruption: checksum mismatch in /d/my-data.log/db/MANIFEST-000005.",
                "MANIFEST-000005",
            ),
            ("Invalid argument: /d/CURRENT: does not exist (create_if_missing)", "CURRENT"),
        ];
        for (message, file) in cases {
            assert_eq!(file_named(message), Some(file), "{message}");
        }
        assert_eq!(file_named("IO error: No space left on device: /d/a.log/db"), None);
    }
}
