//! Errors of recovery.

use synod_types::{Ballot, Slot};

/// Reason why a core cannot be recovered from a disk. Each means that log, hard state and state
/// machine do not belong together, or are damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The state machine is ahead of the log.
    #[error("the state is applied through slot {applied}, but the log ends at slot {last}")]
    AppliedBeyondLog {
        /// Last slot that the state machine holds.
        applied: Slot,
        /// Last slot of the log.
        last: Slot,
    },
    /// The log was compacted beyond the end of the state.
    #[error("the slots after {after} through {until} are neither in the log nor in the state")]
    MissingPrefix {
        /// Last slot that the state machine holds.
        after: Slot,
        /// Last slot that the log no longer holds.
        until: Slot,
    },
    /// Log and state hold different entries in one slot.
    #[error("the log and the state hold different entries in slot {at}")]
    BaseMismatch {
        /// The slot.
        at: Slot,
    },
    /// The log has a gap, in a protocol whose log has none.
    #[error("slot {slot} is missing from the log")]
    MissingSlot {
        /// First slot of the gap.
        slot: Slot,
    },
    /// The log has a gap among chosen slots.
    #[error("slot {slot} is chosen, but missing from the log")]
    MissingChosen {
        /// First slot of the gap.
        slot: Slot,
    },
    /// A number on disk is beyond the range of slots, terms and ballots: damage.
    #[error("slot {slot} or ballot {at} is out of range")]
    OutOfRange {
        /// The slot.
        slot: Slot,
        /// Its stamp, or the hard state's.
        at: Ballot,
    },
    /// A slot has a stamp that its neighbours or the hard state rule out.
    #[error("slot {slot} has stamp {stamp}, which is out of order with stamp {limit}")]
    StampOutOfOrder {
        /// The slot.
        slot: Slot,
        /// Its stamp.
        stamp: Ballot,
        /// The stamp before it, or the term or promise of the hard state.
        limit: Ballot,
    },
    /// A slot was accepted at a ballot above the promise.
    #[error("slot {slot} was accepted at ballot {accepted}, above the promise of {promised}")]
    AcceptedAbovePromise {
        /// The slot.
        slot: Slot,
        /// The ballot at which it was accepted.
        accepted: Ballot,
        /// The promise.
        promised: Ballot,
    },
    /// The settings cannot belong to this disk.
    #[error("{0}")]
    Config(&'static str),
}
