//! Learner side of a core: chosen values in log order, and catch-up between peers.

use crate::config::{Config, Limits};
use crate::context::Context;
use crate::history::Histories;
use crate::message::{Accepted, CHOSEN, Chosen, Learn, Learned, Message};
use crate::node_proposer::{Proposals, link_time};
use crate::protocol::{Paxos, Timer};
use crate::slots::{SlotState, Slots};
use alloc::collections::BTreeMap;
use core::mem;
use core::ops::Range;
use synod_consensus::IgnoreReason;
use synod_types::{Instant, NodeId, Slot, Values, ValuesBuilder};

/// Messages in reply to one catch-up request. With a single one, a node with long round trips would
/// learn no faster than the others choose.
const REPLIES_IN_FLIGHT: usize = 4;

/// Catch-up: requests for missed values, and replies to those of peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUp {
    /// Peers whose history was compared with this node's.
    pub(crate) histories: Histories,
    /// Index, among the other voters, of the one that receives the next request.
    next_peer: usize,
    /// First slot and time of the last request.
    last_request: Option<(Slot, Instant)>,
    /// Last chosen slot at the last catch-up timeout.
    chosen_at_timeout: Slot,
    /// Last reply to each peer.
    replies: BTreeMap<NodeId, SentReply>,
    /// Voter that clients are redirected to: this node itself if it votes.
    redirect_to: NodeId,
    /// Time of the last message of that voter.
    redirect_active: Instant,
}

/// Reply with chosen values to a catch-up request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct SentReply {
    first: Slot,
    last: Slot,
    /// Time until which it counts as in flight.
    until: Instant,
    /// Number of times that this reply was sent.
    times: u32,
}

impl CatchUp {
    pub(crate) fn new(config: &Config) -> Self {
        let voters = config.members().voters();
        Self {
            histories: Histories::default(),
            next_peer: 0,
            last_request: None,
            chosen_at_timeout: Slot::ZERO,
            replies: BTreeMap::new(),
            redirect_to: if config.is_voter() { config.id() } else { voters[0] },
            redirect_active: Instant::ZERO,
        }
    }

    pub(crate) fn redirect_to(&self) -> NodeId {
        self.redirect_to
    }

    /// Records a message from this node.
    pub(crate) fn on_message_from(&mut self, now: Instant, from: NodeId) {
        if from == self.redirect_to {
            self.redirect_active = now;
        }
    }

    /// Returns whether this node's acceptor handles a Prepare or Accept for a slot. If the slot is
    /// chosen, replies with its value. If it is beyond the window, requests missed values.
    pub(crate) fn admit_request<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        from: NodeId,
        slot: Slot,
    ) -> bool {
        let state = cx.slots.state(slot);
        match state {
            // A chosen slot is not voted on again: its promise may be dropped, and its value is settled.
            SlotState::Chosen => self.send_chosen(cx, from, slot),
            // A proposer uses no slot further than a window after its own chosen part, so it knows more.
            SlotState::BeyondWindow => self.request(cx, from),
            SlotState::Open => cx.slots.use_through(slot),
        }
        state == SlotState::Open
    }

    /// Learns a value that a quorum has accepted under this node's ballot, and notifies all members.
    pub(crate) fn on_quorum<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        proposals: &mut Proposals,
        accepted: &Accepted,
        from: NodeId,
        value: &Values,
    ) {
        let Accepted { slot, ballot } = *accepted;
        self.learn(cx, proposals, from, slot, value);
        let (through, members) = (cx.slots.chosen(), cx.config.members());
        for node in members.others(cx.me()) {
            // Voters were sent the value with the Accept: only learners need it.
            let message = match members.is_voter(node) {
                true => Message::Chosen(Chosen { slot, ballot, through }),
                false => Message::Learned(Learned { first: slot, values: value.clone(), through }),
            };
            cx.send(node, message);
        }
    }

    /// Learns chosen values from a peer.
    pub(crate) fn on_learned<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        proposals: &mut Proposals,
        from: NodeId,
        learned: &Learned,
    ) {
        let Learned { first, ref values, through } = *learned;
        cx.slots.on_peer_chosen(through);
        let last = first.plus(values.len()).prev();
        // A single decree has one slot: values of later ones come from a node of another protocol.
        if last > cx.slots.end() {
            return cx.ignore(from, IgnoreReason::NoSuchSlot);
        }
        // Values after a hole are kept within the window only, so that memory is bounded.
        if first > cx.slots.chosen().next() && last > cx.slots.last_open() {
            return self.request(cx, from);
        }
        self.learn(cx, proposals, from, first, values);
        // The next request at once, not at the timeout: catch-up runs at the speed of the link.
        if through > cx.slots.chosen() && !cx.slots.is_full() {
            self.request(cx, from);
        }
    }

    /// Learns that the value of a ballot is chosen, or requests it if this node lacks it.
    pub(crate) fn on_chosen<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        proposals: &mut Proposals,
        from: NodeId,
        chosen: &Chosen,
    ) {
        let Chosen { slot, ballot, through } = *chosen;
        cx.slots.on_peer_chosen(through);
        // P2b (PMS §2.2): a vote under the chosen ballot, or a higher one, is for the chosen value. A
        // vote under a lower ballot may be for any value.
        let has_voted = cx.slots.log().stamp_at(slot).is_some_and(|stamp| stamp >= ballot);
        match cx.slots.value_at(slot) {
            Some(values) if has_voted => {
                self.on_learned(cx, proposals, from, &Learned { first: slot, values, through });
            }
            _ if slot > cx.slots.chosen() => self.request(cx, from),
            _ => {}
        }
    }

    /// Replies to a catch-up request, or requests values from a peer that is ahead.
    pub(crate) fn on_learn<P: Paxos>(&mut self, cx: &mut Context<P>, from: NodeId, learn: &Learn) {
        let (first, chosen) = (learn.from, cx.slots.chosen());
        if first <= chosen {
            self.send_chosen_from(cx, from, self.histories.first_to_send(from, first));
        } else if first > chosen.next() {
            self.request(cx, from);
        }
    }

    /// Requests missed values from the next voter, and finishes slots that others have left open. A
    /// learner redirects clients to another voter if the last one has been silent for too long.
    pub(crate) fn on_timeout<P: Paxos>(&mut self, cx: &mut Context<P>, proposals: &mut Proposals) {
        let chosen = cx.slots.chosen();
        // As long as the log advances, chosen values arrive without a request.
        let is_advancing = mem::replace(&mut self.chosen_at_timeout, chosen) < chosen;
        let others = cx.config.other_voters().count();
        // One voter at a time, in turn: any of them may be down, and each reply carries values.
        if !is_advancing
            && let Some(index) = self.next_peer.checked_rem(others)
            && let Some(peer) = cx.config.other_voters().nth(index)
        {
            self.next_peer = index + 1;
            self.send_request(cx, peer);
        }
        if cx.config.is_voter() {
            proposals.unblock(cx);
        } else if cx.now.since(self.redirect_active) > cx.config.timing().max_wait {
            let voters = cx.config.members().voters();
            let next = voters.iter().find(|voter| **voter > self.redirect_to);
            (self.redirect_to, self.redirect_active) = (*next.unwrap_or(&voters[0]), cx.now);
        }
        Self::arm(cx);
    }

    pub(crate) fn arm<P: Paxos>(cx: &mut Context<P>) {
        let timing = cx.config.timing();
        // Eight round trips, within `max_wait`: slots that are merely in flight cause no requests.
        let interval =
            timing.catch_up.max(cx.round_trip.estimate().saturating_mul(8).min(timing.max_wait));
        cx.fx.set_timer(Timer::CatchUp, interval..interval.saturating_mul(2));
    }

    /// Requests missed values from a node that is ahead.
    fn request<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId) {
        let next = cx.slots.chosen().next();
        // Every message for a later slot leads here, and each reply repeats the values. So the same
        // request waits for two round trips.
        let interval = cx.round_trip.estimate().saturating_mul(2);
        let is_repetition =
            self.last_request.is_some_and(|(from, at)| from == next && cx.now.since(at) < interval);
        if !is_repetition && to != cx.me() {
            self.send_request(cx, to);
        }
    }

    fn send_request<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId) {
        let from = cx.slots.chosen().next();
        self.last_request = Some((from, cx.now));
        cx.send(to, Message::Learn(Learn { from }));
    }

    /// Sends the value of one chosen slot; to a peer whose history was not compared, all from the first
    /// slot that it lacks.
    fn send_chosen<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId, slot: Slot) {
        let first = self.histories.first_to_send(to, slot);
        if first < slot {
            return self.send_chosen_from(cx, to, first);
        }
        let through = cx.slots.chosen();
        match cx.slots.value_at(slot) {
            Some(values) => cx.send(to, Message::Learned(Learned { first: slot, values, through })),
            // Compacted away: only a snapshot holds the effect of this slot.
            None => cx.fx.ship_snapshot(to),
        }
    }

    /// Sends the chosen values from a slot on, up to `REPLIES_IN_FLIGHT` messages.
    pub(crate) fn send_chosen_from<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        to: NodeId,
        first: Slot,
    ) {
        if first <= cx.slots.base().through {
            return cx.fx.ship_snapshot(to);
        }
        // Requests are short and overtake the values on their way. While a reply that covers this slot
        // may be in flight, a second one would only add load to the link of a node that lags.
        let is_covered = |reply: &&SentReply| (reply.first..=reply.last).contains(&first);
        let before = self.replies.get(&to).filter(is_covered).copied();
        if before.is_some_and(|reply| cx.now < reply.until) {
            return;
        }
        let through = cx.slots.chosen();
        let (mut next, mut bytes) = (first, 0);
        for _ in 0..REPLIES_IN_FLIGHT {
            let values = chosen_from(cx.slots, next, cx.config.limits());
            if values.is_empty() {
                break;
            }
            let first = next;
            (next, bytes) = (next.plus(values.len()), bytes + values.byte_len());
            cx.send(to, Message::Learned(Learned { first, values, through }));
        }
        assert!(next.prev() <= through, "only chosen values are sent");
        // Doubled with each retransmission of the same slots: a link slower than `link_time` assumes
        // would otherwise be filled with copies.
        let times = before.map_or(1, |reply| reply.times.saturating_add(1));
        let link = link_time(bytes, cx.config.limits());
        let wait = cx.round_trip.estimate().saturating_mul(2) + link;
        let wait = wait.saturating_mul(1 << times.min(4)).min(cx.config.timing().max_wait * 4);
        let reply = SentReply { first, last: next.prev(), until: cx.now + wait, times };
        self.replies.insert(to, reply);
    }

    /// Learns chosen values. A vote for the same value stays in the log under its ballot; other values
    /// are written under [`CHOSEN`].
    fn learn<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        proposals: &mut Proposals,
        from: NodeId,
        first: Slot,
        values: &Values,
    ) {
        let write = |cx: &mut Context<P>, part: Option<Range<usize>>| {
            if let Some(Range { start, end }) = part {
                cx.slots.put(first.plus(start), CHOSEN, values.slice(start, end), cx.fx);
            }
        };
        // Consecutive values that the log lacks are one write.
        let mut unwritten: Option<Range<usize>> = None;
        for index in 0..values.len() {
            let (slot, value) = (first.plus(index), values.slice(index, index + 1));
            let is_known = cx.slots.state(slot) == SlotState::Chosen;
            let is_held = cx.slots.value_at(slot).is_some_and(|held| held == value);
            // A chosen slot has one value. Two mean that a quorum lost its disks: see `history`. The
            // values after this one belong to the other history. Compacted values cannot be compared.
            if is_known && !is_held && slot > cx.slots.base().through {
                self.histories.contradicted(cx.config, from, slot, cx.fx);
                break;
            }
            if !is_known {
                cx.slots.choose(slot);
                proposals.close(cx, slot, &value);
            }
            if is_known || is_held {
                // On disk already, be it as a vote: learning needs no write, and no promise changes.
                write(cx, unwritten.take());
            } else {
                unwritten = Some(unwritten.map_or(index, |part| part.start)..index + 1);
            }
        }
        write(cx, unwritten);
        cx.slots.use_through(first.plus(values.len()).prev());
        Self::advance(cx, proposals);
    }

    /// Emits the chosen values up to the first hole.
    pub(crate) fn advance<P: Paxos>(cx: &mut Context<P>, proposals: &mut Proposals) {
        let Some(before) = cx.slots.advance() else { return };
        cx.slots.emit(before, cx.fx);
        // No slot is left, and a queued command is up for vote nowhere: the refusal is final.
        if cx.slots.is_full() {
            proposals.refuse_queued(cx);
        }
    }

    /// Checks the invariants that take more than constant time.
    pub(crate) fn check_invariants(&self, config: &Config, chosen: Slot) {
        assert!(config.members().is_voter(self.redirect_to), "clients are redirected to a voter");
        assert!(!config.is_voter() || self.redirect_to == config.id(), "a voter proposes itself");
        assert!(self.chosen_at_timeout <= chosen, "what is chosen stays chosen");
        assert!(self.replies.values().all(|it| it.last <= chosen), "only chosen values are sent");
        self.histories.check_invariants(config);
    }
}

/// Returns the chosen values from a slot on, as many as one message may carry.
fn chosen_from(slots: &Slots, first: Slot, limits: &Limits) -> Values {
    let through = slots.chosen();
    let mut batch = ValuesBuilder::new();
    for run in slots.log().runs_from(first) {
        let room = limits.catch_up_bytes.saturating_sub(batch.byte_len());
        if run.first > through {
            break;
        }
        // A run may go on after the chosen part: the rest of it are mere votes.
        let known = usize::try_from(through.0 - run.first.0 + 1).unwrap_or(usize::MAX);
        let fitting = run.values.fitting(room);
        let part = run.values.slice(0, fitting.min(known));
        // A value that is too long by itself travels alone, or catch-up would never get past it.
        if !batch.is_empty() && part.byte_len() > room {
            break;
        }
        batch.extend(&part);
        // No value of the next run may follow a run that was cut off: there would be a hole.
        if part.len() < run.values.len() {
            break;
        }
    }
    batch.finish()
}
