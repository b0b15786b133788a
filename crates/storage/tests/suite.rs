//! Tests of the conformance suites: each must reject a store with a planted fault.

use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use synod_storage::conformance::{self, Fixture};
use synod_storage::{
    Batch, BootId, LogOp, LogStore, MemoryDisk, MemoryLog, MemoryState, StateStore, StorageError,
    StoreEntries, StoreReader, StoreView, StoredGroup, StoredRun,
};
use synod_types::{Change, Changes, GroupId, Incarnation};

/// Planted fault of a log store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LogFault {
    None,
    IgnoresTruncations,
    LosesTheLastOperation,
    ReversesABatch,
    MixesGroups,
    CompactsOneTooMany,
    KeepsTheFirstHardState,
    DropsStamps,
    RepeatsItsBootCount,
    WritesOnlyAtTheNextCommit,
}

struct FaultyLog {
    inner: MemoryLog,
    fault: LogFault,
    /// Batch of the previous commit, if the fault delays writes.
    delayed: Batch,
    has_hard_state: bool,
}

impl FaultyLog {
    fn apply_fault(&mut self, batch: &Batch) -> Batch {
        let mut ops = batch.ops.clone();
        match self.fault {
            LogFault::IgnoresTruncations => {
                ops.retain(|(_, op)| !matches!(op, LogOp::TruncateFrom(_)));
            }
            LogFault::LosesTheLastOperation => drop(ops.pop()),
            LogFault::ReversesABatch => ops.reverse(),
            // As in a store that has only the lowest byte of the group in its keys.
            LogFault::MixesGroups => ops.iter_mut().for_each(|(group, _)| group.0 %= 256),
            LogFault::KeepsTheFirstHardState => {
                let has_one = self.has_hard_state;
                ops.retain(|(_, op)| !(has_one && matches!(op, LogOp::HardState(_))));
                self.has_hard_state |= ops.iter().any(|(_, op)| matches!(op, LogOp::HardState(_)));
            }
            _ => {}
        }
        for (_, op) in &mut ops {
            match op {
                LogOp::Compact { through, .. } if self.fault == LogFault::CompactsOneTooMany => {
                    *through = through.next();
                }
                LogOp::Put(run) if self.fault == LogFault::DropsStamps => {
                    *run = StoredRun { stamp: Bytes::new(), ..run.clone() };
                }
                _ => {}
            }
        }
        Batch { ops }
    }
}

impl LogStore for FaultyLog {
    fn boot_id(&self) -> BootId {
        let boot_id = self.inner.boot_id();
        BootId {
            boot: if self.fault == LogFault::RepeatsItsBootCount { 1 } else { boot_id.boot },
            ..boot_id
        }
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        self.inner.load(group)
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut batch = self.apply_fault(batch);
        if self.fault == LogFault::WritesOnlyAtTheNextCommit {
            std::mem::swap(&mut batch, &mut self.delayed);
        }
        self.inner.commit(&batch)
    }
}

struct LogFixture(MemoryDisk, LogFault);

impl Fixture for LogFixture {
    type Store = FaultyLog;

    fn open(&mut self) -> FaultyLog {
        let (inner, delayed) = (self.0.open_log(), Batch::default());
        FaultyLog { inner, fault: self.1, delayed, has_hard_state: false }
    }

    fn crash(&mut self, _: FaultyLog) {
        self.0.crash(0);
    }
}

/// Planted fault of a state store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StateFault {
    None,
    IgnoresDeletes,
    ReversesABatch,
    SplitsABatch,
    IgnoresSyncs,
    IncludesTheUpperBound,
    LosesEmptyValues,
    ViewsFollowWrites,
    ReadersAreViews,
}

struct FaultyState {
    inner: MemoryState,
    fault: StateFault,
}

/// Reader of a store or of a view.
struct FaultyReader {
    /// Source of the reads.
    inner: Arc<dyn StoreView>,
    state: Arc<dyn StoreReader>,
    fault: StateFault,
}

impl StoreReader for FaultyReader {
    fn view(&self) -> Result<Arc<dyn StoreView>, StorageError> {
        let inner = match self.fault {
            StateFault::ViewsFollowWrites => Arc::clone(&self.state) as _,
            _ => self.state.view()?,
        };
        Ok(Arc::new(Self { inner, state: Arc::clone(&self.state), fault: self.fault }))
    }
}

impl StoreView for FaultyReader {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(key)
    }

    fn range<'a>(&'a self, from: &[u8], to: Option<&[u8]>) -> StoreEntries<'a> {
        let to = to.map(<[u8]>::to_vec);
        let to = to.map(|mut to| {
            if self.fault == StateFault::IncludesTheUpperBound {
                // The next key in the order of bytes.
                to.push(0);
            }
            to
        });
        self.inner.range(from, to.as_deref())
    }
}

fn changes<'a>(list: impl IntoIterator<Item = &'a Change>) -> Changes {
    let mut changes = Changes::new();
    for change in list {
        match change {
            Change::Put(key, value) => changes.put(key.clone(), value.clone()),
            Change::Delete(key) => changes.delete(key.clone()),
        }
    }
    changes
}

impl StateStore for FaultyState {
    fn write(&mut self, batch: &Changes) -> Result<(), StorageError> {
        let list = batch.as_slice();
        let written = match self.fault {
            StateFault::IgnoresDeletes => {
                changes(list.iter().filter(|change| matches!(change, Change::Put(..))))
            }
            StateFault::ReversesABatch => changes(list.iter().rev()),
            StateFault::LosesEmptyValues => changes(
                list.iter()
                    .filter(|change| !matches!(change, Change::Put(_, value) if value.is_empty())),
            ),
            StateFault::SplitsABatch => {
                let (first, second) = list.split_at(list.len() / 2);
                self.inner.write(&changes(first))?;
                changes(second)
            }
            _ => batch.clone(),
        };
        self.inner.write(&written)
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        if self.fault == StateFault::IgnoresSyncs { Ok(()) } else { self.inner.sync() }
    }

    fn reader(&self) -> Arc<dyn StoreReader> {
        let state = self.inner.reader();
        let inner = match self.fault {
            StateFault::ReadersAreViews => state.view().expect("the store is open"),
            _ => Arc::clone(&state) as _,
        };
        Arc::new(FaultyReader { inner, state, fault: self.fault })
    }
}

struct StateFixture {
    disk: MemoryDisk,
    fault: StateFault,
}

impl Fixture for StateFixture {
    type Store = FaultyState;

    fn open(&mut self) -> FaultyState {
        FaultyState { inner: self.disk.open_state(), fault: self.fault }
    }

    fn crash(&mut self, _: FaultyState) {
        // Half of the batches: enough to lose synced ones if syncs are ignored, and to split one.
        self.disk.crash(self.disk.unsynced() / 2);
    }
}

fn disk() -> MemoryDisk {
    MemoryDisk::new(Incarnation(7))
}

fn passes(suite: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(suite)).is_ok()
}

#[test]
fn log_store_that_violates_a_rule_is_rejected() {
    let passes = |fault| passes(|| conformance::log_store(|| LogFixture(disk(), fault)));
    assert!(passes(LogFault::None), "the wrapper without a fault is rejected");
    for fault in [
        LogFault::IgnoresTruncations,
        LogFault::LosesTheLastOperation,
        LogFault::ReversesABatch,
        LogFault::MixesGroups,
        LogFault::CompactsOneTooMany,
        LogFault::KeepsTheFirstHardState,
        LogFault::DropsStamps,
        LogFault::RepeatsItsBootCount,
        LogFault::WritesOnlyAtTheNextCommit,
    ] {
        assert!(!passes(fault), "{fault:?} is not detected");
    }
}

#[test]
fn state_store_that_violates_a_rule_is_rejected() {
    let passes =
        |fault| passes(|| conformance::state_store(|| StateFixture { disk: disk(), fault }));
    assert!(passes(StateFault::None), "the wrapper without a fault is rejected");
    for fault in [
        StateFault::IgnoresDeletes,
        StateFault::ReversesABatch,
        StateFault::SplitsABatch,
        StateFault::IgnoresSyncs,
        StateFault::IncludesTheUpperBound,
        StateFault::LosesEmptyValues,
        StateFault::ViewsFollowWrites,
        StateFault::ReadersAreViews,
    ] {
        assert!(!passes(fault), "{fault:?} is not detected");
    }
}
