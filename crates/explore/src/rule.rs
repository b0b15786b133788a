//! Checked safety rules, and their violations.

use std::fmt;

/// A property that must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A slot has at most one chosen value. A value counts as chosen if a node reports it, or if a quorum has
    /// durably voted for it.
    Agreement,
    /// A chosen value stays on the disks of a quorum.
    ChosenOnQuorum,
    /// At a ballot above that of a chosen value no other value is written to its slot.
    NotOverwritten,
    /// A slot has one value per stamp, on all nodes.
    OneValuePerStamp,
    /// A ballot has at most one leader. In a protocol whose stamps are terms (Raft), a term has at most one.
    OneLeader,
    /// A leader holds all values chosen in earlier terms, where stamps are terms (Raft's leader
    /// completeness, §5.4).
    LeaderCompleteness,
    /// A node neither removes an applied slot nor writes another value to it.
    AppliedUnchanged,
    /// A node's term, vote and promises never regress.
    HardStateMonotonic,
    /// The claim that a message makes about its sender's disk is true of the synced disk when the message is
    /// sent (see [`Message::holds`](synod_consensus::Message::holds)).
    BackedMessages,
    /// A node reports chosen slots in order, without gaps.
    ChosenInOrder,
    /// The slot of a read is at or after every slot that any node had reported as chosen when the read
    /// arrived.
    FreshReads,
    /// A node never persists its state beyond the end of its durable log.
    StateWithinLog,
    /// A node recovers from any content that its disk may hold after a crash.
    Recovery,
    /// No assertion of a core fails.
    NoPanic,
    /// Each exchange of messages that are delivered at once ends: those of a node with itself, and those with
    /// [immediate delivery](crate::Delivery::Immediate).
    Termination,
    /// After all faults have ended, every node applies new commands within a time limit.
    Progress,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agreement => "agreement",
            Self::ChosenOnQuorum => "chosen values are on a quorum of disks",
            Self::NotOverwritten => "chosen values are not overwritten",
            Self::OneValuePerStamp => "one value per stamp",
            Self::OneLeader => "one leader per ballot",
            Self::LeaderCompleteness => "a leader holds all chosen values",
            Self::AppliedUnchanged => "applied slots do not change",
            Self::HardStateMonotonic => "hard states never regress",
            Self::BackedMessages => "messages are backed by the sender's disk",
            Self::ChosenInOrder => "slots are chosen in order",
            Self::FreshReads => "reads see all chosen slots",
            Self::StateWithinLog => "the state is not persisted beyond the log",
            Self::Recovery => "a node recovers from its disk",
            Self::NoPanic => "no panic",
            Self::Termination => "message exchanges end",
            Self::Progress => "a cluster without faults makes progress",
        })
    }
}

/// Violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleViolation {
    /// Violated rule.
    pub rule: Rule,
    /// Description of the violation with its values, in one line.
    pub text: String,
}

impl fmt::Display for RuleViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Result of a check: nothing, or the violated rule.
pub type Checked = Result<(), Box<RuleViolation>>;

pub(crate) fn violated(rule: Rule, text: String) -> Box<RuleViolation> {
    Box::new(RuleViolation { rule, text })
}
