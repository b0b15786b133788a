//! What a node tells about itself.

use alloc::vec::Vec;
use synod_types::{Ballot, NodeId, Slot};

/// What a node does in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Decides the order of commands. At most one node a ballot ever leads.
    Leader,
    /// Tries to become leader.
    Candidate,
    /// Follows a leader, or waits for one.
    Follower,
    /// Orders commands as an equal among equals: the protocol has no leader. Each peer names
    /// itself as [`Status::leader`], because its own requests go to itself.
    Peer,
    /// Receives the log without a vote.
    Learner,
}

/// A look at a core, for metrics, operators and checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What the node does.
    pub role: Role,
    /// The ballot it stands in. Raft reports its term as the round, and the leader as the node
    /// once one is known.
    pub ballot: Ballot,
    /// Who leads that ballot, if known.
    pub leader: Option<NodeId>,
    /// The last slot known to be chosen (Raft's commit index).
    pub commit: Slot,
    /// The last slot held.
    pub last: Slot,
    /// The last slot compacted away.
    pub base: Slot,
    /// What a leader knows each voter or learner to hold, itself included; empty elsewhere.
    pub progress: Vec<(NodeId, Slot)>,
}
