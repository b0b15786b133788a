//! Comparison of histories: no node mixes chosen slots of two.
//!
//! If a quorum loses its disks, it can choose other values for slots that a survivor has applied.
//! Paxos does not cover that fault, and its slots are independent: without a check, each side would
//! continue its own first slots with later slots of the other. So every letter states what its sender
//! knew to be chosen before the letter's round, and its receiver compares that with its own log.
//!
//! **Invariant:** a node learns the slot after its last chosen one only from a letter whose statement
//! it has compared, or in answer to a letter of its own whose statement the sender has compared.
//! Answers to a peer whose commands were not compared yet leave out no slot that it lacks.

use crate::message::Letter;
use crate::per_slot::{Fx, Kind, PerSlot};
use serde::{Deserialize, Serialize};
use synod_consensus::Contradiction;
use synod_types::{Instant, NodeId, Slot, ValueRef};

/// Digest of a history that the log does not hold: a snapshot has replaced it.
const UNKNOWN: u32 = 0;
/// Digest of a history without commands within [`LOOK_BACK`].
const NO_COMMAND: u32 = 1;

/// Slots that are searched for the last command, so that a long row of no-ops is no long step.
const LOOK_BACK: usize = 64;

/// Bytes of a command that its digest covers. A driver's commands begin with session and number.
const COVERED: usize = 128;

/// A node's statement of what it knows to be chosen. No-ops are equal in every history, so the digest
/// is that of the last command and its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Known {
    /// Every slot up to here is known to be chosen.
    through: Slot,
    digest: u32,
}

impl Known {
    pub(crate) fn through(self) -> Slot {
        self.through
    }
}

/// Result of comparing a peer's history with this node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum History {
    /// The peer's last command was this node's, too.
    Shared,
    /// The peer lacks the slots after this one, and no command before it was compared.
    Unverified(Slot),
}

impl<K: Kind> PerSlot<K> {
    /// Compares histories, then handles each message of the letter as if it had come alone.
    pub(crate) fn on_letter(
        &mut self,
        now: Instant,
        from: NodeId,
        letter: Letter,
        fx: &mut Fx<'_, K>,
    ) {
        if let Some(differs) = self.compare(from, letter.known()) {
            if self.contradicted(from, letter.known().through, fx) {
                // Shows the peer what it contradicts: it cannot see for itself if it has fewer slots.
                self.tell_from(now, from, differs, fx);
            }
            return;
        }
        for message in letter.into_messages() {
            self.on_message(now, from, message, fx);
        }
    }

    /// Compares a peer's statement with this node's log. Returns the slot from which on the two were
    /// compared if they differ.
    fn compare(&mut self, from: NodeId, theirs: Known) -> Option<Slot> {
        let is_peer = from != self.config.id() && self.config.members().contains(from);
        if !is_peer || theirs.digest == UNKNOWN {
            return None;
        }
        let chosen = self.hard_state.chosen();
        if theirs.through > chosen {
            // The peer compares, when this node sends. It lacks nothing that could be told.
            if self.histories.get(&from) != Some(&History::Shared) {
                self.histories.remove(&from);
            }
            return None;
        }
        let (first, digest) = self.last_command(theirs.through);
        match digest {
            UNKNOWN => {}
            _ if digest != theirs.digest => return Some(first),
            NO_COMMAND if self.histories.get(&from) == Some(&History::Shared) => {}
            NO_COMMAND if theirs.through == chosen => drop(self.histories.remove(&from)),
            NO_COMMAND => {
                self.histories.insert(from, History::Unverified(theirs.through));
            }
            _ => {
                self.histories.insert(from, History::Shared);
            }
        }
        None
    }

    /// A peer takes another value for chosen in a slot, or before it. Returns whether this node may go
    /// on: it may if a majority shares its history, and then the peer is the one to stop.
    pub(crate) fn contradicted(&mut self, by: NodeId, slot: Slot, fx: &mut Fx<'_, K>) -> bool {
        self.histories.remove(&by);
        let members = self.config.members();
        let shares = |(node, history): &(&NodeId, &History)| {
            **history == History::Shared && members.is_voter(**node)
        };
        let agreed = usize::from(self.is_voter()) + self.histories.iter().filter(shares).count();
        let goes_on = agreed >= members.majority();
        if goes_on {
            self.ignore(by, "it contradicts what is chosen", fx);
        } else {
            fx.contradicted(Contradiction { slot, by });
        }
        goes_on
    }

    /// Returns the slot from which on a peer that asks about `slot` is answered.
    pub(crate) fn answer_from(&self, to: NodeId, slot: Slot) -> Slot {
        match self.histories.get(&to) {
            Some(History::Unverified(through)) => slot.min(through.next()),
            Some(History::Shared) | None => slot,
        }
    }

    /// Returns the statement of the letters to come. A single decree has no later slots to mix.
    pub(crate) fn known(&self) -> Known {
        let through = self.hard_state.chosen();
        if K::SLOTS == 1 {
            return Known::default();
        }
        Known { through, digest: self.last_command(through).1 }
    }

    /// Returns the last command up to a chosen slot: its own slot, or the last one searched, and its
    /// digest.
    fn last_command(&self, through: Slot) -> (Slot, u32) {
        let mut slot = through.next();
        for _ in 0..LOOK_BACK {
            if slot <= Slot(1) {
                break;
            }
            slot = slot.prev();
            match self.log.get(slot) {
                Some((_, ValueRef::Command(command))) => return (slot, digest(slot, command)),
                Some(_) => {}
                None => return (slot, UNKNOWN),
            }
        }
        (slot, NO_COMMAND)
    }
}

/// FNV-1a of a command and its slot, folded to 32 bits.
fn digest(slot: Slot, command: &[u8]) -> u32 {
    let covered = &command[..command.len().min(COVERED)];
    let length = (command.len() as u64).to_le_bytes();
    let bytes = slot.0.to_le_bytes().into_iter().chain(length).chain(covered.iter().copied());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ((hash >> 32) as u32 ^ hash as u32).max(NO_COMMAND + 1)
}
