//! A step of a node: passes events to its driver and executes the driver's actions.

use super::Cluster;
use super::disk::Disk;
use super::event::SimEvent;
use super::inbox::InboxEvent;
use super::network::throughput::time_for;
use super::node::ApplyTask;
use crate::check::Checks;
use crate::check::chosen::NodeRound;
use crate::check::replies::{self, OperationState};
use crate::trace::messages::{describe_run, describe_write};
use crate::violation::{Checked, ViolationKind, violation};
use std::time::Duration;
use synod_consensus::{Protocol, ProtocolEvent, Status};
use synod_replica::{Actions, ChosenRun, Driver, Event};
use synod_storage::Batch;
use synod_types::{Lane, Seq, Slot, Value};

impl<P: Protocol> Cluster<P> {
    /// Passes an event to a node's driver: at once or, if the plan limits throughput, in its next
    /// round.
    pub(crate) fn handle_event(&mut self, node: usize, event: Event) -> Checked {
        if self.world.plan.capacity.is_none() {
            return self.handle_event_now(node, event);
        }
        self.world.enqueue(
            node,
            match event {
                Event::Wake => InboxEvent::Wake,
                Event::Frame { from, frame } => InboxEvent::Frame(Lane::Control, from, frame),
                event @ (Event::Request { .. } | Event::Read { .. }) => InboxEvent::Call(event),
                event => InboxEvent::Signal(event),
            },
        );
        Ok(())
    }

    /// Passes an event to a node's driver at once, if the node runs.
    pub(crate) fn handle_event_now(&mut self, node: usize, event: Event) -> Checked {
        let this = &mut self.world.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        running.replica.handle(this.clock.read(self.world.now), event);
        self.settle(node)
    }

    /// Runs a round of a driver whose throughput is limited.
    pub(crate) fn on_round(&mut self, node: usize, boot: u64) -> Checked {
        let this = &mut self.world.nodes[node];
        let Some(capacity) = self.world.plan.capacity.as_ref() else { return Ok(()) };
        let Some(running) = this.running.as_mut().filter(|_| this.boot == boot) else {
            return Ok(());
        };
        let Some(inbox) = running.inbox.as_mut().filter(|inbox| inbox.due == Some(self.world.now))
        else {
            return Ok(());
        };
        let local = this.clock.read(self.world.now);
        let events = inbox.take_round(capacity.round_bytes);
        let bytes = events.iter().map(event_bytes).sum();
        let cost = capacity.step_each * (1 + events.len() as u32) + time_for(bytes, capacity.step);
        inbox.busy_until = self.world.now + cost.max(Duration::from_nanos(1));
        inbox.due = (!inbox.is_empty()).then_some(inbox.busy_until);
        if let Some(at) = inbox.due {
            self.world.queue.push(at, SimEvent::DriverRound { node, boot });
        }
        for event in events {
            running.replica.handle(local, event);
        }
        // The timer comes after all queued events, as in the node: a queued heartbeat must reset
        // the election timer before it fires.
        if this.wake.is_some_and(|wake| wake <= local) {
            this.wake = None;
            running.replica.handle(local, Event::Wake);
        }
        self.settle(node)
    }

    /// Wakes a driver, unless it has set another wake-up time meanwhile.
    pub(crate) fn on_wake(&mut self, node: usize, boot: u64) -> Checked {
        let this = &mut self.world.nodes[node];
        // An earlier time was queued since, or the node has crashed.
        if this.boot != boot || this.wake_queued != Some(self.world.now) {
            return Ok(());
        }
        this.wake_queued = None;
        let local = this.clock.read(self.world.now);
        if this.wake.is_some_and(|wake| wake <= local) {
            return self.handle_event(node, Event::Wake);
        }
        self.world.schedule_wake(node);
        Ok(())
    }

    /// Executes the actions of a node's driver until there are none left.
    pub(crate) fn settle(&mut self, node: usize) -> Checked {
        loop {
            let this = &mut self.world.nodes[node];
            let Some(running) = this.running.as_mut() else { return Ok(()) };
            if this.paused_until.is_some() {
                return Ok(());
            }
            let local = this.clock.read(self.world.now);
            let actions = running.replica.take(local);
            let status = running.replica.status();
            self.process_actions(node, &status, actions)?;
            if !self.apply_at_once(node)? {
                return Ok(());
            }
        }
    }

    fn process_actions(&mut self, node: usize, status: &Status, actions: Actions) -> Checked {
        let id = self.world.nodes[node].id;
        if let Some(fatal) = actions.fatal {
            return Err(violation(ViolationKind::FatalNodeError, [id], fatal.to_string()));
        }
        for note in actions.notes {
            self.on_protocol_event(node, &note);
        }
        if let Some((seq, batch)) = actions.batch {
            self.write_batch(node, status, seq, batch)?;
        }
        if self.checks.leaders.observe(id, status)? {
            let written = self.world.nodes[node].disk.written();
            let Self { checks, .. } = self;
            checks.leaders.check_complete(id, status, &written, &checks.chosen)?;
        }
        for run in actions.apply {
            self.report_chosen(node, status, &run)?;
            if let Some(running) = self.world.nodes[node].running.as_mut() {
                running.to_apply.push_back(ApplyTask::Run(run));
            }
        }
        for (to, lane, frame) in actions.frames {
            self.send(node, to, lane, frame)?;
        }
        if let Some(running) = self.world.nodes[node].running.as_mut() {
            running.durable = actions.durable.unwrap_or(running.durable);
        }
        for answer in actions.responses {
            self.on_reply(node, &answer)?;
        }
        self.world.nodes[node].wake = actions.wake;
        self.world.schedule_wake(node);
        Ok(())
    }

    fn write_batch(&mut self, node: usize, status: &Status, seq: Seq, batch: Batch) -> Checked {
        let id = self.world.nodes[node].id;
        let writes = Disk::<P>::decode(&batch)
            .map_err(|error| violation(ViolationKind::Undecodable, [id], error.to_string()))?;
        for write in &writes {
            self.world.trace.record(|| format!("{id:?} writes {}", describe_write(write)));
            let Self { checks, .. } = self;
            checks.logs.check(node, status.ballot.round, write, &checks.chosen)?;
        }
        self.world.nodes[node].disk.push(seq, batch, writes);
        self.world.begin_sync(node);
        Ok(())
    }

    /// Checks slots that a node reports as chosen.
    fn report_chosen(&mut self, node: usize, status: &Status, run: &ChosenRun) -> Checked {
        let id = self.world.nodes[node].id;
        let reporter = NodeRound { node: id, round: status.ballot.round };
        self.world.trace.record(|| format!("{id:?} commits {}", describe_run(run)));
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let disks = self.world.nodes.iter().map(|node| (node.id, &node.disk.synced.log));
            let is_new = self.checks.report(reporter, slot, &value, disks)?;
            if is_new {
                self.faults.maybe_crash_on_commit(&mut self.world, node, status);
                self.on_slot_chosen(slot, value.to_value())?;
            }
        }
        Ok(())
    }

    /// Checks a newly chosen slot: its command takes effect once, and was not rejected to its
    /// client.
    fn on_slot_chosen(&mut self, slot: Slot, value: Value) -> Checked {
        let Checks { oracle, history_only, .. } = &mut self.checks;
        let bytes = match &value {
            Value::Command(command) => command.len() as u64,
            _ => 0,
        };
        let effect = oracle.choose(slot, value);
        self.workload.load.chose(bytes, matches!(effect, Ok(Some(_))));
        if *history_only {
            return Ok(());
        }
        let Some(command) = effect? else { return Ok(()) };
        match self.workload.clients.get(command) {
            Some(operation) if matches!(operation.state, OperationState::Rejected { .. }) => {
                replies::check_rejected(command, operation, oracle)
            }
            _ => Ok(()),
        }
    }

    fn on_protocol_event(&mut self, node: usize, note: &ProtocolEvent) {
        let id = self.world.nodes[node].id;
        self.world.trace.record_protocol_event(id, note);
        let injection = &self.world.plan.injection;
        let (vote, election) = (injection.fault_on_vote, injection.fault_on_election);
        match note {
            ProtocolEvent::Voted { .. } => self.faults.target_fault(&mut self.world, node, vote),
            ProtocolEvent::Leading { .. } => {
                self.faults.target_fault(&mut self.world, node, election)
            }
            _ => {}
        }
    }
}

fn event_bytes(event: &Event) -> u64 {
    match event {
        Event::Frame { frame, .. } => frame.len() as u64,
        Event::Request { command, .. } => command.len() as u64,
        _ => 0,
    }
}
