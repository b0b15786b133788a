//! Checked safety rules, and their violations.

use std::fmt;

/// A property that must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A slot has at most one chosen value, among those that nodes report and those that quorums voted for
    /// durably.
    Agreement,
    /// A chosen value stays on the disks of a quorum.
    OnQuorum,
    /// At a ballot above that of a chosen value no other value is written to its slot.
    NotOverwritten,
    /// A slot has one value per stamp, on all nodes.
    OneValuePerStamp,
    /// A ballot has at most one leader. Where stamps are terms, a term has.
    OneLeader,
    /// A leader holds all values chosen in earlier terms, where stamps are terms (Raft's leader
    /// completeness, §5.4).
    LeaderComplete,
    /// A node neither removes an applied slot nor writes another value to it.
    AppliedStays,
    /// Terms, votes and promises never go back.
    HardState,
    /// Each message that leaves a node is backed by the node's synced disk.
    Claims,
    /// A node reports chosen slots in order, without gaps.
    Order,
    /// The state is never persisted beyond the durable log.
    Durable,
    /// A node recovers from any content that its disk may hold after a crash.
    Recovery,
    /// No assertion of a core fails.
    NoPanic,
    /// Each exchange of messages ends.
    Quiet,
    /// Without faults every node applies new commands.
    Progress,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agreement => "agreement",
            Self::OnQuorum => "chosen values are on a quorum of disks",
            Self::NotOverwritten => "chosen values are not overwritten",
            Self::OneValuePerStamp => "one value per stamp",
            Self::OneLeader => "one leader per ballot",
            Self::LeaderComplete => "a leader holds all chosen values",
            Self::AppliedStays => "applied slots do not change",
            Self::HardState => "hard states never go back",
            Self::Claims => "messages are backed by the sender's disk",
            Self::Order => "slots are chosen in order",
            Self::Durable => "the state is not persisted beyond the log",
            Self::Recovery => "a node recovers from its disk",
            Self::NoPanic => "no panic",
            Self::Quiet => "message exchanges end",
            Self::Progress => "a cluster without faults makes progress",
        })
    }
}

/// Violation of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleViolation {
    /// Violated rule.
    pub rule: Rule,
    /// Observation that contradicts the rule, in one line.
    pub text: String,
}

impl fmt::Display for RuleViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

/// Result of a check.
pub type Checked = Result<(), Box<RuleViolation>>;

pub(crate) fn violated(rule: Rule, text: String) -> Box<RuleViolation> {
    Box::new(RuleViolation { rule, text })
}
