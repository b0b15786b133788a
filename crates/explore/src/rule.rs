//! The rules that are checked.

use std::fmt;

/// A property that must hold in every state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// One slot has one chosen value: what nodes report, and what quorums voted for durably.
    Agreement,
    /// A chosen value stays on the disks of a quorum.
    OnQuorum,
    /// Above the ballot in which a value was chosen no other value is ever written to its slot.
    NotOverwritten,
    /// One slot under one stamp has one value, on every node.
    OneValueAStamp,
    /// One ballot has one leader; where stamps are terms, one term.
    OneLeader,
    /// Where stamps are terms: a leader holds all that was chosen in earlier terms.
    LeaderComplete,
    /// A node neither removes a slot that it has applied nor writes another value there.
    AppliedStays,
    /// Terms, votes and promises never go back.
    HardState,
    /// Each message that leaves a node is backed by its synced disk.
    Claims,
    /// A node reports chosen slots in order and without a gap.
    Order,
    /// The state may be made durable only as far as the log is.
    Durable,
    /// A node starts from any content that its disk may hold after a crash.
    Recovery,
    /// No assertion of a core fails.
    NoPanic,
    /// Nodes do not send each other messages without end.
    Quiet,
    /// Where nothing fails, new commands are applied by every node.
    Progress,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agreement => "agreement",
            Self::OnQuorum => "chosen means on a quorum",
            Self::NotOverwritten => "what is chosen is not overwritten",
            Self::OneValueAStamp => "one value a stamp",
            Self::OneLeader => "one leader a ballot",
            Self::LeaderComplete => "a leader holds what was chosen",
            Self::AppliedStays => "what is applied stays",
            Self::HardState => "a hard state never goes back",
            Self::Claims => "messages are backed by the disk",
            Self::Order => "chosen in order",
            Self::Durable => "the state never passes the log",
            Self::Recovery => "a node starts from its disk",
            Self::NoPanic => "no panic",
            Self::Quiet => "nodes come to rest",
            Self::Progress => "a cluster without faults makes progress",
        })
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleViolation {
    /// The rule.
    pub rule: Rule,
    /// The observation, in a line.
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
