//! Slots of a log: promises, votes and chosen values.

use crate::acceptor::Acceptor;
use crate::hard_state::HardState;
use crate::message::CHOSEN;
use crate::protocol::Paxos;
use alloc::collections::{BTreeMap, BTreeSet};
use core::mem;
use core::time::Duration;
use synod_consensus::{Base, Effects, Run, RunLog, Write};
use synod_types::{Ballot, Instant, Slot, Values};

/// State of a slot as this node knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Known to be chosen.
    Chosen,
    /// Within the window: it may be voted on.
    Open,
    /// After the window: a message for it shows that this node lags.
    BeyondWindow,
}

/// Acceptor state and values of all slots.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Slots {
    hard_state: HardState,
    /// True if the hard state has changed since it was written.
    is_dirty: bool,
    base: Base<Ballot>,
    /// Votes under their ballots, and chosen values.
    log: RunLog<Ballot>,
    /// Chosen slots after the first slot that is not known to be chosen.
    chosen_ahead: BTreeSet<Slot>,
    /// Last slot that any node is known to have used.
    last_used: Slot,
    /// Highest slot through which a peer knows all chosen values.
    peers_chosen: Slot,
    /// Time when the chosen part of the log last grew.
    last_advance: Instant,
    /// Time of the last new promise or vote of each open slot. Retransmissions do not count: otherwise a
    /// proposer that receives no replies could keep all others away from its slot.
    last_progress: BTreeMap<Slot, Instant>,
    /// Number of slots that may be open.
    window: usize,
    /// Last slot of the log.
    end: Slot,
}

impl Slots {
    /// Creates the slots from recovered state.
    pub(crate) fn new(
        hard_state: HardState,
        base: Base<Ballot>,
        log: RunLog<Ballot>,
        window: usize,
        end: Slot,
    ) -> Self {
        let last_used = log.last().max(hard_state.last());
        let mut slots = Self {
            hard_state,
            is_dirty: false,
            base,
            log,
            chosen_ahead: BTreeSet::new(),
            last_used,
            peers_chosen: Slot::ZERO,
            last_advance: Instant::ZERO,
            last_progress: BTreeMap::new(),
            window,
            end,
        };
        // The hard state records no chosen slot after a hole, but the stamp of a learnt value shows that
        // it is chosen.
        let learnt = slots.log.runs_from(slots.chosen().next()).filter(|run| run.stamp == CHOSEN);
        for run in learnt {
            slots.chosen_ahead.extend((0..run.values.len()).map(|index| run.first.plus(index)));
        }
        slots.advance();
        slots
    }

    /// Returns the last slot through which all are known to be chosen.
    pub(crate) fn chosen(&self) -> Slot {
        self.hard_state.chosen()
    }

    pub(crate) fn base(&self) -> &Base<Ballot> {
        &self.base
    }

    pub(crate) fn log(&self) -> &RunLog<Ballot> {
        &self.log
    }

    /// Returns the last slot of the log.
    pub(crate) fn end(&self) -> Slot {
        self.end
    }

    pub(crate) fn last_used(&self) -> Slot {
        self.last_used
    }

    pub(crate) fn last_progress(&self, slot: Slot) -> Option<Instant> {
        self.last_progress.get(&slot).copied()
    }

    /// Returns whether no slot is left for a proposal.
    pub(crate) fn is_full(&self) -> bool {
        self.chosen() >= self.end
    }

    pub(crate) fn state(&self, slot: Slot) -> SlotState {
        if slot <= self.chosen() || self.chosen_ahead.contains(&slot) {
            SlotState::Chosen
        } else if slot <= self.last_open() {
            SlotState::Open
        } else {
            SlotState::BeyondWindow
        }
    }

    /// Returns the first slot after `slot` that this node does not know to be chosen.
    pub(crate) fn first_not_chosen_after(&self, slot: Slot) -> Slot {
        let mut next = slot.max(self.chosen()).next();
        while self.chosen_ahead.contains(&next) {
            next = next.next();
        }
        next
    }

    /// Returns the last slot that may be open.
    pub(crate) fn last_open(&self) -> Slot {
        self.chosen().plus(self.window).min(self.end)
    }

    /// Returns the first slot that no node is known to have used, or the last one of the log.
    pub(crate) fn next_unused(&self) -> Slot {
        self.last_used.next().min(self.end)
    }

    /// Returns the slot through which chosen values are in flight to this node; zero if its log has not
    /// advanced for `max_wait`.
    pub(crate) fn arriving(&self, now: Instant, max_wait: Duration) -> Slot {
        // Every voter would answer a Prepare for such a slot with its value once more. Without progress
        // this node has to propose for them, because the peer that knew them may be gone.
        let is_advancing = now.since(self.last_advance) < max_wait;
        if is_advancing { self.peers_chosen } else { Slot::ZERO }
    }

    pub(crate) fn promised(&self, slot: Slot) -> Ballot {
        self.hard_state.promised(slot)
    }

    /// Returns the acceptor of an open slot, made from its promise and its vote.
    pub(crate) fn acceptor(&self, slot: Slot) -> Acceptor<Values> {
        debug_assert_eq!(self.state(slot), SlotState::Open, "only open slots are voted on");
        let stamp = self.log.stamp_at(slot);
        let accepted = stamp.and_then(|stamp| Some((stamp, self.value_at(slot)?)));
        Acceptor::restored(self.promised(slot), accepted)
    }

    /// Returns the value at a slot: chosen, or merely voted for.
    pub(crate) fn value_at(&self, slot: Slot) -> Option<Values> {
        let run = self.log.run_at(slot)?;
        let index = usize::try_from(slot.0 - run.first.0).ok()?;
        Some(run.values.slice(index, index + 1))
    }

    /// Records that slots through this one are used.
    pub(crate) fn use_through(&mut self, slot: Slot) {
        self.last_used = self.last_used.max(slot);
    }

    /// Records the slot through which a peer knows all chosen values.
    pub(crate) fn on_peer_chosen(&mut self, through: Slot) {
        self.peers_chosen = self.peers_chosen.max(through);
    }

    /// Records a new promise or vote. The promise is written at the end of the round.
    pub(crate) fn promise(&mut self, now: Instant, slot: Slot, ballot: Ballot) {
        debug_assert!(ballot < CHOSEN, "{ballot} is not the stamp of learnt values");
        self.last_progress.insert(slot, now);
        // A vote at the promised ballot is progress, but needs no second write of the promise.
        if self.promised(slot) < ballot {
            self.hard_state.promise(slot, ballot);
            self.is_dirty = true;
        }
        debug_assert!(
            self.promised(slot) >= ballot,
            "the promise of {slot:?} is at least {ballot}"
        );
    }

    /// Writes votes under their ballot, or learnt values under [`CHOSEN`].
    pub(crate) fn put<P: Paxos>(
        &mut self,
        first: Slot,
        stamp: Ballot,
        values: Values,
        fx: &mut Effects<P>,
    ) {
        debug_assert!(first > self.chosen(), "chosen slots are not written again");
        debug_assert!(
            stamp == CHOSEN || self.promised(first) >= stamp,
            "a vote is written together with its promise"
        );
        let run = Run { first, stamp, values };
        fx.write(Write::Put(run.clone()));
        self.log.put(run);
    }

    /// Records that the value of an open slot is chosen.
    pub(crate) fn choose(&mut self, slot: Slot) {
        // The promise stays: a crash may undo what was learnt, and then the slot's acceptor needs it.
        debug_assert!(slot > self.chosen() && slot <= self.end, "{slot:?} is open");
        self.chosen_ahead.insert(slot);
    }

    /// Moves the chosen part to the first hole. Returns its former end if it moved.
    pub(crate) fn advance(&mut self) -> Option<Slot> {
        let before = self.chosen();
        let mut chosen = before;
        while self.chosen_ahead.remove(&chosen.next()) {
            chosen = chosen.next();
        }
        if chosen == before {
            return None;
        }
        // Not written now but with the next promise: after a crash the slots are learnt again.
        self.choose_through(chosen);
        Some(before)
    }

    /// Records that all slots through this one are chosen.
    fn choose_through(&mut self, chosen: Slot) {
        // Chosen slots need no acceptor: requests for them are answered with their values.
        self.hard_state.choose(chosen);
        self.last_progress = self.last_progress.split_off(&chosen.next());
    }

    /// Records the time if the chosen part has grown from `before`.
    pub(crate) fn note_advance(&mut self, now: Instant, before: Slot) {
        if self.chosen() > before {
            self.last_advance = now;
        }
    }

    /// Emits the chosen slots after a slot, in order and without a gap.
    pub(crate) fn emit<P: Paxos>(&self, after: Slot, fx: &mut Effects<P>) {
        let (chosen, mut next) = (self.chosen(), after.next());
        for run in self.log.runs_from(next) {
            if run.first > chosen {
                break;
            }
            debug_assert_eq!(run.first, next, "chosen slots are held until a snapshot covers them");
            // The rest of a run may be mere votes under the same ballot.
            let count = usize::try_from(chosen.0 - run.first.0 + 1).unwrap_or(usize::MAX);
            let run = run.prefix(count.min(run.values.len()));
            next = run.last().next();
            fx.chosen(run);
        }
        debug_assert!(next > chosen, "each chosen slot is emitted");
    }

    /// Writes the hard state if it has changed.
    pub(crate) fn write_hard_state<P: Paxos>(&mut self, fx: &mut Effects<P>) {
        if mem::take(&mut self.is_dirty) {
            fx.write(Write::HardState(self.hard_state.clone()));
        }
    }

    pub(crate) fn base_at(&self, through: Slot) -> Option<Base<Ballot>> {
        // A vote that is not chosen may still be replaced, so no snapshot may contain it.
        if through > self.chosen() {
            return None;
        }
        let stamp = self.log.stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    /// Moves the base, and drops the slots that it covers.
    pub(crate) fn move_base<P: Paxos>(&mut self, base: Base<Ballot>, fx: &mut Effects<P>) {
        assert!(base.through > self.base.through, "a base only moves forward");
        // Slots are independent decrees: the votes after the base stay, even if its stamp differs from
        // this node's vote there. Dropping a vote could undo a choice.
        self.log.compact(base.through, base.stamp);
        self.base = base;
        fx.write(Write::Compact(self.base.clone()));
    }

    /// Records the slots of an installed snapshot as chosen.
    pub(crate) fn install(&mut self, through: Slot) {
        assert!(through > self.chosen() && through <= self.end, "missed slots are installed");
        assert_eq!(through, self.base.through, "a base is moved before it is installed");
        self.choose_through(through);
        self.chosen_ahead = self.chosen_ahead.split_off(&through.next());
        self.use_through(through);
        self.is_dirty = true;
    }

    /// Checks the invariants that take more than constant time.
    pub(crate) fn check_invariants(&self) {
        let chosen = self.chosen();
        assert_eq!(self.base.through, self.log.base(), "log and base agree");
        assert!(self.log.base() <= chosen, "only chosen slots are compacted");
        assert!(self.log.gap_after(self.log.base()) > chosen, "chosen slots are held");
        assert!(self.log.last().max(self.hard_state.last()) <= self.last_used, "uses are recorded");
        assert!(!self.chosen_ahead.contains(&chosen.next()), "advanced as far as possible");
        for slot in &self.chosen_ahead {
            assert!(*slot > chosen && *slot <= self.end, "{slot:?} is after the chosen part");
            assert!(self.log.get(*slot).is_some(), "the value chosen at {slot:?} is held");
        }
        for (slot, promised) in self.hard_state.promises() {
            assert!(slot > chosen && promised < CHOSEN, "{slot:?} is open, its promise a ballot");
        }
        for run in self.log.runs_from(chosen.next()).filter(|run| run.stamp != CHOSEN) {
            for slot in (0..run.values.len()).map(|index| run.first.plus(index)) {
                assert!(self.promised(slot) >= run.stamp, "the vote at {slot:?} is a promise, too");
            }
        }
        for slot in self.last_progress.keys() {
            assert!(*slot > chosen && *slot <= self.last_used, "{slot:?} is in use and not chosen");
        }
    }
}
