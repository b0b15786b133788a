//! One node of a simulated cluster.

use crate::cluster::Happening;
use crate::cluster::clock::Clock;
use crate::cluster::disk::{self, Disk};
use crate::cluster::inbox::Inbox;
use crate::rng::Dice;
use crate::violation::{Checked, ViolationKind, violation};
use crate::workload::kv::Machine;
use std::collections::VecDeque;
use synod_consensus::Protocol;
use synod_replica::{Applier, ReplicaCore, Run, Settings, decode_saved};
use synod_storage::LogStore;
use synod_types::{ClusterId, Incarnation, Instant, NodeId, Slot};

/// The cluster that every simulation plays.
pub(crate) const CLUSTER: ClusterId = ClusterId(1);

/// A node, running or not.
pub(crate) struct Node<P: Protocol> {
    pub(crate) id: NodeId,
    pub(crate) dice: NodeDice,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk<P>,
    pub(crate) running: Option<Running<P>>,
    /// Its disk was found damaged: it never starts again.
    pub(crate) lost: bool,
    /// How often it was started: events of an earlier life are void.
    pub(crate) life: u64,
    /// What it sent up to this life died with it, where it had not arrived.
    pub(crate) muted: u64,
    /// The round in which it last chose something as a leader.
    pub(crate) chose_in: u64,
    /// It does nothing before this,
    pub(crate) paused_until: Option<Instant>,
    /// and this waits for it.
    pub(crate) waiting: Vec<Happening>,
    /// When it wants to be woken, by its own clock, and for when, by the simulation's, that is in
    /// the queue.
    pub(crate) wake: Option<Instant>,
    pub(crate) alarm: Option<Instant>,
}

/// One node's dice, apart for all that it does.
pub(crate) struct NodeDice {
    /// For the seed that a starting driver draws its timers from.
    pub(crate) start: Dice,
    pub(crate) sync: Dice,
    pub(crate) apply: Dice,
    pub(crate) persist: Dice,
}

/// What dies with the process.
pub(crate) struct Running<P: Protocol> {
    pub(crate) replica: ReplicaCore<P>,
    pub(crate) applier: Applier,
    /// Chosen and not yet applied.
    pub(crate) to_apply: VecDeque<ApplyTask>,
    /// How many tasks the apply side is at, where they take time.
    pub(crate) applying: usize,
    /// What has come in and waits for the driver, where that takes time.
    pub(crate) inbox: Option<Inbox>,
    /// When the apply side is done with what it is at.
    pub(crate) apply_due: Option<Instant>,
    /// The state may be stored up to here.
    pub(crate) durable: Slot,
    /// The apply side does nothing before this.
    pub(crate) apply_stalled_until: Instant,
}

/// What the apply side is asked to do.
pub(crate) enum ApplyTask {
    /// Apply this run.
    Run(Run),
    /// Read so many bytes for a client.
    Read(u64),
}

impl ApplyTask {
    /// Bytes that it goes through.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Run(run) => run.values.byte_len() as u64,
            Self::Read(bytes) => *bytes,
        }
    }
}

impl<P: Protocol> Node<P> {
    pub(crate) fn new(id: NodeId, dice: &mut Dice) -> Self {
        Self {
            id,
            dice: NodeDice {
                start: dice.split(),
                sync: dice.split(),
                apply: dice.split(),
                persist: dice.split(),
            },
            clock: Clock::new(),
            disk: Disk::new(Incarnation(1000 + id.0)),
            running: None,
            lost: false,
            life: 0,
            muted: 0,
            chose_in: 0,
            paused_until: None,
            waiting: Vec::new(),
            wake: None,
            alarm: None,
        }
    }

    /// Starts the node on what its disks hold.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        seed: u64,
        adjust: impl FnOnce(&mut Settings),
        config: P::Config,
    ) -> Checked {
        let id = self.id;
        let refused = |error: String| violation(ViolationKind::RecoveryRefused, [id], error);
        self.life += 1;
        let (log, state) = self.disk.open();
        let mut settings = Settings::new(CLUSTER, id, log.life(), seed);
        adjust(&mut settings);
        let saved = disk::load(log).map_err(|error| refused(error.to_string()))?;
        if let Some(allowed) = &self.disk.damaged {
            let found = decode_saved::<P>(&saved).map_err(|error| refused(error.to_string()))?;
            if !allowed.contains(&found) {
                let text = "loads a damaged log as if it were whole".to_string();
                return Err(violation(ViolationKind::DamageUnnoticed, [id], text));
            }
            self.disk.synced = found;
        }
        let session = settings.session();
        let applier = Applier::open(Box::new(Machine::default()), Box::new(state), session)
            .map_err(|error| refused(error.to_string()))?;
        let replica =
            ReplicaCore::open(self.clock.read(now), settings, config, &saved, applier.applied())
                .map_err(|error| refused(error.to_string()))?;
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
        (self.wake, self.alarm) = (None, None);
        self.disk.damaged = None;
        Ok(())
    }

    /// Where what happens to it now must wait, if it must.
    pub(crate) fn paused(&mut self) -> Option<&mut Vec<Happening>> {
        self.paused_until.is_some().then_some(&mut self.waiting)
    }

    /// Whether nothing was ever done to its disk that a store cannot bear.
    pub(crate) fn is_whole(&self) -> bool {
        !self.lost && self.disk.damaged.is_none()
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }
}
