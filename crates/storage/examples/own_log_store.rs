//! A log store of your own: a file of JSON lines would do, and so does this, a log in a map.
//!
//! The whole contract is two methods and a life. `load` may return any journal that gives the
//! same log, so the simplest store keeps the log slot by slot and returns one `Put` a slot. The
//! conformance suite then tells whether the rules are kept:
//!
//! ```text
//! cargo run -p synod-storage --example own_log_store
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use synod_storage::conformance::{self, Fixture};
use synod_storage::{Batch, Life, LogOp, LogStore, Saved, StorageError, StoredRun};
use synod_types::{GroupId, Incarnation, Slot};

/// What outlives the process. Yours would be a file, a table, a bucket.
#[derive(Default)]
struct Table {
    boots: u64,
    groups: BTreeMap<GroupId, (Saved, BTreeMap<Slot, StoredRun>)>,
}

struct OwnLog {
    table: Arc<Mutex<Table>>,
    life: Life,
}

impl OwnLog {
    fn open(table: &Arc<Mutex<Table>>) -> Self {
        let mut content = table.lock().expect("no writer has panicked");
        content.boots += 1;
        let life = Life { incarnation: Incarnation(1), boot: content.boots };
        Self { table: Arc::clone(table), life }
    }
}

impl LogStore for OwnLog {
    fn life(&self) -> Life {
        self.life
    }

    fn load(&mut self, group: GroupId) -> Result<Saved, StorageError> {
        let table = self.table.lock().expect("no writer has panicked");
        let Some((saved, slots)) = table.groups.get(&group) else { return Ok(Saved::default()) };
        let journal = slots.values().cloned().map(LogOp::Put).collect();
        Ok(Saved { journal, ..saved.clone() })
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StorageError> {
        let mut table = self.table.lock().expect("no writer has panicked");
        for (group, op) in &batch.ops {
            let (saved, slots) = table.groups.entry(*group).or_default();
            match op {
                LogOp::HardState(bytes) => saved.hard_state = Some(bytes.clone()),
                LogOp::Put(run) => {
                    for at in 0..run.values.len() {
                        let first = run.first.plus(at);
                        let values = run.values.slice(at, at + 1);
                        slots.insert(first, StoredRun { first, values, ..run.clone() });
                    }
                }
                LogOp::TruncateFrom(from) => drop(slots.split_off(from)),
                LogOp::Compact { through, base } => {
                    *slots = slots.split_off(&through.next());
                    saved.base = Some((*through, base.clone()));
                }
            }
        }
        Ok(())
    }
}

/// How the suite restarts the store: the table stays, the store goes.
struct Disk(Arc<Mutex<Table>>);

impl Fixture for Disk {
    type Store = OwnLog;

    fn open(&mut self) -> OwnLog {
        OwnLog::open(&self.0)
    }

    fn crash(&mut self, store: OwnLog) {
        drop(store);
    }
}

fn main() {
    conformance::log_store(|| Disk(Arc::default()));
    println!("own_log_store keeps every rule of a log store");
}
