//! Violations that checkers find.

use std::fmt;
use synod_types::{Instant, NodeId};

/// Violated property. The run that found it ends at once.
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

/// The properties that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ViolationKind {
    /// Two nodes led under one ballot.
    TwoLeaders,
    /// A leader lacks a slot that was chosen before its ballot.
    LeaderIncomplete,
    /// Two values were chosen at one slot.
    Disagreement,
    /// No quorum of disks (by default: no majority) holds a value that counts as chosen; or, where
    /// stamps are ballots, none ever held it under one ballot.
    NotOnMajority,
    /// A chosen value was overwritten under a higher ballot.
    Overwritten,
    /// A node was about to truncate slots that it had reported as chosen.
    TruncatesApplied,
    /// Two logs hold different values at one slot under one stamp.
    LogMismatch,
    /// A term, vote or promise went back.
    HardStateRegressed,
    /// A frame left a node whose synced disk does not back the frame's claim.
    FalseClaim,
    /// A node emitted a frame or a batch that cannot be decoded.
    BadBytes,
    /// A state machine differs from the result of the chosen commands.
    StateDiverged,
    /// A state store holds slots that its node's log has not made durable.
    StateAheadOfLog,
    /// A command took effect twice.
    AppliedTwice,
    /// An acknowledgement does not match the chosen command, or came out of order.
    FalseReply,
    /// A client got two replies, or one from another node than it sent its request to.
    DuplicateReply,
    /// A command that was rejected for good took effect.
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
    /// Throughput under load did not recover after a burst or a fault.
    NotRecovered,
    /// Bytes sent or written per command multiplied.
    Amplified,
    /// Nodes exchange events without end while the clock stands still.
    EndlessLoop,
    /// An assertion of the code under test failed.
    Panic,
}

impl fmt::Display for ViolationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TwoLeaders => "two leaders",
            Self::LeaderIncomplete => "leader incomplete",
            Self::Disagreement => "disagreement",
            Self::NotOnMajority => "not on a majority",
            Self::Overwritten => "chosen value overwritten",
            Self::TruncatesApplied => "truncates applied slots",
            Self::LogMismatch => "log mismatch",
            Self::HardStateRegressed => "hard state regressed",
            Self::FalseClaim => "false claim",
            Self::BadBytes => "bad bytes",
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
            Self::NotRecovered => "throughput not recovered",
            Self::Amplified => "bytes amplified",
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
