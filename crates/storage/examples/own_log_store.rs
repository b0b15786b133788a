//! Your own log store: a log in a map, tested with the conformance suite.
//!
//! A store implements `load`, `commit` and `boot_id`. `load` may return any journal that results in the
//! same log, so the simplest store has one entry per slot and returns one `Put` for each:
//!
//! ```text
//! cargo run -p synod-storage --example own_log_store
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use synod_storage::conformance::{self, Fixture};
use synod_storage::{Batch, BootId, LogOp, LogStore, StorageError, StoredGroup, StoredRun};
use synod_types::{GroupId, Incarnation, Slot};

/// Content that outlives the process. A real store would use a file, a database table or a bucket.
#[derive(Default)]
struct Table {
    boots: u64,
    groups: BTreeMap<GroupId, (StoredGroup, BTreeMap<Slot, StoredRun>)>,
}

struct OwnLog {
    table: Arc<Mutex<Table>>,
    boot_id: BootId,
}

impl OwnLog {
    fn open(table: &Arc<Mutex<Table>>) -> Self {
        let mut content = table.lock().expect("no writer has panicked");
        // A real store makes the boot count durable here: two processes must never share one.
        content.boots += 1;
        let boot_id = BootId { incarnation: Incarnation(1), boot: content.boots };
        Self { table: Arc::clone(table), boot_id }
    }
}

impl LogStore for OwnLog {
    fn boot_id(&self) -> BootId {
        self.boot_id
    }

    fn load(&mut self, group: GroupId) -> Result<StoredGroup, StorageError> {
        let table = self.table.lock().expect("no writer has panicked");
        let Some((stored, slots)) = table.groups.get(&group) else {
            return Ok(StoredGroup::default());
        };
        let journal = slots.values().cloned().map(LogOp::Put).collect();
        Ok(StoredGroup { journal, ..stored.clone() })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut table = self.table.lock().expect("no writer has panicked");
        for (group, op) in &batch.ops {
            let (stored, slots) = table.groups.entry(*group).or_default();
            match op {
                LogOp::HardState(bytes) => stored.hard_state = Some(bytes.clone()),
                LogOp::Put(run) => {
                    for at in 0..run.values.len() {
                        let first = run.first.plus(at);
                        let values = run.values.slice(at, at + 1);
                        slots.insert(first, StoredRun { first, values, ..run.clone() });
                    }
                }
                LogOp::TruncateFrom(from) => drop(slots.split_off(from)),
                // Only the slots that the base covers go: the later ones are still needed.
                LogOp::Compact { through, base } => {
                    *slots = slots.split_off(&through.next());
                    stored.base = Some((*through, base.clone()));
                }
            }
        }
        Ok(())
    }
}

/// Fixture of the suite: the table outlives the store.
struct Disk(Arc<Mutex<Table>>);

impl Fixture for Disk {
    type Store = OwnLog;

    fn open(&mut self) -> OwnLog {
        OwnLog::open(&self.0)
    }

    fn crash(&mut self, store: OwnLog) {
        // Every commit is in the table when it returns, so a crash loses nothing.
        drop(store);
    }
}

fn main() {
    conformance::log_store(|| Disk(Arc::default()));
    println!("own_log_store passes the conformance suite");
}
