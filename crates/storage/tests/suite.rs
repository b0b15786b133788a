//! The conformance suites reject stores that break a rule.

use bytes::Bytes;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use synod_storage::conformance::{self, Fixture};
use synod_storage::{
    Batch, BootId, LogOp, LogStore, MemoryDisk, MemoryLog, MemoryState, StateStore, StorageError,
    StoreEntries, StoreReader, StoreView, StoredGroup, StoredRun,
};
use synod_types::{Change, Changes, GroupId, Incarnation};

/// The rule that a log store breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum LogFault {
    None,
    IgnoresTruncations,
    LosesTheLastOperation,
    ReversesABatch,
    MixesGroups,
    CompactsOneTooMany,
    KeepsTheFirstHardState,
    KeepsTheOldStamp,
    RepeatsItsBootCount,
    WritesOnlyAtTheNextCommit,
}

struct FaultyLog {
    inner: MemoryLog,
    fault: LogFault,
    late: Batch,
    hard: bool,
}

impl FaultyLog {
    fn spoil(&mut self, batch: &Batch) -> Batch {
        let mut ops = batch.ops.clone();
        match self.fault {
            LogFault::IgnoresTruncations => {
                ops.retain(|(_, op)| !matches!(op, LogOp::TruncateFrom(_)));
            }
            LogFault::LosesTheLastOperation => drop(ops.pop()),
            LogFault::ReversesABatch => ops.reverse(),
            LogFault::MixesGroups => ops.iter_mut().for_each(|(group, _)| group.0 %= 256),
            LogFault::KeepsTheFirstHardState => {
                let known = self.hard;
                ops.retain(|(_, op)| !(known && matches!(op, LogOp::HardState(_))));
                self.hard |= ops.iter().any(|(_, op)| matches!(op, LogOp::HardState(_)));
            }
            _ => {}
        }
        for (_, op) in &mut ops {
            match op {
                LogOp::Compact { through, .. } if self.fault == LogFault::CompactsOneTooMany => {
                    *through = through.next();
                }
                LogOp::Put(run) if self.fault == LogFault::KeepsTheOldStamp => {
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
        let mut batch = self.spoil(batch);
        if self.fault == LogFault::WritesOnlyAtTheNextCommit {
            std::mem::swap(&mut batch, &mut self.late);
        }
        self.inner.commit(&batch)
    }
}

struct LogFixture(MemoryDisk, LogFault);

impl Fixture for LogFixture {
    type Store = FaultyLog;

    fn open(&mut self) -> FaultyLog {
        let (inner, late) = (self.0.open_log(), Batch::default());
        FaultyLog { inner, fault: self.1, late, hard: false }
    }

    fn crash(&mut self, _: FaultyLog) {
        self.0.crash(0);
    }
}

/// The rule that a state store breaks.
#[derive(Clone, Copy, Debug, PartialEq)]
enum StateFault {
    None,
    IgnoresDeletes,
    ReversesABatch,
    CutsABatch,
    IgnoresSyncs,
    IncludesTheEnd,
    LosesEmptyValues,
    ViewsFollowWrites,
    ReadersAreViews,
}

struct FaultyState {
    inner: MemoryState,
    fault: StateFault,
}

/// Reads a store, or a view of it.
struct FaultyReader {
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
            if self.fault == StateFault::IncludesTheEnd {
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
        let spoilt = match self.fault {
            StateFault::IgnoresDeletes => {
                changes(list.iter().filter(|change| matches!(change, Change::Put(..))))
            }
            StateFault::ReversesABatch => changes(list.iter().rev()),
            StateFault::LosesEmptyValues => changes(
                list.iter()
                    .filter(|change| !matches!(change, Change::Put(_, value) if value.is_empty())),
            ),
            StateFault::CutsABatch => {
                let (early, late) = list.split_at(list.len() / 2);
                self.inner.write(&changes(early))?;
                changes(late)
            }
            _ => batch.clone(),
        };
        self.inner.write(&spoilt)
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
fn log_store_that_breaks_a_rule_is_rejected() {
    let passes = |fault| passes(|| conformance::log_store(|| LogFixture(disk(), fault)));
    assert!(passes(LogFault::None), "the wrapper itself breaks no rule");
    for fault in [
        LogFault::IgnoresTruncations,
        LogFault::LosesTheLastOperation,
        LogFault::ReversesABatch,
        LogFault::MixesGroups,
        LogFault::CompactsOneTooMany,
        LogFault::KeepsTheFirstHardState,
        LogFault::KeepsTheOldStamp,
        LogFault::RepeatsItsBootCount,
        LogFault::WritesOnlyAtTheNextCommit,
    ] {
        assert!(!passes(fault), "{fault:?} is not caught");
    }
}

#[test]
fn state_store_that_breaks_a_rule_is_rejected() {
    let passes =
        |fault| passes(|| conformance::state_store(|| StateFixture { disk: disk(), fault }));
    assert!(passes(StateFault::None), "the wrapper itself breaks no rule");
    for fault in [
        StateFault::IgnoresDeletes,
        StateFault::ReversesABatch,
        StateFault::CutsABatch,
        StateFault::IgnoresSyncs,
        StateFault::IncludesTheEnd,
        StateFault::LosesEmptyValues,
        StateFault::ViewsFollowWrites,
        StateFault::ReadersAreViews,
    ] {
        assert!(!passes(fault), "{fault:?} is not caught");
    }
}
