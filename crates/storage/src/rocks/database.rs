//! A RocksDB instance inside a store's folder: opened, checked, written.

use super::folder::{Folder, Kind, Marker};
use super::high::HighWater;
use super::tail::{self, Torn};
use crate::record::{META_KEY, Meta, seal, unseal};
use crate::records::Misfit;
use crate::{Identity, Life, StorageError};
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, DBRecoveryMode, ErrorKind,
    LogLevel, Options, WriteBatch, WriteOptions,
};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use synod_types::Incarnation;

/// A store's database. Its fields are dropped in this order: the lock goes last.
pub(super) struct Database {
    db: DB,
    kind: Kind,
    high: HighWater,
    /// Whether a write failed. What the disk holds is unknown from then on.
    failed: bool,
    folder: Folder,
}

impl Database {
    /// Opens the store, or makes it if the folder is empty. Every open is a life of its own,
    /// durable before this returns.
    pub(super) fn open(
        path: &Path,
        kind: Kind,
        identity: Identity,
        fresh: Incarnation,
    ) -> Result<(Self, Life), StorageError> {
        let folder = Folder::lock(path)?;
        match folder.marker()? {
            Some(marker) => {
                marker.check(path, kind, identity)?;
                Self::reopen(folder, &marker)
            }
            None => Self::create(folder, &Marker { kind, identity, incarnation: fresh }),
        }
    }

    fn create(folder: Folder, marker: &Marker) -> Result<(Self, Life), StorageError> {
        folder.begin(marker)?;
        let path = folder.database();
        let db = DB::open(&options(marker.kind, true), &path);
        let db = db.map_err(|error| explain(&path, None, &error))?;
        let high = HighWater::create(&folder.high(), 0)?;
        let mut database = Self { db, kind: marker.kind, high, failed: false, folder };
        let life = database.begin_life(marker, 1)?;
        database.folder.finish()?;
        Ok((database, life))
    }

    fn reopen(folder: Folder, marker: &Marker) -> Result<(Self, Life), StorageError> {
        let path = folder.database();
        let high = HighWater::open(&folder.high())?;
        // What RocksDB reads without complaint and yet too short is the newest write-ahead log, or
        // one before it that is gone; of a state, which has none, the manifest.
        let end = match marker.kind {
            Kind::Log => tail::logs(&path).pop(),
            Kind::State => tail::manifest(&path),
        };
        let torn = tail::drop_torn(&path, marker.kind, high.reached())?;
        let opened = DB::open(&options(marker.kind, false), &path);
        let opened = opened.map_err(|error| explain(&path, end.as_deref(), &error));
        let db = opened.map_err(|error| blame(torn.as_ref(), error))?;
        let mut database = Self { db, kind: marker.kind, high, failed: false, folder };
        database.check_reach(end).map_err(|error| blame(torn.as_ref(), error))?;
        let meta = database.check_meta(marker)?;
        let life = database.begin_life(marker, meta.boot + 1)?;
        Ok((database, life))
    }

    /// Refuses a database that ends before the last write known to be durable.
    fn check_reach(&self, end: Option<PathBuf>) -> Result<(), StorageError> {
        let (found, reached) = (self.db.latest_sequence_number(), self.high.reached());
        if found >= reached {
            return Ok(());
        }
        let what = match self.kind {
            Kind::Log => "a write-ahead log",
            Kind::State => "the manifest",
        };
        Err(StorageError::Damaged {
            path: end.unwrap_or_else(|| self.folder.database()),
            reason: format!(
                "the database ends at write {found}, but {reached} was durable: \
                 {what} was cut short or is missing"
            ),
        })
    }

    fn check_meta(&self, marker: &Marker) -> Result<Meta, StorageError> {
        let meta: Meta = self.read(META_KEY)?.ok_or_else(|| {
            self.damaged("the record that says whose database this is is missing".into())
        })?;
        let Identity { cluster, node } = marker.identity;
        let expected = Meta { cluster, node, incarnation: marker.incarnation, boot: meta.boot };
        if meta == expected {
            return Ok(meta);
        }
        Err(self.damaged(format!(
            "it is the database of another store: node {} of cluster {}, incarnation {}",
            meta.node, meta.cluster, meta.incarnation
        )))
    }

    fn begin_life(&mut self, marker: &Marker, boot: u64) -> Result<Life, StorageError> {
        let Identity { cluster, node } = marker.identity;
        let meta = Meta { cluster, node, incarnation: marker.incarnation, boot };
        let (mut batch, mut record) = (WriteBatch::default(), Vec::new());
        seal(META_KEY, &meta, &mut record);
        batch.put(META_KEY, &record);
        self.write_durably(batch)?;
        self.high.sync()?;
        Ok(Life { incarnation: marker.incarnation, boot })
    }

    /// Writes a batch; durable when this returns.
    pub(super) fn write_durably(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        if self.kind == Kind::State {
            self.write(batch)?;
            return self.sync();
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.attempt(|this| {
            this.db.write_opt(batch, &options).map_err(|error| this.explain(&error))?;
            this.high.raise(this.db.latest_sequence_number())
        })
    }

    /// Writes a batch of a state, in memory: durable after the next [`sync`](Self::sync).
    pub(super) fn write(&mut self, batch: WriteBatch) -> Result<(), StorageError> {
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.attempt(|this| {
            this.db.write_opt(batch, &options).map_err(|error| this.explain(&error))
        })
    }

    /// Makes everything written to a state durable, as a table, and the mark that says so too:
    /// syncs of a state are rare, so its mark is never old.
    pub(super) fn sync(&mut self) -> Result<(), StorageError> {
        self.attempt(|this| {
            this.db.flush().map_err(|error| this.explain(&error))?;
            this.high.raise(this.db.latest_sequence_number())?;
            this.high.sync()
        })
    }

    fn attempt(
        &mut self,
        write: impl FnOnce(&mut Self) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Io {
                path: self.folder.path().into(),
                reason: "an earlier write failed, so nothing more is written".into(),
            });
        }
        let result = write(self);
        self.failed = result.is_err();
        result
    }

    /// The record under `key`.
    pub(super) fn read<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StorageError> {
        let value = self.db.get_pinned(key).map_err(|error| self.explain(&error))?;
        value.map(|value| self.decode(key, &value)).transpose()
    }

    /// Decodes a record found under `key`.
    pub(super) fn decode<T>(&self, key: &[u8], value: &[u8]) -> Result<T, StorageError>
    where
        T: DeserializeOwned,
    {
        unseal(key, value).map_err(|bad| self.misfit(Misfit::of_record(key, bad)))
    }

    /// What was read is not what was written.
    pub(super) fn misfit(&self, misfit: Misfit) -> StorageError {
        let path = match misfit {
            Misfit::TooNew(_) => self.folder.path().into(),
            Misfit::Damaged(_) => self.folder.database(),
        };
        misfit.at(path)
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    pub(super) fn explain(&self, error: &rocksdb::Error) -> StorageError {
        explain(&self.folder.database(), None, error)
    }

    pub(super) fn damaged(&self, reason: String) -> StorageError {
        StorageError::Damaged { path: self.folder.database(), reason }
    }
}

/// How RocksDB is set: one writer, few files, little memory. Compression is left out because
/// the library is built without any; commands are small and the log is short-lived.
fn options(kind: Kind, create: bool) -> Options {
    let mut options = Options::default();
    options.create_if_missing(create);
    options.set_error_if_exists(create);
    options.set_compression_type(DBCompressionType::None);
    // Damage is an error, at open and later, and never read over.
    options.set_paranoid_checks(true);
    // A torn end is gone by now: whatever does not fit is damage. (The default would silently drop
    // all that follows it.)
    options.set_wal_recovery_mode(DBRecoveryMode::AbsoluteConsistency);
    // A write-ahead log that was synced and closed must be there, at its full length.
    options.set_track_and_verify_wals_in_manifest(true);
    // One flush and one compaction at a time: a node has other things to do.
    options.set_max_background_jobs(2);
    options.set_max_write_buffer_number(2);
    // Nothing reads RocksDB's own statistics, and its text log stays small.
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // A manifest is read whole at every open.
    options.set_max_manifest_file_size(4 << 20);
    let mut table = BlockBasedOptions::default();
    match kind {
        Kind::Log => {
            // Most operations are compacted away soon; a larger buffer would write fewer of
            // them to tables, but takes longer to recover.
            options.set_write_buffer_size(32 << 20);
            // All tables are opened, and so checked, at once: there are few.
            options.set_max_open_files(-1);
            // The log is read once, from start to end.
            table.set_block_cache(&Cache::new_lru_cache(1 << 20));
        }
        Kind::State => {
            // Each sync makes a table, and many are small. Tables of like size are merged, so that
            // a small one does not make RocksDB write a large one again.
            options.set_compaction_style(DBCompactionStyle::Universal);
            options.set_write_buffer_size(32 << 20);
            options.set_max_open_files(512);
            // Tables reach the disk steadily, so that a sync does not wait for all of one.
            options.set_bytes_per_sync(1 << 20);
            table.set_block_cache(&Cache::new_lru_cache(32 << 20));
            // Most reads ask for one key, which then lies in one table of many.
            table.set_bloom_filter(10.0, false);
        }
    }
    options.set_block_based_table_factory(&table);
    options
}

/// Damage that came to light after a torn entry was dropped is that entry's: it was durable.
fn blame(torn: Option<&Torn>, error: StorageError) -> StorageError {
    match (torn, error) {
        (Some(torn), StorageError::Damaged { reason, .. }) => StorageError::Damaged {
            path: torn.path.clone(),
            reason: format!("{}, and without that entry: {reason}", torn.reason),
        },
        (_, other) => other,
    }
}

/// Turns RocksDB's error into ours and finds the file that it speaks of.
fn explain(database: &Path, end: Option<&Path>, error: &rocksdb::Error) -> StorageError {
    let reason = error.as_ref().to_owned();
    let missing = reason.contains("No such file") || reason.contains("does not exist");
    let named = file_named(&reason).map(|name| database.join(name));
    match error.kind() {
        ErrorKind::IOError if !missing => {
            StorageError::Io { path: named.unwrap_or_else(|| database.into()), reason }
        }
        // What RocksDB calls damaged without a name, when it opens, is the file read last.
        ErrorKind::Corruption => {
            let path = named.or_else(|| end.map(Path::to_owned));
            StorageError::Damaged { path: path.unwrap_or_else(|| database.into()), reason }
        }
        _ if missing => {
            StorageError::Damaged { path: named.unwrap_or_else(|| database.into()), reason }
        }
        _ => StorageError::Io { path: named.unwrap_or_else(|| database.into()), reason },
    }
}

/// The database file that a message speaks of. The manifest comes last: RocksDB also mentions it
/// when another file is not what it says.
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
    fn a_failed_write_is_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity { cluster: ClusterId(1), node: NodeId(1) };
        let (mut database, _) =
            Database::open(folder.path(), Kind::Log, identity, Incarnation(1)).unwrap();
        let sequence = database.db.latest_sequence_number();
        let full = || StorageError::Io { path: folder.path().into(), reason: "full".into() };
        assert!(database.attempt(|_| Err(full())).is_err());
        let mut batch = WriteBatch::default();
        batch.put(b"k", b"v");
        let error = database.write_durably(batch).unwrap_err();
        assert!(error.to_string().contains("an earlier write failed"), "{error}");
        assert!(database.sync().is_err(), "a sync is never tried again");
        assert!(database.write(WriteBatch::default()).is_err());
        assert_eq!(database.db.latest_sequence_number(), sequence);
    }

    #[test]
    fn a_message_gives_its_file() {
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
