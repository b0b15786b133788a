//! Application of faults to a cluster.

use super::Cluster;
use super::event::SimEvent;
use super::network::links::links;
use crate::faults::kind::Fault;
use crate::faults::schedule::{CrashSpec, FaultEffect, NodeFault, ScheduledFault};
use crate::rng::SimRng;
use crate::trace::fault_text::describe_fault;
use crate::violation::{Checked, ViolationKind, violation};
use std::time::Duration;
use synod_consensus::Protocol;

impl<P: Protocol> Cluster<P> {
    /// Draws a fault of this kind, and applies it.
    pub(crate) fn on_draw_fault(&mut self, fault: Fault) -> Checked {
        if !self.faults.is_active {
            return Ok(());
        }
        self.faults.schedule_next(&mut self.world, fault);
        let effect = self.faults.draw_effect(&self.world, fault);
        self.apply_fault(NodeFault { fault, effect })
    }

    /// Applies a fault that targets a node, unless this boot has ended.
    pub(crate) fn on_targeted_fault(&mut self, node: usize, boot: u64, fault: Fault) -> Checked {
        if !self.faults.is_active || self.world.nodes[node].boot != boot {
            return Ok(());
        }
        let effect = self.faults.draw_targeted(&self.world, fault, node);
        self.apply_fault(NodeFault { fault, effect })
    }

    /// Applies a fault and records it, if it has an effect.
    pub(crate) fn apply_fault(&mut self, node_fault: NodeFault) -> Checked {
        if !self.faults.is_active || !self.world.has_effect(&node_fault.effect) {
            return Ok(());
        }
        let NodeFault { fault, effect } = &node_fault;
        if !matches!(effect, FaultEffect::FailDisk(..)) {
            // Clock skews last for the whole run, so they count as under load. Disk failures are
            // counted when they take effect.
            self.faults.count(*fault, self.workload.clients.is_loaded() || *fault == Fault::Skew);
        }
        self.world.fold(9, 0, *fault as u64);
        let unsynced_counts = |node: usize| self.world.nodes[node].disk.unsynced_counts();
        self.world.trace.record_key_event(|| describe_fault(*fault, effect, unsynced_counts));
        let result = match effect {
            FaultEffect::Links(links, time) => {
                let end = match fault {
                    Fault::Clog => SimEvent::UnclogLinks(self.world.network.clog(links)),
                    _ => SimEvent::HealLinks(self.world.network.cut(self.world.now, links)),
                };
                self.world.queue.push(self.world.now + *time, end);
                Ok(())
            }
            FaultEffect::Crash(crashes) => self.crash_nodes(crashes),
            FaultEffect::Stall(node, time) => {
                self.world.stall(*fault, *node, *time);
                Ok(())
            }
            FaultEffect::CorruptDisk(crash, seed) => self.corrupt_disk(*fault, crash, *seed),
            FaultEffect::FailDisk(crash, time) => self.fail_disk(*fault, crash, *time),
            FaultEffect::ClockShift(..) | FaultEffect::ClockDrift(..) => {
                self.world.skew_clock(*fault, effect);
                Ok(())
            }
        };
        self.faults.source.recorded.push(ScheduledFault::At(self.world.now, node_fault));
        result
    }

    /// Crashes a node and corrupts the disk of its log.
    fn corrupt_disk(&mut self, fault: Fault, crash: &CrashSpec, seed: u64) -> Checked {
        let this = &self.world.nodes[crash.node];
        let (records, saved) = this
            .disk
            .corrupt(fault, &mut SimRng::new(seed))
            .map_err(|error| violation(ViolationKind::StoreFailed, [this.id], error.to_string()))?;
        self.crash_nodes(std::slice::from_ref(crash))?;
        self.world.nodes[crash.node].disk.replace(records, saved);
        Ok(())
    }

    /// Makes a disk unreadable from now on, or its next sync fail.
    fn fail_disk(&mut self, fault: Fault, crash: &CrashSpec, time: Duration) -> Checked {
        let disk = &mut self.world.nodes[crash.node].disk;
        if fault == Fault::ReadError {
            disk.unreadable = Some((fault, self.world.now + time));
            return self.crash_nodes(std::slice::from_ref(crash));
        }
        disk.failing_sync = Some((fault, crash.clone(), time));
        Ok(())
    }

    /// Stops a node whose sync has failed. Messages that wait for that sync never leave.
    pub(crate) fn fail_sync(&mut self, fault: Fault, crash: &CrashSpec, time: Duration) -> Checked {
        self.count(fault);
        let id = self.world.nodes[crash.node].id;
        self.world.trace.record_key_event(|| format!("{id:?} stops: its sync fails"));
        if fault == Fault::DiskFull {
            self.world.nodes[crash.node].disk.unreadable = Some((fault, self.world.now + time));
        }
        self.crash_nodes(std::slice::from_ref(crash))
    }

    /// Handles the end of a fault.
    pub(crate) fn on_fault_end(&mut self, end: &SimEvent) {
        match end {
            SimEvent::HealLinks(cut) if self.faults.is_active => {
                self.world.network.heal_cut(cut);
                self.world.restart_links();
            }
            SimEvent::UnclogLinks(clog) if self.faults.is_active => {
                let free = self.world.network.unclog(clog);
                self.world.requeue(free);
            }
            SimEvent::EndDrift { node } if self.faults.is_active => {
                self.world.nodes[*node].clock.drift(self.world.now, 0);
                self.world.reschedule_wake(*node);
            }
            _ => {}
        }
    }

    pub(crate) fn count(&mut self, fault: Fault) {
        self.faults.count(fault, self.workload.clients.is_loaded());
    }

    /// Crashes nodes, and queues their starts.
    fn crash_nodes(&mut self, crashes: &[CrashSpec]) -> Checked {
        for crash in crashes {
            if self.world.nodes[crash.node].is_up() {
                self.crash_node(crash)?;
                let at = self.world.now + crash.down;
                self.world.queue.push(at, SimEvent::StartNode { node: crash.node });
                self.faults.maybe_crash_recovering(&mut self.world, crash.node, at);
            }
        }
        Ok(())
    }

    /// Ends all faults: the `healthy` nodes are repaired and connected. All others stay running,
    /// paused or crashed, and links between them and the healthy ones are cut in one or both
    /// directions.
    pub(crate) fn end_faults(&mut self, mut healthy: Vec<usize>) {
        healthy.sort_unstable();
        self.faults.is_active = false;
        let waiting = self.world.network.end_faults();
        self.world.requeue(waiting);
        self.world.restart_links();
        let others: Vec<_> =
            (0..self.world.nodes.len()).filter(|node| !healthy.contains(node)).collect();
        // In two cases of three the cut has one direction only.
        let direction = self.faults.repair_rng.below(3);
        if direction != 1 {
            self.world.network.cut(self.world.now, &links(&healthy, &others));
        }
        if direction != 2 {
            self.world.network.cut(self.world.now, &links(&others, &healthy));
        }
        self.world.nodes.iter_mut().for_each(|node| node.disk.failing_sync = None);
        for node in &healthy {
            self.world.repair_node(*node, &mut self.faults.repair_rng);
        }
        for node in others {
            // Operations at a node that never resumes end with an unknown outcome.
            if self.world.nodes[node].paused_until.is_some() {
                self.workload.clients.node_crashed(node);
            }
        }
        self.world.healthy = healthy;
    }
}
