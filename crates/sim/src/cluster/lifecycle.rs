//! Starts, crashes, pauses and the links of nodes.

use super::Cluster;
use super::event::SimEvent;
use super::network::links::links;
use super::world::World;
use crate::check::replies::OperationState;
use crate::faults::kind::Fault;
use crate::faults::schedule::CrashSpec;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Instant, NodeId};

impl<P: Protocol> Cluster<P> {
    /// Starts a crashed node, unless its disk is unreadable or the node must not start again.
    pub(crate) fn on_start(&mut self, node: usize) -> Checked {
        if !self.faults.is_active && !self.world.healthy.contains(&node)
            || self.world.nodes[node].is_lost
        {
            return Ok(());
        }
        if let Some((fault, until)) = self.world.nodes[node].disk.unreadable
            && self.world.now < until
        {
            if fault == Fault::ReadError {
                self.count(fault);
            }
            // Starts again when the disk is readable.
            self.world.queue.push(until, SimEvent::StartNode { node });
            return Ok(());
        }
        self.start(node)
    }

    /// Starts a node.
    pub(crate) fn start(&mut self, node: usize) -> Checked {
        if self.world.nodes[node].is_up() {
            return Ok(());
        }
        let was_corrupted = self.world.nodes[node].disk.corrupted.is_some();
        let recovered = self.world.recover(node);
        let this = &mut self.world.nodes[node];
        match recovered {
            // The node correctly rejects its corrupted disk. It never starts again.
            Err(found) if found.kind == ViolationKind::RecoveryFailed && was_corrupted => {
                this.is_lost = true;
                let id = this.id;
                self.world
                    .trace
                    .record_key_event(|| format!("{id:?} does not start: {}", found.explanation));
                return Ok(());
            }
            result => result?,
        }
        let (id, boot) = (this.id, this.boot);
        self.checks.logs.reset_to_synced(node, &this.disk.synced.hard_state);
        if was_corrupted {
            self.checks.reload(id, &this.disk.synced.log)?;
        }
        let at = self.world.now + this.rng.persist.duration(&self.world.plan.disk.persist);
        self.world.queue.push(at, SimEvent::PersistState { node, boot });
        self.world.trace.record_key_event(|| format!("{id:?} starts"));
        self.faults.maybe_slow_start(&mut self.world, node);
        self.world.network.node_started(node);
        self.world.restart_links();
        self.settle(node)
    }

    /// Ends a pause, unless a longer pause has begun or the node must stay paused.
    pub(crate) fn on_resume(&mut self, node: usize, boot: u64) -> Checked {
        let this = &self.world.nodes[node];
        let due =
            this.boot == boot && this.paused_until.is_some_and(|until| until <= self.world.now);
        if due && (self.faults.is_active || self.world.healthy.contains(&node)) {
            self.world.resume(node);
        }
        Ok(())
    }

    /// Crashes a node as specified.
    pub(crate) fn crash_node(&mut self, crash: &CrashSpec) -> Checked {
        let this = &mut self.world.nodes[crash.node];
        if crash.drops_in_flight {
            this.dropped_through = this.boot;
        }
        let keep = crash.keep.unwrap_or(usize::MAX);
        self.crash_keeping(crash.node, keep, crash.keep_state.unwrap_or(usize::MAX))
    }

    /// Crashes a node. Of its unsynced batches, this many of the log and of the state survive.
    pub(crate) fn crash_keeping(&mut self, node: usize, keep: usize, keep_state: usize) -> Checked {
        let this = &mut self.world.nodes[node];
        if this.running.take().is_none() {
            return Ok(());
        }
        let id = this.id;
        let lost = this
            .disk
            .crash(keep, keep_state)
            .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
        (this.disk.stalled_until, this.disk.slow_until) = (Instant::ZERO, Instant::ZERO);
        this.paused_until = None;
        this.waiting.clear();
        this.boot += 1;
        self.checks.logs.reset_to_synced(node, &this.disk.synced.hard_state);
        self.check_synced(node)?;
        if lost.log > 0 {
            self.count(Fault::LoseLogSuffix);
        }
        if lost.state > 0 {
            self.count(Fault::LoseStateSuffix);
        }
        self.world.network.node_crashed(self.world.now, node);
        for attempt in self.workload.clients.node_crashed(node) {
            self.workload.load.ended(self.world.now, attempt, OperationState::Unknown);
            self.checks.history.abandoned(self.world.now, attempt);
        }
        Ok(())
    }

    /// Crashes a node. A random part of its unsynced writes is lost.
    ///
    /// # Errors
    /// The first violation.
    pub fn crash(&mut self, node: NodeId) -> Result<(), Violation> {
        let node = World::<P>::index(node);
        let [log, state] = self.world.nodes[node].disk.unsynced_counts();
        let rng = &mut self.faults.rng;
        let keep = Some(rng.below(log as u64 + 1) as usize);
        let keep_state = Some(rng.below(state as u64 + 1) as usize);
        let drops_in_flight = rng.chance(self.world.plan.network.crash_drops_in_flight);
        let crash = CrashSpec { node, keep, keep_state, drops_in_flight, down: Duration::ZERO };
        self.crash_node(&crash).map_err(|found| self.with_time(*found))
    }

    /// Starts a dead node.
    ///
    /// # Errors
    /// The first violation.
    pub fn restart(&mut self, node: NodeId) -> Result<(), Violation> {
        self.start(World::<P>::index(node)).map_err(|found| self.with_time(*found))
    }

    /// Cuts every link between nodes of the two sides.
    pub fn partition(&mut self, one: &[NodeId], other: &[NodeId]) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// Cuts every link from one side to the other, in this direction only.
    pub fn cut(&mut self, from: &[NodeId], to: &[NodeId]) {
        let index =
            |side: &[NodeId]| side.iter().map(|id| World::<P>::index(*id)).collect::<Vec<_>>();
        self.world.network.cut(self.world.now, &links(&index(from), &index(to)));
    }

    /// Ends all faults: heals all links, ends stalls, repairs clocks, and starts all nodes that do
    /// not run. No fault occurs after it.
    pub fn heal(&mut self) {
        self.end_faults((0..self.world.nodes.len()).collect());
    }

    /// Delays the end of every sync of the node's log until this much time has passed.
    pub fn stall_disk(&mut self, node: NodeId, time: Duration) {
        self.world.nodes[World::<P>::index(node)].disk.stalled_until = self.world.now + time;
    }
}
