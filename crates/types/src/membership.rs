//! Membership of a group: voters and learners.

use crate::{Epoch, NodeId};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// Members of a group: voters and learners.
///
/// [`new`](Self::new) ensures that there is at least one voter, no id is 0 and no id occurs twice.
/// Deserialization does not check this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    epoch: Epoch,
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// Reason why a list of members is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// The list has no voter.
    NoVoters,
    /// The list contains node 0, which means no node.
    ZeroId,
    /// The list contains a node twice: in one role, or as voter and learner.
    Duplicate(NodeId),
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoters => f.write_str("a group needs at least one voter"),
            Self::ZeroId => f.write_str("node id 0 is not valid: ids start at 1"),
            Self::Duplicate(node) => write!(f, "node {node} is listed twice"),
        }
    }
}

impl core::error::Error for MembershipError {}

impl Membership {
    /// Creates the membership of epoch 0. The order of the ids does not matter.
    ///
    /// # Errors
    /// If there is no voter, an id is 0, or a node is listed twice.
    pub fn new(
        voters: impl IntoIterator<Item = NodeId>,
        learners: impl IntoIterator<Item = NodeId>,
    ) -> Result<Self, MembershipError> {
        let mut voters: Vec<_> = voters.into_iter().collect();
        let mut learners: Vec<_> = learners.into_iter().collect();
        voters.sort_unstable();
        learners.sort_unstable();
        if voters.is_empty() {
            return Err(MembershipError::NoVoters);
        }
        let mut all: Vec<_> = voters.iter().chain(&learners).copied().collect();
        all.sort_unstable();
        if all[0] == NodeId(0) {
            return Err(MembershipError::ZeroId);
        }
        if let Some(pair) = all.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(MembershipError::Duplicate(pair[0]));
        }
        Ok(Self { epoch: Epoch(0), voters, learners })
    }

    /// Returns the epoch: the number of the configuration.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Returns the voters, by ascending id.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Returns the learners, which receive the log without a vote, by ascending id.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Returns all members, voters first.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Returns all members except `me`.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.all().filter(move |node| *node != me)
    }

    /// Returns whether `node` is a voter.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Returns whether `node` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.binary_search(&node).is_ok()
    }

    /// Returns the size of a majority: any two sets of this many voters share a node.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_member_list_is_rejected() {
        assert_eq!(Membership::new([], []), Err(MembershipError::NoVoters));
        assert_eq!(Membership::new([NodeId(0)], []), Err(MembershipError::ZeroId));
        let twice = Membership::new([NodeId(2), NodeId(1)], [NodeId(2)]);
        assert_eq!(twice, Err(MembershipError::Duplicate(NodeId(2))));
    }

    #[test]
    fn any_two_majorities_intersect() {
        for size in 1..=9_usize {
            let members = Membership::new((1..=size as u64).map(NodeId), []).unwrap();
            assert!(
                2 * members.majority() > size,
                "two majorities of {size} voters may be disjoint"
            );
            assert!(
                2 * (members.majority() - 1) <= size,
                "a smaller set of {size} voters is a majority, too"
            );
        }
    }
}
