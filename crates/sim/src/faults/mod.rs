//! Faults: their kinds, their schedule, and their random draws.

mod draw;
pub(crate) mod kind;
pub(crate) mod schedule;
pub(crate) mod source;
pub(crate) mod storage_faults;

use crate::cluster::event::SimEvent;
use crate::cluster::world::World;
use crate::rng::SimRng;
use kind::{Fault, FaultCounts};
use schedule::{Schedule, ScheduleEntry, ScheduledFault};
use source::FaultSource;
use std::time::Duration;
use synod_consensus::{Protocol, Role, Status};
use synod_types::Instant;

/// Faults of a run.
#[derive(Debug)]
pub(crate) struct Faults {
    /// RNG of the faults that a seed draws.
    pub(crate) rng: SimRng,
    /// RNG of the repairs at the end of all faults.
    pub(crate) repair_rng: SimRng,
    pub(crate) source: FaultSource,
    pub(crate) counts: FaultCounts,
    /// True while faults may occur.
    pub(crate) is_active: bool,
}

impl Faults {
    /// Queues the faults of a schedule or, without one, the first fault of each kind.
    pub(crate) fn schedule_all<P: Protocol>(
        &mut self,
        world: &mut World<P>,
        schedule: Option<&Schedule>,
    ) {
        let Some(schedule) = schedule else {
            for (fault, _) in world.plan.injection.mean.clone() {
                self.schedule_next(world, fault);
            }
            let skewed = if world.plan.has(Fault::Skew) { world.nodes.len() } else { 0 };
            for _ in 0..skewed {
                world.queue.push(world.now, SimEvent::DrawFault(Fault::Skew));
            }
            return;
        };
        for ScheduleEntry(scheduled) in schedule.entries() {
            let ScheduledFault::At(at, node_fault) = scheduled else { continue };
            let event = SimEvent::ApplyFault(node_fault.clone());
            match node_fault.fault {
                // Before the nodes start. All other faults come after the other events of their
                // instant.
                Fault::Skew => world.queue.push(*at, event),
                _ => world.queue.push_last(*at, event),
            }
        }
    }

    /// Queues the next fault of a kind.
    pub(crate) fn schedule_next<P: Protocol>(&mut self, world: &mut World<P>, fault: Fault) {
        let mut means = world.plan.injection.mean.iter();
        if let Some((_, mean)) = means.find(|(kind, _)| *kind == fault) {
            let at = world.now + self.rng.duration(&(*mean / 4..*mean * 7 / 4));
            world.queue.push_last(at, SimEvent::DrawFault(fault));
        }
    }

    /// Counts a fault that has occurred. `loaded` is true if operations were in flight.
    pub(crate) fn count(&mut self, fault: Fault, loaded: bool) {
        self.counts.fired(fault, loaded);
    }

    /// Pauses a starting node, with some probability.
    pub(crate) fn maybe_slow_start<P: Protocol>(&mut self, world: &mut World<P>, node: usize) {
        let may = self.is_active && self.source.is_random() && world.plan.has(Fault::SlowStart);
        if may && self.rng.percent(25) {
            let boot = world.nodes[node].boot;
            let fault = Fault::SlowStart;
            world.queue.push_last(world.now, SimEvent::TargetFault { node, boot, fault });
        }
    }

    /// Crashes a node again just after its start at `at`, with some probability.
    pub(crate) fn maybe_crash_recovering<P: Protocol>(
        &mut self,
        world: &mut World<P>,
        node: usize,
        at: Instant,
    ) {
        let may = self.source.is_random() && world.plan.has(Fault::CrashRecovering);
        if may && self.rng.percent(20) {
            // Starting increments the boot count.
            let boot = world.nodes[node].boot + 1;
            let at = at + self.rng.mostly_short(Duration::from_millis(30));
            let fault = Fault::CrashRecovering;
            world.queue.push_last(at, SimEvent::TargetFault { node, boot, fault });
        }
    }

    /// Targets a leader that has just chosen a slot, before any other node learns it, with some
    /// probability: the highest for the first slot that it chooses.
    pub(crate) fn maybe_crash_on_commit<P: Protocol>(
        &mut self,
        world: &mut World<P>,
        node: usize,
        status: &Status,
    ) {
        if status.role != Role::Leader {
            return;
        }
        let round = status.ballot.round;
        let first = std::mem::replace(&mut world.nodes[node].commit_round, round) != round;
        let chance = world.plan.injection.fault_on_commit;
        self.target_fault(world, node, if first { chance } else { chance / 50 });
    }

    /// Crashes or isolates a node at a critical moment, with some probability: at once, before the
    /// messages that it has just sent arrive, or within a few round trips.
    pub(crate) fn target_fault<P: Protocol>(
        &mut self,
        world: &mut World<P>,
        node: usize,
        chance: u32,
    ) {
        let may = self.is_active && self.source.is_random();
        if !may || !self.rng.chance(chance) {
            return;
        }
        let (plan, rng) = (&world.plan, &mut self.rng);
        let crash = plan.has(Fault::Crash) && (!plan.has(Fault::Isolate) || rng.percent(60));
        let fault = if crash { Fault::Crash } else { Fault::Isolate };
        let one_way = plan.network.delay.end + plan.disk.sync.end;
        let within = match rng.below(10) {
            0..3 => Duration::ZERO,
            3..7 => one_way,
            _ => one_way * 5,
        };
        let at = world.now + rng.duration(&(Duration::ZERO..within));
        let boot = world.nodes[node].boot;
        world.queue.push_last(at, SimEvent::TargetFault { node, boot, fault });
    }
}
