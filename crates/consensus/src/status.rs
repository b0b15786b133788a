//! Status of a node.

use alloc::vec::Vec;
use synod_types::{Ballot, NodeId, Slot};

/// Role of a node in its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Orders commands. At most one node leads a ballot.
    Leader,
    /// Tries to become leader.
    Candidate,
    /// Follows a leader, or waits for one.
    Follower,
    /// Orders commands without a leader, as all voters do. Each peer names itself as
    /// [`Status::leader`], because it handles the requests that it receives.
    Peer,
    /// Receives the log without a vote.
    Learner,
}

/// Summary of a core, for metrics, operators and checkers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Role of the node.
    pub role: Role,
    /// Present ballot. Raft reports its term as the round, and the leader, once known, as the node.
    pub ballot: Ballot,
    /// Leader of that ballot, if known.
    pub leader: Option<NodeId>,
    /// Commit index: the last slot that is known to be chosen, with all before it.
    pub commit: Slot,
    /// Last slot of the log.
    pub last: Slot,
    /// Last slot that is compacted away.
    pub base: Slot,
    /// On a leader: the last slot that each voter and learner, itself included, is known to hold.
    pub progress: Vec<(NodeId, Slot)>,
}
