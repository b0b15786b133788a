//! Log store on RocksDB.

use super::data_dir::Kind;
use super::database::Database;
use crate::compaction::CompactionIndex;
use crate::record_codec::{Head, Op, head_key, journal_end, op_key, seal};
use crate::record_set::JournalDecoder;
use crate::{Batch, BootId, LogOp, LogStore, StorageError, StoreIdentity, StoredGroup};
use rocksdb::{ReadOptions, WriteBatch};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use synod_types::{GroupId, Incarnation};

/// Log store on RocksDB, in its own folder.
///
/// A torn last batch that was not synced is dropped. On any other damage [`open`](Self::open) or
/// [`load`](LogStore::load) fails.
pub struct RocksLog {
    database: Database,
    boot_id: BootId,
    groups: BTreeMap<GroupId, Group>,
    /// Buffer for the encoding of records.
    record: Vec<u8>,
}

/// Head of a group, and index of its journal. The journal itself is not kept in memory.
#[derive(Clone, Default)]
struct Group {
    hard_state: Option<bytes::Bytes>,
    base: Option<(synod_types::Slot, bytes::Bytes)>,
    index: CompactionIndex,
}

impl RocksLog {
    /// Opens the log in `path`, or creates it with this incarnation, which must be random. An existing log
    /// keeps its incarnation.
    ///
    /// # Errors
    /// - [`Foreign`](StorageError::Foreign) if the folder does not contain a log. It is not changed.
    /// - [`WrongIdentity`](StorageError::WrongIdentity) if the log belongs to another node.
    /// - [`TooNew`](StorageError::TooNew) if a newer version wrote it.
    /// - [`Damaged`](StorageError::Damaged) if the content differs from the written content.
    /// - [`Io`](StorageError::Io) if it cannot be read or written, or is in use.
    pub fn open(
        path: impl AsRef<Path>,
        identity: StoreIdentity,
        incarnation: Incarnation,
    ) -> Result<Self, StorageError> {
        let (database, boot_id) = Database::open(path.as_ref(), Kind::Log, identity, incarnation)?;
        Ok(Self { database, boot_id, groups: BTreeMap::new(), record: Vec::new() })
    }

    /// Reads and checks a group.
    fn read(&self, group: GroupId) -> Result<(Group, Vec<LogOp>), StorageError> {
        let key = head_key(group);
        let head: Option<Head> = self.database.read(&key)?;
        let head = head.unwrap_or_default();
        let journal = self.read_journal(group, &head)?;
        let mut index = CompactionIndex::starting_at(head.first);
        journal.iter().for_each(|op| index.push(op));
        Ok((Group { hard_state: head.hard_state, base: head.base, index }, journal))
    }

    fn read_journal(&self, group: GroupId, head: &Head) -> Result<Vec<LogOp>, StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(journal_end(group));
        let mut cursor = self.database.db().raw_iterator_opt(options);
        cursor.seek(op_key(group, head.first));
        let mut decoder = JournalDecoder::new(group, head);
        while let Some((key, value)) = cursor.item() {
            decoder.push(key, value).map_err(|mismatch| self.database.mismatch(mismatch))?;
            cursor.next();
        }
        // The cursor also ends at a failed read.
        cursor.status().map_err(|error| self.database.explain(&error))?;
        decoder.finish().map_err(|mismatch| self.database.mismatch(mismatch))
    }

    /// Adds an operation to a batch, and applies it to the group in memory.
    fn stage(&mut self, id: GroupId, op: &LogOp, batch: &mut WriteBatch) {
        let group = self.groups.get_mut(&id).expect("the caller has read the group");
        match op {
            LogOp::HardState(bytes) => group.hard_state = Some(bytes.clone()),
            LogOp::Compact { through, base } => {
                group.base = Some((*through, base.clone()));
                let from = group.index.first();
                group.index.compact(*through);
                if group.index.first() > from {
                    batch.delete_range(op_key(id, from), op_key(id, group.index.first()));
                }
            }
            LogOp::TruncateFrom(_) | LogOp::Put(_) => {
                // The values are copied into `record`, then into the batch.
                let key = op_key(id, group.index.next());
                seal(&key, &Op::of(op), &mut self.record);
                batch.put(key, &self.record);
                group.index.push(op);
            }
        }
    }

    fn stage_head(&mut self, id: GroupId, batch: &mut WriteBatch) {
        let group = &self.groups[&id];
        let head = Head {
            hard_state: group.hard_state.clone(),
            base: group.base.clone(),
            first: group.index.first(),
            next: group.index.next(),
        };
        let key = head_key(id);
        seal(&key, &head, &mut self.record);
        batch.put(key, &self.record);
    }
}

impl LogStore for RocksLog {
    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        let (found, journal) = self.read(group)?;
        let saved =
            StoredGroup { hard_state: found.hard_state.clone(), base: found.base.clone(), journal };
        self.groups.insert(group, found);
        Ok(saved)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let touched: BTreeSet<_> = batch.ops.iter().map(|(group, _)| *group).collect();
        // The head of each group is written whole, so groups that were not loaded are read first.
        for group in &touched {
            if !self.groups.contains_key(group) {
                let (found, _) = self.read(*group)?;
                self.groups.insert(*group, found);
            }
        }
        // A failed write leaves the groups in memory ahead of the disk. The database rejects every later
        // write, so this has no effect.
        let mut writes = WriteBatch::default();
        for (group, op) in &batch.ops {
            self.stage(*group, op, &mut writes);
        }
        for group in touched {
            self.stage_head(group, &mut writes);
        }
        self.database.write_durably(writes)
    }
}
