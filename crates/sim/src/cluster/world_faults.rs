//! Effects of faults on the world: clocks, stalls and repairs.

use super::event::SimEvent;
use super::node::Node;
use super::world::World;
use crate::faults::kind::Fault;
use crate::faults::schedule::{CrashSpec, FaultEffect};
use crate::rng::SimRng;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::Slot;

impl<P: Protocol> World<P> {
    /// Returns whether the effect would change anything. A fault that does not is neither applied
    /// nor counted.
    pub(crate) fn has_effect(&self, effect: &FaultEffect) -> bool {
        let count = self.nodes.len();
        let is_up = |node: usize| self.nodes.get(node).is_some_and(|node| node.is_up());
        match effect {
            FaultEffect::Links(links, _) => {
                !links.is_empty() && links.iter().all(|link| link.from < count && link.to < count)
            }
            FaultEffect::Crash(crashes) => {
                crashes.iter().all(|crash| crash.node < count)
                    && crashes.iter().any(|crash| is_up(crash.node))
            }
            FaultEffect::Stall(node, _) => is_up(*node),
            FaultEffect::FailDisk(crash, _) => is_up(crash.node),
            // Requires that a quorum of intact disks remains and that there is a log to corrupt.
            FaultEffect::CorruptDisk(CrashSpec { node, .. }, _) => {
                let has_log = |node: &Node<P>| node.disk.synced.log.last() > Slot::ZERO;
                let others: Vec<_> = self.intact_nodes().filter(|other| other != node).collect();
                is_up(*node) && has_log(&self.nodes[*node]) && self.is_quorum(&others)
            }
            FaultEffect::ClockShift(node, _) | FaultEffect::ClockDrift(node, ..) => *node < count,
        }
    }

    /// Sets a node's clock, or lets it drift.
    pub(crate) fn skew_clock(&mut self, fault: Fault, effect: &FaultEffect) {
        let now = self.now;
        let node = match effect {
            FaultEffect::ClockShift(node, by) if fault == Fault::JumpBack => {
                self.nodes[*node].clock.jump_back(now, *by);
                *node
            }
            FaultEffect::ClockShift(node, by) => {
                self.nodes[*node].clock.jump_ahead(now, *by);
                *node
            }
            FaultEffect::ClockDrift(node, drift_ppm, time) => {
                self.nodes[*node].clock.drift(now, *drift_ppm);
                self.queue.push(now + *time, SimEvent::EndDrift { node: *node });
                *node
            }
            _ => return,
        };
        self.reschedule_wake(node);
    }

    /// Stalls or slows a node, its disk or its apply thread.
    pub(crate) fn stall(&mut self, fault: Fault, node: usize, time: Duration) {
        let until = self.now + time;
        let this = &mut self.nodes[node];
        match fault {
            Fault::SlowDisk => this.disk.slow_until = until,
            Fault::DiskStall => this.disk.stalled_until = until,
            Fault::Pause | Fault::SlowStart => {
                this.paused_until = this.paused_until.max(Some(until));
                self.queue.push(until, SimEvent::ResumeNode { node, boot: this.boot });
            }
            _ => {
                if let Some(running) = this.running.as_mut() {
                    running.apply_stalled_until = until;
                }
            }
        }
    }

    /// Ends all faults of a node. Its stalled syncs and applies end at once, a paused node resumes,
    /// and a crashed one starts.
    pub(crate) fn repair_node(&mut self, node: usize, rng: &mut SimRng) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.clock.repair(now);
        (this.disk.stalled_until, this.disk.slow_until) = (now, now);
        this.disk.unreadable = None;
        if this.disk.sync_due.is_some() {
            this.disk.sync_due = Some(now);
        }
        let Some(running) = this.running.as_mut() else {
            let at = now + rng.mostly_short(Duration::from_millis(200));
            return self.queue.push(at, SimEvent::StartNode { node });
        };
        running.apply_stalled_until = now;
        if running.apply_due.is_some() {
            running.apply_due = Some(now);
        }
        self.resume(node);
    }

    /// Ends a pause. Deferred events come first, in their order, then the node's own pending
    /// events.
    pub(crate) fn resume(&mut self, node: usize) {
        let now = self.now;
        let this = &mut self.nodes[node];
        this.paused_until = None;
        let boot = this.boot;
        let waiting = std::mem::take(&mut this.waiting);
        if this.disk.sync_due.is_some_and(|due| due <= now) {
            this.disk.sync_due = Some(now);
            self.queue.push(now, SimEvent::SyncDone { node, boot });
        }
        if let Some(running) = this.running.as_mut() {
            if running.apply_due.is_some_and(|due| due <= now) {
                running.apply_due = Some(now);
                self.queue.push(now, SimEvent::ApplyDone { node, boot });
            }
            if let Some(inbox) = running.inbox.as_mut().filter(|inbox| inbox.is_due(now)) {
                inbox.due = Some(now);
                self.queue.push(now, SimEvent::DriverRound { node, boot });
            }
        }
        self.requeue(waiting);
        self.reschedule_wake(node);
    }
}
