//! Measurements of a running replica: written by its threads, read through the handle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use synod_consensus::{Role, Status};
use synod_replica::{Applier, Counters};
use synod_types::{Ballot, NodeId, Slot};
use tokio::sync::watch;

/// State of a replica, as of its last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The node's role in the protocol.
    pub role: Role,
    /// The leader, if known; a peer among peers names itself.
    pub leader: Option<NodeId>,
    /// The ballot; under Raft its round is the term.
    pub ballot: Ballot,
    /// The last slot known to be chosen.
    pub commit: Slot,
    /// The last slot of the log.
    pub last: Slot,
    /// The last slot applied.
    pub applied: Slot,
    /// A digest of everything applied: equal on all nodes that have applied as far.
    pub digest: u64,
    /// The last slot whose effects are in the state store.
    pub saved: Slot,
}

/// Measurements of a replica, as of now.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// The state as of the last round.
    pub status: ReplicaStatus,
    /// The driver's counters.
    pub counters: Counters,
    /// Pending requests and reads of this node's clients.
    pub outstanding: usize,
    /// Time until a write of the log was durable, in seconds.
    pub log_sync: Histogram,
    /// Time from when a slot was chosen until it was applied, in seconds.
    pub apply: Histogram,
    /// Batches written to the log. Fewer syncs than batches: they were merged.
    pub batches: u64,
}

/// Distribution of a duration in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// The sum of all observations.
    pub sum: f64,
    /// The number of observations.
    pub count: u64,
    /// Inclusive upper bounds, rising, each with the number of observations between the bound before
    /// and itself. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// An empty one: 18 bounds from 50 us on, each twice the one before.
    fn new() -> Self {
        let bounds = (0..18).map(|exponent| 0.000_05 * f64::from(1 << exponent));
        let buckets = bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        Self { sum: 0.0, count: 0, buckets }
    }

    fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        self.sum += seconds;
        self.count += 1;
        let bucket = self.buckets.iter_mut().find(|(bound, _)| seconds <= *bound);
        bucket.expect("the last bound has no limit").1 += 1;
    }
}

/// Where the threads of a replica put their measurements.
pub(crate) struct Meter {
    status: watch::Sender<ReplicaStatus>,
    load: Mutex<(Counters, usize)>,
    log_sync: Mutex<Histogram>,
    apply: Mutex<Histogram>,
    batches: AtomicU64,
}

impl Meter {
    pub(super) fn new(status: &Status, applier: &Applier) -> Self {
        let Status { role, leader, ballot, commit, last, .. } = *status;
        let (applied, digest) = (applier.applied(), applier.digest());
        let saved = applier.persisted();
        let status = ReplicaStatus { role, leader, ballot, commit, last, applied, digest, saved };
        Self {
            status: watch::Sender::new(status),
            load: Mutex::default(),
            log_sync: Mutex::new(Histogram::new()),
            apply: Mutex::new(Histogram::new()),
            batches: AtomicU64::new(0),
        }
    }

    pub(crate) fn watch(&self) -> watch::Receiver<ReplicaStatus> {
        self.status.subscribe()
    }

    pub(crate) fn snapshot(&self) -> Metrics {
        let (counters, outstanding) = *lock(&self.load);
        Metrics {
            status: *self.status.borrow(),
            counters,
            outstanding,
            log_sync: lock(&self.log_sync).clone(),
            apply: lock(&self.apply).clone(),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }

    pub(super) fn publish(&self, status: &Status, counters: Counters, outstanding: usize) {
        *lock(&self.load) = (counters, outstanding);
        let Status { role, leader, ballot, commit, last, .. } = *status;
        self.change(|old| ReplicaStatus { role, leader, ballot, commit, last, ..old });
    }

    pub(super) fn synced(&self, took: Duration, batches: u64) {
        lock(&self.log_sync).observe(took);
        self.batches.fetch_add(batches, Ordering::Relaxed);
    }

    pub(super) fn applied(&self, took: Duration, applier: &Applier) {
        lock(&self.apply).observe(took);
        let (applied, digest) = (applier.applied(), applier.digest());
        self.change(|old| ReplicaStatus { applied, digest, ..old });
    }

    pub(super) fn saved(&self, through: Slot) {
        self.change(|old| ReplicaStatus { saved: through, ..old });
    }

    /// Replaces the status; wakes watchers only if it differs.
    fn change(&self, change: impl FnOnce(ReplicaStatus) -> ReplicaStatus) {
        self.status.send_if_modified(|status| {
            let new = change(*status);
            let differs = new != *status;
            *status = new;
            differs
        });
    }
}

/// Every value behind these locks is replaced or added to as a whole, so a panic elsewhere cannot leave
/// it broken.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
