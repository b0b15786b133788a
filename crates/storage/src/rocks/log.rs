//! The log in RocksDB.

use super::database::Database;
use super::folder::Kind;
use crate::journal::LiveOps;
use crate::record::{Head, Op, head_key, journal_end, op_key, seal};
use crate::records::JournalReader;
use crate::{Batch, Identity, Life, LogOp, LogStore, Saved, StorageError};
use rocksdb::{ReadOptions, WriteBatch};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use synod_types::{GroupId, Incarnation};

/// A log in a folder of its own; see the crate's page about its files.
///
/// A torn last batch that was never synced is dropped. Any other damage is refused: opened on damaged
/// files it fails, and so does a [`load`](LogStore::load).
pub struct RocksLog {
    database: Database,
    life: Life,
    groups: BTreeMap<GroupId, Group>,
    /// The buffer that records are encoded in.
    record: Vec<u8>,
}

/// What is kept in memory of a group: its head, and how far each operation reaches.
#[derive(Clone, Default)]
struct Group {
    hard_state: Option<bytes::Bytes>,
    base: Option<(synod_types::Slot, bytes::Bytes)>,
    live: LiveOps,
}

impl RocksLog {
    /// Opens the log in `path`; makes it if there is nothing, with `fresh` as its incarnation
    /// (draw it at random). An existing log keeps the incarnation it has.
    ///
    /// # Errors
    /// [`Foreign`](StorageError::Foreign) if the folder holds anything but a log (it is left as it
    /// is), [`WrongIdentity`](StorageError::WrongIdentity) if it is another node's,
    /// [`TooNew`](StorageError::TooNew) if a newer version wrote it,
    /// [`Damaged`](StorageError::Damaged) if anything in it is not what was written, or less, and
    /// [`Io`](StorageError::Io) if it cannot be read or written, or is in use.
    pub fn open(
        path: impl AsRef<Path>,
        identity: Identity,
        fresh: Incarnation,
    ) -> Result<Self, StorageError> {
        let (database, life) = Database::open(path.as_ref(), Kind::Log, identity, fresh)?;
        Ok(Self { database, life, groups: BTreeMap::new(), record: Vec::new() })
    }

    /// Reads a group whole, and checks it.
    fn read(&self, group: GroupId) -> Result<(Group, Vec<LogOp>), StorageError> {
        let key = head_key(group);
        let head: Option<Head> = self.database.read(&key)?;
        let head = head.unwrap_or_default();
        let journal = self.read_journal(group, &head)?;
        let mut live = LiveOps::starting_at(head.first);
        journal.iter().for_each(|op| live.push(op));
        Ok((Group { hard_state: head.hard_state, base: head.base, live }, journal))
    }

    fn read_journal(&self, group: GroupId, head: &Head) -> Result<Vec<LogOp>, StorageError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(journal_end(group));
        let mut cursor = self.database.db().raw_iterator_opt(options);
        cursor.seek(op_key(group, head.first));
        let mut reader = JournalReader::new(group, head);
        while let Some((key, value)) = cursor.item() {
            reader.take(key, value).map_err(|misfit| self.database.misfit(misfit))?;
            cursor.next();
        }
        cursor.status().map_err(|error| self.database.explain(&error))?;
        reader.end().map_err(|misfit| self.database.misfit(misfit))
    }

    /// Adds an operation to a batch, after all that the batch already holds.
    fn stage(&mut self, id: GroupId, op: &LogOp, batch: &mut WriteBatch) {
        let group = self.groups.get_mut(&id).expect("the caller has read the group");
        match op {
            LogOp::HardState(bytes) => group.hard_state = Some(bytes.clone()),
            LogOp::Compact { through, base } => {
                group.base = Some((*through, base.clone()));
                let from = group.live.first();
                group.live.compact(*through);
                if group.live.first() > from {
                    batch.delete_range(op_key(id, from), op_key(id, group.live.first()));
                }
            }
            LogOp::TruncateFrom(_) | LogOp::Put(_) => {
                // The values are copied into `record`, then into the batch.
                let key = op_key(id, group.live.next());
                seal(&key, &Op::of(op), &mut self.record);
                batch.put(key, &self.record);
                group.live.push(op);
            }
        }
    }

    fn stage_head(&mut self, id: GroupId, batch: &mut WriteBatch) {
        let group = &self.groups[&id];
        let head = Head {
            hard_state: group.hard_state.clone(),
            base: group.base.clone(),
            first: group.live.first(),
            next: group.live.next(),
        };
        let key = head_key(id);
        seal(&key, &head, &mut self.record);
        batch.put(key, &self.record);
    }
}

impl LogStore for RocksLog {
    fn life(&self) -> Life {
        self.life
    }

    fn load(&mut self, group: GroupId) -> Result<Saved, StorageError> {
        let (found, journal) = self.read(group)?;
        let saved =
            Saved { hard_state: found.hard_state.clone(), base: found.base.clone(), journal };
        self.groups.insert(group, found);
        Ok(saved)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        if batch.is_empty() {
            return Ok(());
        }
        let touched: BTreeSet<_> = batch.ops.iter().map(|(group, _)| *group).collect();
        for group in &touched {
            if !self.groups.contains_key(group) {
                let (found, _) = self.read(*group)?;
                self.groups.insert(*group, found);
            }
        }
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
