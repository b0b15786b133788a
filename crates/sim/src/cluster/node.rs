//! A node of a simulated cluster.

use crate::cluster::clock::Clock;
use crate::cluster::disk::{self, Disk};
use crate::cluster::event::SimEvent;
use crate::cluster::inbox::Inbox;
use crate::rng::SimRng;
use crate::violation::{Checked, ViolationKind, violation};
use crate::workload::kv::Machine;
use std::collections::VecDeque;
use synod_consensus::Protocol;
use synod_replica::{Applier, ChosenRun, ReplicaCore, ReplicaSettings, decode_saved};
use synod_storage::LogStore;
use synod_types::{ClusterId, Incarnation, Instant, NodeId, Slot};

/// Id of every simulated cluster.
pub(crate) const CLUSTER: ClusterId = ClusterId(1);

/// Node of the simulation, running or not.
pub(crate) struct Node<P: Protocol> {
    pub(crate) id: NodeId,
    pub(crate) rng: NodeRngs,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk<P>,
    pub(crate) running: Option<Running<P>>,
    /// True if its disk was found corrupted: it never starts again.
    pub(crate) is_lost: bool,
    /// Number of starts: events of an earlier boot are void.
    pub(crate) boot: u64,
    /// Last boot whose messages in flight were lost in a crash.
    pub(crate) dropped_through: u64,
    /// Round in which it last chose a slot as a leader.
    pub(crate) commit_round: u64,
    /// Time at which its pause ends; `None` if it is not paused.
    pub(crate) paused_until: Option<Instant>,
    /// Events deferred while paused, in order.
    pub(crate) waiting: Vec<SimEvent>,
    /// Time at which its driver must be woken, by the node's own clock.
    pub(crate) wake: Option<Instant>,
    /// Simulated time of the queued wake-up, if there is one.
    pub(crate) wake_queued: Option<Instant>,
}

/// RNGs of a node, one for each of its activities.
pub(crate) struct NodeRngs {
    /// RNG of the seeds for the timers of starting drivers.
    pub(crate) start: SimRng,
    pub(crate) sync: SimRng,
    pub(crate) apply: SimRng,
    pub(crate) persist: SimRng,
}

/// Volatile part of a node.
pub(crate) struct Running<P: Protocol> {
    pub(crate) replica: ReplicaCore<P>,
    pub(crate) applier: Applier,
    /// Tasks not yet applied.
    pub(crate) to_apply: VecDeque<ApplyTask>,
    /// Number of tasks that the apply thread has in progress, if the plan limits throughput.
    pub(crate) applying: usize,
    /// Events that wait for the driver, if the plan limits throughput.
    pub(crate) inbox: Option<Inbox>,
    /// End of the apply thread's current tasks.
    pub(crate) apply_due: Option<Instant>,
    /// Slot through which the state may be stored: the log is durable through it.
    pub(crate) durable: Slot,
    /// The apply thread is stalled until this time.
    pub(crate) apply_stalled_until: Instant,
}

/// Task of the apply thread.
pub(crate) enum ApplyTask {
    /// Apply this run.
    Run(ChosenRun),
    /// Read this many bytes for a client.
    Read(u64),
}

impl ApplyTask {
    /// Returns the bytes to process.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Run(run) => run.values.byte_len() as u64,
            Self::Read(bytes) => *bytes,
        }
    }
}

impl<P: Protocol> Node<P> {
    pub(crate) fn new(id: NodeId, rng: &mut SimRng) -> Self {
        Self {
            id,
            rng: NodeRngs {
                start: rng.split(),
                sync: rng.split(),
                apply: rng.split(),
                persist: rng.split(),
            },
            clock: Clock::new(),
            disk: Disk::new(Incarnation(1000 + id.0)),
            running: None,
            is_lost: false,
            boot: 0,
            dropped_through: 0,
            commit_round: 0,
            paused_until: None,
            waiting: Vec::new(),
            wake: None,
            wake_queued: None,
        }
    }

    /// Starts the node from its disks.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        seed: u64,
        adjust: impl FnOnce(&mut ReplicaSettings),
        config: P::Config,
    ) -> Checked {
        let id = self.id;
        let failed = |error: String| violation(ViolationKind::RecoveryFailed, [id], error);
        self.boot += 1;
        let (log, state) = self.disk.open();
        let mut settings = ReplicaSettings::new(CLUSTER, id, log.boot_id(), seed);
        adjust(&mut settings);
        let saved = disk::load(log).map_err(|error| failed(error.to_string()))?;
        if let Some(allowed) = &self.disk.corrupted {
            let found = decode_saved::<P>(&saved).map_err(|error| failed(error.to_string()))?;
            if !allowed.contains(&found) {
                let text = "a corrupted log loads as if intact".to_string();
                return Err(violation(ViolationKind::CorruptionUndetected, [id], text));
            }
            self.disk.synced = found;
        }
        let session = settings.session();
        let applier = Applier::open(Box::new(Machine::default()), Box::new(state), session)
            .map_err(|error| failed(error.to_string()))?;
        let replica =
            ReplicaCore::open(self.clock.read(now), settings, config, &saved, applier.applied())
                .map_err(|error| failed(error.to_string()))?;
        self.running = Some(Running {
            replica,
            applier,
            to_apply: VecDeque::new(),
            applying: 0,
            inbox: None,
            apply_due: None,
            durable: Slot::ZERO,
            apply_stalled_until: Instant::ZERO,
        });
        (self.wake, self.wake_queued) = (None, None);
        self.disk.corrupted = None;
        Ok(())
    }

    /// Returns the queue for deferred events, if the node is paused.
    pub(crate) fn paused(&mut self) -> Option<&mut Vec<SimEvent>> {
        self.paused_until.is_some().then_some(&mut self.waiting)
    }

    /// Returns whether the log is intact: not corrupted since it was last loaded.
    pub(crate) fn is_intact(&self) -> bool {
        !self.is_lost && self.disk.corrupted.is_none()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }
}
