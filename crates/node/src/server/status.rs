//! The page `/status`.

use serde::{Deserialize, Serialize};
use synod_consensus::Role;
use synod_runtime::Metrics;
use synod_types::{ClusterId, NodeId};

/// What a node knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeReport {
    /// The node.
    pub node: u64,
    /// Its cluster.
    pub cluster: u64,
    /// The program's version.
    pub version: String,
    /// The protocol.
    pub protocol: String,
    /// What it does: `leader`, `candidate`, `follower`, `learner`; `peer` where nobody leads.
    pub role: String,
    /// Whom it believes to lead; a peer names itself.
    pub leader: Option<u64>,
    /// The term, or the round of the ballot, that it stands in; 0 among peers, whose ballots belong
    /// to single slots.
    pub term: u64,
    /// The last slot that it knows to be chosen.
    pub commit: u64,
    /// The last slot of its log.
    pub last: u64,
    /// The last slot that it has applied.
    pub applied: u64,
    /// A digest of everything applied, 16 hexadecimal digits: equal on all nodes that have applied
    /// as far.
    pub digest: String,
    /// The last slot whose effects are in its state store.
    pub saved: u64,
    /// Requests and reads of its clients that are under way.
    pub outstanding: usize,
}

impl NodeReport {
    /// Whether the node orders what its clients ask for: it leads, or it is one of peers.
    #[must_use]
    pub fn orders(&self) -> bool {
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
