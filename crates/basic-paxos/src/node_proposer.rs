//! The proposer's side of a core: its slots, ballots and retransmissions.

#[cfg(test)]
mod tests;

use crate::backoff::Backoff;
use crate::command_queue::{Command, CommandQueue};
use crate::config::Limits;
use crate::congestion::CongestionWindow;
use crate::context::Context;
use crate::message::{Accept, Accepted, Message, Nack, Prepare, Promise};
use crate::proposer::{Awaiting, Proposer};
use crate::protocol::{Paxos, Timer};
use crate::slots::{SlotState, Slots};
use alloc::collections::BTreeMap;
use core::ops::RangeInclusive;
use core::time::Duration;
use synod_consensus::{ProtocolEvent, Refusal, StepDownReason};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket, Values};

/// Slowest links that retransmissions take into account, in bytes a second.
const SLOW_LINKS: RangeInclusive<u64> = 512 << 10..=8 << 20;

/// This node's proposals, and the commands that wait for one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Proposals {
    open: BTreeMap<Slot, Proposal>,
    queue: CommandQueue,
    window: CongestionWindow,
    /// Times of the last messages of other nodes.
    last_messages: BTreeMap<NodeId, Instant>,
}

/// A proposal for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    proposer: Proposer<Values>,
    /// The command that is the proposer's own value; none if that is a no-op.
    command: Option<Command>,
    /// True if any acceptor was asked to vote for the own value: then it may be chosen here.
    at_stake: bool,
    backoff: Backoff,
    stage: Stage,
    /// Time when the phase began.
    since: Instant,
    /// Retransmissions in this phase.
    repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Waits for answers.
    Awaiting,
    /// Gives others time.
    BackingOff,
}

impl Proposal {
    /// Creates a proposal of a command, or else of a no-op.
    fn new(mut proposer: Proposer<Values>, command: Option<Command>, now: Instant) -> Self {
        // A command that has lost slots bids higher, so that no node loses for ever.
        let round = command.as_ref().map_or(0, |command| command.lost);
        proposer.observe(Ballot { round, ..Ballot::ZERO });
        let backoff = Backoff::default();
        let stage = Stage::Awaiting;
        Self { proposer, command, at_stake: false, backoff, stage, since: now, repeats: 0 }
    }

    fn begin_phase(&mut self, now: Instant) {
        (self.stage, self.since, self.repeats) = (Stage::Awaiting, now, 0);
    }

    /// Returns the length of the value that it is about, in bytes.
    fn byte_len(&self) -> usize {
        match self.proposer.awaiting() {
            Awaiting::Votes(value) => value.byte_len(),
            Awaiting::Promises | Awaiting::Nothing => self.proposer.own().byte_len(),
        }
    }
}

/// Returns the time that a slow link takes for so many bytes: one that carries the values in flight in
/// half a second, as narrow limits are set for narrow links.
pub(crate) fn link_time(bytes: usize, limits: &Limits) -> Duration {
    let slow = (limits.flight_bytes as u64 * 2).clamp(*SLOW_LINKS.start(), *SLOW_LINKS.end());
    Duration::from_micros(bytes as u64 * 1_000_000 / slow)
}

impl Proposals {
    /// Queues a client's command for a slot. Its ticket is answered when the command is chosen: until
    /// then this node keeps trying, unless so many newer commands come that it has to give way.
    ///
    /// The oldest give way, because their clients have most likely given up by now: were the newest
    /// turned away instead, a node that was cut off would return with a queue that no client waits for,
    /// and refuse those that do. A queued command is up for vote nowhere: no acceptor was asked for it
    /// yet, or every slot where one was is decided otherwise. So the refusal is final.
    pub(crate) fn on_propose<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        ticket: Ticket,
        command: &[u8],
    ) {
        let limits = cx.config.limits();
        if cx.slots.is_full() {
            return cx.fx.refuse(ticket, Refusal::Unsupported);
        }
        if let Err(refusal) = Refusal::check_length(command, limits.command_bytes) {
            return cx.fx.refuse(ticket, refusal);
        }
        let value = Values::command_only(command);
        let (room, room_bytes) = (limits.waiting - 1, limits.waiting_bytes - value.byte_len());
        while self.queue.exceeds(room, room_bytes) && self.refuse_oldest(cx, Refusal::Busy) {}
        self.queue.push(cx.now, ticket, value);
    }

    /// Returns whether there was a command to refuse.
    fn refuse_oldest<P: Paxos>(&mut self, cx: &mut Context<P>, why: Refusal) -> bool {
        let oldest = self.queue.pop_oldest();
        let was_queued = oldest.is_some();
        if let Some(command) = oldest {
            cx.fx.refuse(command.ticket, why);
        }
        was_queued
    }

    /// Refuses all queued commands: every slot is chosen, so they have lost for good.
    pub(crate) fn refuse_queued<P: Paxos>(&mut self, cx: &mut Context<P>) {
        while self.refuse_oldest(cx, Refusal::Unsupported) {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Records that a message of this node came.
    pub(crate) fn on_message_from(&mut self, now: Instant, from: NodeId) {
        self.last_messages.insert(from, now);
    }

    /// Opens proposals at the end of a round: for the slot that blocks the log, and for commands.
    pub(crate) fn flush<P: Paxos>(&mut self, cx: &mut Context<P>) {
        if self.is_blocked(cx) {
            self.unblock(cx);
        }
        // A queue that is bounded by its length only would go on with commands for minutes after their
        // clients have given up.
        while self.queue.is_stale(cx.now, cx.config.timing().max_queue_time)
            && self.refuse_oldest(cx, Refusal::Busy)
        {}
        self.open_queued(cx);
    }

    /// Gives queued commands a slot each, after all that any node is known to have used.
    fn open_queued<P: Paxos>(&mut self, cx: &mut Context<P>) {
        let mut in_flight = self.bytes_in_flight();
        while !self.queue.is_empty()
            && !self.is_unanswered()
            && in_flight < cx.config.limits().flight_bytes
            && self.window.has_room(self.open.len())
        {
            let Some(slot) = self.free_slot(cx.slots) else { return };
            if slot <= arriving(cx) {
                return;
            }
            self.open(cx, slot);
            in_flight += self.open.get(&slot).map_or(0, Proposal::byte_len);
        }
    }

    /// Returns the length of all proposed values: as much is in flight to each voter at most, but for
    /// retransmissions.
    fn bytes_in_flight(&self) -> usize {
        self.open.values().map(Proposal::byte_len).sum()
    }

    /// Returns the first slot after all that any node is known to have used, if it may be open.
    fn free_slot(&self, slots: &Slots) -> Option<Slot> {
        let next = slots.next_unused();
        let is_free = !self.open.contains_key(&next) && slots.state(next) == SlotState::Open;
        is_free.then_some(next)
    }

    /// Begins to propose at an open slot: a command if one is queued, else a no-op.
    fn open<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        debug_assert_eq!(cx.slots.state(slot), SlotState::Open, "only open slots are proposed for");
        // While commands wait for long, the newest goes first: its client is the one most likely to
        // be still there. The oldest are refused or proposed when the load lets up.
        let is_loaded = self.queue.is_stale(cx.now, cx.config.timing().max_wait);
        let command = if is_loaded { self.queue.pop_newest() } else { self.queue.pop_oldest() };
        let value = command.as_ref().map_or_else(Values::noop, |command| command.value.clone());
        let proposer = Proposer::new(cx.me(), cx.config.quorum().clone(), value);
        cx.slots.use_through(slot);
        let replaced = self.open.insert(slot, Proposal::new(proposer, command, cx.now));
        assert!(replaced.is_none(), "one proposal a slot");
        self.prepare(cx, slot);
    }

    /// Phase 1a under a new ballot. It is above this node's own durable promise, and is promised here
    /// before it leaves: so no ballot is used twice, even if a crash loses writes.
    fn prepare<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        proposal.proposer.observe(cx.slots.promised(slot));
        let ballot = proposal.proposer.prepare();
        proposal.begin_phase(cx.now);
        let prepare = Prepare { slot, ballot };
        cx.on_prepare(cx.me(), &prepare);
        debug_assert_eq!(cx.slots.promised(slot), ballot, "a ballot is promised before it is used");
        cx.send_to_voters(&Message::Prepare(prepare));
        self.arm(cx, slot);
    }

    pub(crate) fn on_promise<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        from: NodeId,
        promise: Promise,
    ) {
        let Promise { slot, ballot, accepted } = promise;
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        let Some(value) = proposal.proposer.on_promise(from, ballot, accepted) else { return };
        cx.round_trip.measure(cx.now.since(proposal.since), cx.config.timing().max_wait);
        // A rival's higher ballot came here meanwhile, and has most likely come to the others: they
        // would reject the value, and it would take up the links for nothing.
        let promised = cx.slots.promised(slot);
        if promised > ballot {
            proposal.proposer.observe(promised);
            return self.give_way(cx, slot);
        }
        proposal.at_stake |= value == *proposal.proposer.own();
        proposal.begin_phase(cx.now);
        let accept = Accept { slot, ballot, value };
        cx.on_accept(cx.me(), accept.clone());
        cx.send_to_voters(&Message::Accept(accept));
        self.arm(cx, slot);
    }

    /// Counts a vote. Returns the value if it is chosen by that.
    pub(crate) fn on_accepted<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        from: NodeId,
        accepted: &Accepted,
    ) -> Option<Values> {
        let proposal = self.open.get_mut(&accepted.slot)?;
        let value = proposal.proposer.on_accepted(from, accepted.ballot)?;
        cx.round_trip.measure(cx.now.since(proposal.since), cx.config.timing().max_wait);
        Some(value)
    }

    /// Counts a rejection. That does not end the ballot: the others may still make a quorum. It ends
    /// when they cannot, or have not by the time that the answers are overdue.
    pub(crate) fn on_nack<P: Paxos>(&mut self, cx: &mut Context<P>, from: NodeId, nack: &Nack) {
        let Some(proposal) = self.open.get_mut(&nack.slot) else { return };
        let is_lost = proposal.proposer.on_nack(from, nack.ballot, nack.promised);
        if is_lost && proposal.stage == Stage::Awaiting {
            self.give_way(cx, nack.slot);
        }
    }

    pub(crate) fn on_timeout<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        match proposal.stage {
            Stage::BackingOff => self.prepare(cx, slot),
            Stage::Awaiting if proposal.proposer.was_rejected() => self.give_way(cx, slot),
            Stage::Awaiting => self.retransmit(cx, slot),
        }
    }

    /// Leaves a slot to the rival that outbid this node. As long as no acceptor was asked to vote for
    /// the own value here, it is not bound to this slot, and goes to another one if one is free.
    fn give_way<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let is_bound = self.open.get(&slot).is_none_or(|proposal| proposal.at_stake);
        if is_bound || self.free_slot(cx.slots).is_none() {
            return self.back_off(cx, slot);
        }
        cx.fx.cancel_timer(Timer::Slot(slot));
        self.window.lost(slot, cx.slots.last_used());
        if let Some(Proposal { command: Some(command), .. }) = self.open.remove(&slot) {
            self.queue.requeue(command);
        }
    }

    /// Gives the others time. Full jitter: the driver draws from the whole range.
    fn back_off<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        proposal.backoff.fail();
        proposal.stage = Stage::BackingOff;
        let range = proposal.backoff.range(cx.round_trip.estimate(), cx.config.timing().max_wait);
        let (ballot, reason) = (proposal.proposer.ballot(), StepDownReason::Overtaken);
        cx.fx.note(ProtocolEvent::SteppedDown { ballot, reason });
        cx.fx.note(ProtocolEvent::BackingOff { ballot, within: range.clone() });
        cx.fx.set_timer(Timer::Slot(slot), range);
    }

    /// Sends the same message again to the acceptors that have not answered in time. Only a new ballot
    /// would have to begin with phase 1, and it would spoil what is in flight.
    fn retransmit<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let is_oldest = self.open.range(..slot).next().is_none();
        if self.is_unanswered() && !is_oldest || slot <= arriving(cx) {
            return self.arm(cx, slot);
        }
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        proposal.repeats += 1;
        let ballot = proposal.proposer.ballot();
        let message = match proposal.proposer.awaiting() {
            Awaiting::Nothing => return,
            Awaiting::Promises => Message::Prepare(Prepare { slot, ballot }),
            Awaiting::Votes(value) => {
                Message::Accept(Accept { slot, ballot, value: value.clone() })
            }
        };
        let (late, me) = (proposal.proposer.unanswered(), cx.me());
        for voter in late.into_iter().filter(|voter| *voter != me) {
            cx.send(voter, message.clone());
        }
        self.arm(cx, slot);
    }

    /// Returns whether the oldest proposal stays without answers. No peer may receive anything, so it
    /// asks for all: the others send nothing, and no more are begun.
    fn is_unanswered(&self) -> bool {
        self.open.first_key_value().is_some_and(|(_, oldest)| oldest.repeats > 1)
    }

    /// Sets the time when answers are overdue: twice as long after each retransmission. A value queues
    /// for the link after those of other slots, and must not be sent once more while it waits there. So
    /// the time that a slow link takes for all of them, if they are as long as this one, is added.
    fn arm<P: Paxos>(&self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get(&slot) else { return };
        let wait = cx.round_trip.estimate().saturating_mul(4 << proposal.repeats.min(16));
        let mut wait = wait.min(cx.config.timing().max_wait);
        if let Awaiting::Votes(value) = proposal.proposer.awaiting() {
            let limits = cx.config.limits();
            let most = limits.flight_bytes.max(value.byte_len());
            let queued = value.byte_len().saturating_mul(self.open.len()).min(most);
            wait += link_time(queued, limits) * (1 << proposal.repeats.min(3));
        }
        cx.fx.set_timer(Timer::Slot(slot), wait..wait.saturating_mul(3) / 2);
    }

    /// Ends the proposal for a chosen slot. A command that lost tries the next slot.
    pub(crate) fn close<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot, chosen: &Values) {
        let open = self.open.len();
        let Some(proposal) = self.open.remove(&slot) else { return };
        cx.fx.cancel_timer(Timer::Slot(slot));
        match proposal.command {
            Some(command) if command.value == *chosen => {
                self.window.won(open, cx.config.limits().window);
                cx.fx.placed(command.ticket, slot);
            }
            Some(command) => {
                self.window.lost(slot, cx.slots.last_used());
                self.queue.requeue(command);
            }
            None => {}
        }
    }

    /// Ends the proposals for slots that a snapshot covers. A command that was in flight there may be
    /// among what it holds: it counts as placed, and the driver's sessions find out.
    pub(crate) fn close_installed<P: Paxos>(&mut self, cx: &mut Context<P>, through: Slot) {
        while let Some(proposal) = self.open.first_entry().filter(|open| *open.key() <= through) {
            let (slot, proposal) = proposal.remove_entry();
            cx.fx.cancel_timer(Timer::Slot(slot));
            if let Some(command) = proposal.command {
                cx.fx.placed(command.ticket, slot);
            }
        }
    }

    /// Returns whether the slot that everything waits for has made no progress for a while, and is not
    /// this node's own.
    fn is_blocked<P: Paxos>(&self, cx: &Context<P>) -> bool {
        // A slot that is chosen ahead of others blocks nothing. If it counted, this node would go on
        // opening slots after it, one more at each flush.
        let next = cx.slots.first_not_chosen_after(arriving(cx));
        cx.slots.last_progress(next).is_some()
            && self.is_stalled(cx, next)
            && !self.open.contains_key(&next)
    }

    /// Returns whether an open slot has made no progress for so long that this node finishes it. A
    /// proposer that still sends is alive: its value for this slot waits for the link or for
    /// disks, among those of other slots. A ballot above its own would make it send all of them
    /// again, so it has the time that a slow link takes for all that it may have in flight.
    fn is_stalled<P: Paxos>(&self, cx: &Context<P>, slot: Slot) -> bool {
        let (limits, guess) = (cx.config.limits(), cx.config.timing().catch_up * 2);
        let is_measured = cx.round_trip.is_measured();
        let a_few_tries = cx.round_trip.estimate().saturating_mul(8);
        let patience = if is_measured { a_few_tries } else { guess };
        let Some(at) = cx.slots.last_progress(slot) else { return true };
        let proposer = cx.slots.promised(slot).node;
        let is_recent = |at: &Instant| cx.now.since(*at) < patience.max(guess);
        let is_active =
            proposer != cx.me() && self.last_messages.get(&proposer).is_some_and(is_recent);
        let queued =
            if is_active { link_time(limits.flight_bytes, limits) } else { Duration::ZERO };
        cx.now.since(at) >= patience + queued
    }

    /// Finishes what blocks the log: every open slot that any node is known to have used, and that has
    /// made no progress for a while, gets a proposal of this node. Phase 1 finds what was voted for
    /// there; where there is nothing, a queued command or a no-op fills the hole. The others receive the
    /// first such proposal, and leave the slot alone. Before it has measured a round trip, or while it
    /// gets no answers, a node tries one slot only.
    pub(crate) fn unblock<P: Paxos>(&mut self, cx: &mut Context<P>) {
        let last = cx.slots.last_used().min(cx.slots.last_open());
        let mut in_flight = self.bytes_in_flight();
        let mut slot = cx.slots.chosen().max(arriving(cx)).next();
        while slot <= last
            && !self.is_unanswered()
            && in_flight < cx.config.limits().flight_bytes
            && self.window.has_room_to_finish(self.open.len())
        {
            let is_open = cx.slots.state(slot) == SlotState::Open;
            if is_open && self.is_stalled(cx, slot) && !self.open.contains_key(&slot) {
                self.open(cx, slot);
                // Others have probably voted for the same value, and report it.
                in_flight += cx.slots.value_at(slot).map_or(0, |value| value.byte_len());
                if !cx.round_trip.is_measured() {
                    return;
                }
            }
            slot = slot.next();
        }
    }

    /// Checks the invariants that take more than constant time.
    pub(crate) fn check_invariants(&self, slots: &Slots, me: NodeId) {
        for (slot, proposal) in &self.open {
            assert_eq!(slots.state(*slot), SlotState::Open, "{slot:?} is proposed for");
            assert!(*slot <= slots.last_used(), "{slot:?} is in use");
            let ballot = proposal.proposer.ballot();
            assert_eq!(ballot.node, me, "a proposer uses its own ballots");
            assert!(slots.promised(*slot) >= ballot, "{ballot} was promised before it was used");
            let is_backing_off = proposal.stage == Stage::BackingOff;
            assert!(!is_backing_off || proposal.backoff.failures() > 0, "only losers back off");
        }
        self.queue.check_invariants(self.open.values().filter_map(|it| it.command.as_ref()));
    }
}

/// Returns the slot through which chosen values are on their way here.
fn arriving<P: Paxos>(cx: &Context<P>) -> Slot {
    cx.slots.arriving(cx.now, cx.config.timing().max_wait)
}
