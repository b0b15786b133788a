//! The driver: dispatch of events, and the steps of a round.

use crate::backlog::{ApplySide, DiskSide, write_bytes};
use crate::disk::{decode_saved, encode_write};
use crate::driver::{Actions, ChosenRun, Counters, Driver, Event};
use crate::frame::{Envelope, Payload, decode_frame, encode_frame};
use crate::router::Router;
use crate::timers::Timers;
use crate::{Applied, OpenError, ReplicaSettings};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_consensus::{FatalError, Host, Input, Message, Outputs, Protocol, Saved, Status};
use synod_types::{Incarnation, Instant, Lane, NodeId, Seq, Slot};

/// Limit of the slots at the end of the log that are indexed when a replica is opened.
const INDEXED_SLOTS: u64 = 100_000;

/// Protocol core with its driver. [`Driver`] is the interface to run it.
pub struct ReplicaCore<P: Protocol> {
    host: Host<P>,
    sinks: Sinks<P>,
    settings: ReplicaSettings,
    envelope: Envelope,
    disk: DiskSide,
    /// Incarnation of each peer's store, from its first frame.
    incarnations: BTreeMap<NodeId, Incarnation>,
    /// Newest message of this round, and its frame.
    last_encoded: Option<(P::Message, Bytes)>,
    next_stall_check: Instant,
    /// Latest time that the runner has passed.
    clock: Instant,
    /// True if the core's last round delivered all of its messages to itself.
    is_quiet: bool,
    counters: Counters,
}

/// Receivers of a core's outputs.
struct Sinks<P: Protocol> {
    timers: Timers<P::Timer>,
    apply: ApplySide,
    router: Router,
    actions: Actions,
    /// First fatal error. The driver hands out nothing else from then on.
    fatal: Option<FatalError>,
}

impl<P: Protocol> Sinks<P> {
    /// Passes each output of the core to its receiver.
    fn dispatch(&mut self, now: Instant, outputs: &mut Outputs<P>) {
        if outputs.is_empty() {
            return;
        }
        for change in outputs.timers.drain(..) {
            self.timers.change(now, change);
        }
        for (ticket, slot) in outputs.placed.drain(..) {
            self.router.placed(ticket, slot);
        }
        for (ticket, why) in outputs.refused.drain(..) {
            self.router.refused(ticket, &why);
        }
        for (id, index) in outputs.reads.drain(..) {
            self.router.requests.read_index(id, index);
        }
        // `snapshots` is always empty, because this driver never compacts a log.
        if let Some(members) = outputs.peers.take() {
            self.actions.peers = Some(members);
        }
        self.actions.notes.append(&mut outputs.notes);
        for run in outputs.chosen.drain(..) {
            self.apply.push(ChosenRun { first: run.first, values: run.values });
        }
        self.fatal = self.fatal.or(outputs.fatal);
    }
}

impl<P: Protocol> ReplicaCore<P> {
    /// Recovers a replica from its stores and starts it. `saved` was loaded from the log store, and the
    /// state machine has applied through `applied`.
    ///
    /// # Errors
    /// If the stores do not match each other or the protocol.
    pub fn open(
        now: Instant,
        settings: ReplicaSettings,
        config: P::Config,
        saved: &synod_storage::StoredGroup,
        applied: Slot,
    ) -> Result<Self, OpenError> {
        let mut saved = decode_saved::<P>(saved)?;
        // Applied entries were durable here, so the log has lost entries that this node acknowledged.
        if applied > saved.log.last() {
            return Err(OpenError::LogBehindState { applied, last: saved.log.last() });
        }
        // Slots between the applied one and the base are in neither store.
        let base = saved.base.through;
        if applied < base {
            return Err(OpenError::StateBehindLog { applied, base });
        }
        saved.applied = applied;
        let mut router = Router::new(&settings, applied);
        index_tail(&saved, &mut router);
        let envelope = Envelope {
            cluster: settings.cluster,
            group: settings.group,
            epoch: settings.epoch,
            from: settings.node,
            incarnation: settings.boot_id.incarnation,
        };
        let host = Host::recover(settings.node, config, saved)?;
        let sinks = Sinks {
            timers: Timers::new(settings.seed),
            apply: ApplySide::new(applied),
            router,
            actions: Actions::default(),
            fatal: None,
        };
        let mut replica = Self {
            host: host.with_max_held(settings.held_messages),
            sinks,
            disk: DiskSide::default(),
            incarnations: BTreeMap::new(),
            last_encoded: None,
            next_stall_check: now + settings.stall,
            clock: now,
            is_quiet: true,
            counters: Counters::default(),
            settings,
            envelope,
        };
        // The first round hands out the outputs of this input.
        replica.step(now, Input::Start);
        Ok(replica)
    }

    /// Returns the core.
    #[must_use]
    pub fn core(&self) -> &P {
        self.host.core()
    }

    /// Advances the clock and returns it. If `now` goes back, the clock stands still, so that a deadline
    /// that has passed stays passed.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    /// Passes an input to the core.
    fn step(&mut self, now: Instant, input: Input<P>) {
        let outputs = self.host.input(now, input, &mut self.sinks.router);
        self.sinks.dispatch(now, outputs);
    }

    /// Runs a round of the core: appends its writes to the batch, and encodes its messages.
    fn round(&mut self, now: Instant) {
        let round = self.host.round(now, &mut self.sinks.router);
        let actions = &mut self.sinks.actions;
        if let Some(seq) = round.seq {
            let (newest, batch) = actions.batch.get_or_insert_default();
            let mut bytes = 0;
            for write in round.writes.drain(..) {
                bytes += write_bytes(&write);
                batch.ops.push((self.settings.group, encode_write(&write)));
            }
            // The rounds of one `take` share a batch, which is reported under its last number.
            *newest = seq;
            // It counts against the bound on proposals until it is durable.
            self.disk.hand_out(now, seq, bytes);
        }
        for (to, message) in round.sends.drain(..) {
            let lane = message.lane();
            let frame = match self.last_encoded.take() {
                // A broadcast sends equal messages in succession: they are encoded once.
                Some((last, frame)) if last == message => frame,
                _ => encode_frame(&self.envelope, &Payload::Protocol(message.clone())),
            };
            self.last_encoded = Some((message, frame.clone()));
            actions.frames.push((to, lane, frame));
        }
        actions.durable = round.durable.or(actions.durable);
        self.is_quiet = round.is_quiet;
        self.sinks.dispatch(now, round.outputs);
    }

    fn on_frame(&mut self, now: Instant, from: NodeId, frame: &[u8]) {
        let Ok((envelope, payload)) = decode_frame::<P::Message>(frame) else {
            // Peers are not trusted: a malformed frame is counted, not an error of this node.
            self.counters.frames_malformed += 1;
            return;
        };
        if !self.is_accepted(from, &envelope) {
            return;
        }
        self.counters.frames += 1;
        match payload {
            Payload::Protocol(message) if self.is_flooded(&message) => {
                self.counters.frames_dropped += 1;
            }
            Payload::Protocol(message) => self.step(now, Input::Message { from, message }),
            Payload::Forward(requests) => self.sinks.router.on_forward(from, &requests),
            Payload::Acknowledged { requests } => {
                self.sinks.router.requests.acknowledged(now, &requests)
            }
            Payload::Refused { requests, .. } => {
                self.sinks.router.requests.refused_elsewhere(&requests);
            }
        }
    }

    /// Returns whether a frame with this envelope is for this replica, and from the peer that it names.
    /// Counts it otherwise.
    fn is_accepted(&mut self, from: NodeId, envelope: &Envelope) -> bool {
        let ours = &self.envelope;
        if (envelope.cluster, envelope.group) != (ours.cluster, ours.group)
            || envelope.epoch != ours.epoch
        {
            self.counters.frames_foreign += 1;
            return false;
        }
        if envelope.from != from || from == ours.from {
            self.counters.frames_forged += 1;
            return false;
        }
        // A wiped store has lost its votes and promises. It must not vote again under its old id: this
        // process has received frames of the old store, and may rely on them.
        if *self.incarnations.entry(from).or_insert(envelope.incarnation) != envelope.incarnation {
            self.counters.frames_wrong_incarnation += 1;
            return false;
        }
        true
    }

    /// Returns whether the disk is so far behind that this message is dropped. Control messages are never
    /// dropped: they are small, and elections need them.
    fn is_flooded(&self, message: &P::Message) -> bool {
        self.disk.outstanding_bytes() >= self.settings.flood_bytes
            && matches!(message.lane(), Lane::Log | Lane::Bulk)
    }

    fn on_written(&mut self, now: Instant, seq: Seq) {
        // The next round releases the messages that claim the writes of this batch.
        self.host.written(seq);
        self.disk.complete(now, seq);
    }

    fn on_applied(&mut self, now: Instant, applied: Applied) {
        self.sinks.apply.complete(now, applied.through);
        self.sinks.router.on_applied(now, applied);
    }

    fn on_wake(&mut self, now: Instant) {
        if self.sinks.apply.is_behind() && self.sinks.timers.next().is_some_and(|due| due <= now) {
            // Precedes the timers, because a node that lags must not campaign.
            self.step(now, Input::Lagging);
        }
        while let Some(timer) = self.sinks.timers.pop_due(now) {
            self.step(now, Input::Timeout(timer));
        }
        self.counters.retried += self.sinks.router.on_wake(now, self.sinks.apply.applied());
        if self.next_stall_check <= now {
            self.check_stall(now);
        }
    }

    /// Reports a stall to the core if the disk or the apply side has completed nothing for too long.
    fn check_stall(&mut self, now: Instant) {
        let waiting = self.waiting_since();
        if waiting.is_some_and(|since| now - since >= self.settings.stall) {
            self.counters.stalls += 1;
            self.next_stall_check = now + self.settings.stall;
            self.step(now, Input::Stalled);
        } else {
            // Work was completed since this check was scheduled.
            self.next_stall_check = waiting.unwrap_or(now) + self.settings.stall;
        }
    }

    /// Returns the time since when the disk or the apply side has completed nothing while work waits.
    fn waiting_since(&self) -> Option<Instant> {
        self.disk.waiting_since().into_iter().chain(self.sinks.apply.waiting_since()).min()
    }

    /// Offers queued requests to the core while it and the disk have room, if this node leads; otherwise
    /// forwards them. Returns whether the core accepted any.
    fn propose_queued(&mut self, now: Instant) -> bool {
        if !self.sinks.router.leads() {
            self.counters.forwarded += self.sinks.router.forward_queued(now);
            return false;
        }
        let limit = self.settings.unwritten_bytes;
        let mut room = limit.saturating_sub(self.disk.outstanding_bytes());
        let mut proposed = false;
        while let Some((ticket, command)) = self.sinks.router.offer_next(now, room > 0) {
            // The core writes it in its next round, so the disk side does not count it yet.
            room = room.saturating_sub(command.len());
            self.step(now, Input::Propose { ticket, command });
            if !self.sinks.router.end_offer() {
                break; // The core is busy.
            }
            proposed = true;
        }
        proposed
    }

    /// Requests a read index from the core, if one is due. Returns whether it did.
    fn request_read_index(&mut self, now: Instant) -> bool {
        let Some(id) = self.sinks.router.requests.next_read(now) else { return false };
        self.step(now, Input::Read(id));
        true
    }

    /// Updates the router to the core's leader. Returns whether it has changed.
    fn follow_leader(&mut self) -> bool {
        let (status, applied) = (self.host.core().status(), self.sinks.apply.applied());
        let retried = self.sinks.router.follow_leader(&status, applied);
        self.counters.retried += retried.unwrap_or(0);
        retried.is_some()
    }

    /// Runs rounds of the core until it accepts no more requests.
    fn run_rounds(&mut self, now: Instant) {
        loop {
            self.round(now);
            if self.follow_leader() {
                // The core may emit more on a leader change, which precedes new proposals.
                continue;
            }
            let has_read = self.request_read_index(now);
            self.sinks.router.requests.queue_barrier(now);
            self.counters.retried += self.sinks.router.requeue_removed();
            if !self.propose_queued(now) && !has_read {
                break;
            }
        }
        let (max_bytes, max_slots) = (self.settings.unapplied_bytes, self.settings.unapplied_slots);
        self.sinks.apply.hand_out(now, max_bytes, max_slots, &mut self.sinks.actions.apply);
    }

    /// Returns the time at which the driver must be woken, if no event arrives before.
    fn wake_at(&self) -> Option<Instant> {
        // Without pending work there is no stall to check.
        let stall = self.waiting_since().map(|_| self.next_stall_check);
        // If the core has undelivered messages to itself, the next round is due at once.
        let again = (!self.is_quiet).then_some(self.clock);
        let requests = self.sinks.router.requests.next_wake();
        [again, self.sinks.timers.next(), requests, stall].into_iter().flatten().min()
    }
}

/// Adds the unapplied end of the log to the router's index of requests.
fn index_tail<P: Protocol>(saved: &Saved<P>, router: &mut Router) {
    // Bounded, so that a long log does not delay the start. The index is a hint, so gaps are harmless.
    let tail = Slot(saved.log.last().0.saturating_sub(INDEXED_SLOTS));
    for run in saved.log.runs_from(tail.max(saved.applied).next()) {
        router.index(run.first, &run.values);
    }
}

impl<P: Protocol> Driver for ReplicaCore<P> {
    fn handle(&mut self, now: Instant, event: Event) {
        let now = self.advance(now);
        if self.sinks.fatal.is_some() {
            return;
        }
        match event {
            Event::Frame { from, frame } => self.on_frame(now, from, &frame),
            Event::Wake => self.on_wake(now),
            Event::Written(seq) => self.on_written(now, seq),
            Event::Applied(applied) => self.on_applied(now, applied),
            Event::Request { token, command, deadline } => {
                self.counters.requests += 1;
                self.sinks.router.requests.submit(now, token, command, deadline);
            }
            Event::Read { token, deadline } => {
                self.sinks.router.requests.submit_read(token, deadline);
            }
        }
    }

    fn take(&mut self, now: Instant) -> Actions {
        let now = self.advance(now);
        if self.sinks.fatal.is_none() {
            self.run_rounds(now);
        }
        if self.sinks.fatal.is_some() {
            // No action of this round may reach the disk or a peer.
            return Actions { fatal: self.sinks.fatal, ..Actions::default() };
        }
        for (to, payload) in self.sinks.router.drain_outgoing() {
            let lane = payload.lane();
            // None of these payloads has a protocol message, so the type parameter does not matter.
            let frame = encode_frame::<P::Message>(&self.envelope, &payload.typed());
            self.sinks.actions.frames.push((to, lane, frame));
        }
        // Dropped at the end of the round, because the frame may be large.
        self.last_encoded = None;
        let (responses, wake) = (self.sinks.router.requests.drain_responses(), self.wake_at());
        Actions { responses, wake, ..std::mem::take(&mut self.sinks.actions) }
    }

    fn status(&self) -> Status {
        self.host.core().status()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn outstanding(&self) -> usize {
        self.sinks.router.requests.outstanding()
    }
}
