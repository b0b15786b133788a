//! The proposer's side of a core: which slot, which ballot, when again.

use crate::command_queue::Command;
use crate::core::{Arity, Fx, PaxosLog, SlotState, Timer};
use crate::message::{Accept, Accepted, Chosen, Learned, Message, Nack, Prepare, Promise};
use crate::{Awaiting, Backoff, Limits, Proposer};
use core::ops::RangeInclusive;
use core::time::Duration;
use synod_consensus::{ProtocolEvent, Refusal, StepDownReason};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket, Values};

/// What this node is doing about one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Proposal {
    proposer: Proposer<Values>,
    /// What the proposer's own value stands for; nothing if it is a no-op.
    command: Option<Command>,
    /// Whether anyone was asked to vote for the own value: then it may be chosen here.
    at_stake: bool,
    backoff: Backoff,
    stage: Stage,
    /// When the phase began.
    since: Instant,
    /// How often its message was repeated.
    repeats: u32,
}

impl Proposal {
    /// Length of the value that it is about, in bytes.
    fn byte_len(&self) -> usize {
        match self.proposer.awaiting() {
            Awaiting::Votes(value) => value.byte_len(),
            Awaiting::Promises | Awaiting::Nothing => self.proposer.own().byte_len(),
        }
    }
}

/// Slowest links that repetitions take into account, in bytes a second.
const SLOW_LINKS: RangeInclusive<u64> = 512 << 10..=8 << 20;

/// Time that a slow link takes for so many bytes: one that carries the values in flight in half a
/// second, as narrow limits are set for narrow links.
pub(crate) fn link_time(bytes: usize, limits: &Limits) -> Duration {
    let slow = (limits.flight_bytes as u64 * 2).clamp(*SLOW_LINKS.start(), *SLOW_LINKS.end());
    Duration::from_micros(bytes as u64 * 1_000_000 / slow)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// A message is out.
    Awaiting,
    /// Others are given time.
    StandingBack,
}

impl<K: Arity> PaxosLog<K> {
    /// A client's command joins the queue for a slot. Its ticket is answered when the command is
    /// chosen: until then this node keeps trying, unless so many newer ones come that it has to
    /// give way.
    pub(crate) fn on_propose(
        &mut self,
        now: Instant,
        ticket: Ticket,
        command: &[u8],
        fx: &mut Fx<'_, K>,
    ) {
        let limits = self.config.limits();
        if !self.is_voter() {
            let hint = Some(self.guide);
            return fx.refuse(ticket, Refusal::NotLeader { hint });
        }
        if self.hard_state.chosen().0 >= K::SLOTS {
            return fx.refuse(ticket, Refusal::Unsupported);
        }
        if command.len() > limits.command_bytes {
            let limit = limits.command_bytes as u64;
            return fx.refuse(ticket, Refusal::TooLarge { limit });
        }
        let value = Values::command_only(command);
        let (room, room_bytes) = (limits.waiting - 1, limits.waiting_bytes - value.byte_len());
        self.shed(room, room_bytes, fx);
        self.waiting.join(now, ticket, value);
    }

    /// The oldest commands give way until no more than so many wait. Their clients have most
    /// likely given up by now: were the newest turned away instead, a node that was cut off would
    /// come back with a queue that nobody waits for, and refuse those who do.
    ///
    /// A command that waits is up for vote nowhere: no slot's acceptors were asked for it yet, or
    /// every such slot is decided otherwise. So the refusal is final.
    fn shed(&mut self, room: usize, room_bytes: usize, fx: &mut Fx<'_, K>) {
        while self.waiting.exceeds(room, room_bytes) {
            let Some(command) = self.waiting.leave() else { return };
            fx.refuse(command.ticket, Refusal::Busy);
        }
    }

    /// Refuses commands that have waited too long: a queue that is bounded by its length only would
    /// go on with them for minutes after their clients have given up.
    fn shed_stale(&mut self, now: Instant, fx: &mut Fx<'_, K>) {
        while self.waiting.is_stale(now, self.config.timing().queue) {
            let Some(command) = self.waiting.leave() else { return };
            fx.refuse(command.ticket, Refusal::Busy);
        }
    }

    /// Gives waiting commands a slot each, behind everything that anyone was heard to use.
    pub(crate) fn open_waiting(&mut self, now: Instant, fx: &mut Fx<'_, K>) {
        self.shed_stale(now, fx);
        let most = self.config.limits().flight_bytes;
        let mut in_flight = self.bytes_in_flight();
        while !self.waiting.is_empty()
            && !self.is_unheard()
            && in_flight < most
            && self.width.has_room(self.proposals.len())
        {
            let Some(slot) = self.free_slot() else { return };
            if slot <= self.arriving(now) {
                return;
            }
            self.open(now, slot, fx);
            in_flight += self.proposals.get(&slot).map_or(0, Proposal::byte_len);
        }
    }

    /// Values of this node's proposals, in bytes: as much is in flight to each voter at most, but for
    /// repetitions.
    fn bytes_in_flight(&self) -> usize {
        self.proposals.values().map(Proposal::byte_len).sum()
    }

    /// The first slot behind all that anyone was heard to use, if it may be open.
    fn free_slot(&self) -> Option<Slot> {
        let next = self.hard_state.chosen().max(self.seen).next().min(Slot(K::SLOTS));
        let free = !self.proposals.contains_key(&next) && self.slot_state(next) == SlotState::Open;
        free.then_some(next)
    }

    /// The slots through here are chosen, and their values are on their way here, if this node gets
    /// on: each request for one of them would be answered with its value once more, by every voter.
    /// A node that does not get on proposes for them: who said so may be gone.
    fn arriving(&self, now: Instant) -> Slot {
        let is_fed = now.since(self.advanced) < self.config.timing().cap;
        if is_fed { self.told } else { Slot(0) }
    }

    /// Begins to propose at an open slot: a command if one waits, else a no-op. A command that has
    /// lost slots bids higher, so that nobody loses for ever.
    fn open(&mut self, now: Instant, slot: Slot, fx: &mut Fx<'_, K>) {
        // While commands wait for long, the newest goes first: its client is the one most likely to
        // be still there. The oldest are refused or proposed when the load lets up.
        let is_loaded = self.waiting.is_stale(now, self.config.timing().cap);
        let command = if is_loaded { self.waiting.leave_newest() } else { self.waiting.leave() };
        let value = command.as_ref().map_or_else(Values::noop, |command| command.value.clone());
        let (me, quorum) = (self.config.id(), self.config.quorum().clone());
        let mut proposer = Proposer::new(me, quorum, value);
        let lost = command.as_ref().map_or(0, |command| command.lost);
        proposer.observe(Ballot { round: lost, node: me });
        let proposal = Proposal {
            proposer,
            command,
            at_stake: false,
            backoff: Backoff::default(),
            stage: Stage::Awaiting,
            since: now,
            repeats: 0,
        };
        self.seen = self.seen.max(slot);
        self.proposals.insert(slot, proposal);
        self.prepare(now, slot, fx);
    }

    /// Phase 1a under a new ballot. It stands above our own durable promise, and our own promise
    /// is written with it before it leaves: so no ballot is used twice, whatever a crash forgets.
    fn prepare(&mut self, now: Instant, slot: Slot, fx: &mut Fx<'_, K>) {
        let promised = self.acceptor(slot).promised();
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        proposal.proposer.observe(promised);
        let ballot = proposal.proposer.prepare();
        (proposal.stage, proposal.since, proposal.repeats) = (Stage::Awaiting, now, 0);
        self.on_prepare(now, self.config.id(), Prepare { slot, ballot }, fx);
        self.tell_voters(&Message::Prepare(Prepare { slot, ballot }));
        self.arm(slot, fx);
    }

    fn tell_voters(&mut self, message: &Message) {
        let me = self.config.id();
        for voter in self.config.members().voters().iter().filter(|voter| **voter != me) {
            self.outgoing.push(*voter, message.clone());
        }
    }

    pub(crate) fn on_promise(
        &mut self,
        now: Instant,
        from: NodeId,
        Promise { slot, ballot, accepted }: Promise,
        fx: &mut Fx<'_, K>,
    ) {
        let promised = self.acceptor(slot).promised();
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        let Some(value) = proposal.proposer.on_promise(from, ballot, accepted) else { return };
        let sample = now.since(proposal.since);
        // A rival's higher ballot came here meanwhile, and has most likely come to the others: they
        // would refuse the value, and it would take up the links for nothing.
        if promised > ballot {
            proposal.proposer.observe(promised);
            self.measure(sample);
            return self.give_way(slot, fx);
        }
        proposal.at_stake |= value == *proposal.proposer.own();
        (proposal.stage, proposal.since, proposal.repeats) = (Stage::Awaiting, now, 0);
        self.measure(sample);
        let accept = Accept { slot, ballot, value };
        self.on_accept(now, self.config.id(), accept.clone(), fx);
        self.tell_voters(&Message::Accept(accept));
        self.arm(slot, fx);
    }

    pub(crate) fn on_accepted(
        &mut self,
        now: Instant,
        from: NodeId,
        Accepted { slot, ballot }: Accepted,
        fx: &mut Fx<'_, K>,
    ) {
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        let Some(value) = proposal.proposer.on_accepted(from, ballot) else { return };
        let sample = now.since(proposal.since);
        self.measure(sample);
        self.learn(from, slot, &value, fx);
        let through = self.hard_state.chosen();
        let members = self.config.members();
        for node in members.others(self.config.id()) {
            // Voters were sent the value with the Accept, and once is enough.
            self.outgoing.push(
                node,
                match members.is_voter(node) {
                    true => Message::Chosen(Chosen { slot, ballot, through }),
                    false => {
                        Message::Learned(Learned { first: slot, values: value.clone(), through })
                    }
                },
            );
        }
    }

    /// Refused. That does not end the ballot: the others may still make a quorum. It ends when
    /// they cannot, or have not by the time that the answers are overdue.
    pub(crate) fn on_nack(
        &mut self,
        from: NodeId,
        Nack { slot, ballot, promised }: Nack,
        fx: &mut Fx<'_, K>,
    ) {
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        let hopeless = proposal.proposer.on_nack(from, ballot, promised);
        if hopeless && proposal.stage == Stage::Awaiting {
            self.give_way(slot, fx);
        }
    }

    pub(crate) fn on_slot_timeout(&mut self, now: Instant, slot: Slot, fx: &mut Fx<'_, K>) {
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        match proposal.stage {
            Stage::StandingBack => self.prepare(now, slot, fx),
            Stage::Awaiting if proposal.proposer.was_rejected() => self.give_way(slot, fx),
            Stage::Awaiting => self.repeat(now, slot, fx),
        }
    }

    /// Overtaken. As long as nobody was asked to vote for our own value here, it is not bound to
    /// this slot: if another one is free it goes there, and leaves this one to who overtook us.
    fn give_way(&mut self, slot: Slot, fx: &mut Fx<'_, K>) {
        let bound = self.proposals.get(&slot).is_none_or(|proposal| proposal.at_stake);
        if bound || self.free_slot().is_none() {
            return self.stand_back(slot, fx);
        }
        fx.cancel_timer(Timer::Slot(slot));
        self.width.lost(slot, self.seen);
        if let Some(Proposal { command: Some(command), .. }) = self.proposals.remove(&slot) {
            self.waiting.rejoin(command);
        }
    }

    /// Gives the others time. Full jitter: the driver draws from the whole range.
    fn stand_back(&mut self, slot: Slot, fx: &mut Fx<'_, K>) {
        let round_trip = self.round_trip();
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        proposal.backoff.fail();
        proposal.stage = Stage::StandingBack;
        let range = proposal.backoff.range(round_trip, self.config.timing().cap);
        let (ballot, reason) = (proposal.proposer.ballot(), StepDownReason::Overtaken);
        fx.note(ProtocolEvent::SteppedDown { ballot, reason });
        fx.note(ProtocolEvent::BackingOff { ballot, within: range.clone() });
        fx.set_timer(Timer::Slot(slot), range);
    }

    /// The answers are late: the same message again, to whoever has not answered. Only a new
    /// ballot would have to begin with phase 1, and it would spoil what is under way.
    fn repeat(&mut self, now: Instant, slot: Slot, fx: &mut Fx<'_, K>) {
        let is_oldest = self.proposals.range(..slot).next().is_none();
        if self.is_unheard() && !is_oldest || slot <= self.arriving(now) {
            return self.arm(slot, fx);
        }
        let Some(proposal) = self.proposals.get_mut(&slot) else { return };
        proposal.repeats += 1;
        let ballot = proposal.proposer.ballot();
        let message = match proposal.proposer.awaiting() {
            Awaiting::Nothing => return,
            Awaiting::Promises => Message::Prepare(Prepare { slot, ballot }),
            Awaiting::Votes(value) => {
                Message::Accept(Accept { slot, ballot, value: value.clone() })
            }
        };
        let late = proposal.proposer.unanswered();
        for voter in late.into_iter().filter(|voter| *voter != self.config.id()) {
            self.outgoing.push(voter, message.clone());
        }
        self.arm(slot, fx);
    }

    /// Whether our oldest proposal stays without answers. There may be nobody to hear us, so it
    /// asks for all: the others keep still, and no more are begun.
    fn is_unheard(&self) -> bool {
        self.proposals.first_key_value().is_some_and(|(_, oldest)| oldest.repeats > 1)
    }

    /// When the answers will be overdue: twice as long after each repetition. A value queues for the
    /// link behind those of other slots, and must not be sent once more while it waits there. So the
    /// time that a slow link takes for all of them, if they are as long as this one, comes on top.
    fn arm(&self, slot: Slot, fx: &mut Fx<'_, K>) {
        let Some(proposal) = self.proposals.get(&slot) else { return };
        let patience = self.round_trip().saturating_mul(4 << proposal.repeats.min(16));
        let mut patience = patience.min(self.config.timing().cap);
        if let Awaiting::Votes(value) = proposal.proposer.awaiting() {
            let most = self.config.limits().flight_bytes.max(value.byte_len());
            let queued = value.byte_len().saturating_mul(self.proposals.len()).min(most);
            patience += link_time(queued, self.config.limits()) * (1 << proposal.repeats.min(3));
        }
        fx.set_timer(Timer::Slot(slot), patience..patience.saturating_mul(3) / 2);
    }

    /// A smoothed round trip, disks included.
    fn measure(&mut self, sample: Duration) {
        let cap = self.config.timing().cap;
        let sample = sample.clamp(Duration::from_micros(50), cap);
        self.measured = Some((self.round_trip() * 7 + sample) / 8);
    }

    /// The slot is decided: what was proposed there has won or lost. A command that lost tries
    /// the next slot.
    pub(crate) fn close(&mut self, slot: Slot, chosen: &Values, fx: &mut Fx<'_, K>) {
        let open = self.proposals.len();
        let Some(proposal) = self.proposals.remove(&slot) else { return };
        fx.cancel_timer(Timer::Slot(slot));
        match proposal.command {
            Some(command) if command.value == *chosen => {
                self.width.won(open, self.config.limits().window);
                fx.placed(command.ticket, slot);
            }
            Some(command) => {
                self.width.lost(slot, self.seen);
                self.waiting.rejoin(command);
            }
            None => {}
        }
    }

    /// Slots up to `through` are chosen, but what they hold is part of a snapshot. A command that
    /// was under way there may be among it: it counts as placed, and its owner finds out.
    pub(crate) fn close_unseen(&mut self, through: Slot, fx: &mut Fx<'_, K>) {
        while let Some((slot, proposal)) = self.proposals.pop_first() {
            if slot > through {
                self.proposals.insert(slot, proposal);
                return;
            }
            fx.cancel_timer(Timer::Slot(slot));
            if let Some(command) = proposal.command {
                fx.placed(command.ticket, slot);
            }
        }
    }

    /// Every slot is decided: what still waits has lost for good.
    pub(crate) fn refuse_waiting(&mut self, fx: &mut Fx<'_, K>) {
        while let Some(command) = self.waiting.leave() {
            fx.refuse(command.ticket, Refusal::Unsupported);
        }
    }

    /// Whether the slot that everything waits for has not got on for a while, and who does not is
    /// someone else.
    pub(crate) fn is_blocked(&self, now: Instant) -> bool {
        let next = self.hard_state.chosen().max(self.arriving(now)).next();
        self.got_on.contains_key(&next)
            && self.is_quiet(now, next)
            && !self.proposals.contains_key(&next)
    }

    /// Returns whether an open slot has not got on for so long that this node finishes it. A
    /// proposer that still sends is alive: its value for this slot waits for the link or for
    /// disks, among those of other slots. A ballot above its own would make it send all of them
    /// again, so it has the time that a slow link takes for all that it may have in flight.
    fn is_quiet(&self, now: Instant, slot: Slot) -> bool {
        let patience = self.patience_with_others();
        let silence = patience.max(self.config.timing().ask * 2);
        let Some(at) = self.got_on.get(&slot) else { return true };
        let proposer = self.hard_state.promised(slot).node;
        let is_active = proposer != self.config.id()
            && self.active.get(&proposer).is_some_and(|at| now.since(*at) < silence);
        let limits = self.config.limits();
        let queued =
            if is_active { link_time(limits.flight_bytes, limits) } else { Duration::ZERO };
        now.since(*at) >= patience + queued
    }

    /// How long a slot that others work on may rest: a few tries of theirs.
    fn patience_with_others(&self) -> Duration {
        let guess = self.config.timing().ask * 2;
        self.measured.map_or(guess, |round_trip| round_trip.saturating_mul(8))
    }

    /// Finishes what blocks the log: every open slot that anyone was heard to use, and that has not
    /// got on for a while, gets a proposal of ours. What was voted for there is found in phase 1;
    /// where there is nothing, a waiting command or a no-op fills the hole. Whoever is first is
    /// heard by the others, and they leave the slot alone. Before it knows how long answers take, or
    /// while it gets none, a node tries one slot only.
    pub(crate) fn unblock(&mut self, now: Instant, fx: &mut Fx<'_, K>) {
        let last = self.seen.min(self.horizon());
        let most = self.config.limits().flight_bytes;
        let mut in_flight = self.bytes_in_flight();
        let mut slot = self.hard_state.chosen().max(self.arriving(now)).next();
        while slot <= last
            && !self.is_unheard()
            && in_flight < most
            && self.width.has_room_to_finish(self.proposals.len())
        {
            let open = self.slot_state(slot) == SlotState::Open;
            if open && self.is_quiet(now, slot) && !self.proposals.contains_key(&slot) {
                self.open(now, slot, fx);
                // Others have probably voted for the same value, and report it.
                in_flight += self.value_at(slot).map_or(0, |value| value.byte_len());
                if self.measured.is_none() {
                    return;
                }
            }
            slot = slot.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Learn;
    use crate::core::{Many, Single};
    use crate::{Config, MessageBatch, Timing};
    use alloc::vec::Vec;
    use alloc::{format, vec};
    use synod_consensus::{Host, Input, Round, Saved};
    use synod_types::Membership;

    const N1: NodeId = NodeId(1);
    const ME: NodeId = NodeId(2);
    const N3: NodeId = NodeId(3);
    const S1: Slot = Slot(1);
    const S2: Slot = Slot(2);

    fn b(round: u64, node: NodeId) -> Ballot {
        Ballot { round, node }
    }

    fn value(text: &str) -> Values {
        Values::command_only(text.as_bytes())
    }

    fn prepare(slot: Slot, ballot: Ballot) -> Message {
        Message::Prepare(Prepare { slot, ballot })
    }

    fn input<K: Arity>(from: NodeId, message: Message) -> Input<PaxosLog<K>> {
        Input::Message { from, message: MessageBatch::from(message) }
    }

    fn propose<K: Arity>(text: &str) -> Input<PaxosLog<K>> {
        Input::Propose { ticket: Ticket(1), command: text.as_bytes().to_vec().into() }
    }

    fn config(limits: Limits) -> Config {
        let members = Membership::new([N1, ME, N3], []).unwrap();
        Config::new(ME, members).unwrap().with_limits(limits).unwrap()
    }

    fn start<K: Arity>(config: Config) -> Host<PaxosLog<K>> {
        let mut host = Host::recover(ME, config, Saved::default()).unwrap();
        step(&mut host, 0, Input::Start);
        host
    }

    /// n2 of three voters, with nothing on disk.
    fn node<K: Arity>(limits: Limits) -> Host<PaxosLog<K>> {
        start(config(limits))
    }

    /// n2 when slot 1 is chosen, and that time in milliseconds. n2 has proposed there if it has
    /// measured a round trip.
    fn node_after_slot_1(limits: Limits, round_trip: Option<u64>) -> (Host<PaxosLog<Many>>, u64) {
        let Some(ms) = round_trip else {
            let mut host = node(limits);
            step(&mut host, 0, told(S1, "x", S1));
            return (host, 0);
        };
        let round_trip = Duration::from_millis(ms);
        let timing = Timing { round_trip, ..Timing::default() };
        let mut host = start(config(limits).with_timing(timing).unwrap());
        let (slot, ballot) = (S1, b(1, ME));
        step(&mut host, 0, propose("x"));
        step(&mut host, ms, input(N1, Message::Promise(Promise { slot, ballot, accepted: None })));
        step(&mut host, 2 * ms, input(N1, Message::Accepted(Accepted { slot, ballot })));
        assert_eq!((host.chosen(), host.core().measured), (S1, Some(round_trip)));
        (host, 2 * ms)
    }

    /// Steps the core, on a disk that is never late. Returns what it sends to n1.
    fn step<K: Arity>(
        host: &mut Host<PaxosLog<K>>,
        ms: u64,
        input: Input<PaxosLog<K>>,
    ) -> Vec<Message> {
        let now = Instant(ms * 1_000_000);
        let mut sent = Vec::new();
        let _ = host.input(now, input, &mut ());
        loop {
            let Round { seq, sends, .. } = host.round(now, &mut ());
            let to_n1 = sends.drain(..).filter(|(to, _)| *to == N1);
            sent.extend(to_n1.flat_map(|(_, batch)| batch.into_messages()));
            let Some(seq) = seq else { return sent };
            host.written(seq);
        }
    }

    fn told(first: Slot, text: &str, through: Slot) -> Input<PaxosLog<Many>> {
        input(N1, Message::Learned(Learned { first, values: value(text), through }))
    }

    #[test]
    fn proposer_that_still_sends_gets_the_time_of_what_it_may_have_in_flight() {
        // Bytes in flight; the measured round trip; until when n3, which prepares slot 2 at 0 ms,
        // repeats that; when its slot is taken over, all in milliseconds.
        let cases = [
            (4 << 20, None, 0, 100),
            (4 << 20, None, 80, 180),
            (4 << 20, None, 9000, 600),
            (64 << 20, None, 9000, 8100),
            (64 << 20, None, 5000, 5100),
            (4 << 20, Some(50), 0, 400),
            (4 << 20, Some(50), 9000, 900),
            (4 << 20, Some(1), 0, 100),
            (4 << 20, Some(1), 9000, 508),
        ];
        for (flight_bytes, round_trip, until, taken_over) in cases {
            let name =
                format!("{flight_bytes} bytes, {round_trip:?} ms, repeated until {until} ms");
            let limits = Limits { flight_bytes, ..Limits::default() };
            let (mut host, begin) = node_after_slot_1(limits, round_trip);
            for ms in (0..=until).step_by(20).take_while(|ms| *ms < taken_over) {
                step(&mut host, begin + ms, input(N3, prepare(S2, b(1, N3))));
            }
            for (ms, expected) in [(taken_over - 1, false), (taken_over, true)] {
                let any_message = input(N1, Message::Learn(Learn { from: S2 }));
                for occasion in [any_message, Input::Timeout(Timer::CatchUp)] {
                    let sent = step(&mut host.clone(), begin + ms, occasion);
                    let takes_over = sent.contains(&prepare(S2, b(2, ME)));
                    assert_eq!(takes_over, expected, "{name}: at {ms} ms");
                }
            }
        }
    }

    #[test]
    fn only_the_slot_that_everything_waits_for_is_finished_before_it_is_time_to_ask() {
        // Slots that n1 says are chosen; slots that n3 prepares at 0 ms, and n1 at 50 ms; the slot
        // that n2 then finishes with any message at 100 ms.
        let cases: [(u64, &[u64], &[u64], _); 4] = [
            (0, &[1, 2], &[], Some(1)),
            (0, &[2], &[1], None),
            (5, &[2, 6], &[], Some(6)),
            (5, &[2], &[], None),
        ];
        for (through, early, late, finished) in cases {
            let mut host = node::<Many>(Limits::default());
            let chosen =
                Message::Chosen(Chosen { slot: S1, ballot: b(1, N1), through: Slot(through) });
            step(&mut host, 0, input(N1, chosen));
            for (ms, node, slots) in [(0, N3, early), (50, N1, late)] {
                for slot in slots {
                    step(&mut host, ms, input(node, prepare(Slot(*slot), b(1, node))));
                }
            }
            let any_message = || input(N1, Message::Learn(Learn { from: S1 }));
            let sent = step(&mut host, 100, any_message());
            let expected = finished.map(|slot| prepare(Slot(slot), b(2, ME)));
            assert_eq!(sent, Vec::from_iter(expected), "through {through}: {early:?}, {late:?}");
            assert_eq!(step(&mut host, 101, any_message()), [], "and no other one after it");
        }
    }

    #[test]
    fn slots_left_open_are_finished_together_though_the_width_is_small() {
        let (mut host, begin) = node_after_slot_1(Limits::default(), Some(1));
        for slot in 2..=101 {
            step(&mut host, begin, input(N3, prepare(Slot(slot), b(1, N3))));
        }
        assert!(!host.core().width.has_room(16));
        let sent = step(&mut host, begin + 1000, input(N1, Message::Learn(Learn { from: S2 })));
        assert_eq!(sent, Vec::from_iter((2..=33).map(|slot| prepare(Slot(slot), b(2, ME)))));
    }

    #[test]
    fn slots_that_others_know_to_be_chosen_are_left_to_catch_up() {
        // Slot 1 is chosen at 0 ms. Through which slot n1 says so; when n2 has occasion to send a
        // Prepare for slot 2, in milliseconds; whether it does.
        let cases = [(1, 100, true), (5, 100, false), (5, 499, false), (5, 500, true)];
        for (through, ms, expected) in cases {
            let name = format!("through {through}, at {ms} ms");
            let learnt = || node_after_slot_1(Limits::default(), None).0;

            let mut begins = learnt();
            step(&mut begins, 0, told(S1, "x", Slot(through)));
            let sent = step(&mut begins, ms, propose("mine"));
            assert_eq!(sent.contains(&prepare(S2, b(1, ME))), expected, "{name}: begins");

            let mut repeats = learnt();
            step(&mut repeats, 0, propose("mine"));
            step(&mut repeats, 0, told(S1, "x", Slot(through)));
            let sent = step(&mut repeats, ms, Input::Timeout(Timer::Slot(S2)));
            assert_eq!(sent.contains(&prepare(S2, b(1, ME))), expected, "{name}: repeats");

            let mut finishes = learnt();
            step(&mut finishes, 0, input(N3, prepare(S2, b(1, N3))));
            step(&mut finishes, 0, told(S1, "x", Slot(through)));
            for occasion in
                [input(N1, Message::Learn(Learn { from: S2 })), Input::Timeout(Timer::CatchUp)]
            {
                let sent = step(&mut finishes.clone(), ms, occasion);
                assert_eq!(sent.contains(&prepare(S2, b(2, ME))), expected, "{name}: finishes");
            }
        }
    }

    #[test]
    fn command_that_waited_for_catch_up_takes_the_slot_after_it() {
        let mut host = node::<Many>(Limits::default());
        step(&mut host, 0, told(S1, "x", S2));
        assert_eq!(step(&mut host, 1, propose("mine")), []);
        assert_eq!(step(&mut host, 2, told(S2, "y", S2)), [prepare(Slot(3), b(1, ME))]);
    }

    /// n2 proposes, and n1 promises after 18 ms; meanwhile n2 receives a rival's Prepare. Returns
    /// what n2 then sends to n1.
    fn promised<K: Arity>(
        rival: Option<Ballot>,
        found: Option<&str>,
    ) -> (Host<PaxosLog<K>>, Vec<Message>) {
        let mut host = node::<K>(Limits::default());
        let ballot = b(1, ME);
        assert_eq!(step(&mut host, 0, propose("mine")), [prepare(S1, ballot)]);
        if let Some(rival) = rival {
            step(&mut host, 9, input(rival.node, prepare(S1, rival)));
        }
        let accepted = found.map(|text| (b(1, N1), value(text)));
        let promise = Message::Promise(Promise { slot: S1, ballot, accepted });
        let sent = step(&mut host, 18, input(N1, promise));
        assert_eq!(host.core().round_trip(), Duration::from_millis(11), "measured in any case");
        (host, sent)
    }

    #[test]
    fn proposer_that_is_outbid_at_its_own_node_sends_no_value() {
        let (lower, higher) = (Some(b(1, N1)), Some(b(1, N3)));
        let accept =
            |text| Message::Accept(Accept { slot: S1, ballot: b(1, ME), value: value(text) });
        let elsewhere = || prepare(S2, b(2, ME));
        let cases = [
            (None, None, accept("mine")),
            (lower, None, accept("mine")),
            (lower, Some("found"), accept("found")),
            (higher, None, elsewhere()),
            (higher, Some("found"), elsewhere()),
        ];
        for (rival, found, expected) in cases {
            let (_, sent) = promised::<Many>(rival, found);
            assert_eq!(sent, [expected], "rival {rival:?}, {found:?}");
        }
        // A decree has no other slot: the proposer stands back, and its next ballot is higher.
        let (mut host, sent) = promised::<Single>(higher, None);
        assert_eq!((sent, host.core().proposals[&S1].stage), (vec![], Stage::StandingBack));
        let again = step(&mut host, 40, Input::Timeout(Timer::Slot(S1)));
        assert_eq!(again, [prepare(S1, b(2, ME))]);
    }
}
