//! Identities and counters, each a type of its own.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

number!(
    /// One node of a cluster. Zero is no node; real ones count from 1.
    NodeId,
    "n"
);
number!(
    /// One replicated log among the many that a node may host.
    GroupId,
    "g"
);
number!(
    /// Which configuration of a group a message belongs to; raised by every membership change.
    Epoch,
    "e"
);
number!(
    /// A place in the replicated log (Raft's log index). The first entry stands at slot 1; slot 0
    /// is the empty log's end.
    Slot,
    "s"
);
number!(
    /// A Raft term: a logical clock with at most one leader at each value (Raft §5.1).
    Term,
    "t"
);
number!(
    /// The sequence number of one durable batch of one node's log, from 1.
    Seq,
    "w"
);
number!(
    /// Names one proposal between a driver and its protocol core. Every ticket ends in exactly one
    /// of "placed" and "refused".
    Ticket,
    "k"
);
number!(
    /// Names one linearizable read between a driver and its protocol core.
    ReadId,
    "r"
);
number!(
    /// Which cluster a node or a frame belongs to: nodes of different clusters never talk.
    ClusterId,
    "c"
);
number!(
    /// Which life of a store this is: drawn at random when a store is created, so that a wiped
    /// store is not mistaken for the old one.
    Incarnation,
    "i"
);

impl Slot {
    /// Before the first entry.
    pub const ZERO: Self = Self(0);

    /// The slot after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The slot before this one; the one before slot 0 is slot 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// The slot `count` places further.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }
}

impl Term {
    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Seq {
    /// The sequence number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A Paxos proposal number: totally ordered, and never shared by two nodes, because the node is
/// part of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Raised by a proposer above everything it has seen.
    pub round: u64,
    /// Whose ballot it is; breaks ties.
    pub node: NodeId,
}

impl Ballot {
    /// Below every real ballot.
    pub const ZERO: Self = Self { round: 0, node: NodeId(0) };

    /// Above every real ballot: the stamp of a value that is known to be chosen.
    pub const CHOSEN: Self = Self { round: u64::MAX, node: NodeId(u64::MAX) };
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CHOSEN {
            return f.write_str("chosen");
        }
        write!(f, "{}.{}", self.round, self.node)
    }
}

/// What a message is to the network: lanes never wait for one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, acknowledgements: small, and late ones cost an election.
    Control,
    /// Entries of the replicated log.
    Log,
    /// Clients' requests on their way to the node that proposes them.
    Forward,
    /// Snapshots and other bulk: the first to wait.
    Bulk,
}

impl Lane {
    /// Every lane, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Log, Self::Forward, Self::Bulk];
}
