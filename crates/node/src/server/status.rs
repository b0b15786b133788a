//! The page `/status`.

use serde::{Deserialize, Serialize};
use synod_consensus::Role;
use synod_runtime::Metrics;
use synod_types::{ClusterId, NodeId};

/// Status report of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node's id.
    pub node: u64,
    /// The cluster's id.
    pub cluster: u64,
    /// The program's version.
    pub version: String,
    /// The protocol's name in settings.
    pub protocol: String,
    /// Role: `leader`, `candidate`, `follower` or `learner`; `peer` in Basic Paxos.
    pub role: String,
    /// The known leader's id; in Basic Paxos, the id of the node itself.
    pub leader: Option<u64>,
    /// The current term, or the round of the ballot; 0 in Basic Paxos, where each slot has its own
    /// ballot.
    pub term: u64,
    /// The last slot known to be committed.
    pub commit: u64,
    /// The last slot of the log.
    pub last: u64,
    /// The last applied slot.
    pub applied: u64,
    /// Digest of all that was applied, 16 hexadecimal digits. Nodes with the same applied slot have the
    /// same digest.
    pub digest: String,
    /// The last slot whose effects are in the state store.
    pub saved: u64,
    /// Requests of this node's clients in flight, reads included.
    pub outstanding: usize,
}

impl NodeReport {
    /// Returns whether the node proposes requests, instead of forwarding them to a leader: it is the
    /// leader, or a peer in Basic Paxos.
    #[must_use]
    pub fn is_proposer(&self) -> bool {
        [Role::Leader, Role::Peer].map(role_name).contains(&self.role.as_str())
    }

    pub(super) fn new(node: NodeId, cluster: ClusterId, protocol: &str, metrics: &Metrics) -> Self {
        let Metrics { status, outstanding, .. } = *metrics;
        Self {
            node: node.0,
            cluster: cluster.0,
            version: crate::backend::VERSION.to_owned(),
            protocol: protocol.to_owned(),
            role: role_name(status.role).to_owned(),
            leader: status.leader.map(|leader| leader.0),
            term: status.ballot.round,
            commit: status.commit.0,
            last: status.last.0,
            applied: status.applied.0,
            digest: format!("{:016x}", status.digest),
            saved: status.saved.0,
            outstanding,
        }
    }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
        Role::Peer => "peer",
        Role::Learner => "learner",
    }
}
