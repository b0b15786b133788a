//! The learner's side of a core: what is chosen, in order, and who is told.

use crate::core::{Answered, Arity, CHOSEN, Fx, PaxosLog, Timer};
use crate::message::{Chosen, Learn, Learned, Message};
use crate::node_proposer::link_time;
use core::mem;
use core::time::Duration;
use synod_consensus::IgnoreReason;
use synod_types::{Instant, NodeId, Slot, Values, ValuesBuilder};

/// Messages that answer one question of a node that has missed something. With one, a node with long
/// round trips would learn no faster than the others choose.
const ANSWERS_IN_FLIGHT: usize = 4;

impl<K: Arity> PaxosLog<K> {
    /// Someone who knows says what is chosen.
    pub(crate) fn on_learned(
        &mut self,
        now: Instant,
        from: NodeId,
        learned: &Learned,
        fx: &mut Fx<'_, K>,
    ) {
        let Learned { first, ref values, through } = *learned;
        let before = self.hard_state.chosen();
        let last = first.plus(values.len()).prev();
        if last > Slot(K::SLOTS) {
            return self.ignore(from, IgnoreReason::NoSuchSlot, fx);
        }
        if first > before.next() && last > self.horizon() {
            return self.ask(now, from);
        }
        self.learn(from, first, values, fx);
        if through > self.hard_state.chosen() && self.hard_state.chosen() < Slot(K::SLOTS) {
            self.ask(now, from);
        }
    }

    /// The value of a ballot is chosen. A vote under it, or under a later one, is for that very value
    /// (PMS §2.2, P2b); a node that has none has missed the value.
    pub(crate) fn on_chosen(
        &mut self,
        now: Instant,
        from: NodeId,
        Chosen { slot, ballot, through }: Chosen,
        fx: &mut Fx<'_, K>,
    ) {
        let has_voted = self.log.stamp_at(slot).is_some_and(|stamp| stamp >= ballot);
        match self.value_at(slot) {
            Some(values) if has_voted => {
                self.on_learned(now, from, &Learned { first: slot, values, through }, fx);
            }
            _ if slot > self.hard_state.chosen() => self.ask(now, from),
            _ => {}
        }
    }

    /// A peer says where its knowledge ends: tell it more, or learn that we lack something.
    pub(crate) fn on_learn(
        &mut self,
        now: Instant,
        from: NodeId,
        learn: Learn,
        fx: &mut Fx<'_, K>,
    ) {
        let slot = learn.from;
        if slot <= self.hard_state.chosen() {
            self.tell_from(now, from, self.answer_from(from, slot), fx);
        } else if slot > self.hard_state.chosen().next() {
            self.ask(now, from);
        }
    }

    /// Time to ask the next node what we missed, and to finish what others have left open. A node
    /// without a vote looks for another guide if it has not heard of its own for too long.
    pub(crate) fn on_ask_timeout(&mut self, now: Instant, fx: &mut Fx<'_, K>) {
        let chosen = self.hard_state.chosen();
        // A node that learns what is chosen as it comes has nothing to ask for: what it has not got
        // yet is on its way.
        let is_fed = mem::replace(&mut self.chosen_at_ask, chosen) < chosen;
        let me = self.config.id();
        let voters = self.config.members().voters();
        let others = voters.iter().filter(|node| **node != me).count();
        if !is_fed
            && let Some(turn) = self.turn.checked_rem(others)
            && let Some(peer) = voters.iter().filter(|node| **node != me).nth(turn).copied()
        {
            self.turn = turn + 1;
            self.asked = Some((chosen.next(), now));
            self.outgoing.push(peer, Message::Learn(Learn { from: chosen.next() }));
        }
        if self.is_voter() {
            self.unblock(now, fx);
        } else if now.since(self.guided) > self.config.timing().cap {
            let next = voters.iter().find(|voter| **voter > self.guide).unwrap_or(&voters[0]);
            (self.guide, self.guided) = (*next, now);
        }
        self.arm_ask(fx);
    }

    pub(crate) fn arm_ask(&self, fx: &mut Fx<'_, K>) {
        let interval = self.ask_interval();
        fx.set_timer(Timer::CatchUp, interval..interval.saturating_mul(2));
    }

    pub(crate) fn ask_interval(&self) -> Duration {
        let timing = self.config.timing();
        timing.ask.max(self.round_trip().saturating_mul(8).min(timing.cap))
    }

    /// Asks a node that seems to know more. Not the same again within two round trips.
    pub(crate) fn ask(&mut self, now: Instant, to: NodeId) {
        let from = self.hard_state.chosen().next();
        let fresh = |(slot, at): (Slot, Instant)| {
            slot == from && now.since(at) < self.round_trip().saturating_mul(2)
        };
        if !self.asked.is_some_and(fresh) && to != self.config.id() {
            self.asked = Some((from, now));
            self.outgoing.push(to, Message::Learn(Learn { from }));
        }
    }

    /// Sends what was chosen at one slot, after all that a peer lacks whose history was not compared.
    pub(crate) fn tell(&mut self, now: Instant, to: NodeId, slot: Slot, fx: &mut Fx<'_, K>) {
        let first = self.answer_from(to, slot);
        if first < slot {
            return self.tell_from(now, to, first, fx);
        }
        let through = self.hard_state.chosen();
        match self.value_at(slot) {
            Some(values) => {
                self.outgoing.push(to, Message::Learned(Learned { first: slot, values, through }))
            }
            None => fx.ship_snapshot(to),
        }
    }

    /// Tells what was chosen from a slot on, as much as a few messages may carry. No more of these
    /// answers are in flight to a node: questions are short and overtake them.
    pub(crate) fn tell_from(&mut self, now: Instant, to: NodeId, first: Slot, fx: &mut Fx<'_, K>) {
        if first <= self.log.base() {
            return fx.ship_snapshot(to);
        }
        let is_known = |sent: &&Answered| (sent.slots.0..=sent.slots.1).contains(&first);
        let before = self.answered.get(&to).filter(is_known).copied();
        if before.is_some_and(|sent| now < sent.until) {
            return;
        }
        let through = self.hard_state.chosen();
        let (mut next, mut bytes) = (first, 0);
        for _ in 0..ANSWERS_IN_FLIGHT {
            let values = self.chosen_from(next);
            if values.is_empty() {
                break;
            }
            bytes += values.byte_len();
            self.outgoing.push(
                to,
                Message::Learned(Learned { first: next, values: values.clone(), through }),
            );
            next = next.plus(values.len());
        }
        let times = before.map_or(1, |sent| sent.times.saturating_add(1));
        let link = link_time(bytes, self.config.limits());
        let wait = self.round_trip().saturating_mul(2) + link;
        let wait = wait.saturating_mul(1 << times.min(4)).min(self.config.timing().cap * 4);
        let slots = (first, next.prev());
        self.answered.insert(to, Answered { slots, until: now + wait, times });
    }

    /// Chosen values from a slot on, as many as one message may carry.
    fn chosen_from(&self, first: Slot) -> Values {
        let through = self.hard_state.chosen();
        let mut batch = ValuesBuilder::new();
        for run in self.log.runs_from(first) {
            let room = self.config.limits().catch_up_bytes.saturating_sub(batch.byte_len());
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

    /// These values are chosen. Where this node voted for the same value its vote stays what it
    /// is; else the value is written as decided. No promise is touched, up or down.
    pub(crate) fn learn(&mut self, from: NodeId, first: Slot, values: &Values, fx: &mut Fx<'_, K>) {
        let mut news: Option<(usize, usize)> = None;
        for index in 0..values.len() {
            let (slot, value) = (first.plus(index), values.slice(index, index + 1));
            let known = slot <= self.hard_state.chosen() || self.decided.contains(&slot);
            let held = self.value_at(slot).is_some_and(|held| held == value);
            if known && !held && slot > self.log.base() {
                self.contradicted(from, slot, fx);
                break;
            }
            if known {
                self.write_news(first, values, news.take(), fx);
                continue;
            }
            self.decided.insert(slot);
            self.close(slot, &value, fx);
            if held {
                self.write_news(first, values, news.take(), fx);
            } else {
                news = Some((news.map_or(index, |(start, _)| start), index + 1));
            }
        }
        self.write_news(first, values, news, fx);
        self.seen = self.seen.max(first.plus(values.len()).prev());
        self.advance(fx);
    }

    fn write_news(
        &mut self,
        first: Slot,
        values: &Values,
        part: Option<(usize, usize)>,
        fx: &mut Fx<'_, K>,
    ) {
        if let Some((start, end)) = part {
            self.put(first.plus(start), CHOSEN, values.slice(start, end), fx);
        }
    }

    /// Reports what is chosen without a hole. The mark on disk follows with the next promise: who
    /// forgets it finds out again.
    pub(crate) fn advance(&mut self, fx: &mut Fx<'_, K>) {
        let before = self.hard_state.chosen();
        let mut chosen = before;
        while self.decided.remove(&chosen.next()) {
            chosen = chosen.next();
        }
        if chosen == before {
            return;
        }
        self.hard_state.choose(chosen);
        self.got_on = self.got_on.split_off(&chosen.next());
        self.emit(before, fx);
        if chosen >= Slot(K::SLOTS) {
            self.refuse_waiting(fx);
        }
    }

    /// Hands out what is chosen behind `after`.
    pub(crate) fn emit(&self, after: Slot, fx: &mut Fx<'_, K>) {
        let chosen = self.hard_state.chosen();
        for run in self.log.runs_from(after.next()) {
            if run.first > chosen {
                break;
            }
            let count = usize::try_from(chosen.0 - run.first.0 + 1).unwrap_or(usize::MAX);
            fx.chosen(run.prefix(count.min(run.values.len())));
        }
    }

    /// How long a round trip takes, disks included: as this node has measured it, or as its
    /// settings guess.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.measured.unwrap_or(self.config.timing().round_trip)
    }
}
