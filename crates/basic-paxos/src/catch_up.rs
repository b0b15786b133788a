//! The learner's side of a core: what is chosen, in order, and what peers lack of it.

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

/// Messages that answer one request of a node that has missed something. With one, a node with long
/// round trips would learn no faster than the others choose.
const ANSWERS_IN_FLIGHT: usize = 4;

/// Catch-up: requests for missed values, and answers to those of peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CatchUp {
    /// Peers whose history was compared with this node's.
    pub(crate) histories: Histories,
    /// Index of the voter that is asked next, among the other voters.
    next_peer: usize,
    /// First slot and time of the last request.
    last_request: Option<(Slot, Instant)>,
    /// Last chosen slot when the catch-up timer last ran out.
    chosen_at_timeout: Slot,
    /// Last answers.
    answers: BTreeMap<NodeId, Answer>,
    /// Voter that clients are redirected to: this node itself if it votes.
    redirect_to: NodeId,
    /// Time of the last message of that voter.
    redirect_active: Instant,
}

/// An answer with chosen values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Answer {
    first: Slot,
    last: Slot,
    /// Time until which it counts as in flight.
    until: Instant,
    /// Number of times that these slots were sent.
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
            answers: BTreeMap::new(),
            redirect_to: if config.is_voter() { config.id() } else { voters[0] },
            redirect_active: Instant::ZERO,
        }
    }

    pub(crate) fn redirect_to(&self) -> NodeId {
        self.redirect_to
    }

    /// Records that a message of this node came.
    pub(crate) fn on_message_from(&mut self, now: Instant, from: NodeId) {
        if from == self.redirect_to {
            self.redirect_active = now;
        }
    }

    /// Returns whether this node votes on a peer's request for a slot. If the slot is chosen, the peer
    /// is sent its value; if it is beyond the window, this node has missed something, and asks.
    pub(crate) fn may_vote<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        from: NodeId,
        slot: Slot,
    ) -> bool {
        let state = cx.slots.state(slot);
        match state {
            SlotState::Chosen => self.answer(cx, from, slot),
            SlotState::BeyondWindow => self.request(cx, from),
            SlotState::Open => cx.slots.use_through(slot),
        }
        state == SlotState::Open
    }

    /// Learns a value that a quorum has accepted under this node's ballot, and announces it.
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
            // Voters were sent the value with the Accept, and once is enough.
            let message = match members.is_voter(node) {
                true => Message::Chosen(Chosen { slot, ballot, through }),
                false => Message::Learned(Learned { first: slot, values: value.clone(), through }),
            };
            cx.send(node, message);
        }
    }

    /// A peer sends chosen values.
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
        if last > cx.slots.end() {
            return cx.ignore(from, IgnoreReason::NoSuchSlot);
        }
        // Values after a hole are kept as far as the window goes, so memory stays bounded.
        if first > cx.slots.chosen().next() && last > cx.slots.last_open() {
            return self.request(cx, from);
        }
        self.learn(cx, proposals, from, first, values);
        if through > cx.slots.chosen() && !cx.slots.is_full() {
            self.request(cx, from);
        }
    }

    /// The value of a ballot is chosen. A vote under it, or under a later one, is for that very value
    /// (PMS §2.2, P2b); a node that has none has missed the value.
    pub(crate) fn on_chosen<P: Paxos>(
        &mut self,
        cx: &mut Context<P>,
        proposals: &mut Proposals,
        from: NodeId,
        chosen: &Chosen,
    ) {
        let Chosen { slot, ballot, through } = *chosen;
        cx.slots.on_peer_chosen(through);
        let has_voted = cx.slots.log().stamp_at(slot).is_some_and(|stamp| stamp >= ballot);
        match cx.slots.value_at(slot) {
            Some(values) if has_voted => {
                self.on_learned(cx, proposals, from, &Learned { first: slot, values, through });
            }
            _ if slot > cx.slots.chosen() => self.request(cx, from),
            _ => {}
        }
    }

    /// A peer asks for what it lacks: it is answered, or shows that this node lacks something.
    pub(crate) fn on_learn<P: Paxos>(&mut self, cx: &mut Context<P>, from: NodeId, learn: &Learn) {
        let (first, chosen) = (learn.from, cx.slots.chosen());
        if first <= chosen {
            self.answer_from(cx, from, self.histories.first_to_send(from, first));
        } else if first > chosen.next() {
            self.request(cx, from);
        }
    }

    /// Asks the next voter for missed values, and finishes what others have left open. A node
    /// without a vote redirects to another voter if it has received nothing of its own for too long.
    pub(crate) fn on_timeout<P: Paxos>(&mut self, cx: &mut Context<P>, proposals: &mut Proposals) {
        let chosen = cx.slots.chosen();
        // A node that learns what is chosen as it comes has nothing to ask for: what it has not got
        // yet is on its way.
        let is_fed = mem::replace(&mut self.chosen_at_timeout, chosen) < chosen;
        let others = cx.config.other_voters().count();
        if !is_fed
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
        let interval =
            timing.catch_up.max(cx.round_trip.estimate().saturating_mul(8).min(timing.max_wait));
        cx.fx.set_timer(Timer::CatchUp, interval..interval.saturating_mul(2));
    }

    /// Asks a node that seems to know more. Not the same again within two round trips.
    fn request<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId) {
        let next = cx.slots.chosen().next();
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

    /// Sends the value of one chosen slot, after all that a peer lacks whose history was not compared.
    fn answer<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId, slot: Slot) {
        let first = self.histories.first_to_send(to, slot);
        if first < slot {
            return self.answer_from(cx, to, first);
        }
        let through = cx.slots.chosen();
        match cx.slots.value_at(slot) {
            Some(values) => cx.send(to, Message::Learned(Learned { first: slot, values, through })),
            None => cx.fx.ship_snapshot(to),
        }
    }

    /// Sends what is chosen from a slot on, as much as a few messages may carry. No more of these
    /// answers are in flight to a node: requests are short and overtake them.
    pub(crate) fn answer_from<P: Paxos>(&mut self, cx: &mut Context<P>, to: NodeId, first: Slot) {
        if first <= cx.slots.base().through {
            return cx.fx.ship_snapshot(to);
        }
        let is_covered = |answer: &&Answer| (answer.first..=answer.last).contains(&first);
        let before = self.answers.get(&to).filter(is_covered).copied();
        if before.is_some_and(|answer| cx.now < answer.until) {
            return;
        }
        let through = cx.slots.chosen();
        let (mut next, mut bytes) = (first, 0);
        for _ in 0..ANSWERS_IN_FLIGHT {
            let values = chosen_from(cx.slots, next, cx.config.limits());
            if values.is_empty() {
                break;
            }
            let first = next;
            (next, bytes) = (next.plus(values.len()), bytes + values.byte_len());
            cx.send(to, Message::Learned(Learned { first, values, through }));
        }
        assert!(next.prev() <= through, "only chosen values are sent");
        let times = before.map_or(1, |answer| answer.times.saturating_add(1));
        let link = link_time(bytes, cx.config.limits());
        let wait = cx.round_trip.estimate().saturating_mul(2) + link;
        let wait = wait.saturating_mul(1 << times.min(4)).min(cx.config.timing().max_wait * 4);
        let answer = Answer { first, last: next.prev(), until: cx.now + wait, times };
        self.answers.insert(to, answer);
    }

    /// Learns chosen values. Where this node voted for the same value its vote stays what it is; else
    /// the value is written under [`CHOSEN`].
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
        let mut unwritten: Option<Range<usize>> = None;
        for index in 0..values.len() {
            let (slot, value) = (first.plus(index), values.slice(index, index + 1));
            let is_known = cx.slots.state(slot) == SlotState::Chosen;
            let is_held = cx.slots.value_at(slot).is_some_and(|held| held == value);
            if is_known && !is_held && slot > cx.slots.base().through {
                self.histories.contradicted(cx.config, from, slot, cx.fx);
                break;
            }
            if !is_known {
                cx.slots.choose(slot);
                proposals.close(cx, slot, &value);
            }
            if is_known || is_held {
                write(cx, unwritten.take());
            } else {
                unwritten = Some(unwritten.map_or(index, |part| part.start)..index + 1);
            }
        }
        write(cx, unwritten);
        cx.slots.use_through(first.plus(values.len()).prev());
        Self::advance(cx, proposals);
    }

    /// Emits what is chosen without a hole.
    pub(crate) fn advance<P: Paxos>(cx: &mut Context<P>, proposals: &mut Proposals) {
        let Some(before) = cx.slots.advance() else { return };
        cx.slots.emit(before, cx.fx);
        if cx.slots.is_full() {
            proposals.refuse_queued(cx);
        }
    }

    /// Checks the invariants that take more than constant time.
    pub(crate) fn check_invariants(&self, config: &Config, chosen: Slot) {
        assert!(config.members().is_voter(self.redirect_to), "clients are redirected to a voter");
        assert!(!config.is_voter() || self.redirect_to == config.id(), "a voter proposes itself");
        assert!(self.chosen_at_timeout <= chosen, "what is chosen stays chosen");
        assert!(self.answers.values().all(|it| it.last <= chosen), "only chosen values are sent");
        self.histories.check_invariants(config);
    }
}

/// Returns chosen values from a slot on, as many as one message may carry.
fn chosen_from(slots: &Slots, first: Slot, limits: &Limits) -> Values {
    let through = slots.chosen();
    let mut batch = ValuesBuilder::new();
    for run in slots.log().runs_from(first) {
        let room = limits.catch_up_bytes.saturating_sub(batch.byte_len());
        if run.first > through {
            break;
        }
        let known = usize::try_from(through.0 - run.first.0 + 1).unwrap_or(usize::MAX);
        let fitting = run.values.fitting(room);
        let part = run.values.slice(0, fitting.min(known));
        if !batch.is_empty() && part.byte_len() > room {
            break;
        }
        batch.extend(&part);
        if part.len() < run.values.len() {
            break;
        }
    }
    batch.finish()
}
