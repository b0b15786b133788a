//! The driver itself.

use crate::backlog::{ApplySide, DiskSide, write_bytes};
use crate::disk::{decode_saved, encode_write};
use crate::driver::{Actions, ChosenRun, Counters, Driver, Event};
use crate::frame::{Envelope, Payload, decode_frame, encode_frame};
use crate::requests::Requests;
use crate::timers::Timers;
use crate::{Applied, OpenError, ReplicaSettings};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::BTreeMap;
use synod_consensus::{
    FatalError, Host, Input, Message, Observer, Outputs, Protocol, Refusal, Saved, Status, Write,
};
use synod_types::{Ballot, Incarnation, Instant, Lane, NodeId, Seq, Slot, Ticket, Values};

/// So many slots at the end of the log are searched for requests when a replica is opened.
const INDEXED_SLOTS: u64 = 100_000;

/// A protocol core with its driver. See [`Driver`] for how to run it.
pub struct ReplicaCore<P: Protocol> {
    host: Host<P>,
    sinks: Sinks<P>,
    settings: ReplicaSettings,
    envelope: Envelope,
    disk: DiskSide,
    /// The leader and ballot that the requests in flight were sent by.
    leader: (Option<NodeId>, Ballot),
    incarnations: BTreeMap<NodeId, Incarnation>,
    last_encoded: Option<(P::Message, Bytes)>,
    next_stall_check: Instant,
    /// The latest time that it was told.
    clock: Instant,
    /// The core's last round delivered all of its messages to itself.
    is_quiet: bool,
    counters: Counters,
}

/// Everything that takes the outputs of a core.
struct Sinks<P: Protocol> {
    rng: ChaCha8Rng,
    timers: Timers<P::Timer>,
    apply: ApplySide,
    requests: Requests,
    /// The request that the core is offered just now; taken away if the core has no room for it.
    offered: Option<Ticket>,
    actions: Actions,
    /// The first fatal error; nothing but it leaves the driver from then on.
    fatal: Option<FatalError>,
}

impl<P: Protocol> Sinks<P> {
    fn take(&mut self, now: Instant, outputs: &mut Outputs<P>) {
        if outputs.is_empty() {
            return;
        }
        for change in outputs.timers.drain(..) {
            self.timers.change(now, change, &mut self.rng);
        }
        for (ticket, slot) in outputs.placed.drain(..) {
            self.requests.placed(ticket, slot);
        }
        for (ticket, why) in outputs.refused.drain(..) {
            if why == Refusal::Busy && self.offered == Some(ticket) {
                self.offered = None;
            } else {
                self.requests.refused(ticket, why, &mut self.actions.answers);
            }
        }
        // No read is ever asked of the core and no log is ever compacted by this driver: there are
        // no `reads` and no `snapshots`.
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

/// The index of requests in the log follows the core's own writes.
impl<P: Protocol> Observer<P> for Requests {
    fn on_write(&mut self, _: &P, write: &Write<P>) {
        match write {
            Write::Put(run) => self.wrote(run.first, &run.values),
            Write::TruncateFrom(from) => self.truncated(*from),
            Write::HardState(_) | Write::Compact(_) => {}
        }
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
        if applied > saved.log.last() {
            return Err(OpenError::LogBehindState { applied, last: saved.log.last() });
        }
        let base = saved.base.through;
        if applied < base {
            return Err(OpenError::StateBehindLog { applied, base });
        }
        saved.applied = applied;
        let mut requests = Requests::new(settings.clone(), applied);
        index_tail(&saved, &mut requests);
        let envelope = Envelope {
            cluster: settings.cluster,
            group: settings.group,
            epoch: settings.epoch,
            from: settings.node,
            incarnation: settings.boot_id.incarnation,
        };
        let host = Host::recover(settings.node, config, saved)?;
        let sinks = Sinks {
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            timers: Timers::new(),
            apply: ApplySide::new(applied),
            requests,
            offered: None,
            actions: Actions::default(),
            fatal: None,
        };
        let mut replica = Self {
            host: host.with_max_held(settings.held_messages),
            sinks,
            disk: DiskSide::default(),
            leader: (None, Ballot::ZERO),
            incarnations: BTreeMap::new(),
            last_encoded: None,
            next_stall_check: now + settings.stall,
            clock: now,
            is_quiet: true,
            counters: Counters::default(),
            settings,
            envelope,
        };
        replica.step(now, Input::Start);
        Ok(replica)
    }

    /// The core, to look at.
    #[must_use]
    pub fn core(&self) -> &P {
        self.host.core()
    }

    /// A clock that goes back is taken to stand still, so that no deadline that has passed lies
    /// ahead again.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn step(&mut self, now: Instant, input: Input<P>) {
        let outputs = self.host.input(now, input, &mut self.sinks.requests);
        self.sinks.take(now, outputs);
    }

    /// A round of the core: its writes join the batch, its messages are encoded.
    fn round(&mut self, now: Instant) {
        let round = self.host.round(now, &mut self.sinks.requests);
        let actions = &mut self.sinks.actions;
        if let Some(seq) = round.seq {
            let (newest, batch) = actions.batch.get_or_insert_default();
            let mut bytes = 0;
            for write in round.writes.drain(..) {
                bytes += write_bytes(&write);
                batch.ops.push((self.settings.group, encode_write(&write)));
            }
            *newest = seq;
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
        self.sinks.take(now, round.outputs);
    }

    fn on_frame(&mut self, now: Instant, from: NodeId, frame: &[u8]) {
        let Ok((envelope, payload)) = decode_frame::<P::Message>(frame) else {
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
            Payload::Forward(requests) => self.on_forward(from, &requests),
            Payload::Taken { requests } => self.sinks.requests.taken_elsewhere(now, &requests),
            Payload::Refused { requests, .. } => self.sinks.requests.refused_elsewhere(&requests),
        }
    }

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
        // A store that was wiped has lost its promises and must not make new ones in the name of the old
        // store. So its frames are dropped as long as this process has received from the old one.
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

    fn on_forward(&mut self, from: NodeId, requests: &Values) {
        let leads = self.leader.0 == Some(self.settings.node);
        for index in 0..requests.len() {
            if let Some(command) = requests.command(index) {
                self.sinks.requests.take_remote_proposal(from, command, leads);
            }
        }
    }

    fn on_written(&mut self, now: Instant, seq: Seq) {
        self.host.written(seq);
        self.disk.complete(now, seq);
    }

    fn on_applied(&mut self, now: Instant, applied: Applied) {
        self.sinks.apply.complete(now, applied.through);
        self.sinks.requests.applied(applied.through);
        for done in applied.done {
            self.sinks.requests.done(now, done, &mut self.sinks.actions.answers);
        }
    }

    fn on_wake(&mut self, now: Instant) {
        if self.sinks.apply.is_behind() && self.sinks.timers.next().is_some_and(|due| due <= now) {
            // Before the timers: a node that lags must not campaign.
            self.step(now, Input::Lagging);
        }
        while let Some(timer) = self.sinks.timers.pop_due(now) {
            self.step(now, Input::Timeout(timer));
        }
        self.sinks.requests.expire(now, self.leader.0, &mut self.sinks.actions.answers);
        self.counters.retried += self.sinks.requests.requeue_due(now, self.sinks.apply.applied());
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
            self.next_stall_check = waiting.unwrap_or(now) + self.settings.stall;
        }
    }

    /// Time since when the disk or the apply side has completed nothing while work waits for it.
    fn waiting_since(&self) -> Option<Instant> {
        self.disk.waiting_since().into_iter().chain(self.sinks.apply.waiting_since()).min()
    }

    /// Sends queued requests on: to this node's core while it and the disk have room, or to the leader
    /// within the window of forwards. Returns whether the core took any.
    fn send_queued(&mut self, now: Instant) -> bool {
        self.counters.retried += self.sinks.requests.requeue_lost();
        match self.leader.0 {
            Some(leader) if leader == self.settings.node => self.propose_queued(now),
            Some(leader) => {
                self.sinks.requests.dismiss_remote_proposals(Some(leader));
                self.counters.forwarded += self.sinks.requests.forward_queued(now, leader);
                false
            }
            None => {
                self.sinks.requests.dismiss_remote_proposals(None);
                false
            }
        }
    }

    /// What the core has no room for stays in the queue, in its order: sent back to its client or its
    /// node it would come again after others that came later.
    fn propose_queued(&mut self, now: Instant) -> bool {
        let limit = self.settings.unwritten_bytes;
        let mut room = limit.saturating_sub(self.disk.outstanding_bytes());
        let mut taken = false;
        while let Some((ticket, command)) = self.sinks.requests.next_proposal(now, room > 0) {
            room = room.saturating_sub(command.len());
            self.sinks.offered = Some(ticket);
            self.step(now, Input::Propose { ticket, command: command.clone() });
            if self.sinks.offered.take().is_none() {
                self.sinks.requests.put_back(ticket, command);
                return taken;
            }
            taken = true;
        }
        taken
    }

    /// When the leader changes, what is under way may be lost: it is sent again unless it stands
    /// in this node's log, and the session table sorts out what was not lost. Returns whether
    /// there was a change.
    fn follow_leader(&mut self) -> bool {
        let Status { leader, ballot, .. } = self.host.core().status();
        if (leader, ballot) == self.leader {
            return false;
        }
        self.leader = (leader, ballot);
        let applied = self.sinks.apply.applied();
        self.counters.retried += self.sinks.requests.begin_reign(leader.is_some(), applied);
        true
    }

    fn settle(&mut self, now: Instant) {
        loop {
            self.round(now);
            if self.follow_leader() {
                continue;
            }
            self.sinks.requests.gather_reads(now);
            if !self.send_queued(now) {
                break;
            }
        }
        let (max_bytes, max_slots) = (self.settings.unapplied_bytes, self.settings.unapplied_slots);
        self.sinks.apply.hand_out(now, max_bytes, max_slots, &mut self.sinks.actions.apply);
    }

    fn wake_at(&self) -> Option<Instant> {
        let stall = self.waiting_since().map(|_| self.next_stall_check);
        let again = (!self.is_quiet).then_some(self.clock);
        [again, self.sinks.timers.next(), self.sinks.requests.next_wake(), stall]
            .into_iter()
            .flatten()
            .min()
    }
}

/// Enters the end of the log, as far as it is not applied, into the index of requests.
fn index_tail<P: Protocol>(saved: &Saved<P>, requests: &mut Requests) {
    let tail = Slot(saved.log.last().0.saturating_sub(INDEXED_SLOTS));
    for run in saved.log.runs_from(tail.max(saved.applied).next()) {
        requests.wrote(run.first, &run.values);
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
                let answers = &mut self.sinks.actions.answers;
                self.sinks.requests.take(now, token, command, deadline, answers);
            }
            Event::Read { token, deadline } => {
                self.sinks.requests.read(token, deadline, &mut self.sinks.actions.answers);
            }
        }
    }

    fn take(&mut self, now: Instant) -> Actions {
        let now = self.advance(now);
        if self.sinks.fatal.is_none() {
            self.settle(now);
        }
        if self.sinks.fatal.is_some() {
            // Nothing of what was not carried out yet may reach the disk or a peer.
            return Actions { fatal: self.sinks.fatal, ..Actions::default() };
        }
        for (to, payload) in self.sinks.requests.outgoing() {
            let lane = payload.lane();
            // No kind of payload here holds a protocol message.
            let frame = encode_frame::<P::Message>(&self.envelope, &payload.typed());
            self.sinks.actions.frames.push((to, lane, frame));
        }
        self.last_encoded = None;
        let wake = self.wake_at();
        Actions { wake, ..std::mem::take(&mut self.sinks.actions) }
    }

    fn status(&self) -> Status {
        self.host.core().status()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn outstanding(&self) -> usize {
        self.sinks.requests.outstanding()
    }
}
