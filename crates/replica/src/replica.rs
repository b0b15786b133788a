//! The driver itself: a switch of events, and the order of a round.

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

/// Slots at the end of the log that are searched for requests when a replica is opened.
const INDEXED_SLOTS: u64 = 100_000;

/// A protocol core with its driver. See [`Driver`] for how to run it.
pub struct ReplicaCore<P: Protocol> {
    host: Host<P>,
    sinks: Sinks<P>,
    settings: ReplicaSettings,
    envelope: Envelope,
    disk: DiskSide,
    /// Incarnation of each peer's store, as of its first frame.
    incarnations: BTreeMap<NodeId, Incarnation>,
    /// The newest message of this round and its frame.
    last_encoded: Option<(P::Message, Bytes)>,
    next_stall_check: Instant,
    /// Latest time that a caller has passed.
    clock: Instant,
    /// The core's last round delivered all of its messages to itself.
    is_quiet: bool,
    counters: Counters,
}

/// Receivers of a core's outputs.
struct Sinks<P: Protocol> {
    timers: Timers<P::Timer>,
    apply: ApplySide,
    router: Router,
    actions: Actions,
    /// The first fatal error; nothing but it leaves the driver from then on.
    fatal: Option<FatalError>,
}

impl<P: Protocol> Sinks<P> {
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
        for (id, answer) in outputs.reads.drain(..) {
            self.router.requests.read_answered(id, answer);
        }
        // This driver never compacts a log: there are no `snapshots`.
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
    /// Recovers a replica from its stores and starts it: what `saved` holds was loaded from the
    /// log store, and the state machine has applied through `applied`.
    ///
    /// # Errors
    /// If the stores do not belong together, or to this protocol.
    pub fn open(
        now: Instant,
        settings: ReplicaSettings,
        config: P::Config,
        saved: &synod_storage::StoredGroup,
        applied: Slot,
    ) -> Result<Self, OpenError> {
        let mut saved = decode_saved::<P>(saved)?;
        // The log has lost entries that this node acknowledged.
        if applied > saved.log.last() {
            return Err(OpenError::LogBehindState { applied, last: saved.log.last() });
        }
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
        // The core's first outputs leave with the first round.
        replica.step(now, Input::Start);
        Ok(replica)
    }

    /// Returns the core.
    #[must_use]
    pub fn core(&self) -> &P {
        self.host.core()
    }

    /// Moves the clock on. One that goes back counts as standing still, so that no deadline that has
    /// passed lies ahead again.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn step(&mut self, now: Instant, input: Input<P>) {
        let outputs = self.host.input(now, input, &mut self.sinks.router);
        self.sinks.dispatch(now, outputs);
    }

    /// Runs a round of the core: its writes join the batch, its messages are encoded.
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
            *newest = seq;
            // Until it is durable it counts against the bound on proposals.
            self.disk.hand_out(now, seq, bytes);
        }
        for (to, message) in round.sends.drain(..) {
            let lane = message.lane();
            let frame = match self.last_encoded.take() {
                // The same message to the next peer: one encoding serves all.
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
            // Frames come from outside: they are dropped and counted, never trusted.
            self.counters.frames_malformed += 1;
            return;
        };
        if !self.belongs(from, &envelope) {
            return;
        }
        self.counters.frames += 1;
        match payload {
            Payload::Protocol(message) if self.is_flooded(&message) => {
                self.counters.frames_dropped += 1;
            }
            Payload::Protocol(message) => self.step(now, Input::Message { from, message }),
            Payload::Forward(requests) => self.sinks.router.on_forward(from, &requests),
            Payload::Taken { requests } => self.sinks.router.requests.acknowledged(now, &requests),
            Payload::Refused { requests, .. } => {
                self.sinks.router.requests.refused_elsewhere(&requests);
            }
        }
    }

    /// Returns whether a frame with this envelope is for this replica, and from the peer that it names.
    fn belongs(&mut self, from: NodeId, envelope: &Envelope) -> bool {
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
        // A store that was wiped has lost its promises, and must not make new ones in the old store's
        // name: this process has received from the old one.
        if *self.incarnations.entry(from).or_insert(envelope.incarnation) != envelope.incarnation {
            self.counters.frames_wrong_incarnation += 1;
            return false;
        }
        true
    }

    /// Returns whether the disk is so far behind that this message is dropped. Control messages
    /// cost little, and elections need them.
    fn is_flooded(&self, message: &P::Message) -> bool {
        self.disk.outstanding_bytes() >= self.settings.flood_bytes
            && matches!(message.lane(), Lane::Log | Lane::Bulk)
    }

    fn on_written(&mut self, now: Instant, seq: Seq) {
        // Releases the messages that claim what this batch holds, with the next round.
        self.host.written(seq);
        self.disk.complete(now, seq);
    }

    fn on_applied(&mut self, now: Instant, applied: Applied) {
        self.sinks.apply.complete(now, applied.through);
        self.sinks.router.on_applied(now, applied);
    }

    fn on_wake(&mut self, now: Instant) {
        if self.sinks.apply.is_behind() && self.sinks.timers.next().is_some_and(|due| due <= now) {
            // Before the timers: a node that lags must not campaign.
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

    fn check_stall(&mut self, now: Instant) {
        let waiting = self.waiting_since();
        if waiting.is_some_and(|since| now - since >= self.settings.stall) {
            self.counters.stalls += 1;
            self.next_stall_check = now + self.settings.stall;
            self.step(now, Input::Stalled);
        } else {
            // The side completed something since this check was scheduled.
            self.next_stall_check = waiting.unwrap_or(now) + self.settings.stall;
        }
    }

    /// Returns the time since when the disk or the apply side has completed nothing while work waits for it.
    fn waiting_since(&self) -> Option<Instant> {
        self.disk.waiting_since().into_iter().chain(self.sinks.apply.waiting_since()).min()
    }

    /// Offers queued requests to the core while it and the disk have room, if this node leads, and
    /// forwards them otherwise. Returns whether the core took any.
    fn propose_queued(&mut self, now: Instant) -> bool {
        if !self.sinks.router.leads() {
            self.counters.forwarded += self.sinks.router.forward_queued(now);
            return false;
        }
        let limit = self.settings.unwritten_bytes;
        let mut room = limit.saturating_sub(self.disk.outstanding_bytes());
        let mut proposed = false;
        while let Some((ticket, command)) = self.sinks.router.offer_next(now, room > 0) {
            // The core writes it with its next round; until then it counts here.
            room = room.saturating_sub(command.len());
            self.step(now, Input::Propose { ticket, command });
            if !self.sinks.router.end_offer() {
                break;
            }
            proposed = true;
        }
        proposed
    }

    /// Asks the core for a slot from which the reads may be served that have come in, or have no answer.
    /// Returns whether it was asked.
    fn read(&mut self, now: Instant) -> bool {
        let Some(id) = self.sinks.router.requests.next_read(now) else { return false };
        self.step(now, Input::Read(id));
        true
    }

    /// Follows the core's leader. Returns whether it has changed.
    fn follow_leader(&mut self) -> bool {
        let (status, applied) = (self.host.core().status(), self.sinks.apply.applied());
        let retried = self.sinks.router.follow_leader(&status, applied);
        self.counters.retried += retried.unwrap_or(0);
        retried.is_some()
    }

    /// Runs rounds of the core until it takes no more requests.
    fn run_rounds(&mut self, now: Instant) {
        loop {
            self.round(now);
            if self.follow_leader() {
                // A new leader first writes and sends what its election requires.
                continue;
            }
            let has_read = self.read(now);
            self.sinks.router.requests.gather_reads(now);
            self.counters.retried += self.sinks.router.requeue_removed();
            if !self.propose_queued(now) && !has_read {
                break;
            }
        }
        let (max_bytes, max_slots) = (self.settings.unapplied_bytes, self.settings.unapplied_slots);
        self.sinks.apply.hand_out(now, max_bytes, max_slots, &mut self.sinks.actions.apply);
    }

    fn wake_at(&self) -> Option<Instant> {
        // An idle side cannot stall, so an idle replica needs no wake for it.
        let stall = self.waiting_since().map(|_| self.next_stall_check);
        // A core that still has messages to itself is due at once.
        let again = (!self.is_quiet).then_some(self.clock);
        let requests = self.sinks.router.requests.next_wake();
        [again, self.sinks.timers.next(), requests, stall].into_iter().flatten().min()
    }
}

/// Enters the end of the log, as far as it is not applied, into the router's index of requests.
fn index_tail<P: Protocol>(saved: &Saved<P>, router: &mut Router) {
    // Bounded, so that a long log does not delay the start: the index is a hint.
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
            // Nothing of this round may reach the disk or a peer.
            return Actions { fatal: self.sinks.fatal, ..Actions::default() };
        }
        for (to, payload) in self.sinks.router.drain_outgoing() {
            let lane = payload.lane();
            // No kind of payload here holds a protocol message.
            let frame = encode_frame::<P::Message>(&self.envelope, &payload.typed());
            self.sinks.actions.frames.push((to, lane, frame));
        }
        // A frame is kept for one round only: it may be large.
        self.last_encoded = None;
        let (answers, wake) = (self.sinks.router.requests.take_answers(), self.wake_at());
        Actions { answers, wake, ..std::mem::take(&mut self.sinks.actions) }
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
