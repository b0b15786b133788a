//! Violations that checkers find.

use std::fmt;
use synod_types::{Instant, NodeId};

/// Violation of a checked property. It ends the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The property.
    pub kind: ViolationKind,
    /// Simulated time.
    pub at: Instant,
    /// The nodes concerned.
    pub nodes: Vec<NodeId>,
    /// The observation, in a line or two.
    pub explanation: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?} on {:?}: {}", self.kind, self.at, self.nodes, self.explanation)
    }
}

/// Kind of violation: the checked property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// Two nodes led under one ballot.
    TwoLeaders,
    /// A leader lacks a slot that was chosen before its ballot.
    LeaderIncomplete,
    /// Two values were chosen at one slot.
    Disagreement,
    /// A node reported a value as chosen that no quorum of disks holds; or, where stamps are
    /// ballots, that no quorum has ever held under one ballot. By default a quorum is a majority.
    NotOnQuorum,
    /// A chosen value was overwritten under a higher ballot.
    Overwritten,
    /// A node stopped with a fatal error, for example because it had to truncate slots that it had
    /// reported as chosen.
    FatalNodeError,
    /// Two logs hold different values at one slot under one stamp.
    LogMismatch,
    /// A node wrote a lower term, ballot or promise than before, or changed its vote.
    HardStateRegressed,
    /// A node sent a frame whose claim its synced disk does not back.
    FalseClaim,
    /// A node emitted a frame or a batch that cannot be decoded.
    Undecodable,
    /// A state machine differs from the result of the chosen commands.
    StateDiverged,
    /// A state store holds slots that its node's log has not made durable.
    StateAheadOfLog,
    /// A command took effect twice.
    AppliedTwice,
    /// An acknowledgement does not match the chosen command or the operation, or the command took
    /// effect before one that was acknowledged before it began.
    FalseReply,
    /// A client received two replies, or one from a node that it had not sent the request to.
    DuplicateReply,
    /// A command took effect although the client received a rejection.
    RejectedButApplied,
    /// A read missed a write that was acknowledged before it began.
    StaleRead,
    /// No order of the operations explains the results that clients saw. Checked at the end of a
    /// run.
    NotLinearizable,
    /// The history check reached its bound without a verdict.
    Undecided,
    /// A node could not start on its own disk.
    RecoveryFailed,
    /// A store rejected an operation that a working one accepts.
    StoreFailed,
    /// Corrupted bytes were accepted as written or sent.
    CorruptionUndetected,
    /// A healed cluster did not converge, or did not serve requests.
    Liveness,
    /// A load run did not recover from its disturbance: throughput, write latency or lag stayed
    /// bad, or leadership changed.
    NotRecovered,
    /// A load run sent or wrote too many bytes per command.
    Amplified,
    /// Nodes produce events without end at one instant.
    EndlessLoop,
    /// The code under test panicked.
    Panic,
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoLeaders => "two leaders",
            Self::LeaderIncomplete => "leader incomplete",
            Self::Disagreement => "disagreement",
            Self::NotOnQuorum => "not on a quorum",
            Self::Overwritten => "chosen value overwritten",
            Self::FatalNodeError => "fatal error of a node",
            Self::LogMismatch => "log mismatch",
            Self::HardStateRegressed => "hard state regressed",
            Self::FalseClaim => "false claim",
            Self::Undecodable => "undecodable bytes",
            Self::StateDiverged => "state diverged",
            Self::StateAheadOfLog => "state ahead of log",
            Self::AppliedTwice => "applied twice",
            Self::FalseReply => "false reply",
            Self::DuplicateReply => "duplicate reply",
            Self::RejectedButApplied => "rejected but applied",
            Self::StaleRead => "stale read",
            Self::NotLinearizable => "not linearizable",
            Self::Undecided => "undecided",
            Self::RecoveryFailed => "recovery failed",
            Self::StoreFailed => "store failed",
            Self::CorruptionUndetected => "corruption undetected",
            Self::Liveness => "liveness",
            Self::NotRecovered => "not recovered from the disturbance",
            Self::Amplified => "too many bytes per command",
            Self::EndlessLoop => "endless loop",
            Self::Panic => "panic",
        })
    }
}

/// Result of a check. The cluster fills in the time.
pub(crate) type Checked = Result<(), Box<Violation>>;

/// Returns a violation that was just found.
pub(crate) fn violation(
    kind: ViolationKind,
    nodes: impl IntoIterator<Item = NodeId>,
    explanation: String,
) -> Box<Violation> {
    let nodes = nodes.into_iter().collect();
    Box::new(Violation { kind, at: Instant::ZERO, nodes, explanation })
}
