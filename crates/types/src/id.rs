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
    /// Number of a group's configuration: 0 for the first. Membership changes, which would increment it, are
    /// not implemented.
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
    /// Id by which a driver and its protocol core refer to a proposal. The core either places each proposal in a
    /// slot of its log or refuses it.
    Ticket,
    "k"
);
number!(
    /// Id by which a driver and its protocol core refer to a linearizable read.
    ReadId,
    "r"
);
number!(
    /// Id of a cluster. Nodes of different clusters do not communicate.
    ClusterId,
    "c"
);
number!(
    /// Random id of a store, drawn when the store is created. If a node's disk is wiped and its store created
    /// again, the new store has another incarnation.
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
    /// Round. A proposer uses one above all rounds that it has seen.
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

/// Priority class of a message. A transport queues each lane separately and sends the more urgent ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small messages such as votes, heartbeats and acknowledgements. A delay of these may cause an election.
    Control,
    /// Entries of the replicated log.
    Log,
    /// Client requests that one node forwards to another, which proposes them.
    Forward,
    /// Snapshots and other bulk data, with the lowest priority.
    Bulk,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Control, Self::Log, Self::Forward, Self::Bulk];
}
