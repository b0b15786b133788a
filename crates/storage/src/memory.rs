//! Memory behind both traits: for tests, simulators and nodes that may forget.

use crate::journal::LiveOps;
use crate::record::Head;
use crate::{
    Batch, Entries, Life, LogOp, LogStore, Records, Saved, StateStore, StateView, StorageError,
};
use bytes::Bytes;
use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use synod_types::{Change, Changes, GroupId, Incarnation, Slot};

/// One node's disk in memory. It outlives the stores opened on it, so that a test or a simulator
/// can stop a node, [crash](Self::crash) its disk and start the node again.
///
/// A clone is another handle on the same disk. Opening a store anew is a restart: the handle that
/// was opened before is dead, and its writes fail.
#[derive(Clone, Debug)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Content>>,
}

#[derive(Debug)]
struct Content {
    life: Life,
    /// Raised by every open and every crash: an older handle on the log is dead.
    log_handle: u64,
    groups: BTreeMap<GroupId, Group>,
    /// What groups are read from that are not among those.
    records: Records,
    /// The same for the state.
    state_handle: u64,
    state: BTreeMap<Bytes, Bytes>,
    /// What undoes each batch that is not durable yet, oldest first.
    undo: VecDeque<Undo>,
}

/// Keys and what they held before.
type Undo = Vec<(Bytes, Option<Bytes>)>;

#[derive(Debug, Default)]
struct Group {
    hard_state: Option<Bytes>,
    base: Option<(Slot, Bytes)>,
    journal: VecDeque<LogOp>,
    live: LiveOps,
}

impl MemoryDisk {
    /// An empty disk. `fresh` names its log's incarnation; a wiped disk is a new one with another.
    #[must_use]
    pub fn new(fresh: Incarnation) -> Self {
        let content = Content {
            life: Life { incarnation: fresh, boot: 0 },
            log_handle: 0,
            groups: BTreeMap::new(),
            records: Records::default(),
            state_handle: 0,
            state: BTreeMap::new(),
            undo: VecDeque::new(),
        };
        Self { shared: Arc::new(Mutex::new(content)) }
    }

    /// Opens the log: one boot more.
    #[must_use]
    pub fn open_log(&self) -> MemoryLog {
        let mut content = self.lock();
        content.life.boot += 1;
        content.log_handle += 1;
        MemoryLog { disk: self.clone(), life: content.life, handle: content.log_handle }
    }

    /// Opens the state: what it finds is durable from then on.
    #[must_use]
    pub fn open_state(&self) -> MemoryState {
        let mut content = self.lock();
        content.undo.clear();
        content.state_handle += 1;
        MemoryState { disk: self.clone(), handle: content.state_handle }
    }

    /// How many batches of the state are not durable: a crash may lose any number of them, the
    /// newest first.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lock().undo.len()
    }

    /// Loses power: of the state's unsynced batches the oldest `keep` survive (all, if there are
    /// fewer). The log loses nothing, because a commit is durable when it returns. Handles that
    /// are open are dead; open the stores again.
    pub fn crash(&self, keep: usize) {
        let content = &mut *self.lock();
        content.log_handle += 1;
        content.state_handle += 1;
        let survive = keep.min(content.undo.len());
        let lost = content.undo.split_off(survive);
        for (key, old) in lost.into_iter().rev().flat_map(|undo| undo.into_iter().rev()) {
            match old {
                Some(value) => content.state.insert(key, value),
                None => content.state.remove(&key),
            };
        }
    }

    /// What a disk would hold if the log lay there as records: for tests and simulators, which
    /// damage them and [put them back](Self::replace).
    #[must_use]
    pub fn records(&self) -> Records {
        let content = self.lock();
        let mut records = content.records.clone();
        for (id, group) in &content.groups {
            let head = Head {
                hard_state: group.hard_state.clone(),
                base: group.base.clone(),
                first: group.live.first(),
                next: group.live.next(),
            };
            records.put_group(*id, &head, &group.journal);
        }
        records
    }

    /// From now on the log is what these records say, and a load or a commit fails where they are
    /// damaged. Handles on the log that are open are dead.
    pub fn replace(&self, records: Records) {
        let content = &mut *self.lock();
        content.log_handle += 1;
        content.groups.clear();
        content.records = records;
    }

    /// A panic elsewhere cannot leave the content half changed for readers that matter: every
    /// writer that panicked took its node with it.
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A log in memory.
#[derive(Debug)]
pub struct MemoryLog {
    disk: MemoryDisk,
    life: Life,
    handle: u64,
}

impl MemoryLog {
    /// An empty log on a disk of its own; see [`MemoryDisk`] for one that can be opened again.
    #[must_use]
    pub fn new(fresh: Incarnation) -> Self {
        MemoryDisk::new(fresh).open_log()
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StorageError> {
        let content = self.disk.lock();
        if content.log_handle == self.handle { Ok(content) } else { Err(dead("log")) }
    }
}

impl LogStore for MemoryLog {
    fn life(&self) -> Life {
        self.life
    }

    fn load(&mut self, group: GroupId) -> Result<Saved, StorageError> {
        Ok(self.content()?.group(group)?.saved())
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut content = self.content()?;
        for (group, _) in &batch.ops {
            content.group(*group)?;
        }
        for (group, op) in &batch.ops {
            content.groups.entry(*group).or_default().take(op);
        }
        Ok(())
    }
}

impl Group {
    fn take(&mut self, op: &LogOp) {
        match op {
            LogOp::HardState(bytes) => self.hard_state = Some(bytes.clone()),
            LogOp::Put(_) | LogOp::TruncateFrom(_) => {
                self.live.push(op);
                self.journal.push_back(op.clone());
            }
            LogOp::Compact { through, base } => {
                self.base = Some((*through, base.clone()));
                let first = self.live.first();
                self.live.compact(*through);
                self.journal.drain(..(self.live.first() - first) as usize);
            }
        }
    }

    fn saved(&self) -> Saved {
        Saved {
            hard_state: self.hard_state.clone(),
            base: self.base.clone(),
            journal: self.journal.iter().cloned().collect(),
        }
    }
}

/// A state in memory. Until a [`sync`](StateStore::sync) it remembers how to undo what was
/// written, so that its [disk](MemoryDisk::crash) can crash: a state that is never synced grows.
#[derive(Debug)]
pub struct MemoryState {
    disk: MemoryDisk,
    handle: u64,
}

impl MemoryState {
    /// An empty state on a disk of its own; see [`MemoryDisk`] for one that can be opened again.
    #[must_use]
    pub fn new() -> Self {
        MemoryDisk::new(Incarnation(0)).open_state()
    }

    /// The disk it is on.
    #[must_use]
    pub fn disk(&self) -> &MemoryDisk {
        &self.disk
    }

    fn content(&self) -> Result<MutexGuard<'_, Content>, StorageError> {
        let content = self.disk.lock();
        if content.state_handle == self.handle { Ok(content) } else { Err(dead("state")) }
    }

    /// The first entry of a range; `Ok(None)` behind its end.
    fn first_in(
        &self,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
    ) -> Result<Option<(Bytes, Bytes)>, StorageError> {
        let content = self.content()?;
        let entry = content.state.range::<[u8], _>((from, to)).next();
        Ok(entry.map(|(key, value)| (key.clone(), value.clone())))
    }
}

impl Default for MemoryState {
    fn default() -> Self {
        Self::new()
    }
}

impl StateView for MemoryState {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        Ok(self.content()?.state.get(key).cloned())
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        Box::new(Range {
            state: self,
            next: Some(Bound::Included(Bytes::copy_from_slice(from))),
            to: to.map(Bytes::copy_from_slice),
        })
    }
}

/// One look-up an entry: an iterator over the map itself would have to hold the lock.
struct Range<'a> {
    state: &'a MemoryState,
    /// Where the next entry is looked for; `None` once there is no more.
    next: Option<Bound<Bytes>>,
    to: Option<Bytes>,
}

impl Iterator for Range<'_> {
    type Item = Result<(Bytes, Bytes), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let from = self.next.take()?;
        let from = from.as_ref().map(AsRef::as_ref);
        let to = self.to.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        if is_empty(from, to) {
            return None;
        }
        let found = self.state.first_in(from, to).transpose()?;
        if let Ok((key, _)) = &found {
            self.next = Some(Bound::Excluded(key.clone()));
        }
        Some(found)
    }
}

/// Whether no key can lie in a range; the map would panic on the reversed ones.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

impl StateStore for MemoryState {
    fn write(&mut self, changes: &Changes) -> Result<(), StorageError> {
        let mut content = self.content()?;
        let undo = changes.as_slice().iter().map(|change| content.take(change)).collect();
        content.undo.push_back(undo);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.content()?.undo.clear();
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn StateView + Send + '_>, StorageError> {
        // While the view borrows the store, nothing can write through it, and a handle opened
        // later kills this one: so the store itself is a consistent view.
        drop(self.content()?);
        Ok(Box::new(View(self)))
    }
}

impl Content {
    /// A group of the log, read from the records if there is need.
    fn group(&mut self, id: GroupId) -> Result<&mut Group, StorageError> {
        match self.groups.entry(id) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(room) => {
                let (head, journal) = self.records.take_group(id)?;
                let mut live = LiveOps::starting_at(head.first);
                journal.iter().for_each(|op| live.push(op));
                let (hard_state, base) = (head.hard_state, head.base);
                Ok(room.insert(Group { hard_state, base, journal: journal.into(), live }))
            }
        }
    }

    /// Applies a change to the state and returns what undoes it.
    fn take(&mut self, change: &Change) -> (Bytes, Option<Bytes>) {
        match change {
            Change::Put(key, value) => (key.clone(), self.state.insert(key.clone(), value.clone())),
            Change::Delete(key) => (key.clone(), self.state.remove(key)),
        }
    }
}

struct View<'s>(&'s MemoryState);

impl StateView for View<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.0.get(key)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> Entries<'a> {
        self.0.range(from, to)
    }
}

fn dead(what: &str) -> StorageError {
    StorageError::Io {
        path: format!("memory/{what}").into(),
        reason: "this handle is from before a crash or a later open".into(),
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
    fn a_crash_keeps_exactly_the_prefix_it_is_told_to() {
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
            assert_eq!(disk.unsynced(), 0, "what an open finds is durable");
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value)| (Bytes::from(*key), Bytes::from(*value)))
                .collect();
            assert_eq!(found, expected, "keep {keep}");
        }
    }

    #[test]
    fn handles_from_before_a_crash_are_dead() {
        let disk = MemoryDisk::new(Incarnation(7));
        let (mut log, mut state) = (disk.open_log(), disk.open_state());
        disk.crash(0);
        assert!(log.commit(&Batch::default()).is_err());
        assert!(log.load(GroupId(1)).is_err());
        assert!(state.write(&Changes::new()).is_err());
        assert!(state.view().is_err());
        assert!(state.range(b"", None).next().unwrap().is_err());
        let again = disk.open_log();
        assert_eq!(again.life().incarnation, Incarnation(7));
        assert_eq!((log.life().boot, again.life().boot), (1, 2));
    }
}
