//! Hands a node its events and carries out what it wants done.

use crate::check::Checks;
use crate::check::answers::{self, Operation, OperationState};
use crate::cluster::disk::Disk;
use crate::cluster::network::time_for;
use crate::cluster::node::ApplyTask;
use crate::cluster::{Cluster, Happening};
use crate::faults::kind::Fault;
use crate::faults::schedule::Victim;
use crate::trace::{run_in_words, write_in_words};
use crate::violation::{Checked, ViolationKind, violation};
use crate::workload::kv::read_reply;
use crate::workload::load::Arrival;
use crate::workload::operations;
use synod_checker::{Op, Outcome as Told};
use synod_consensus::{Protocol, ProtocolEvent, Refusal, Status};
use synod_kv as kv;
use synod_replica::{Actions, Answer, Driver, Event, Outcome, Run, Settings};
use synod_storage::Batch;
use synod_types::{Instant, Seq, Slot, Value};

/// The apply thread does so many tasks before it reports them.
const APPLY_ROUND: usize = 256;

impl<P: Protocol> Cluster<P> {
    /// A node takes an event at once, if it is alive.
    pub(crate) fn drive_now(&mut self, node: usize, event: Event) -> Checked {
        let this = &mut self.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        running.replica.handle(this.clock.read(self.now), event);
        self.settle(node)
    }

    /// Carries out what a node wants done until it wants no more.
    pub(crate) fn settle(&mut self, node: usize) -> Checked {
        loop {
            let this = &mut self.nodes[node];
            let Some(running) = this.running.as_mut() else { return Ok(()) };
            if this.paused_until.is_some() {
                return Ok(());
            }
            let local = this.clock.read(self.now);
            std::mem::swap(running.replica.take(local), &mut self.scratch);
            let status = running.replica.status();
            let mut actions = std::mem::take(&mut self.scratch);
            let result = self.carry_out(node, &status, &mut actions);
            self.scratch = actions;
            result?;
            if !self.apply_at_once(node)? {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self, node: usize, status: &Status, actions: &mut Actions) -> Checked {
        let id = self.nodes[node].id;
        if let Some(fatal) = actions.fatal {
            return Err(violation(ViolationKind::UndoesApplied, [id], fatal.to_string()));
        }
        for note in actions.notes.drain(..) {
            self.on_note(node, &note);
        }
        if let Some((seq, batch)) = actions.batch.take() {
            self.hand_to_disk(node, status, seq, batch)?;
        }
        if self.checks.leaders.look(id, status)? {
            let written = self.nodes[node].disk.written();
            let Self { checks, .. } = self;
            checks.leaders.check_complete(id, status, &written, &checks.chosen)?;
        }
        for run in actions.apply.drain(..) {
            self.choose(node, status, &run)?;
            if let Some(running) = self.nodes[node].running.as_mut() {
                running.to_apply.push_back(ApplyTask::Run(run));
            }
        }
        for (to, lane, frame) in actions.frames.drain(..) {
            self.send(node, to, lane, frame)?;
        }
        if let Some(running) = self.nodes[node].running.as_mut() {
            running.durable = actions.durable.take().unwrap_or(running.durable);
        }
        for answer in actions.answers.drain(..) {
            self.on_answer(node, &answer)?;
        }
        actions.peers = None;
        self.nodes[node].wake = actions.wake.take();
        self.set_alarm(node);
        Ok(())
    }

    fn hand_to_disk(&mut self, node: usize, status: &Status, seq: Seq, batch: Batch) -> Checked {
        let id = self.nodes[node].id;
        let writes = Disk::<P>::decode(&batch)
            .map_err(|error| violation(ViolationKind::BadBytes, [id], error.to_string()))?;
        for write in &writes {
            self.journal.line(|| format!("{id:?} writes {}", write_in_words(write)));
            let Self { checks, .. } = self;
            checks.logs.check(node, status.ballot.round, write, &checks.chosen)?;
        }
        self.nodes[node].disk.push(seq, batch, writes);
        self.begin_sync(node);
        Ok(())
    }

    /// A node reports slots as chosen.
    fn choose(&mut self, node: usize, status: &Status, run: &Run) -> Checked {
        let id = self.nodes[node].id;
        self.journal.line(|| format!("{id:?} commits {}", run_in_words(run)));
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let disks = self.nodes.iter().map(|node| (node.id, &node.disk.synced.log));
            let reporter = (id, status.ballot.round);
            let is_new = self.checks.report(reporter, (slot, &value), disks)?;
            if is_new {
                self.tempt(node, status);
                self.take_effect(slot, value.to_value())?;
            }
        }
        Ok(())
    }

    /// A slot is chosen: what took effect did so once, and nobody was told that it would not.
    fn take_effect(&mut self, slot: Slot, value: Value) -> Checked {
        let Checks { oracle, history_only, .. } = &mut self.checks;
        let bytes = match &value {
            Value::Command(command) => command.len() as u64,
            _ => 0,
        };
        let effect = oracle.choose(slot, value);
        self.load.chose(bytes, matches!(effect, Ok(Some(_))));
        if *history_only {
            return Ok(());
        }
        let Some(command) = effect? else { return Ok(()) };
        match self.clients.get(command) {
            Some(operation) if matches!(operation.state, OperationState::Refused { .. }) => {
                answers::check_refused(command, operation, oracle)
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn on_answer(&mut self, node: usize, answer: &Answer) -> Checked {
        let id = answer.token.0;
        let Some(operation) = self.clients.get(id).cloned() else { return Ok(()) };
        answers::check_first(id, &operation, self.nodes[node].id)?;
        self.journal.answer(operation.node, id, &answer.outcome);
        let Checks { oracle, seen, history_only, .. } = &mut self.checks;
        let state = match &answer.outcome {
            Outcome::Done(slot, reply) => {
                if !*history_only {
                    answers::check_done(id, &operation, (*slot, reply), oracle)?;
                }
                self.tell(id, &operation, |op| {
                    let (answered, reply) = read_reply(reply)?;
                    operations::outcome(op, reply).filter(|_| answered == id)
                })?;
                OperationState::Done(*slot)
            }
            Outcome::Readable => {
                let Some(running) = self.nodes[node].running.as_ref() else { return Ok(()) };
                let applied = running.applier.applied();
                if !*history_only {
                    answers::check_read(&operation, applied)?;
                }
                let query =
                    seen.op(id).map(|op| running.applier.query(&operations::query(op).encode()));
                self.tell(id, &operation, |op| {
                    operations::outcome(op, kv::Reply::decode(&query?).ok()?)
                })?;
                OperationState::Done(applied)
            }
            Outcome::Refused(why) => {
                if !*history_only {
                    answers::check_refused(id, &operation, oracle)?;
                }
                seen.refused(self.now, id);
                OperationState::Refused { busy: *why == Refusal::Busy }
            }
            Outcome::Unknown => {
                seen.lost(self.now, id);
                OperationState::Unknown
            }
        };
        self.load.ended(self.now, id, state);
        self.clients.finish(id, state);
        Ok(())
    }

    /// A client takes its answer.
    fn tell(
        &mut self,
        id: u64,
        operation: &Operation,
        read: impl FnOnce(&Op) -> Option<Told>,
    ) -> Checked {
        let Some(op) = self.checks.seen.op(id) else { return Ok(()) };
        let Some(told) = read(op) else {
            let text = format!("what answers operation {id} is no answer to {op}");
            return Err(violation(ViolationKind::FalseAnswer, [operation.node], text));
        };
        self.clients.heard.hear(op, &told);
        self.checks.seen.done(self.now, id, told);
        Ok(())
    }

    /// Something happened in a protocol.
    fn on_note(&mut self, node: usize, note: &ProtocolEvent) {
        let id = self.nodes[node].id;
        self.journal.note(id, note);
        let injection = &self.plan.injection;
        match note {
            ProtocolEvent::Voted { .. } => self.strike(node, injection.strike_voter),
            ProtocolEvent::Leading { .. } => self.strike(node, injection.strike_leader),
            _ => {}
        }
    }

    /// Sees to it that the node is woken in time.
    pub(crate) fn set_alarm(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let Some(wake) = this.wake else { return };
        let at = this.clock.when(wake).max(self.now);
        if this.alarm.is_none_or(|alarm| at < alarm) {
            this.alarm = Some(at);
            let life = this.life;
            self.queue.push(at, Happening::Alarm { node, life });
        }
    }

    pub(crate) fn on_alarm(&mut self, node: usize, life: u64) -> Checked {
        let this = &mut self.nodes[node];
        // An alarm for an earlier moment was set since, or the node has died.
        if this.life != life || this.alarm != Some(self.now) {
            return Ok(());
        }
        this.alarm = None;
        let local = this.clock.read(self.now);
        if this.wake.is_some_and(|wake| wake <= local) {
            return self.drive(node, Event::Wake);
        }
        self.set_alarm(node);
        Ok(())
    }

    fn begin_sync(&mut self, node: usize) {
        let (plan, this) = (&self.plan.disk, &mut self.nodes[node]);
        let dice = &mut this.dice.sync;
        let merged = self.plan.capacity.as_ref().map(|it| this.disk.within(it.merged_bytes));
        let part = |queued: usize| match dice.chance(plan.split) {
            true => 1 + dice.below(queued as u64) as usize,
            false => queued.min(merged.unwrap_or(queued)),
        };
        if !this.disk.begin_sync(part) {
            return;
        }
        self.traffic.syncs += 1;
        let slow = self.now < this.disk.slow_until;
        let mut time = dice.duration(if slow { &plan.slow_sync } else { &plan.sync });
        if let Some(capacity) = &self.plan.capacity {
            let bytes = this.disk.syncing_bytes();
            time += time_for(bytes, if slow { capacity.slow_disk } else { capacity.disk });
            self.traffic.written += bytes;
        }
        let at = (self.now + time).max(this.disk.stalled_until);
        this.disk.sync_due = Some(at);
        self.queue.push(at, Happening::Synced { node, life: this.life });
    }

    pub(crate) fn on_synced(&mut self, node: usize, life: u64) -> Checked {
        let this = &mut self.nodes[node];
        // The sync was put off, or the node has died.
        if this.life != life || this.disk.sync_due != Some(self.now) {
            return Ok(());
        }
        if self.now < this.disk.stalled_until {
            this.disk.sync_due = Some(this.disk.stalled_until);
            self.queue.push(this.disk.stalled_until, Happening::Synced { node, life });
            return Ok(());
        }
        self.end_sync(node)
    }

    /// The sync under way ends now.
    pub(crate) fn end_sync(&mut self, node: usize) -> Checked {
        if let Some((fault, victim, time)) = self.nodes[node].disk.failing.take() {
            return self.fail_sync(fault, &victim, time);
        }
        let this = &mut self.nodes[node];
        let id = this.id;
        let written = this
            .disk
            .end_sync()
            .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
        self.check_synced(node)?;
        self.begin_sync(node);
        match written {
            Some(seq) => self.drive(node, Event::Written(seq)),
            None => Ok(()),
        }
    }

    /// Checks what has become durable.
    fn check_synced(&mut self, node: usize) -> Checked {
        let Self { nodes, checks, .. } = self;
        let (id, disk) = (nodes[node].id, &mut nodes[node].disk);
        let result = checks.synced(id, disk.synced.base.through, &disk.fresh);
        disk.fresh.clear();
        result
    }

    /// Applies what is due, if the apply side is quick and awake. Returns whether it did.
    fn apply_at_once(&mut self, node: usize) -> Result<bool, Box<crate::Violation>> {
        let now = self.now;
        let this = &mut self.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(false) };
        if running.to_apply.is_empty() || running.apply_due.is_some() {
            return Ok(false);
        }
        let apply = &self.plan.disk.apply;
        let free = apply.end.is_zero() && self.plan.capacity.is_none();
        if free && running.apply_stalled_until <= now {
            self.apply(node)?;
            return Ok(true);
        }
        let mut time = this.dice.apply.duration(apply);
        if let Some(capacity) = &self.plan.capacity {
            let tasks = running.to_apply.len().min(APPLY_ROUND);
            let bytes = running.to_apply.iter().take(tasks).map(ApplyTask::bytes).sum();
            running.applying = tasks;
            time += time_for(bytes, capacity.apply);
        }
        let at = (now + time).max(running.apply_stalled_until);
        running.apply_due = Some(at);
        self.queue.push(at, Happening::Applied { node, life: this.life });
        Ok(false)
    }

    pub(crate) fn on_apply(&mut self, node: usize, life: u64) -> Checked {
        let this = &mut self.nodes[node];
        let Some(running) = this.running.as_mut().filter(|_| this.life == life) else {
            return Ok(());
        };
        if running.apply_due != Some(self.now) {
            return Ok(());
        }
        if self.now < running.apply_stalled_until {
            let at = running.apply_stalled_until;
            running.apply_due = Some(at);
            self.queue.push(at, Happening::Applied { node, life });
            return Ok(());
        }
        running.apply_due = None;
        self.apply(node)?;
        self.settle(node)
    }

    /// Does what the apply side was handed and reports it to the driver.
    fn apply(&mut self, node: usize) -> Checked {
        let this = &mut self.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        let tasks = match self.plan.capacity {
            Some(_) => running.applying.min(running.to_apply.len()),
            None => running.to_apply.len(),
        };
        let mut report = None;
        let mut reads = 0;
        for task in running.to_apply.drain(..tasks) {
            match task {
                ApplyTask::Run(run) => {
                    running.applier.apply(&run, report.get_or_insert_default());
                }
                ApplyTask::Read(_) => reads += 1,
            }
        }
        self.checks.oracle.check_applied(this.id, &running.applier)?;
        for _ in 0..reads {
            self.queue.push(self.now, Happening::Load(Arrival::Read { node }));
        }
        match report {
            Some(report) if self.plan.capacity.is_some() => {
                self.drive(node, Event::Applied(report))
            }
            Some(report) => {
                let local = this.clock.read(self.now);
                running.replica.handle(local, Event::Applied(report));
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn on_persist(&mut self, node: usize, life: u64) -> Checked {
        if self.nodes[node].life != life || !self.nodes[node].is_up() {
            return Ok(());
        }
        self.persist(node)?;
        let (plan, this) = (&self.plan.disk, &mut self.nodes[node]);
        let sync = this.dice.persist.chance(plan.state_sync);
        let id = this.id;
        if let Some(running) = this.running.as_mut() {
            running.applier.seal();
            if sync {
                let synced = running.applier.sync();
                synced.map_err(|error| {
                    violation(ViolationKind::StoreFailed, [id], error.to_string())
                })?;
            }
        }
        let at = self.now + this.dice.persist.duration(&plan.persist);
        self.queue.push(at, Happening::Persist { node, life });
        Ok(())
    }

    /// Stores what was sealed, as far as the driver allows, and checks that the log is there.
    pub(crate) fn persist(&mut self, node: usize) -> Checked {
        let this = &mut self.nodes[node];
        let Some(running) = this.running.as_mut() else { return Ok(()) };
        let id = this.id;
        let stored = running.applier.persist(running.durable);
        let is_new = stored
            .map_err(|error| violation(ViolationKind::StoreFailed, [id], error.to_string()))?;
        if !is_new {
            return Ok(());
        }
        let slot = running.applier.persisted();
        let log = &this.disk.synced.log;
        let fact = self.checks.chosen.at(slot);
        if slot.0 == 0 || fact.is_some_and(|fact| fact.is_held_by(slot, log)) {
            return Ok(());
        }
        let text = format!("the state is stored through slot {slot}, the log's disk lacks it");
        Err(violation(ViolationKind::StateAheadOfLog, [id], text))
    }

    /// A node starts, or starts again.
    pub(crate) fn start(&mut self, node: usize) -> Checked {
        if self.nodes[node].is_up() {
            return Ok(());
        }
        let this = &mut self.nodes[node];
        let (seed, stall) = (this.dice.start.word(), self.plan.disk.stall);
        let config = (self.config)(this.id, &self.members);
        let was_damaged = this.disk.damaged.is_some();
        let limits = &self.plan.limits;
        let adjust = |settings: &mut Settings| {
            settings.stall = stall;
            limits.iter().for_each(|limits| limits.adjust(settings));
        };
        match this.start(self.now, seed, adjust, config) {
            // That is what it must do: it is lost, and the others go on without it.
            Err(found)
                if found.kind == ViolationKind::RecoveryRefused && this.disk.damaged.is_some() =>
            {
                this.lost = true;
                let id = this.id;
                self.journal.event(|| format!("{id:?} does not start: {}", found.explanation));
                return Ok(());
            }
            result => result?,
        }
        let (id, life) = (this.id, this.life);
        self.checks.logs.forget(node, &this.disk.synced.hard_state);
        if was_damaged {
            self.checks.reload(id, &this.disk.synced.log)?;
        }
        let at = self.now + this.dice.persist.duration(&self.plan.disk.persist);
        self.queue.push(at, Happening::Persist { node, life });
        self.journal.event(|| format!("{id:?} starts"));
        self.tempt_start(node);
        self.network.node_started(node);
        self.restart_links();
        self.settle(node)
    }

    /// A node dies.
    pub(crate) fn kill(&mut self, victim: &Victim) -> Checked {
        let this = &mut self.nodes[victim.node];
        if victim.muted {
            this.muted = this.life;
        }
        let keep = victim.keep.unwrap_or(usize::MAX);
        self.kill_keeping(victim.node, keep, victim.keep_state.unwrap_or(usize::MAX))
    }

    /// A node dies, and of what was not synced this many batches of its log and of its state are
    /// there after all.
    pub(crate) fn kill_keeping(&mut self, node: usize, keep: usize, keep_state: usize) -> Checked {
        let this = &mut self.nodes[node];
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
        this.life += 1;
        self.checks.logs.forget(node, &this.disk.synced.hard_state);
        self.check_synced(node)?;
        if lost.log > 0 {
            self.count(Fault::LoseLogSuffix);
        }
        if lost.state > 0 {
            self.count(Fault::LoseStateSuffix);
        }
        self.network.node_died(self.now, node);
        for attempt in self.clients.node_died(node) {
            self.load.ended(self.now, attempt, OperationState::Unknown);
            self.checks.seen.lost(self.now, attempt);
        }
        Ok(())
    }
}
