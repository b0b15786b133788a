//! Stores in memory, for tests, simulators and nodes that may lose their data.

use crate::compaction::CompactionIndex;
use crate::record_codec::Head;
use crate::record_set::RecordSet;
use crate::{
    Batch, BootId, LogOp, LogStore, StateStore, StorageError, StoreEntries, StoreReader, StoreView,
    StoredGroup,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use synod_types::{Change, Changes, GroupId, Incarnation, SharedMap, Slot};

/// Disk of one node, in memory. It outlives the stores opened on it, so that a test or a simulator
/// can stop a node, [crash](Self::crash) its disk and restart the node.
///
/// A clone is another handle on the same disk. Opening a store again models a restart: the previous
/// handle becomes invalid, and its calls fail.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Content>>,
}

#[derive(Debug)]
struct Content {
    boot_id: BootId,
    /// Number of the valid handle on the log, incremented by every open and every crash.
    log_handle: u64,
    groups: BTreeMap<GroupId, Group>,
    /// Records of the groups that are not loaded yet.
    records: RecordSet,
    /// Number of the valid handle on the state, incremented like `log_handle`.
    state_handle: u64,
    state: SharedMap<Bytes>,
    /// Undo of each batch that is not durable, oldest batch first.
    undo: VecDeque<Undo>,
}

/// Keys that a batch changed, with their previous values.
type Undo = Vec<(Bytes, Option<Bytes>)>;

#[derive(Debug, Default)]
struct Group {
    hard_state: Option<Bytes>,
    base: Option<(Slot, Bytes)>,
    journal: VecDeque<LogOp>,
    index: CompactionIndex,
}

impl MemoryDisk {
    /// Creates an empty disk. A wiped disk is modelled by a new one with another incarnation.
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        let content = Content {
            boot_id: BootId { incarnation, boot: 0 },
            log_handle: 0,
            groups: BTreeMap::new(),
            records: RecordSet::default(),
            state_handle: 0,
            state: SharedMap::new(),
            undo: VecDeque::new(),
        };
        Self { shared: Arc::new(Mutex::new(content)) }
    }

    /// Opens the log and increments its boot count.
    #[must_use]
    pub fn open_log(&self) -> MemoryLog {
        let mut content = self.lock();
        content.boot_id.boot += 1;
        // Invalidates the previous handle: two handles would model two processes with one store open.
        content.log_handle += 1;
        MemoryLog { disk: self.clone(), boot_id: content.boot_id, handle: content.log_handle }
    }

    /// Opens the state. Its current content becomes durable.
    #[must_use]
    pub fn open_state(&self) -> MemoryState {
        let mut content = self.lock();
        // A node acts on the state that it finds, so a later crash must not take it back.
        content.undo.clear();
        content.state_handle += 1;
        MemoryState { disk: self.clone(), handle: content.state_handle }
    }

    /// Returns the number of state batches that are not durable. A crash loses the newest of them.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().undo.len()
    }

    /// Simulates a power loss. The oldest `keep` unsynced state batches survive. The log loses nothing,
    /// because a commit is durable when it returns. Open handles become invalid.
    pub fn crash(&self, keep: usize) {
        let content = &mut *self.lock();
        content.log_handle += 1;
        content.state_handle += 1;
        let survive = keep.min(content.undo.len());
        let lost = content.undo.split_off(survive);
        // Newest change first: a batch may write a key twice, and the oldest previous value must win.
        for (key, old) in lost.into_iter().rev().flat_map(|undo| undo.into_iter().rev()) {
            match old {
                Some(value) => content.state.insert(key, value),
                None => content.state.remove(&key),
            };
        }
    }

    /// Returns the log as records, for [`fault_injection`](crate::fault_injection).
    pub(crate) fn records(&self) -> RecordSet {
        let content = self.lock();
        // Groups that were never loaded are still records.
        let mut records = content.records.clone();
        for (id, group) in &content.groups {
            let head = Head {
                hard_state: group.hard_state.clone(),
                base: group.base.clone(),
                first: group.index.first(),
                next: group.index.next(),
            };
            records.put_group(*id, &head, &group.journal);
        }
        records
    }

    /// Replaces the log by records. Open handles on the log become invalid.
    pub(crate) fn replace(&self, records: RecordSet) {
        let content = &mut *self.lock();
        content.log_handle += 1;
        content.groups.clear();
        content.records = records;
    }

    /// Locks the content and ignores poisoning: a writer that panicked has stopped its node, so no reader
    /// depends on the partial change.
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Log store in memory.
#[derive(Debug)]
pub struct MemoryLog {
    disk: MemoryDisk,
    boot_id: BootId,
    handle: u64,
}

impl MemoryLog {
    /// Creates an empty log on a new disk. To open it again, use [`disk`](Self::disk).
    #[must_use]
    pub fn new(incarnation: Incarnation) -> Self {
        MemoryDisk::new(incarnation).open_log()
    }

    /// Returns the disk of this store.
    #[must_use]
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StorageError> {
        let content = self.disk.lock();
        if content.log_handle == self.handle { Ok(content) } else { Err(stale_handle("log")) }
    }
}

impl LogStore for MemoryLog {
    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        Ok(self.content()?.group(group)?.saved())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut content = self.content()?;
        // All groups are loaded first: a damaged one must not leave a part of the batch applied.
        for (group, _) in &batch.ops {
            content.group(*group)?;
        }
        for (group, op) in &batch.ops {
            content.groups.entry(*group).or_default().apply(op);
        }
        Ok(())
    }
}

impl Group {
    fn apply(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(bytes) => self.hard_state = Some(bytes.clone()),
            LogOp::Put(_) | LogOp::TruncateFrom(_) => {
                self.index.push(op);
                self.journal.push_back(op.clone());
            }
            LogOp::Compact { through, base } => {
                self.base = Some((*through, base.clone()));
                let first = self.index.first();
                self.index.compact(*through);
                // The journal has one element for each sequence number of the index.
                self.journal.drain(..(self.index.first() - first) as usize);
            }
        }
    }

    fn saved(&self) -> StoredGroup {
        StoredGroup {
            hard_state: self.hard_state.clone(),
            base: self.base.clone(),
            journal: self.journal.iter().cloned().collect(),
        }
    }
}

/// State store in memory. For [crashes](MemoryDisk::crash) it keeps an undo log, which grows until the
/// next [`sync`](StateStore::sync).
#[derive(Debug)]
pub struct MemoryState {
    disk: MemoryDisk,
    handle: u64,
}

impl MemoryState {
    /// Creates an empty state on a new disk. To open it again, use [`disk`](Self::disk).
    #[must_use]
    pub fn new() -> Self {
        MemoryDisk::new(Incarnation(0)).open_state()
    }

    /// Returns the disk of this store.
    #[must_use]
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StorageError> {
        let content = self.disk.lock();
        if content.state_handle == self.handle { Ok(content) } else { Err(stale_handle("state")) }
    }

    /// Returns the first entry of a range, or `Ok(None)` if the range is empty.
    fn first_in(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>, StorageError> {
        // Checks the handle for each entry: a crash also ends the iterators of the old handle.
        let content = self.content()?;
        let entry = content.state.range((from, to)).next();
        Ok(entry.map(|(key, value)| (key.clone(), value.clone())))
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new()
    }
}

impl StoreView for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.content()?.state.get(key).cloned())
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        Box::new(Range {
            state: self,
            next: Some(Bound::Included(Bytes::copy_from_slice(from))),
            to: to.map(Bytes::copy_from_slice),
        })
    }
}

/// Iterator that looks up each entry separately, because an iterator over the map would keep the lock.
struct Range<'a> {
    state: &'a MemoryState,
    /// Lower bound of the next entry, or `None` after the last one.
    next: Option<Bound<Bytes>>,
    to: Option<Bytes>,
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        // An error ends the iteration, because `next` stays `None`.
        let from = self.next.take()?;
        let from = from.as_ref().map(AsRef::as_ref);
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.state.first_in(from, to).transpose()?;
        if let Ok((key, _)) = &found {
            self.next = Some(Bound::Excluded(key.clone()));
        }
        Some(found)
    }
}

impl StoreReader for MemoryState {
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError> {
        // The clone shares all nodes with the state, so it costs one reference count.
        Ok(Arc::new(View(self.content()?.state.clone())))
    }
}

impl StateStore for MemoryState {
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError> {
        let mut content = self.content()?;
        // The lock is held for the whole batch, so readers see all of it or nothing.
        let undo = changes.as_slice().iter().map(|change| content.apply(change)).collect();
        content.undo.push_back(undo);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.content()?.undo.clear();
        Ok(())
    }

    fn reader(&self) -> Arc<dyn StoreReader> {
        Arc::new(Self { disk: self.disk.clone(), handle: self.handle })
    }
}

impl Content {
    /// Returns a group of the log. Decodes its records if it is not loaded yet.
    fn group(&mut self, id: GroupId) -> Result<&mut Group, StorageError> {
        match self.groups.entry(id) {
            Entry::Occupied(loaded) => Ok(loaded.into_mut()),
            Entry::Vacant(vacant) => {
                let (head, journal) = self.records.take_group(id)?;
                // The index is not stored: the journal determines it.
                let mut index = CompactionIndex::starting_at(head.first);
                journal.iter().for_each(|op| index.push(op));
                let (hard_state, base) = (head.hard_state, head.base);
                Ok(vacant.insert(Group { hard_state, base, journal: journal.into(), index }))
            }
        }
    }

    /// Applies a change to the state and returns its undo.
    fn apply(&mut self, change: &Change) -> (Bytes, Option<Bytes>) {
        match change {
            Change::Put(key, value) => (key.clone(), self.state.insert(key.clone(), value.clone())),
            Change::Delete(key) => (key.clone(), self.state.remove(key)),
        }
    }
}

/// State at one point in time. The map shares its nodes with the state until either changes.
struct View(SharedMap<Bytes>);

impl StoreView for View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.0.get(key).cloned())
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let entries = self.0.range((Bound::Included(from), to));
        Box::new(entries.map(|(key, value)| Ok((key.clone(), value.clone()))))
    }
}

fn stale_handle(what: &str) -> StorageError {
    StorageError::Io {
        path: format!("memory/{what}").into(),
        reason: "the handle is invalid: the disk crashed, or the store was opened again".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, value: &'static str) -> Changes {
        let mut changes = Changes::new();
        changes.put(key, value);
        changes
    }

    fn all(state: &MemoryState) -> Vec<(Bytes, Bytes)> {
        state.range(b"", None).map(Result::unwrap).collect()
    }

    #[test]
    fn crash_keeps_exactly_the_given_prefix_of_unsynced_batches() {
        for keep in 0..=4 {
            let disk = MemoryDisk::new(Incarnation(7));
            let mut state = disk.open_state();
            state.write(&put("a", "0")).unwrap();
            state.sync().unwrap();
            let mut twice = put("a", "1");
            twice.append(&mut put("a", "2"));
            twice.delete("b");
            state.write(&twice).unwrap();
            state.write(&put("b", "3")).unwrap();
            let mut delete = Changes::new();
            delete.delete("a");
            state.write(&delete).unwrap();
            assert_eq!(disk.unsynced(), 3);
            disk.crash(keep);
            let expected: &[(&str, &str)] = match keep {
                0 => &[("a", "0")],
                1 => &[("a", "2")],
                2 => &[("a", "2"), ("b", "3")],
                _ => &[("b", "3")],
            };
            let found = all(&disk.open_state());
            assert_eq!(disk.unsynced(), 0, "the content found by an open is durable");
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value)| (Bytes::from(*key), Bytes::from(*value)))
                .collect();
            assert_eq!(found, expected, "keep {keep}");
        }
    }

    #[test]
    fn handles_from_before_a_crash_are_invalid() {
        let disk = MemoryDisk::new(Incarnation(7));
        let (mut log, mut state) = (disk.open_log(), disk.open_state());
        disk.crash(0);
        assert!(log.commit(&Batch::default()).is_err());
        assert!(log.load(GroupId(1)).is_err());
        assert!(state.write(&Changes::new()).is_err());
        assert!(state.view().is_err());
        assert!(state.range(b"", None).next().unwrap().is_err());
        let again = disk.open_log();
        assert_eq!(again.boot_id().incarnation, Incarnation(7));
        assert_eq!((log.boot_id().boot, again.boot_id().boot), (1, 2));
    }
}
