//! Stamps of log slots.

use crate::Durable;
use synod_types::{Ballot, NodeId, Term};

/// Stamp of a log slot: a term or a ballot.
pub trait Stamp: Durable + Copy + Ord + Default {
    /// True if a stamp names the node that proposed under it. A ballot does, so each has one
    /// proposer by construction. A term does not: elections guarantee that each has at most one leader
    /// (Raft §5.2, Election Safety), and checkers check it.
    const NAMES_PROPOSER: bool;

    /// Returns the ballot under which the slot was proposed; its node is 0 if the stamp names none.
    fn ballot(self) -> Ballot;

    /// Returns whether a node that writes a slot under this stamp, while it is in `round`, votes for the
    /// value. A write under a ballot is always a vote. A write under a term is one only in that very
    /// term (Raft §5.4.2).
    fn is_vote_in(self, round: u64) -> bool;
}

impl Stamp for Ballot {
    const NAMES_PROPOSER: bool = true;

    fn ballot(self) -> Ballot {
        self
    }

    fn is_vote_in(self, _: u64) -> bool {
        // An acceptor accepts a value under the ballot of the proposal, never under an older one.
        true
    }
}

impl Stamp for Term {
    const NAMES_PROPOSER: bool = false;

    fn ballot(self) -> Ballot {
        Ballot { round: self.0, node: NodeId(0) }
    }

    fn is_vote_in(self, round: u64) -> bool {
        // Entries of older terms on a majority may still be overwritten (Raft §5.4.2, fig. 8).
        self.0 == round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_of_an_older_term_is_no_vote() {
        assert!(Term(2).is_vote_in(2));
        assert!(!Term(1).is_vote_in(2));
        assert!(Ballot { round: 1, node: NodeId(1) }.is_vote_in(2), "a ballot is always a vote");
    }
}
