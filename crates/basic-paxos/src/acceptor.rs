//! The acceptor: promises and votes.

use synod_types::Ballot;

/// Acceptor of one decree, by the rules of "Paxos Made Simple" §2.2.
///
/// It does no I/O. The owner makes the new state durable before it sends the reply: the promise after
/// [`prepare`](Self::prepare), promise and vote together after [`accept`](Self::accept). After a restart
/// the acceptor is [`restored`](Self::restored) from the disk.
///
/// ```
/// use synod_basic_paxos::{Acceptor, Verdict};
/// use synod_basic_paxos::types::{Ballot, NodeId};
///
/// let ballot = |round, node| Ballot { round, node: NodeId(node) };
/// let mut acceptor = Acceptor::new();
/// assert_eq!(acceptor.prepare(ballot(1, 1)), Verdict::Granted { changed: true });
/// assert_eq!(acceptor.prepare(ballot(2, 2)), Verdict::Granted { changed: true });
/// // The first ballot is below the promise by now.
/// assert_eq!(acceptor.accept(ballot(1, 1), "a"), Verdict::Rejected { promised: ballot(2, 2) });
/// assert_eq!(acceptor.accept(ballot(2, 2), "b"), Verdict::Granted { changed: true });
/// assert_eq!(acceptor.accepted(), Some(&(ballot(2, 2), "b")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor<V> {
    promised: Ballot,
    accepted: Option<(Ballot, V)>,
}

/// Outcome of a request to an acceptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Granted.
    Granted {
        /// True if the state is new: it must be durable before the reply is sent. False for a
        /// retransmission, whose state is on disk already.
        changed: bool,
    },
    /// Rejected, because a higher ballot was promised.
    Rejected {
        /// The promised ballot.
        promised: Ballot,
    },
    /// Rejected, because this ballot was accepted with another value before. A correct proposer sends
    /// one value a ballot.
    Contradiction,
}

impl<V> Default for Acceptor<V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<V> Acceptor<V> {
    /// Creates an acceptor that has promised and accepted nothing.
    #[must_use]
    pub fn new() -> Self {
        Self { promised: Ballot::ZERO, accepted: None }
    }

    /// Creates an acceptor from the promise and the vote on disk.
    #[must_use]
    pub fn restored(promised: Ballot, accepted: Option<(Ballot, V)>) -> Self {
        // A vote is a promise, too, as `accept` makes it: a lower promise beside it would let this
        // acceptor report, to a lower ballot, a vote that P2c (PMS §2.2) does not allow for.
        let voted = accepted.as_ref().map_or(Ballot::ZERO, |(ballot, _)| *ballot);
        Self { promised: promised.max(voted), accepted }
    }

    /// Returns the ballot below which it grants nothing; [`Ballot::ZERO`] at first.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Returns the last vote and its ballot. Its value need not be chosen.
    #[must_use]
    pub fn accepted(&self) -> Option<&(Ballot, V)> {
        self.accepted.as_ref()
    }

    /// Handles phase 1: promises to grant nothing below `ballot`. If granted, the reply carries
    /// [`accepted`](Self::accepted). The promised ballot itself is granted again.
    pub fn prepare(&mut self, ballot: Ballot) -> Verdict {
        // P1a (PMS §2.2): compared with the promise, not with the ballot of the last vote.
        if ballot < self.promised {
            return Verdict::Rejected { promised: self.promised };
        }
        // Ballots name their proposer, so an equal one is a retransmission: its first reply may be lost.
        let changed = ballot > self.promised;
        self.promised = ballot;
        Verdict::Granted { changed }
    }
}

impl<V: PartialEq> Acceptor<V> {
    /// Handles phase 2: votes for `value`, unless a higher ballot was promised. The vote raises the
    /// promise to its ballot.
    pub fn accept(&mut self, ballot: Ballot, value: V) -> Verdict {
        // Not `!=`: an acceptor that missed the Prepare votes, too. P1a (PMS §2.2) only rules out
        // ballots below the promise.
        if ballot < self.promised {
            return Verdict::Rejected { promised: self.promised };
        }
        if let Some((voted, held)) = &self.accepted
            && *voted == ballot
        {
            // A retransmission. Two values under one ballot could both reach a quorum.
            let same = *held == value;
            return if same { Verdict::Granted { changed: false } } else { Verdict::Contradiction };
        }
        debug_assert!(
            self.accepted.as_ref().is_none_or(|(voted, _)| *voted < ballot),
            "votes rise"
        );
        // Without the raised promise this acceptor could later promise a ballot below its vote, and its
        // report would break P2c, which is about votes below the promised ballot.
        self.promised = ballot;
        self.accepted = Some((ballot, value));
        Verdict::Granted { changed: true }
    }
}
