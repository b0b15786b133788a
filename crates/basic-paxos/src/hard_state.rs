//! Persistent state beside the votes.

use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use synod_types::{Ballot, Slot};

/// Persistent state: promises of open slots. Votes are in the log, under their ballots.
///
/// It is rewritten whole, so it holds the promises of OPEN slots only. A chosen slot needs none, because
/// every request for it is answered with the chosen value.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    chosen: Slot,
    /// Promise of each slot after `chosen`, up to the last that has one; [`Ballot::ZERO`] for none.
    /// Dense, because most slots of the window have one.
    promises: Vec<Ballot>,
}

impl HardState {
    /// Creates a state in which all slots through `chosen` are chosen, with promises of later slots.
    #[must_use]
    pub fn new(chosen: Slot, promises: impl IntoIterator<Item = (Slot, Ballot)>) -> Self {
        let mut state = Self { chosen, promises: Vec::new() };
        for (slot, ballot) in promises {
            state.promise(slot, ballot);
        }
        state
    }

    /// Returns the slot through which all slots are chosen and held in the log. May lag behind memory.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.chosen
    }

    /// Returns the promise of an open slot; [`Ballot::ZERO`] if there is none.
    #[must_use]
    pub fn promised(&self, slot: Slot) -> Ballot {
        let promise = self.index(slot).and_then(|index| self.promises.get(index));
        promise.copied().unwrap_or(Ballot::ZERO)
    }

    /// Returns every promise of an open slot, by slot.
    pub fn promises(&self) -> impl Iterator<Item = (Slot, Ballot)> + '_ {
        let slots = (0..).map(|index| self.chosen.next().plus(index));
        slots.zip(self.promises.iter().copied()).filter(|(_, ballot)| *ballot != Ballot::ZERO)
    }

    /// Returns the last slot that has a promise or is chosen.
    pub(crate) fn last(&self) -> Slot {
        self.chosen.plus(self.promises.len())
    }

    /// Raises the promise of an open slot. Does nothing for a chosen one.
    pub(crate) fn promise(&mut self, slot: Slot, ballot: Ballot) {
        let Some(index) = self.index(slot) else { return };
        if self.promises.len() <= index {
            self.promises.resize(index + 1, Ballot::ZERO);
        }
        // Never lowered (PMS §2.2, P1a): callers may pass ballots in any order.
        self.promises[index] = self.promises[index].max(ballot);
    }

    /// Drops the promises of all slots through `through`, because they are chosen.
    pub(crate) fn choose(&mut self, through: Slot) {
        let Some(index) = self.index(through) else { return };
        self.promises.drain(..self.promises.len().min(index + 1));
        self.chosen = through;
    }

    /// Returns the index of an open slot's promise.
    fn index(&self, slot: Slot) -> Option<usize> {
        usize::try_from(slot.0.checked_sub(self.chosen.0)?).ok()?.checked_sub(1)
    }
}

impl synod_consensus::HardState for HardState {
    /// Returns whether no open slot's promise is lower or missing.
    fn may_follow(&self, older: &Self) -> bool {
        // Chosen slots stay chosen; only those that became chosen may lose their promise.
        let Some(settled) = self.chosen.0.checked_sub(older.chosen.0) else { return false };
        let settled = usize::try_from(settled).unwrap_or(usize::MAX);
        let open = older.promises.get(settled..).unwrap_or_default();
        let kept = open.iter().zip(&self.promises).all(|(before, now)| now >= before);
        kept && self.promises.len() >= open.len()
    }
}

impl fmt::Debug for HardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let promises = fmt::from_fn(|f| f.debug_map().entries(self.promises()).finish());
        let mut fields = f.debug_struct("HardState");
        fields.field("chosen", &self.chosen).field("promises", &promises).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use synod_consensus::HardState as _;
    use synod_types::NodeId;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    /// Promises of the slots after `chosen`, by their rounds; 0 is none.
    fn state(chosen: u64, rounds: &[u64]) -> HardState {
        let slots = (chosen + 1..).map(Slot).zip(rounds);
        let promised = slots.filter(|(_, round)| **round > 0);
        HardState::new(Slot(chosen), promised.map(|(slot, round)| (slot, ballot(*round))))
    }

    #[test]
    fn promise_only_rises_and_belongs_to_an_open_slot() {
        let mut state = state(3, &[2, 0, 5]);
        assert_eq!(state.last(), Slot(6));
        for (slot, round) in [(4, 1), (3, 9), (0, 9), (6, 7)] {
            state.promise(Slot(slot), ballot(round));
        }
        let all: Vec<_> = state.promises().collect();
        assert_eq!(all, [(Slot(4), ballot(2)), (Slot(6), ballot(7))]);
        for (slot, expected) in [
            (3, Ballot::ZERO),
            (4, ballot(2)),
            (5, Ballot::ZERO),
            (6, ballot(7)),
            (7, Ballot::ZERO),
        ] {
            assert_eq!(state.promised(Slot(slot)), expected, "slot {slot}");
        }
    }

    #[test]
    fn choosing_slots_drops_their_promises_and_no_others() {
        for (through, left) in [(0, 3), (3, 3), (4, 2), (5, 1), (6, 0), (100, 0)] {
            let mut state = state(3, &[2, 3, 5]);
            state.choose(Slot(through));
            assert_eq!(state.chosen(), Slot(through.max(3)), "through {through}");
            assert_eq!(state.promises().count(), left, "through {through}");
            assert!(left == 0 || state.promised(Slot(6)) == ballot(5), "through {through}");
        }
    }

    #[test]
    fn hard_state_never_lowers_or_drops_an_open_promise() {
        let older = state(3, &[2, 0, 5]);
        let cases = [
            ("itself", older.clone(), true),
            ("one more", state(3, &[2, 1, 5]), true),
            ("higher", state(3, &[2, 0, 6]), true),
            ("longer", state(3, &[2, 0, 5, 1]), true),
            ("lower", state(3, &[1, 0, 5]), false),
            ("lost", state(3, &[0, 0, 5]), false),
            ("cut off", state(3, &[2]), false),
            ("settled", state(4, &[0, 5]), true),
            ("settled and lower", state(4, &[0, 4]), false),
            ("settled and cut off", state(4, &[1]), false),
            ("all settled", state(6, &[]), true),
            ("far beyond", state(60, &[]), true),
            ("unsettled", state(2, &[9, 9, 9, 9]), false),
        ];
        for (name, newer, expected) in cases {
            assert_eq!(newer.may_follow(&older), expected, "{name}: {newer:?}");
        }
    }

    #[test]
    fn debug_output_names_promises_by_slot() {
        let shown = format!("{:?}", state(3, &[2, 0, 5]));
        assert_eq!(shown, "HardState { chosen: s3, promises: {s4: 2.1, s6: 5.1} }");
    }
}
