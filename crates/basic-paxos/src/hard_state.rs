//! What a node must never forget, beside its votes.

use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};
use synod_types::{Ballot, Slot};

/// What a node must remember beside its votes, which stand in the log under their ballots.
///
/// It is rewritten whole, so it holds the promises of OPEN slots only: what is chosen needs none,
/// because from then on every request for it is answered with the chosen value.
#[derive(Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    chosen: Slot,
    /// One for each slot behind `chosen`, up to the last that has one: a window is small and
    /// crowded. [`Ballot::ZERO`] where nothing was promised.
    promises: Vec<Ballot>,
}

impl HardState {
    /// Everything up to `chosen` is chosen; promises of later slots, made one after the other.
    #[must_use]
    pub fn new(chosen: Slot, promises: impl IntoIterator<Item = (Slot, Ballot)>) -> Self {
        let mut state = Self { chosen, promises: Vec::new() };
        for (slot, ballot) in promises {
            state.promise(slot, ballot);
        }
        state
    }

    /// Everything up to this slot is chosen, and the log holds it. May lag.
    #[must_use]
    pub fn chosen(&self) -> Slot {
        self.chosen
    }

    /// What was promised for an open slot; [`Ballot::ZERO`] if nothing was. A vote is a promise,
    /// too.
    #[must_use]
    pub fn promised(&self, slot: Slot) -> Ballot {
        let promise = self.index(slot).and_then(|index| self.promises.get(index));
        promise.copied().unwrap_or(Ballot::ZERO)
    }

    /// Every promise of an open slot, by slot.
    pub fn promises(&self) -> impl Iterator<Item = (Slot, Ballot)> + '_ {
        let slots = (0..).map(|index| self.chosen.next().plus(index));
        slots.zip(self.promises.iter().copied()).filter(|(_, ballot)| *ballot != Ballot::ZERO)
    }

    /// The last slot that anything was promised for, or that is chosen.
    pub(crate) fn last(&self) -> Slot {
        self.chosen.plus(self.promises.len())
    }

    /// Raises the promise of an open slot. One that is chosen needs none.
    pub(crate) fn promise(&mut self, slot: Slot, ballot: Ballot) {
        let Some(index) = self.index(slot) else { return };
        if self.promises.len() <= index {
            self.promises.resize(index + 1, Ballot::ZERO);
        }
        self.promises[index] = self.promises[index].max(ballot);
    }

    /// Everything up to `through` is chosen: its promises are not needed any more.
    pub(crate) fn choose(&mut self, through: Slot) {
        let Some(index) = self.index(through) else { return };
        self.promises.drain(..self.promises.len().min(index + 1));
        self.chosen = through;
    }

    fn index(&self, slot: Slot) -> Option<usize> {
        usize::try_from(slot.0.checked_sub(self.chosen.0)?).ok()?.checked_sub(1)
    }
}

impl synod_consensus::HardState for HardState {
    /// A promise only rises, and goes only when its slot is chosen.
    fn may_follow(&self, older: &Self) -> bool {
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
