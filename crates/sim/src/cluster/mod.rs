//! A whole cluster in one thread. The simulated clock jumps from event to event.

mod client_steps;
pub(crate) mod clock;
pub(crate) mod disk;
pub(crate) mod event;
mod fault_steps;
pub(crate) mod inbox;
mod lifecycle;
pub(crate) mod network;
pub(crate) mod node;
mod node_step;
pub(crate) mod queue;
mod storage_step;
pub(crate) mod traffic;
mod transmit;
pub(crate) mod world;
mod world_faults;

use crate::check::Checks;
use crate::check::state::{Oracle, contents};
use crate::faults::Faults;
use crate::faults::kind::FaultCounts;
use crate::faults::schedule::Schedule;
use crate::faults::source::FaultSource;
use crate::plan::Plan;
use crate::rng::SimRng;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::Workload;
use event::SimEvent;
use std::time::Duration;
use synod_consensus::{Protocol, Role, Status};
use synod_replica::Driver;
use synod_types::{Instant, Membership, NodeId, Slot};
use world::World;

/// Simulated cluster: nodes that run the shipped driver, their disks, the network, clients and
/// checkers.
///
/// Methods that run nodes return the first [`Violation`] found; do not use the cluster after it.
pub struct Cluster<P: Protocol> {
    pub(crate) world: World<P>,
    pub(crate) faults: Faults,
    pub(crate) workload: Workload,
    pub(crate) checks: Checks<P>,
}

impl<P: Protocol> Cluster<P> {
    /// Returns a cluster whose nodes start at time zero.
    ///
    /// # Panics
    /// If the plan has no nodes.
    #[must_use]
    pub fn new(
        plan: Plan,
        seed: u64,
        config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    ) -> Self {
        Self::with_schedule(plan, seed, config, None)
    }

    /// Like [`new`](Self::new), with the faults of `schedule`, if there is one, instead of faults
    /// drawn from the seed.
    pub(crate) fn with_schedule(
        plan: Plan,
        seed: u64,
        config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
        schedule: Option<&Schedule>,
    ) -> Self {
        let mut rng = SimRng::new(seed);
        let (faults_rng, workload_rng, repair_rng) = (rng.split(), rng.split(), rng.split());
        let world = World::new(plan, config, &mut rng);
        let count = world.nodes.len();
        let faults = Faults {
            rng: faults_rng,
            repair_rng,
            source: match schedule {
                None => FaultSource::random(count),
                Some(schedule) => FaultSource::scheduled(count, schedule),
            },
            counts: FaultCounts::default(),
            is_active: true,
        };
        let mut workload = Workload::new(count, workload_rng, rng.clone().split());
        workload.clients.may_reject = world.plan.limits.is_some();
        let checks = Checks::new(count, world.quorum.clone());
        let mut cluster = Self { world, faults, workload, checks };
        cluster.workload.schedule_arrival(&mut cluster.world);
        cluster.faults.schedule_all(&mut cluster.world, schedule);
        for node in 0..count {
            // Pushed after the clock skews, which apply before the nodes start.
            cluster.world.queue.push(Instant::ZERO, SimEvent::StartNode { node });
        }
        cluster
    }

    /// Processes all events of the next `time`, and advances the clock by it.
    ///
    /// # Errors
    /// The first violation.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Violation> {
        let end = self.world.now + time;
        while self.world.queue.next().is_some_and(|next| next <= end) {
            self.step().map_err(|found| self.with_time(*found))?;
        }
        self.world.now = end;
        Ok(())
    }

    /// Returns the simulated time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.world.now
    }

    /// Returns the status of a node; `None` while it is dead.
    #[must_use]
    pub fn status(&self, node: NodeId) -> Option<Status> {
        Some(self.world.node(node).running.as_ref()?.replica.status())
    }

    /// Returns the node that leads the highest ballot, if there is a leader.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let statuses =
            self.world.members.voters().iter().filter_map(|id| Some((id, self.status(*id)?)));
        let leaders = statuses.filter(|(_, status)| status.role == Role::Leader);
        leaders.max_by_key(|(_, status)| status.ballot).map(|(id, _)| *id)
    }

    /// Returns all nodes.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.world.members
    }

    /// Returns the last slot that a node has applied, and the digest of its state; `None` while the
    /// node is dead.
    #[must_use]
    pub fn applied(&self, node: NodeId) -> Option<(Slot, u64)> {
        let running = self.world.node(node).running.as_ref()?;
        Some((running.applier.applied(), running.applier.digest()))
    }

    /// Returns the last slot that any node has reported as chosen.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.checks.chosen.last()
    }

    /// Returns whether every healthy node has applied all chosen slots.
    #[must_use]
    pub fn has_converged(&self) -> bool {
        let last = self.chosen();
        self.world.healthy.iter().all(|node| {
            let running = self.world.nodes[*node].running.as_ref();
            running.is_some_and(|running| running.applier.applied() == last)
        })
    }

    /// Returns whether every healthy node has applied all chosen slots, and its driver allows
    /// storing them.
    pub(crate) fn has_settled(&self) -> bool {
        let last = self.chosen();
        let stores = |node: &usize| {
            self.world.nodes[*node].running.as_ref().is_some_and(|running| running.durable >= last)
        };
        self.has_converged() && self.world.healthy.iter().all(stores)
    }

    /// Returns a fingerprint of all events: equal for equal seeds.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.world.fingerprint()
    }

    /// Ends the simulation: checks the client history, stores the state of every healthy node, and
    /// compares the stores byte for byte with the result of the chosen commands.
    ///
    /// # Errors
    /// If the history is not linearizable, or if a state differs or lags.
    pub fn finish(mut self) -> Result<(), Violation> {
        let judged = self.judge_history().and_then(|()| self.compare_stores());
        judged.map_err(|found| self.with_time(*found))
    }

    fn judge_history(&mut self) -> Checked {
        let Checks { history, oracle, .. } = &mut self.checks;
        history.judge(self.world.now, |id| oracle.place(id))
    }

    fn compare_stores(&mut self) -> Checked {
        let expected = std::mem::replace(&mut self.checks.oracle, Oracle::new()).into_stored();
        for node in self.world.healthy.clone() {
            let id = self.world.nodes[node].id;
            if let Some(running) = self.world.nodes[node].running.as_mut() {
                running.applier.seal();
            }
            self.persist(node)?;
            let Some(running) = self.world.nodes[node].running.as_mut() else { continue };
            let synced = running.applier.sync();
            synced
                .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
            let stored = contents(&self.world.nodes[node].disk.open().1);
            Oracle::check_stored(id, &stored, &expected)?;
        }
        Ok(())
    }

    pub(crate) fn with_time(&self, found: Violation) -> Violation {
        Violation { at: self.world.now, ..found }
    }

    /// Returns the index of a node.
    pub(crate) fn index(node: NodeId) -> usize {
        World::<P>::index(node)
    }

    /// Processes the next event.
    pub(crate) fn step(&mut self) -> Checked {
        let Some(event) = self.world.next_event()? else { return Ok(()) };
        self.record(&event);
        let Some(event) = self.world.defer(event) else { return Ok(()) };
        match event {
            SimEvent::DeliverFrame { link, frame, .. }
                if frame.boot <= self.world.nodes[link.from].dropped_through =>
            {
                Ok(())
            }
            SimEvent::DeliverFrame { link, frame, intact: true } => self.on_frame(link, frame),
            SimEvent::DeliverFrame { link, frame, intact: false } => {
                self.on_corrupted_frame(link, frame.bytes)
            }
            SimEvent::ReplayFrame { link, frame } => self.on_replay(link, frame),
            SimEvent::Transmitted { link } => self.on_transmitted(link),
            SimEvent::DriverRound { node, boot } => self.on_round(node, boot),
            SimEvent::Wake { node, boot } => self.on_wake(node, boot),
            SimEvent::SyncDone { node, boot } => self.on_synced(node, boot),
            SimEvent::ApplyDone { node, boot } => self.on_apply(node, boot),
            SimEvent::PersistState { node, boot } => self.on_persist(node, boot),
            SimEvent::ClientRequest { node, boot, event } => {
                self.on_client_request(node, boot, event)
            }
            SimEvent::StartNode { node } => self.on_start(node),
            SimEvent::ResumeNode { node, boot } => self.on_resume(node, boot),
            SimEvent::HealLinks(_) | SimEvent::UnclogLinks(_) | SimEvent::EndDrift { .. } => {
                self.on_fault_end(&event);
                Ok(())
            }
            SimEvent::ClientArrival => self.on_client_arrival(),
            SimEvent::LoadArrival(arrival) => self.on_load_arrival(arrival),
            SimEvent::DrawFault(fault) => self.on_draw_fault(fault),
            SimEvent::TargetFault { node, boot, fault } => {
                self.on_targeted_fault(node, boot, fault)
            }
            SimEvent::ApplyFault(node_fault) => self.apply_fault(node_fault),
        }
    }

    /// Folds an event into the fingerprint. Faults are folded when they are applied, so drawn and
    /// scheduled faults give the same fingerprint.
    fn record(&mut self, event: &SimEvent) {
        let (kind, node, more) = match event {
            // The first bytes of a frame hold its checksum, so they identify it.
            SimEvent::DeliverFrame { link, frame, .. } | SimEvent::ReplayFrame { link, frame } => {
                let mut head = [0; 8];
                let known = frame.bytes.len().min(8);
                head[..known].copy_from_slice(&frame.bytes[..known]);
                (1, link.to, u64::from_le_bytes(head) ^ (link.from as u64) << 56)
            }
            SimEvent::Wake { node, boot } => (2, *node, *boot),
            SimEvent::SyncDone { node, boot } => (3, *node, *boot),
            SimEvent::ApplyDone { node, boot } => (4, *node, *boot),
            SimEvent::PersistState { node, boot } => (5, *node, *boot),
            SimEvent::StartNode { node } => (6, *node, 0),
            SimEvent::ClientArrival => (7, 0, self.workload.clients.done()),
            SimEvent::HealLinks(_) => (8, 0, 0),
            SimEvent::ClientRequest { node, boot, .. } => (10, *node, *boot),
            SimEvent::ResumeNode { node, boot } => (11, *node, *boot),
            SimEvent::EndDrift { node } => (12, *node, 0),
            SimEvent::UnclogLinks(_) => (13, 0, 0),
            SimEvent::DriverRound { node, boot } => (14, *node, *boot),
            SimEvent::Transmitted { link } => (15, link.to, link.from as u64),
            SimEvent::LoadArrival(_) => (16, 0, self.workload.clients.count()),
            SimEvent::DrawFault(_) | SimEvent::TargetFault { .. } | SimEvent::ApplyFault(_) => {
                return;
            }
        };
        self.world.fold(kind, node, more);
    }
}
