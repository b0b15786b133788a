//! Conformance tests of the stores in memory.

use proptest::prelude::*;
use synod_storage::conformance::{self, Fixture};
use synod_storage::{MemoryDisk, MemoryLog, MemoryState};
use synod_types::Incarnation;

struct Log(MemoryDisk);

impl Fixture for Log {
    type Store = MemoryLog;

    fn open(&mut self) -> MemoryLog {
        self.0.open_log()
    }

    fn crash(&mut self, _: MemoryLog) {
        self.0.crash(0);
    }
}

/// Fixture whose crashes keep a growing number of unsynced batches, from none to all.
struct State {
    disk: MemoryDisk,
    /// Number of crashes so far, plus a start value.
    crashes: usize,
}

impl Fixture for State {
    type Store = MemoryState;

    fn open(&mut self) -> MemoryState {
        self.disk.open_state()
    }

    fn crash(&mut self, _: MemoryState) {
        self.disk.crash(self.crashes % (self.disk.unsynced() + 1));
        self.crashes += 1;
    }
}

fn disk() -> MemoryDisk {
    MemoryDisk::new(Incarnation(7))
}

#[test]
fn memory_log_passes_the_conformance_suite() {
    conformance::log_store(|| Log(disk()));
}

#[test]
fn memory_state_passes_the_conformance_suite() {
    // Different start values, so that each case of the suite sees different crashes.
    for crashes in 0..4 {
        conformance::state_store(|| State { disk: disk(), crashes });
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn memory_log_equals_the_model_for_any_script(bytes in any::<Vec<u8>>()) {
        conformance::check_log(Log(disk()), &conformance::log_steps(&bytes));
    }

    #[test]
    fn memory_state_equals_the_model_for_any_script(
        bytes in any::<Vec<u8>>(),
        crashes in 0_usize..4,
    ) {
        let fixture = State { disk: disk(), crashes };
        conformance::check_state(fixture, &conformance::state_steps(&bytes));
    }
}
