//! Syncs of logs, the apply thread and the state store.

use super::Cluster;
use super::event::{LoadArrival, SimEvent};
use super::network::throughput::time_for;
use super::node::ApplyTask;
use crate::violation::{Checked, Violation, ViolationKind, violation};
use synod_consensus::Protocol;
use synod_replica::{ApplyError, Driver, Event};
use synod_types::NodeId;

/// Maximum number of tasks of the apply thread between two reports.
const APPLY_ROUND: usize = 256;
/// Stored keys that a state machine removes at most between two writes of its state.
const MAINTAIN_KEYS: usize = 64;

impl<P: Protocol> Cluster<P> {
    /// Handles the end of a sync, or delays it if the disk is stalled.
    pub(crate) fn on_synced(&mut self, node: usize, boot: u64) -> Checked {
        let this = &mut self.world.nodes[node];
        // The sync was delayed, or the node has crashed.
        if this.boot != boot || this.disk.sync_due != Some(self.world.now) {
            return Ok(());
        }
        if self.world.now < this.disk.stalled_until {
            this.disk.sync_due = Some(this.disk.stalled_until);
            self.world.queue.push(this.disk.stalled_until, SimEvent::SyncDone { node, boot });
            return Ok(());
        }
        self.end_sync(node)
    }

    /// Ends the sync in progress.
    pub(crate) fn end_sync(&mut self, node: usize) -> Checked {
        if let Some((fault, crash, time)) = self.world.nodes[node].disk.failing_sync.take() {
            return self.fail_sync(fault, &crash, time);
        }
        let this = &mut self.world.nodes[node];
        let id = this.id;
        let written = this
            .disk
            .end_sync()
            .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
        self.check_synced(node)?;
        self.world.begin_sync(node);
        match written {
            Some(seq) => self.handle_event(node, Event::Written(seq)),
            None => Ok(()),
        }
    }

    /// Checks the writes that became durable.
    pub(super) fn check_synced(&mut self, node: usize) -> Checked {
        let this = &mut self.world.nodes[node];
        let (id, disk) = (this.id, &mut this.disk);
        let result = self.checks.synced(id, disk.synced.base.through, &disk.newly_durable);
        disk.newly_durable.clear();
        result
    }

    /// Applies pending tasks, if applying takes no time and is not stalled. Returns whether it did.
    pub(super) fn apply_at_once(&mut self, node: usize) -> Result<bool, Box<Violation>> {
        let now = self.world.now;
        let this = &mut self.world.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(false) };
        if running.to_apply.is_empty() || running.apply_due.is_some() {
            return Ok(false);
        }
        let apply = &self.world.plan.disk.apply;
        let free = apply.end.is_zero() && self.world.plan.capacity.is_none();
        if free && running.apply_stalled_until <= now {
            self.apply(node)?;
            return Ok(true);
        }
        let mut time = this.rng.apply.duration(apply);
        if let Some(capacity) = &self.world.plan.capacity {
            let tasks = running.to_apply.len().min(APPLY_ROUND);
            let bytes = running.to_apply.iter().take(tasks).map(ApplyTask::bytes).sum();
            running.applying = tasks;
            time += time_for(bytes, capacity.apply);
        }
        let at = (now + time).max(running.apply_stalled_until);
        running.apply_due = Some(at);
        self.world.queue.push(at, SimEvent::ApplyDone { node, boot: this.boot });
        Ok(false)
    }

    pub(crate) fn on_apply(&mut self, node: usize, boot: u64) -> Checked {
        let this = &mut self.world.nodes[node];
        let Some(running) = this.running.as_mut().filter(|_| this.boot == boot) else {
            return Ok(());
        };
        if running.apply_due != Some(self.world.now) {
            return Ok(());
        }
        if self.world.now < running.apply_stalled_until {
            let at = running.apply_stalled_until;
            running.apply_due = Some(at);
            self.world.queue.push(at, SimEvent::ApplyDone { node, boot });
            return Ok(());
        }
        running.apply_due = None;
        self.apply(node)?;
        self.settle(node)
    }

    /// Completes the apply thread's tasks and reports them to the driver.
    fn apply(&mut self, node: usize) -> Checked {
        let this = &mut self.world.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        let tasks = match self.world.plan.capacity {
            Some(_) => running.applying.min(running.to_apply.len()),
            None => running.to_apply.len(),
        };
        let mut report = None;
        let mut reads = 0;
        for task in running.to_apply.drain(..tasks) {
            match task {
                ApplyTask::Run(run) => {
                    let applied = running.applier.apply(&run, report.get_or_insert_default());
                    applied.map_err(|error| store_failed(this.id, &error))?;
                }
                ApplyTask::Read(_) => reads += 1,
            }
        }
        self.checks.oracle.check_applied(this.id, &running.applier)?;
        for _ in 0..reads {
            self.world
                .queue
                .push(self.world.now, SimEvent::LoadArrival(LoadArrival::Read { node }));
        }
        match report {
            Some(report) if self.world.plan.capacity.is_some() => {
                self.handle_event(node, Event::Applied(report))
            }
            Some(report) => {
                let local = this.clock.read(self.world.now);
                running.replica.handle(local, Event::Applied(report));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn on_persist(&mut self, node: usize, boot: u64) -> Checked {
        if self.world.nodes[node].boot != boot || !self.world.nodes[node].is_up() {
            return Ok(());
        }
        self.persist(node)?;
        let (plan, this) = (&self.world.plan.disk, &mut self.world.nodes[node]);
        let sync = this.rng.persist.chance(plan.state_sync);
        let id = this.id;
        if let Some(running) = this.running.as_mut() {
            let maintained = running.applier.maintain(MAINTAIN_KEYS);
            maintained.map_err(|error| store_failed(id, &error))?;
            running.applier.seal();
            if sync {
                running.applier.sync().map_err(|error| store_failed(id, &error))?;
            }
        }
        let at = self.world.now + this.rng.persist.duration(&plan.persist);
        self.world.queue.push(at, SimEvent::PersistState { node, boot });
        Ok(())
    }

    /// Stores sealed state as far as the driver allows. Checks that the log is durable through its
    /// last slot.
    pub(crate) fn persist(&mut self, node: usize) -> Checked {
        let this = &mut self.world.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        let id = this.id;
        let stored = running.applier.persist(running.durable);
        if !stored.map_err(|error| store_failed(id, &error))? {
            return Ok(());
        }
        let slot = running.applier.persisted();
        let log = &this.disk.synced.log;
        let record = self.checks.chosen.at(slot);
        if slot.0 == 0 || record.is_some_and(|record| record.is_held_by(slot, log)) {
            return Ok(());
        }
        let text = format!("state stored through slot {slot}, which the synced log lacks");
        Err(violation(ViolationKind::StateAheadOfLog, [id], text))
    }
}

fn store_failed(node: NodeId, error: &ApplyError) -> Box<Violation> {
    violation(ViolationKind::StoreFailed, [node], error.to_string())
}
