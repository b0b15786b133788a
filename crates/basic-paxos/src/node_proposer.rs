//! Proposer side of a core: its slots, ballots and retransmissions.

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

/// Bounds of the assumed link rate in retransmission timeouts, in bytes a second.
const SLOW_LINKS: RangeInclusive<u64> = 512 << 10..=8 << 20;

/// This node's proposals, and the commands that wait for a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Proposals {
    open: BTreeMap<Slot, Proposal>,
    queue: CommandQueue,
    window: CongestionWindow,
    /// Time of the last message from each node.
    last_messages: BTreeMap<NodeId, Instant>,
}

/// Proposal for one slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    proposer: Proposer<Values>,
    /// Command that is the proposer's own value; none if that is a no-op.
    command: Option<Command>,
    /// True if the own value was sent in an Accept: then it may be chosen in this slot.
    was_proposed: bool,
    backoff: Backoff,
    stage: Stage,
    /// Time when the phase began.
    since: Instant,
    /// Retransmissions in this phase.
    repeats: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stage {
    /// Waiting for replies.
    Awaiting,
    /// Waiting before the next ballot.
    BackingOff,
}

impl Proposal {
    /// Creates a proposal of a command, or of a no-op if there is none.
    fn new(mut proposer: Proposer<Values>, command: Option<Command>, now: Instant) -> Self {
        // Each lost slot raises the first round by one: otherwise the node with the lowest id, whose
        // ballots are the lowest of a round, could lose forever.
        let round = command.as_ref().map_or(0, |command| command.lost);
        proposer.observe(Ballot { round, ..Ballot::ZERO });
        let backoff = Backoff::default();
        let stage = Stage::Awaiting;
        Self { proposer, command, was_proposed: false, backoff, stage, since: now, repeats: 0 }
    }

    fn begin_phase(&mut self, now: Instant) {
        (self.stage, self.since, self.repeats) = (Stage::Awaiting, now, 0);
    }

    /// Returns the length of the proposed value, in bytes.
    fn byte_len(&self) -> usize {
        match self.proposer.awaiting() {
            Awaiting::Votes(value) => value.byte_len(),
            // Counted in phase 1 already, or phase 2 of many slots at once would exceed `flight_bytes`.
            Awaiting::Promises | Awaiting::Nothing => self.proposer.own().byte_len(),
        }
    }
}

/// Returns the time that a slow link takes to carry `bytes`.
pub(crate) fn link_time(bytes: usize, limits: &Limits) -> Duration {
    // Narrow limits are set for narrow links: a link carries `flight_bytes` in half a second.
    let slow = (limits.flight_bytes as u64 * 2).clamp(*SLOW_LINKS.start(), *SLOW_LINKS.end());
    Duration::from_micros(bytes as u64 * 1_000_000 / slow)
}

impl Proposals {
    /// Queues a client's command. Its ticket is placed when the command is chosen. Until then this node
    /// keeps proposing it, or refuses it as Busy because it is the oldest in a full queue.
    ///
    /// The oldest commands are refused because their clients have most likely given up. Otherwise a node
    /// that was partitioned would return with a queue of such commands and refuse those of clients that
    /// wait. The refusal is final: a queued command was never sent in an Accept, or another value was
    /// chosen in each slot where it was.
    pub(crate) fn on_propose<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        ticket: Ticket,
        command: &[u8],
    ) {
        let limits = cx.config.limits();
        // Not Busy: a retry can never succeed.
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

    /// Refuses the oldest queued command. Returns whether there was one.
    fn refuse_oldest<P: Paxos>(&mut self, cx: &mut Context<P>, why: Refusal) -> bool {
        let oldest = self.queue.pop_oldest();
        let was_queued = oldest.is_some();
        if let Some(command) = oldest {
            cx.fx.refuse(command.ticket, why);
        }
        was_queued
    }

    /// Refuses all queued commands, because every slot is chosen.
    pub(crate) fn refuse_queued<P: Paxos>(&mut self, cx: &mut Context<P>) {
        while self.refuse_oldest(cx, Refusal::Unsupported) {}
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.queue.is_empty()
    }

    /// Records a message from this node.
    pub(crate) fn on_message_from(&mut self, now: Instant, from: NodeId) {
        self.last_messages.insert(from, now);
    }

    /// Opens proposals at the end of a round: for the slot that blocks the log, and for commands.
    pub(crate) fn flush<P: Paxos>(&mut self, cx: &mut Context<P>) {
        if self.is_blocked(cx) {
            self.unblock(cx);
        }
        // A bound of the length alone would leave commands in the queue for minutes after their clients
        // have given up.
        while self.queue.is_stale(cx.now, cx.config.timing().max_queue_time)
            && self.refuse_oldest(cx, Refusal::Busy)
        {}
        self.open_queued(cx);
    }

    /// Opens a proposal for each queued command, in slots that no node is known to have used.
    fn open_queued<P: Paxos>(&mut self, cx: &mut Context<P>) {
        let mut in_flight = self.bytes_in_flight();
        while !self.queue.is_empty()
            && !self.is_unanswered()
            && in_flight < cx.config.limits().flight_bytes
            && self.window.has_room(self.open.len())
        {
            let Some(slot) = self.free_slot(cx.slots) else { return };
            // Chosen already, and its value is in flight: every voter would send it once more.
            if slot <= arriving(cx) {
                return;
            }
            self.open(cx, slot);
            in_flight += self.open.get(&slot).map_or(0, Proposal::byte_len);
        }
    }

    /// Returns the length of all proposed values: at most this is in flight to each voter, apart from
    /// retransmissions.
    fn bytes_in_flight(&self) -> usize {
        self.open.values().map(Proposal::byte_len).sum()
    }

    /// Returns the first slot that no node is known to have used, if it is open.
    fn free_slot(&self, slots: &Slots) -> Option<Slot> {
        let next = slots.next_unused();
        let is_free = !self.open.contains_key(&next) && slots.state(next) == SlotState::Open;
        is_free.then_some(next)
    }

    /// Opens a proposal for an open slot: of a queued command, or of a no-op if there is none.
    fn open<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        debug_assert_eq!(cx.slots.state(slot), SlotState::Open, "only open slots are proposed for");
        // Under overload the newest goes first: its client is the most likely to be waiting still. The
        // oldest are refused, or proposed when the load decreases.
        let is_loaded = self.queue.is_stale(cx.now, cx.config.timing().max_wait);
        let command = if is_loaded { self.queue.pop_newest() } else { self.queue.pop_oldest() };
        let value = command.as_ref().map_or_else(Values::noop, |command| command.value.clone());
        let proposer = Proposer::new(cx.me(), cx.config.quorum().clone(), value);
        cx.slots.use_through(slot);
        let replaced = self.open.insert(slot, Proposal::new(proposer, command, cx.now));
        assert!(replaced.is_none(), "one proposal a slot");
        self.prepare(cx, slot);
    }

    /// Begins phase 1 under a new ballot.
    fn prepare<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        // Ballots must be unique (PMS §2.5). This one is above the own durable promise, and this node's
        // acceptor promises it before the Prepare is sent: no restart uses it again.
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
        // This node has promised a rival's higher ballot since, and the others most likely have, too.
        // They would reject the Accept, and its value would fill the links for nothing.
        let promised = cx.slots.promised(slot);
        if promised > ballot {
            proposal.proposer.observe(promised);
            return self.give_way(cx, slot);
        }
        proposal.was_proposed |= value == *proposal.proposer.own();
        proposal.begin_phase(cx.now);
        // The own acceptor votes first. Its Accepted waits for the disk and is counted like the others.
        let accept = Accept { slot, ballot, value };
        cx.on_accept(cx.me(), accept.clone());
        cx.send_to_voters(&Message::Accept(accept));
        self.arm(cx, slot);
    }

    /// Counts a vote. Returns the value if this vote completes a quorum.
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

    /// Counts a rejection. The ballot ends when the remaining acceptors cannot make a quorum, or when
    /// their replies are overdue.
    pub(crate) fn on_nack<P: Paxos>(&mut self, cx: &mut Context<P>, from: NodeId, nack: &Nack) {
        let Some(proposal) = self.open.get_mut(&nack.slot) else { return };
        let is_lost = proposal.proposer.on_nack(from, nack.ballot, nack.promised);
        // A late rejection while backing off must not draw a new, longer wait.
        if is_lost && proposal.stage == Stage::Awaiting {
            self.give_way(cx, nack.slot);
        }
    }

    pub(crate) fn on_timeout<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        match proposal.stage {
            Stage::BackingOff => self.prepare(cx, slot),
            // A rival has a higher ballot, so retransmissions would most likely be rejected, too.
            Stage::Awaiting if proposal.proposer.was_rejected() => self.give_way(cx, slot),
            Stage::Awaiting => self.retransmit(cx, slot),
        }
    }

    /// Yields to the rival that outbid this node: moves the command to a free slot if possible, or else
    /// backs off.
    fn give_way<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        // A value that was sent in an Accept may be chosen here: in another slot it could be chosen twice.
        let is_bound = self.open.get(&slot).is_none_or(|proposal| proposal.was_proposed);
        if is_bound || self.free_slot(cx.slots).is_none() {
            return self.back_off(cx, slot);
        }
        cx.fx.cancel_timer(Timer::Slot(slot));
        self.window.lost(slot, cx.slots.last_used());
        if let Some(Proposal { command: Some(command), .. }) = self.open.remove(&slot) {
            self.queue.requeue(command);
        }
    }

    /// Backs off: sets the timer of the next ballot.
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

    /// Sends the message of the phase again to the acceptors that have not replied.
    fn retransmit<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot) {
        // Without any replies one slot is enough to find out when peers are reachable again. A slot whose
        // chosen value is in flight needs no message.
        let is_oldest = self.open.range(..slot).next().is_none();
        if self.is_unanswered() && !is_oldest || slot <= arriving(cx) {
            return self.arm(cx, slot);
        }
        let Some(proposal) = self.open.get_mut(&slot) else { return };
        proposal.repeats += 1;
        // The same ballot: a new one would repeat phase 1 and make acceptors reject what is in flight.
        let ballot = proposal.proposer.ballot();
        let message = match proposal.proposer.awaiting() {
            Awaiting::Nothing => return,
            Awaiting::Promises => Message::Prepare(Prepare { slot, ballot }),
            Awaiting::Votes(value) => {
                Message::Accept(Accept { slot, ballot, value: value.clone() })
            }
        };
        // This node's acceptor replies through its disk, never over a lossy link.
        let (late, me) = (proposal.proposer.unanswered(), cx.me());
        for voter in late.into_iter().filter(|voter| *voter != me) {
            cx.send(voter, message.clone());
        }
        self.arm(cx, slot);
    }

    /// Returns whether the oldest proposal was retransmitted more than once. The node may be partitioned
    /// then: only this proposal is retransmitted, and none is opened.
    fn is_unanswered(&self) -> bool {
        self.open.first_key_value().is_some_and(|(_, oldest)| oldest.repeats > 1)
    }

    /// Sets the retransmission timer.
    fn arm<P: Paxos>(&self, cx: &mut Context<P>, slot: Slot) {
        let Some(proposal) = self.open.get(&slot) else { return };
        // Doubled after each retransmission, as TCP does (RFC 6298, 5.5): the network may be congested.
        let wait = cx.round_trip.estimate().saturating_mul(4 << proposal.repeats.min(16));
        let mut wait = wait.min(cx.config.timing().max_wait);
        if let Awaiting::Votes(value) = proposal.proposer.awaiting() {
            let limits = cx.config.limits();
            // A value may queue for the link after those of the other slots, and must not be sent again
            // while it waits there. The others are taken to be as long as this one.
            let most = limits.flight_bytes.max(value.byte_len());
            let queued = value.byte_len().saturating_mul(self.open.len()).min(most);
            wait += link_time(queued, limits) * (1 << proposal.repeats.min(3));
        }
        // Random, so that rivals which began together do not retransmit together.
        cx.fx.set_timer(Timer::Slot(slot), wait..wait.saturating_mul(3) / 2);
    }

    /// Closes the proposal for a chosen slot. A command that lost the slot is queued again.
    pub(crate) fn close<P: Paxos>(&mut self, cx: &mut Context<P>, slot: Slot, chosen: &Values) {
        let open = self.open.len();
        let Some(proposal) = self.open.remove(&slot) else { return };
        cx.fx.cancel_timer(Timer::Slot(slot));
        match proposal.command {
            // By value, not by proposer: another node may have finished this node's proposal.
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

    /// Closes the proposals for slots that a snapshot covers.
    pub(crate) fn close_installed<P: Paxos>(&mut self, cx: &mut Context<P>, through: Slot) {
        // The chosen values are compacted away, so the outcome is unknown here. The command counts as
        // placed, and the driver's sessions determine whether it was applied.
        while let Some(proposal) = self.open.first_entry().filter(|open| *open.key() <= through) {
            let (slot, proposal) = proposal.remove_entry();
            cx.fx.cancel_timer(Timer::Slot(slot));
            if let Some(command) = proposal.command {
                cx.fx.placed(command.ticket, slot);
            }
        }
    }

    /// Returns whether the first slot that is not chosen has made no progress for some time, and has no
    /// proposal of this node.
    fn is_blocked<P: Paxos>(&self, cx: &Context<P>) -> bool {
        // A slot that was chosen out of order blocks nothing. If it counted, each flush would open one
        // more slot after it.
        let next = cx.slots.first_not_chosen_after(arriving(cx));
        cx.slots.last_progress(next).is_some()
            && self.is_stalled(cx, next)
            && !self.open.contains_key(&next)
    }

    /// Returns whether an open slot has made no progress for so long that this node finishes it.
    fn is_stalled<P: Paxos>(&self, cx: &Context<P>, slot: Slot) -> bool {
        let (limits, guess) = (cx.config.limits(), cx.config.timing().catch_up * 2);
        let is_measured = cx.round_trip.is_measured();
        // Longer than a phase with one retransmission takes: see `arm`.
        let measured = cx.round_trip.estimate().saturating_mul(8);
        let timeout = if is_measured { measured } else { guess };
        // No promise and no vote since the start: this node has received no proposal for the slot.
        let Some(at) = cx.slots.last_progress(slot) else { return true };
        // A proposer that still sends is alive: its value for this slot is queued for a link or a disk,
        // among those of other slots. A higher ballot would make it send all of them again. So it has the
        // time that a slow link takes for all values that it may have in flight.
        let proposer = cx.slots.promised(slot).node;
        let is_recent = |at: &Instant| cx.now.since(*at) < timeout.max(guess);
        let is_active =
            proposer != cx.me() && self.last_messages.get(&proposer).is_some_and(is_recent);
        let queued =
            if is_active { link_time(limits.flight_bytes, limits) } else { Duration::ZERO };
        cx.now.since(at) >= timeout + queued
    }

    /// Finishes slots that block the log: opens a proposal in each used slot that has made no progress
    /// for some time. Phase 1 finds the values that were voted for; a queued command or a no-op fills a
    /// slot without any.
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
                // Other acceptors have most likely voted for the same value and will report it.
                in_flight += cx.slots.value_at(slot).map_or(0, |value| value.byte_len());
                // One slot until a round trip is measured: a timeout from a mere guess may be too short,
                // and then each opened slot displaces a live proposer.
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

/// Returns the slot through which chosen values are in flight to this node.
fn arriving<P: Paxos>(cx: &Context<P>) -> Slot {
    cx.slots.arriving(cx.now, cx.config.timing().max_wait)
}
