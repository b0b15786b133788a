//! The acceptor: promises and votes.

use synod_types::Ballot;

/// One acceptor of one decree: the rules of "Paxos Made Simple" §2.2, and nothing else.
///
/// It decides and does not store. Its owner makes the new state durable before the answer
/// leaves: the promise after [`prepare`](Self::prepare), promise and value together after
/// [`accept`](Self::accept). After a restart it is [`restored`](Self::restored) from the disk.
///
/// ```
/// use synod_basic_paxos::{Acceptor, Verdict};
/// use synod_basic_paxos::types::{Ballot, NodeId};
///
/// let ballot = |round, node| Ballot { round, node: NodeId(node) };
/// let mut acceptor = Acceptor::new();
/// assert_eq!(acceptor.prepare(ballot(1, 1)), Verdict::Granted { changed: true });
/// assert_eq!(acceptor.prepare(ballot(2, 2)), Verdict::Granted { changed: true });
/// // The first proposer comes too late, and is rejected.
/// assert_eq!(acceptor.accept(ballot(1, 1), "a"), Verdict::Rejected { promised: ballot(2, 2) });
/// assert_eq!(acceptor.accept(ballot(2, 2), "b"), Verdict::Granted { changed: true });
/// assert_eq!(acceptor.accepted(), Some(&(ballot(2, 2), "b")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor<V> {
    promised: Ballot,
    accepted: Option<(Ballot, V)>,
}

/// An acceptor's answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Granted. If `changed`, the acceptor's state is new and must be durable before the answer
    /// leaves; else this is a repetition, and the disk has it already.
    Granted {
        /// The state is new and must be written.
        changed: bool,
    },
    /// Rejected, because a higher ballot was promised. The proposer should learn which one.
    Rejected {
        /// The promised ballot.
        promised: Ballot,
    },
    /// Rejected, because the same ballot came with another value before. A working proposer never does
    /// that.
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

    /// Creates an acceptor with the promise and the vote of its disk. A vote is a promise, too: if
    /// `accepted` is above `promised`, that is the promise.
    #[must_use]
    pub fn restored(promised: Ballot, accepted: Option<(Ballot, V)>) -> Self {
        let voted = accepted.as_ref().map_or(Ballot::ZERO, |(ballot, _)| *ballot);
        Self { promised: promised.max(voted), accepted }
    }

    /// Returns the ballot below which it grants nothing; [`Ballot::ZERO`] at first.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Returns its last vote and the ballot of it. That need not be chosen.
    #[must_use]
    pub fn accepted(&self) -> Option<&(Ballot, V)> {
        self.accepted.as_ref()
    }

    /// Phase 1: promises to grant nothing below `ballot`. If granted, answer with
    /// [`accepted`](Self::accepted). Its own ballot again is a repetition, because ballots name
    /// their proposer, and is answered again.
    pub fn prepare(&mut self, ballot: Ballot) -> Verdict {
        if ballot < self.promised {
            return Verdict::Rejected { promised: self.promised };
        }
        // P1a (PMS §2.2): compared with the promise, not with the last vote. An equal ballot can only
        // come from the same proposer again.
        let changed = ballot > self.promised;
        self.promised = ballot;
        Verdict::Granted { changed }
    }
}

impl<V: PartialEq> Acceptor<V> {
    /// Phase 2: votes for `value`, unless a higher ballot was promised. An acceptor that never saw
    /// the ballot's phase 1 votes all the same, and the vote raises its promise: else it could
    /// promise, and report, an older ballot afterwards.
    pub fn accept(&mut self, ballot: Ballot, value: V) -> Verdict {
        if ballot < self.promised {
            return Verdict::Rejected { promised: self.promised };
        }
        if let Some((voted, held)) = &self.accepted
            && *voted == ballot
        {
            let same = *held == value;
            return if same { Verdict::Granted { changed: false } } else { Verdict::Contradiction };
        }
        debug_assert!(
            self.accepted.as_ref().is_none_or(|(voted, _)| *voted < ballot),
            "votes rise"
        );
        self.promised = ballot;
        self.accepted = Some((ballot, value));
        Verdict::Granted { changed: true }
    }
}
