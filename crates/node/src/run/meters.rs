//! What a running node can be asked about itself, shared with those who ask.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use synod_consensus::Status;
use synod_replica::{Applier, Counters};
use synod_types::Slot;

/// A node's measurements, written by its threads and read by the server.
#[derive(Debug)]
pub struct Meters {
    view: Mutex<View>,
    applying: Mutex<Applying>,
    /// How long each write of the log took until it was durable, in seconds.
    pub sync_seconds: Histogram,
    /// How long a chosen slot waited until it was applied, in seconds.
    pub apply_seconds: Histogram,
    /// How many batches were written; fewer syncs than batches means that they were merged.
    pub batches: Counter,
}

/// The driver as it was after its last round.
#[derive(Clone, Debug)]
pub struct View {
    /// The core's status.
    pub status: Status,
    /// What the driver counted.
    pub counters: Counters,
    /// Requests and reads of this node's clients under way.
    pub outstanding: usize,
}

/// The apply side as it was after its last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applying {
    /// The last slot applied.
    pub applied: Slot,
    /// The digest of everything applied: equal on all nodes that have applied as far.
    pub digest: u64,
    /// The last slot whose effects are in the state store.
    pub saved: Slot,
}

impl Meters {
    pub(super) fn new(status: Status, applier: &Applier) -> Self {
        let buckets = || exponential_buckets(0.000_05, 2.0, 18);
        let view = View { status, counters: Counters::default(), outstanding: 0 };
        Self {
            view: Mutex::new(view),
            applying: Mutex::new(look_at(applier)),
            sync_seconds: Histogram::new(buckets()),
            apply_seconds: Histogram::new(buckets()),
            batches: Counter::default(),
        }
    }

    /// The driver as it was after its last round.
    #[must_use]
    pub fn view(&self) -> View {
        lock(&self.view).clone()
    }

    /// The apply side as it was after its last round.
    #[must_use]
    pub fn applying(&self) -> Applying {
        *lock(&self.applying)
    }

    pub(super) fn publish(&self, status: Status, counters: Counters, outstanding: usize) {
        *lock(&self.view) = View { status, counters, outstanding };
    }

    pub(super) fn synced(&self, took: Duration, batches: u64) {
        self.sync_seconds.observe(took.as_secs_f64());
        self.batches.inc_by(batches);
    }

    pub(super) fn applied(&self, took: Duration, applier: &Applier) {
        self.apply_seconds.observe(took.as_secs_f64());
        let mut applying = lock(&self.applying);
        *applying = Applying { saved: applying.saved, ..look_at(applier) };
    }

    pub(super) fn saved(&self, through: Slot) {
        lock(&self.applying).saved = through;
    }
}

fn look_at(applier: &Applier) -> Applying {
    Applying { applied: applier.applied(), digest: applier.digest(), saved: applier.persisted() }
}

/// Every value behind these locks is replaced whole, so a panic elsewhere cannot leave it broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
