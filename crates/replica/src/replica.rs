//! The driver itself.

use crate::disk::{DecodeError, decode_saved, encode_write};
use crate::driver::{Actions, Counters, Driver, Event, Run};
use crate::fence::Held;
use crate::frame::{Envelope, Payload, decode_frame, encode_frame};
use crate::requests::Requests;
use crate::timers::Timers;
use crate::{Applied, Session};
use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use synod_consensus::{Gate, Input, Message, Outbox, Protocol, RecoveryError, Status};
use synod_storage::{Batch, Life};
use synod_types::{
    Ballot, ClusterId, Epoch, GroupId, Incarnation, Instant, Lane, NodeId, Seq, Slot, Values,
};

/// What a driver needs to know beside its protocol's own settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The group that this replica belongs to.
    pub group: GroupId,
    /// The group's configuration.
    pub epoch: Epoch,
    /// Which life of the log store this is.
    pub life: Life,
    /// Where the dice for the timers start; different on each node and at each start.
    pub seed: u64,
    /// A request that got no answer is sent again after this long, then after twice as long, and
    /// so on. 200 ms by default.
    pub retry: Duration,
    /// When the disk or the apply side has not answered for this long, a leader steps down. 2 s by
    /// default.
    pub stall: Duration,
    /// More requests than this under way are refused as busy. 100,000 by default.
    pub max_outstanding: usize,
    /// Requests for another node travel in frames of about this many bytes. 256 KiB by default.
    pub forward_bytes: usize,
}

impl Settings {
    /// The defaults for a node of a cluster.
    #[must_use]
    pub fn new(cluster: ClusterId, node: NodeId, life: Life, seed: u64) -> Self {
        Self {
            node,
            cluster,
            group: GroupId(0),
            epoch: Epoch(0),
            life,
            seed,
            retry: Duration::from_millis(200),
            stall: Duration::from_secs(2),
            max_outstanding: 100_000,
            forward_bytes: 256 << 10,
        }
    }

    /// The session under which this process takes requests.
    #[must_use]
    pub fn session(&self) -> Session {
        let Life { incarnation, boot } = self.life;
        Session { node: self.node, incarnation, boot }
    }
}

/// Why a replica cannot start on what its stores hold.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log store holds something else.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The protocol refuses.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The state is newer than the log: the log was rolled back, or belongs elsewhere.
    #[error(
        "the state is applied through slot {applied}, but the log ends at slot {last}: the log \
         was rolled back or replaced; do not start this node on it"
    )]
    LogBehindState {
        /// What the state store says.
        applied: Slot,
        /// What the log store holds.
        last: Slot,
    },
    /// The log begins behind the state: what lies between is in neither.
    #[error(
        "the state is applied through slot {applied}, but the log was compacted through slot \
         {base}: the state was rolled back or replaced; do not start this node on it"
    )]
    StateBehindLog {
        /// What the state store says.
        applied: Slot,
        /// Where the log store's log begins.
        base: Slot,
    },
}

/// A protocol core with its driver. See [`Driver`] for how to run it.
pub struct Replica<P: Protocol> {
    core: P,
    outbox: Outbox<P>,
    settings: Settings,
    envelope: Envelope,
    rng: ChaCha8Rng,
    timers: Timers<P::Timer>,
    disk: Disk<P>,
    apply: ApplySide,
    requests: Requests,
    /// Messages of this node to itself whose gate is open.
    own: VecDeque<P::Message>,
    /// The leader and ballot that the requests under way were sent by.
    leader: (Option<NodeId>, Ballot),
    lives: BTreeMap<NodeId, Incarnation>,
    last_encoded: Option<(P::Message, Bytes)>,
    next_stall_check: Instant,
    /// The latest time that it was told.
    clock: Instant,
    actions: Actions,
    counters: Counters,
}

/// What is between the core and its disk.
struct Disk<P: Protocol> {
    batch: Batch,
    /// Durable messages of this round: their write has no number yet.
    fresh: Vec<(NodeId, P::Message)>,
    held: Held<(NodeId, P::Message)>,
    newest: Seq,
    written: Seq,
    unanswered: VecDeque<(Seq, Instant)>,
}

/// What is between the core and the state machine.
struct ApplySide {
    emitted: Slot,
    applied: Slot,
    unanswered: VecDeque<(Slot, Instant)>,
    /// Chosen through a slot, but the log's own copy is durable only with this write.
    undurable: VecDeque<(Seq, Slot)>,
}

impl<P: Protocol> Replica<P> {
    /// Recovers a replica from its stores and starts it: what `saved` holds was loaded from the
    /// log store, and the state machine has applied through `applied`.
    ///
    /// # Errors
    /// If the stores do not belong together, or to this protocol.
    pub fn open(
        now: Instant,
        settings: Settings,
        config: P::Config,
        saved: &synod_storage::Saved,
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
        let envelope = Envelope {
            cluster: settings.cluster,
            group: settings.group,
            epoch: settings.epoch,
            from: settings.node,
            incarnation: settings.life.incarnation,
        };
        let mut replica = Self {
            core: P::recover(config, saved)?,
            outbox: Outbox::default(),
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            timers: Timers::new(),
            disk: Disk::new(),
            apply: ApplySide {
                emitted: applied,
                applied,
                unanswered: VecDeque::new(),
                undurable: VecDeque::new(),
            },
            requests: Requests::new(settings.clone()),
            own: VecDeque::new(),
            leader: (None, Ballot::ZERO),
            lives: BTreeMap::new(),
            last_encoded: None,
            next_stall_check: now + settings.stall,
            clock: now,
            actions: Actions::default(),
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
        &self.core
    }

    /// A clock that goes back is taken to stand still, so that no deadline that has passed lies
    /// ahead again.
    fn advance(&mut self, now: Instant) -> Instant {
        self.clock = self.clock.max(now);
        self.clock
    }

    fn step(&mut self, now: Instant, input: Input<P>) {
        self.core.step(now, input, &mut self.outbox.effects());
        self.absorb(now);
    }

    /// Sorts what the core asked for into what can be done at once and what must wait.
    fn absorb(&mut self, now: Instant) {
        for write in self.outbox.writes.drain(..) {
            self.disk.batch.ops.push((self.settings.group, encode_write(&write)));
        }
        for change in self.outbox.timers.drain(..) {
            self.timers.change(now, change, &mut self.rng);
        }
        for (ticket, slot) in self.outbox.placed.drain(..) {
            self.requests.placed(ticket, slot);
        }
        for (ticket, why) in self.outbox.refused.drain(..) {
            self.requests.refused(ticket, why, &mut self.actions.answers);
        }
        // No read is ever asked of the core and no log is ever compacted by this driver.
        self.outbox.reads.clear();
        self.outbox.snapshots.clear();
        if let Some(members) = self.outbox.peers.take() {
            self.actions.peers = Some(members);
        }
        self.actions.notes.append(&mut self.outbox.notes);
        let mut chosen = std::mem::take(&mut self.outbox.chosen);
        for run in chosen.drain(..) {
            assert_eq!(run.first, self.apply.emitted.next(), "chosen slots come in order");
            self.apply.emitted = run.last();
            self.apply.unanswered.push_back((run.last(), now));
            self.actions.apply.push(Run { first: run.first, values: run.values });
        }
        self.outbox.chosen = chosen;
        let mut sends = std::mem::take(&mut self.outbox.sends);
        for (to, message) in sends.drain(..) {
            match message.gate() {
                Gate::Durable => self.disk.fresh.push((to, message)),
                Gate::Immediate => self.release(to, message),
            }
        }
        self.outbox.sends = sends;
    }

    /// The message's gate is open.
    fn release(&mut self, to: NodeId, message: P::Message) {
        if to == self.settings.node {
            self.own.push_back(message);
            return;
        }
        let lane = message.lane();
        let frame = match self.last_encoded.take() {
            // The same message to the next peer: one encoding serves all.
            Some((last, frame)) if last == message => frame,
            _ => encode_frame(&self.envelope, &Payload::Protocol(message.clone())),
        };
        self.last_encoded = Some((message, frame.clone()));
        self.actions.frames.push((to, lane, frame));
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
            Payload::Protocol(message) => self.step(now, Input::Message { from, message }),
            Payload::Forward(requests) => self.on_forward(now, from, &requests),
            Payload::Refused { requests, .. } => self.requests.refused_elsewhere(&requests),
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
        // A store that was wiped has forgotten its vows: it must not make new ones in the name of
        // the old. As long as this process remembers the old one, it does not listen.
        if *self.lives.entry(from).or_insert(envelope.incarnation) != envelope.incarnation {
            self.counters.frames_other_life += 1;
            return false;
        }
        true
    }

    fn on_forward(&mut self, now: Instant, from: NodeId, requests: &Values) {
        for index in 0..requests.len() {
            let Some(command) = requests.command(index) else { continue };
            let command = Bytes::copy_from_slice(command);
            if let Some(ticket) = self.requests.ticket_for(from, &command) {
                self.step(now, Input::Propose { ticket, command });
            }
        }
    }

    fn on_written(&mut self, seq: Seq) {
        assert!(seq <= self.disk.newest, "{seq:?} was never handed out");
        self.disk.written = self.disk.written.max(seq);
        while self.disk.unanswered.front().is_some_and(|(front, _)| *front <= seq) {
            self.disk.unanswered.pop_front();
        }
        let free: Vec<_> = self.disk.held.release(self.disk.written).collect();
        for (to, message) in free {
            self.release(to, message);
        }
        while let Some((_, slot)) =
            self.apply.undurable.pop_front_if(|(front, _)| *front <= self.disk.written)
        {
            self.actions.durable = Some(slot);
        }
    }

    fn on_applied(&mut self, applied: Applied) {
        self.apply.applied = self.apply.applied.max(applied.through);
        self.requests.applied(applied.through);
        while self.apply.unanswered.front().is_some_and(|(slot, _)| *slot <= applied.through) {
            self.apply.unanswered.pop_front();
        }
        for (seq, slot, reply) in applied.done {
            self.requests.done(seq, slot, reply, &mut self.actions.answers);
        }
    }

    fn on_wake(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            self.step(now, Input::Timeout(timer));
        }
        self.requests.expire(now, self.leader.0, &mut self.actions.answers);
        let again = self.requests.due_again(now, self.apply.applied);
        self.counters.retried += again.len() as u64;
        for seq in again {
            self.submit(now, seq);
        }
        if self.next_stall_check <= now {
            self.check_stall(now);
        }
    }

    fn check_stall(&mut self, now: Instant) {
        let oldest = self.oldest_unanswered();
        if oldest.is_some_and(|since| now - since >= self.settings.stall) {
            self.counters.stalls += 1;
            self.next_stall_check = now + self.settings.stall;
            self.step(now, Input::Stalled);
        } else {
            self.next_stall_check = oldest.unwrap_or(now) + self.settings.stall;
        }
    }

    fn oldest_unanswered(&self) -> Option<Instant> {
        let write = self.disk.unanswered.front().map(|(_, since)| *since);
        let apply = self.apply.unanswered.front().map(|(_, since)| *since);
        write.into_iter().chain(apply).min()
    }

    /// Sends a request of this node's own to whoever leads.
    fn submit(&mut self, now: Instant, seq: crate::RequestSeq) {
        match self.leader.0 {
            Some(leader) if leader == self.settings.node => {
                if let Some((ticket, command)) = self.requests.offer(now, seq) {
                    self.step(now, Input::Propose { ticket, command });
                }
            }
            Some(leader) => {
                self.requests.forward(now, seq, leader);
                self.counters.forwarded += 1;
            }
            None => {}
        }
    }

    /// When the leader changes, what is under way may be lost: it is sent again, and the session
    /// table sorts out what was not. Returns whether there was a change.
    fn follow_leader(&mut self, now: Instant) -> bool {
        let Status { leader, ballot, .. } = self.core.status();
        if (leader, ballot) == self.leader {
            return false;
        }
        self.leader = (leader, ballot);
        self.requests.forget_hosted();
        if leader.is_none() {
            return false;
        }
        for seq in self.requests.all() {
            self.submit(now, seq);
        }
        true
    }

    fn settle(&mut self, now: Instant) {
        loop {
            self.core.flush(now, &mut self.outbox.effects());
            self.absorb(now);
            if !self.own.is_empty() {
                while let Some(message) = self.own.pop_front() {
                    self.step(now, Input::Message { from: self.settings.node, message });
                }
                continue;
            }
            if self.disk.is_idle() && !self.disk.fresh.is_empty() {
                for (to, message) in std::mem::take(&mut self.disk.fresh) {
                    self.release(to, message);
                }
                continue;
            }
            if self.follow_leader(now) {
                continue;
            }
            if let Some(barrier) = self.requests.gather_reads(now) {
                self.submit(now, barrier);
                continue;
            }
            return;
        }
    }

    /// Gives this round's writes their number, and everything that waits for them.
    fn seal_round(&mut self, now: Instant) {
        if !self.disk.batch.is_empty() {
            self.disk.newest = self.disk.newest.next();
            self.disk.unanswered.push_back((self.disk.newest, now));
            let (number, lent) = self.actions.batch.get_or_insert_default();
            lent.append(&mut self.disk.batch);
            *number = self.disk.newest;
        }
        for message in self.disk.fresh.drain(..) {
            self.disk.held.push(self.disk.newest, message);
        }
        let Some(run) = self.actions.apply.last() else { return };
        if self.disk.written == self.disk.newest {
            self.actions.durable = Some(run.last());
        } else {
            self.apply.undurable.push_back((self.disk.newest, run.last()));
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let stall = self.oldest_unanswered().map(|_| self.next_stall_check);
        [self.timers.next(), self.requests.next_wake(), stall].into_iter().flatten().min()
    }
}

impl<P: Protocol> Disk<P> {
    fn new() -> Self {
        Self {
            batch: Batch::default(),
            fresh: Vec::new(),
            held: Held::default(),
            newest: Seq(0),
            written: Seq(0),
            unanswered: VecDeque::new(),
        }
    }

    /// Whether everything that the core ever wrote is durable.
    fn is_idle(&self) -> bool {
        self.batch.is_empty() && self.written == self.newest
    }
}

impl<P: Protocol> Driver for Replica<P> {
    fn handle(&mut self, now: Instant, event: Event) {
        let now = self.advance(now);
        match event {
            Event::Frame { from, frame } => self.on_frame(now, from, &frame),
            Event::Wake => self.on_wake(now),
            Event::Written(seq) => self.on_written(seq),
            Event::Applied(applied) => self.on_applied(applied),
            Event::Request { token, command, deadline } => {
                self.counters.requests += 1;
                let answers = &mut self.actions.answers;
                if let Some(seq) = self.requests.take(now, token, command, deadline, answers) {
                    self.submit(now, seq);
                }
            }
            Event::Read { token, deadline } => {
                self.requests.read(token, deadline, &mut self.actions.answers);
            }
        }
    }

    fn take(&mut self, now: Instant) -> &mut Actions {
        let now = self.advance(now);
        self.settle(now);
        self.seal_round(now);
        for (to, payload) in self.requests.outgoing() {
            // Neither kind of payload holds a protocol message.
            let frame = encode_frame::<P::Message>(&self.envelope, &payload.typed());
            self.actions.frames.push((to, Lane::Forward, frame));
        }
        self.last_encoded = None;
        self.actions.wake = self.wake_at();
        &mut self.actions
    }

    fn status(&self) -> Status {
        self.core.status()
    }

    fn counters(&self) -> &Counters {
        &self.counters
    }

    fn outstanding(&self) -> usize {
        self.requests.outstanding()
    }
}
