//! Errors of opening a replica.

use crate::disk::DecodeError;
use synod_consensus::RecoveryError;
use synod_types::Slot;

/// Error of a replica that cannot start from its stores.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another protocol or a newer version wrote a record of the log store.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The protocol rejects the stored log.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The log ends before the applied slot: the log was rolled back, or is another node's.
    #[error(
        "the state is applied through slot {applied}, but the log ends at slot {last}: the log \
         was rolled back or replaced; do not start this node on it"
    )]
    LogBehindState {
        /// Last slot applied, according to the state store.
        applied: Slot,
        /// Last slot in the log store.
        last: Slot,
    },
    /// The log begins after the applied slot: the slots in between are in neither store.
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
