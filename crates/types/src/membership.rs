//! Who votes.

use crate::{Epoch, NodeId};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

/// The members of a group: who votes and who only learns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    epoch: Epoch,
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
}

/// Why a list of members is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipError {
    /// A group without voters can decide nothing.
    NoVoters,
    /// Node 0 means "no node".
    ZeroId,
    /// A node stands in the list twice.
    Duplicate(NodeId),
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVoters => f.write_str("a group needs at least one voter"),
            Self::ZeroId => f.write_str("node ids count from 1"),
            Self::Duplicate(node) => write!(f, "node {node} is listed twice"),
        }
    }
}

impl core::error::Error for MembershipError {}

impl Membership {
    /// The members of the first epoch.
    ///
    /// # Errors
    /// If there is no voter, a node is 0, or a node is listed twice.
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

    /// Which configuration this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Who votes, in order.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Who receives the log without a vote, in order.
    #[must_use]
    pub fn learners(&self) -> &[NodeId] {
        &self.learners
    }

    /// Everyone, voters first.
    pub fn all(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.voters.iter().chain(&self.learners).copied()
    }

    /// Everyone but `me`.
    pub fn others(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.all().filter(move |node| *node != me)
    }

    /// Whether `node` votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Whether `node` is a voter or a learner.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.is_voter(node) || self.learners.binary_search(&node).is_ok()
    }

    /// How many voters make a majority: any two such sets share a node.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_lists_that_cannot_work() {
        assert_eq!(Membership::new([], []), Err(MembershipError::NoVoters));
        assert_eq!(Membership::new([NodeId(0)], []), Err(MembershipError::ZeroId));
        let twice = Membership::new([NodeId(2), NodeId(1)], [NodeId(2)]);
        assert_eq!(twice, Err(MembershipError::Duplicate(NodeId(2))));
    }

    #[test]
    fn any_two_majorities_meet() {
        for size in 1..=9_usize {
            let members = Membership::new((1..=size as u64).map(NodeId), []).unwrap();
            assert!(2 * members.majority() > size, "{size} voters");
            assert!(2 * (members.majority() - 1) <= size, "{size} voters: not the smallest");
        }
    }
}
