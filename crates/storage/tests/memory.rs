//! The stores in memory pass the conformance suites.

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

/// Each crash keeps one unsynced batch more than the one before: from none to all.
struct State {
    disk: MemoryDisk,
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
fn log_passes_the_suite() {
    conformance::log_store(|| Log(disk()));
}

#[test]
fn state_passes_the_suite() {
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
    fn log_agrees_with_the_reference_on_any_script(bytes in any::<Vec<u8>>()) {
        conformance::check_log(Log(disk()), &conformance::log_steps(&bytes));
    }

    #[test]
    fn state_agrees_with_the_reference_on_any_script(
        bytes in any::<Vec<u8>>(),
        crashes in 0_usize..4,
    ) {
        let fixture = State { disk: disk(), crashes };
        conformance::check_state(fixture, &conformance::state_steps(&bytes));
    }
}
