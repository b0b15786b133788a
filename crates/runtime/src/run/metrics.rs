//! Metrics of a running replica: its threads update them, its handle reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use synod_consensus::{Role, Status};
use synod_replica::{Applier, Counters};
use synod_types::{Ballot, NodeId, Slot};
use tokio::sync::watch;

/// Status of a replica, as of its last round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// Role of the node in the protocol.
    pub role: Role,
    /// Leader, if known. In a protocol without a leader, the node itself.
    pub leader: Option<NodeId>,
    /// Ballot. Under Raft its round is the term.
    pub ballot: Ballot,
    /// Commit index: the last slot known to be chosen.
    pub commit: Slot,
    /// Last slot of the log.
    pub last: Slot,
    /// Last slot applied.
    pub applied: Slot,
    /// Digest of all applied commands and replies. It is equal on all nodes that have applied through
    /// the same slot.
    pub digest: u64,
    /// Last slot whose effects are in the state store.
    pub saved: Slot,
}

/// Snapshot of a replica's metrics.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Status as of the last round.
    pub status: ReplicaStatus,
    /// Counters of the driver.
    pub counters: Counters,
    /// Number of pending requests and reads of this node's clients.
    pub outstanding: usize,
    /// Duration of a write and sync of the log, in seconds.
    pub log_sync: Histogram,
    /// Time from when a slot was handed to the apply thread until it was applied, in seconds.
    pub apply: Histogram,
    /// Number of batches written to the log. It exceeds the number of syncs if batches were merged.
    pub batches: u64,
}

/// Distribution of a duration in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// Sum of all observations.
    pub sum: f64,
    /// Number of observations.
    pub count: u64,
    /// Buckets as inclusive upper bound and number of observations, in ascending order. Counts are not
    /// cumulative. The last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
}

impl Histogram {
    /// Returns an empty histogram. Its 18 finite bounds double from 50 us to 6.6 s.
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
        bucket.expect("the last bound is infinite").1 += 1;
    }
}

/// Metrics of a replica, shared by its threads and its handle.
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

    /// Replaces the status. Wakes watchers only if it has changed.
    fn change(&self, change: impl FnOnce(ReplicaStatus) -> ReplicaStatus) {
        self.status.send_if_modified(|status| {
            let new = change(*status);
            let differs = new != *status;
            *status = new;
            differs
        });
    }
}

/// Locks a value. A poisoned lock is safe: a panic of its holder leaves the value consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
