//! Errors of opening a replica.

use crate::disk::DecodeError;
use synod_consensus::RecoveryError;
use synod_types::Slot;

/// Error of a replica that cannot start from its stores.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log store's records are not this protocol's.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The protocol rejects the stored log.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The state is newer than the log: the log was rolled back, or belongs elsewhere.
    #[error(
        "the state is applied through slot {applied}, but the log ends at slot {last}: the log \
         was rolled back or replaced; do not start this node on it"
    )]
    LogBehindState {
        /// Last slot applied, according to the state store.
        applied: Slot,
        /// Last slot of the log store.
        last: Slot,
    },
    /// The log begins after the state: the slots between them are in neither.
    #[error(
        "the state is applied through slot {applied}, but the log was compacted through slot \
         {base}: the state was rolled back or replaced; do not start this node on it"
    )]
    StateBehindLog {
        /// Last slot applied, according to the state store.
        applied: Slot,
        /// Base of the log store's log.
        base: Slot,
    },
}
