//! Learner: counts votes.

use alloc::collections::BTreeMap;
use synod_consensus::Quorum;
use synod_types::{Ballot, NodeId};

/// Learner of one decree ("Paxos Made Simple" §2.3): it counts votes by ballot.
///
/// A value is chosen when a quorum of distinct acceptors has voted for it under ONE ballot: a majority,
/// or another phase 2 [quorum](Quorum). Votes of different ballots do not add up. Only the newest vote
/// of each acceptor is kept, so the state is bounded by the size of the group.
///
/// ```
/// use synod_basic_paxos::Learner;
/// use synod_basic_paxos::types::{Ballot, Membership, NodeId};
///
/// let ballot = |round| Ballot { round, node: NodeId(1) };
/// let mut learner = Learner::new(Membership::new((1..=3).map(NodeId), [])?);
/// assert_eq!(learner.on_accepted(NodeId(1), ballot(1), "a"), None);
/// assert_eq!(learner.on_accepted(NodeId(2), ballot(2), "a"), None, "another ballot");
/// assert_eq!(learner.on_accepted(NodeId(1), ballot(2), "a"), Some(&"a"));
/// # Ok::<(), synod_basic_paxos::types::MembershipError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner<V> {
    quorum: Quorum,
    votes: BTreeMap<NodeId, (Ballot, V)>,
    chosen: Option<V>,
}

impl<V: PartialEq> Learner<V> {
    /// Creates a learner without votes. A [`Membership`](synod_types::Membership) stands for its
    /// majorities.
    #[must_use]
    pub fn new(quorum: impl Into<Quorum>) -> Self {
        Self { quorum: quorum.into(), votes: BTreeMap::new(), chosen: None }
    }

    /// Returns the chosen value, once it is known.
    #[must_use]
    pub fn chosen(&self) -> Option<&V> {
        self.chosen.as_ref()
    }

    /// Counts a vote. Returns the chosen value if this vote completes a quorum. Later votes are ignored.
    pub fn on_accepted(&mut self, from: NodeId, ballot: Ballot, value: V) -> Option<&V> {
        // Messages may arrive out of order: an older vote must not replace the newest one.
        let older = self.votes.get(&from).is_some_and(|(newest, _)| *newest >= ballot);
        // P2 (PMS §2.2): a second quorum can only be for the same value, so votes need not be compared.
        if self.chosen.is_some() || older || !self.quorum.is_voter(from) {
            return None;
        }
        // Same ballot AND same value: equal ballots with different values come from a broken proposer.
        let agrees = |node| {
            let vote = self.votes.get(&node);
            node == from || vote.is_some_and(|vote| vote.0 == ballot && vote.1 == value)
        };
        if !self.quorum.is_second(agrees) {
            self.votes.insert(from, (ballot, value));
            return None;
        }
        debug_assert!(self.votes.keys().all(|node| self.quorum.is_voter(*node)), "voters vote");
        self.votes.clear();
        self.chosen = Some(value);
        self.chosen.as_ref()
    }

    /// Learns a chosen value from another node. Returns false, and changes nothing, if another value is
    /// known to be chosen.
    pub fn on_chosen_value(&mut self, value: V) -> bool {
        match &self.chosen {
            Some(known) => *known == value,
            None => {
                self.votes.clear();
                self.chosen = Some(value);
                true
            }
        }
    }

    /// Returns whether a vote of this acceptor was counted. Always false once a value is chosen.
    #[must_use]
    pub fn has_vote_of(&self, node: NodeId) -> bool {
        self.votes.contains_key(&node)
    }
}
