//! Errors of calls on a replica's handle.

use crate::Fatal;
use synod_consensus::Refusal;
use synod_types::NodeId;

/// Error of a command or a read without a reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Too many requests are pending. The request was not accepted.
    #[error("too many requests are pending: retry after a pause")]
    Busy,
    /// No leader accepted the request in time. The request had no effect.
    #[error("no leader accepted the request: retry once a leader is elected")]
    NotLeader {
        /// Probable leader, if known.
        hint: Option<NodeId>,
    },
    /// The members of the cluster have changed. The request had no effect.
    #[error("the members of the cluster have changed: retry")]
    MembersChanged,
    /// The command is longer than the protocol or the queue accepts. The command had no effect.
    #[error("the command is larger than {limit} bytes: split it")]
    TooLarge {
        /// Limit in bytes.
        limit: u64,
    },
    /// The protocol does not support this kind of request. The request had no effect.
    #[error("the protocol does not support this request")]
    Unsupported,
    /// The command or its reply cannot be encoded or decoded. If it is the reply, the command was
    /// applied; otherwise it changed no state.
    #[error("cannot {action}: {reason}: all nodes must run the same state machine")]
    Codec {
        /// Step that failed.
        action: &'static str,
        /// Message of the codec.
        reason: String,
    },
    /// No quorum confirmed the read in time.
    #[error("no quorum confirmed the read in time: retry once a majority of the nodes runs")]
    ReadTimedOut,
    /// The replica is stopping or has stopped. The request had no effect.
    #[error("the replica is stopped: use another node{}", because(.cause.as_ref()))]
    Stopped {
        /// First fatal error, if one stopped the replica.
        cause: Option<Fatal>,
    },
    /// The command may have been applied, or may be applied later.
    #[error(
        "the outcome is unknown: the command may have been applied, or may be applied later; read \
         the state before you retry{}", because(.cause.as_ref())
    )]
    OutcomeUnknown {
        /// First fatal error, if one stopped the replica; otherwise the request timed out.
        cause: Option<Fatal>,
    },
}

fn because(cause: Option<&Fatal>) -> String {
    cause.map(|cause| format!(" ({cause})")).unwrap_or_default()
}

impl ReplicaError {
    /// Returns whether a retry of the same call may succeed and cannot apply a command twice.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Busy | Self::NotLeader { .. } | Self::MembersChanged | Self::ReadTimedOut => true,
            Self::TooLarge { .. }
            | Self::Unsupported
            | Self::Codec { .. }
            | Self::Stopped { .. }
            | Self::OutcomeUnknown { .. } => false,
        }
    }

    pub(crate) fn refused(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader { hint } => Self::NotLeader { hint },
            Refusal::Busy => Self::Busy,
            Refusal::WrongEpoch { .. } => Self::MembersChanged,
            Refusal::TooLarge { limit } => Self::TooLarge { limit },
            Refusal::Unsupported => Self::Unsupported,
        }
    }
}
