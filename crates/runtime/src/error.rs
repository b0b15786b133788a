//! Errors of a replica's handle.

use crate::Fatal;
use synod_consensus::Refusal;
use synod_types::NodeId;

/// Reason that a command or a read has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// Too many requests are pending. Nothing happened.
    #[error("too many requests are pending: retry after a pause")]
    Busy,
    /// No leader accepted the request. Nothing happened.
    #[error("no leader accepted the request: retry once one is elected")]
    NotLeader {
        /// The probable leader.
        hint: Option<NodeId>,
    },
    /// The members of the cluster have changed. Nothing happened.
    #[error("the members of the cluster have changed: retry")]
    MembersChanged,
    /// The command is longer than the protocol or the queue accepts. Nothing happened.
    #[error("the command is larger than {limit} bytes: split it")]
    TooLarge {
        /// The longest command in bytes.
        limit: u64,
    },
    /// The protocol does not have this kind of request. Nothing happened.
    #[error("the protocol does not support this request")]
    Unsupported,
    /// The command or its reply does not match the state machine's types. Nothing happened, unless it is
    /// the reply: then the command was applied.
    #[error("cannot {action}: {reason}: all nodes must run the same state machine")]
    Codec {
        /// The step that failed.
        action: &'static str,
        /// The codec's message.
        reason: String,
    },
    /// The read found no quorum in time.
    #[error("the read reached no quorum in time: retry once a majority of the nodes runs")]
    ReadTimedOut,
    /// The replica stops or has stopped. Nothing happened.
    #[error("the replica is stopped: use another node{}", because(.cause.as_ref()))]
    Stopped {
        /// The first fatal error, if one stopped it.
        cause: Option<Fatal>,
    },
    /// The command may have been applied, or may be applied later.
    #[error(
        "the outcome is unknown: the command may have been applied or may yet be; read the state \
         before you execute it again{}", because(.cause.as_ref())
    )]
    OutcomeUnknown {
        /// The first fatal error, if one stopped the replica; otherwise the time ran out.
        cause: Option<Fatal>,
    },
}

fn because(cause: Option<&Fatal>) -> String {
    cause.map(|cause| format!(" ({cause})")).unwrap_or_default()
}

impl ReplicaError {
    /// Returns whether the same call may succeed later and cannot be applied twice by a retry.
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
