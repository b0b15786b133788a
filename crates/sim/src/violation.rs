//! Violations that checkers find.

use std::fmt;
use synod_types::{Instant, NodeId};

/// A property that did not hold: the run that found it ends at once.
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
    /// A node led without a slot that was chosen before its ballot.
    LeaderIncomplete,
    /// Two values were chosen at one slot.
    Disagreement,
    /// A value counts as chosen that the disks of no quorum (by default: of no majority) hold, or
    /// hold any longer, or, where stamps are ballots, have ever held under one ballot.
    NotOnMajority,
    /// A chosen value was written over under a higher ballot.
    Overwritten,
    /// A node was about to cut what it had taken for chosen out of its own log.
    UndoesApplied,
    /// Two logs hold different values at one slot under one stamp.
    LogMismatch,
    /// A term, vote or promise went back.
    HardStateRegressed,
    /// A message left that claims what its sender's disk does not hold.
    FalseClaim,
    /// A frame or a batch left that cannot be decoded.
    BadBytes,
    /// A state machine differs from what the chosen commands make.
    StateDiverged,
    /// A state store holds what its node's log has not made durable.
    StateAheadOfLog,
    /// A command took effect twice.
    AppliedTwice,
    /// An acknowledgement does not fit what was chosen, or came out of order.
    FalseAnswer,
    /// A client was answered twice, or by another node than the one that it asked.
    AnsweredTwice,
    /// A command that was refused for good took effect.
    RefusedButApplied,
    /// A read missed a write that was acknowledged before it began.
    StaleRead,
    /// No single store could have given the answers that clients saw: known at the end of a run.
    NotLinearizable,
    /// The check of the history ended at its bound without a verdict.
    Undecided,
    /// A node could not start on its own disk.
    RecoveryRefused,
    /// A store refused what a working one takes.
    StoreFailed,
    /// Damage was taken for what was written or sent.
    DamageUnnoticed,
    /// A healed cluster did not converge, or did not serve.
    Liveness,
    /// Throughput under load did not come back after a burst or a fault.
    NotRecovered,
    /// Bytes were sent or written many times over.
    Amplified,
    /// Nodes keep one another busy without the clock moving.
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
            Self::UndoesApplied => "undoes what is applied",
            Self::LogMismatch => "log mismatch",
            Self::HardStateRegressed => "hard state regressed",
            Self::FalseClaim => "false claim",
            Self::BadBytes => "bad bytes",
            Self::StateDiverged => "state diverged",
            Self::StateAheadOfLog => "state ahead of log",
            Self::AppliedTwice => "applied twice",
            Self::FalseAnswer => "false answer",
            Self::AnsweredTwice => "answered twice",
            Self::RefusedButApplied => "refused but applied",
            Self::StaleRead => "stale read",
            Self::NotLinearizable => "not linearizable",
            Self::Undecided => "undecided",
            Self::RecoveryRefused => "recovery refused",
            Self::StoreFailed => "store failed",
            Self::DamageUnnoticed => "damage unnoticed",
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

/// A violation that was just seen.
pub(crate) fn violation(
    kind: ViolationKind,
    nodes: impl IntoIterator<Item = NodeId>,
    explanation: String,
) -> Box<Violation> {
    let nodes = nodes.into_iter().collect();
    Box::new(Violation { kind, at: Instant::ZERO, nodes, explanation })
}
