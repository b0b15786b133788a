//! Identifiers and counters as newtypes.

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
    /// Id of a node in a cluster, from 1. Zero means no node.
    NodeId,
    "n"
);
number!(
    /// Id of a replicated log. A node may host several.
    GroupId,
    "g"
);
number!(
    /// Number of a group's configuration, incremented by every membership change.
    Epoch,
    "e"
);
number!(
    /// Position in the replicated log (Raft's log index), from 1. Slot 0 is the end of an empty log.
    Slot,
    "s"
);
number!(
    /// Raft term: a logical clock with at most one leader at each value (Raft §5.1).
    Term,
    "t"
);
number!(
    /// Sequence number of a batch of writes to one node's log, from 1.
    Seq,
    "w"
);
number!(
    /// Id of a proposal between a driver and its protocol core. Each proposal is either placed or refused.
    Ticket,
    "k"
);
number!(
    /// Id of a linearizable read between a driver and its protocol core.
    ReadId,
    "r"
);
number!(
    /// Id of a cluster. Nodes of different clusters do not communicate.
    ClusterId,
    "c"
);
number!(
    /// Random id of a store, drawn at its creation. Distinguishes a recreated store from a wiped one.
    Incarnation,
    "i"
);

impl Slot {
    /// Slot before the first entry.
    pub const ZERO: Self = Self(0);

    /// Returns the next slot.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// Returns the previous slot, saturating at slot 0.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// Returns the slot `count` positions later.
    #[must_use]
    pub fn plus(self, count: usize) -> Self {
        Self(self.0 + count as u64)
    }
}

impl Term {
    /// Returns the next term.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Seq {
    /// Returns the next sequence number.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Paxos proposal number: totally ordered, and unique to a proposer because it includes the node.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    /// Round: above all rounds that the proposer has seen.
    pub round: u64,
    /// Proposer. Breaks ties between equal rounds.
    pub node: NodeId,
}

impl Ballot {
    /// Ballot below all others.
    pub const ZERO: Self = Self { round: 0, node: NodeId(0) };

    /// Ballot above all others: stamp of a value that is known to be chosen.
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

/// Priority class of a message. Lanes do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Votes, heartbeats, acknowledgements: small messages whose delay may cause an election.
    Control,
    /// Entries of the replicated log.
    Log,
    /// Client requests that are forwarded to the proposing node.
    Forward,
    /// Snapshots and other bulk data, with the lowest priority.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Log, Self::Forward, Self::Bulk];
}
