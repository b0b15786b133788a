//! Proposer: requests promises, then votes.

use crate::learner::Learner;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;
use synod_consensus::Quorum;
use synod_types::{Ballot, NodeId};

/// Proposer of one decree ("Paxos Made Simple" §2.2). It proposes its own value, or the value of a
/// vote that the promises report.
///
/// It does no I/O and has no timers. The owner sends Prepare after [`prepare`](Self::prepare) and Accept
/// after [`on_promise`](Self::on_promise), retransmits the same message when a reply is overdue, and
/// backs off for a random time before a new ballot.
///
/// ```
/// use synod_basic_paxos::Proposer;
/// use synod_basic_paxos::types::{Ballot, Membership, NodeId};
///
/// let members = Membership::new((1..=3).map(NodeId), [])?;
/// let mut proposer = Proposer::new(NodeId(1), members, "mine");
/// let older = Ballot { round: 1, node: NodeId(3) };
/// proposer.observe(older);
/// let ballot = proposer.prepare();
/// assert_eq!(ballot, Ballot { round: 2, node: NodeId(1) });
/// assert_eq!(proposer.on_promise(NodeId(2), ballot, None), None);
/// // An acceptor has voted for a value. It may be chosen, so it is the one to propose (P2c).
/// assert_eq!(proposer.on_promise(NodeId(3), ballot, Some((older, "theirs"))), Some("theirs"));
/// assert_eq!(proposer.on_accepted(NodeId(3), ballot), None);
/// assert_eq!(proposer.on_accepted(NodeId(3), ballot), None, "a repetition");
/// assert_eq!(proposer.on_accepted(NodeId(1), ballot), Some("theirs"));
/// # Ok::<(), synod_basic_paxos::types::MembershipError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposer<V> {
    me: NodeId,
    quorum: Quorum,
    own: V,
    /// Highest round used or observed.
    highest_round: u64,
    ballot: Ballot,
    phase: Phase<V>,
    /// Acceptors that rejected this ballot in this phase.
    rejected: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase<V> {
    Idle,
    Preparing { promised: BTreeSet<NodeId>, best: Option<(Ballot, V)> },
    Accepting { value: V, learner: Learner<V> },
    Chosen,
}

/// Replies that a proposer is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaiting<'a, V> {
    /// None: no ballot was begun, or the value is chosen.
    Nothing,
    /// Promises for its ballot.
    Promises,
    /// Votes for this value.
    Votes(&'a V),
}

impl<V: Clone + PartialEq> Proposer<V> {
    /// Creates a proposer on node `me` with the value `own`. A [`Membership`](synod_types::Membership)
    /// stands for its majorities. After a restart it must first [`observe`](Self::observe) the durable
    /// promise of its own acceptor: that is at least every ballot it used, so none is used twice.
    #[must_use]
    pub fn new(me: NodeId, quorum: impl Into<Quorum>, own: V) -> Self {
        let (highest_round, ballot, rejected) = (0, Ballot::ZERO, BTreeSet::new());
        Self { me, quorum: quorum.into(), own, highest_round, ballot, phase: Phase::Idle, rejected }
    }

    /// Returns its own value.
    #[must_use]
    pub fn own(&self) -> &V {
        &self.own
    }

    /// Returns its current ballot; [`Ballot::ZERO`] before the first.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns the replies that it is waiting for.
    #[must_use]
    pub fn awaiting(&self) -> Awaiting<'_, V> {
        match &self.phase {
            Phase::Idle | Phase::Chosen => Awaiting::Nothing,
            Phase::Preparing { .. } => Awaiting::Promises,
            Phase::Accepting { value, .. } => Awaiting::Votes(value),
        }
    }

    /// Records a ballot of another node, or of this one before a restart. The next ballot is above it.
    pub fn observe(&mut self, ballot: Ballot) {
        self.highest_round = self.highest_round.max(ballot.round);
    }

    /// Begins a ballot above all that were used or observed.
    pub fn prepare(&mut self) -> Ballot {
        // The next round of the own id: rounds times ids are disjoint sets of numbers (PMS §2.5).
        self.highest_round = self.highest_round.saturating_add(1);
        let ballot = Ballot { round: self.highest_round, node: self.me };
        debug_assert!(ballot > self.ballot, "a proposer's ballots rise");
        self.ballot = ballot;
        self.phase = Phase::Preparing { promised: BTreeSet::new(), best: None };
        self.rejected.clear();
        self.ballot
    }

    /// Counts a promise and the vote that it reports. Once a quorum has promised this ballot, returns the
    /// value to send in Accept: that of the highest-numbered vote among the promises, or the own value
    /// if there is none.
    pub fn on_promise(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        accepted: Option<(Ballot, V)>,
    ) -> Option<V> {
        self.on_promise_then(from, ballot, accepted, |found| found)
    }

    /// Counts a promise for a register, whose value changes with each ballot (Rystsov, "CASPaxos:
    /// Replicated State Machines without logs"). Proposes the result of `change` on the value that
    /// [`on_promise`](Self::on_promise) would propose; the own value is the register's initial one. A
    /// read is an identity change. A change whose ballot was abandoned may have taken effect: the next
    /// ballot finds it, so a client that retries must be able to recognize it in the value.
    ///
    /// Not for a decree: the changed value would replace one that may be chosen. The example `register`
    /// shows a complete register.
    pub fn on_promise_then(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        accepted: Option<(Ballot, V)>,
        change: impl FnOnce(V) -> V,
    ) -> Option<V> {
        let Phase::Preparing { promised, best } = &mut self.phase else { return None };
        // Exactly this ballot: a late promise of an older one does not cover this one. Once an acceptor:
        // a duplicate must not count twice.
        if ballot != self.ballot || !self.quorum.is_voter(from) || !promised.insert(from) {
            return None;
        }
        // By the ballots of the votes: the ballot of the promise is always this proposer's own.
        if let Some((voted, _)) = &accepted
            && best.as_ref().is_none_or(|(highest, _)| voted > highest)
        {
            *best = accepted;
        }
        if !self.quorum.is_first(|node| promised.contains(&node)) {
            return None;
        }
        // P2c (PMS §2.2): the highest-numbered vote among a quorum's promises may be chosen already.
        let value = best.take().map_or_else(|| self.own.clone(), |(_, value)| value);
        let value = change(value);
        // Each phase counts its own replies: one that rejected the Prepare receives the Accept, too.
        let learner = Learner::new(self.quorum.clone());
        self.phase = Phase::Accepting { value: value.clone(), learner };
        self.rejected.clear();
        Some(value)
    }

    /// Counts a vote. Returns the value once it is chosen.
    pub fn on_accepted(&mut self, from: NodeId, ballot: Ballot) -> Option<V> {
        let Phase::Accepting { value, learner } = &mut self.phase else { return None };
        // A vote under an older ballot may be for another value.
        if ballot != self.ballot {
            return None;
        }
        learner.on_accepted(from, ballot, value.clone())?;
        match mem::replace(&mut self.phase, Phase::Chosen) {
            Phase::Accepting { value, .. } => Some(value),
            _ => None,
        }
    }

    /// Counts a rejection, because another ballot was promised. Returns whether the acceptors that did
    /// not reject can no longer make a quorum.
    pub fn on_nack(&mut self, from: NodeId, ballot: Ballot, promised: Ballot) -> bool {
        // Also of a late Nack: the next ballot has to be above every promise.
        self.observe(promised);
        if ballot != self.ballot || !self.quorum.is_voter(from) {
            return false;
        }
        self.rejected.insert(from);
        let left = |node| !self.rejected.contains(&node);
        match self.phase {
            Phase::Preparing { .. } => !self.quorum.is_first(left),
            _ => !self.quorum.is_second(left),
        }
    }

    /// Returns whether any acceptor has rejected this ballot in this phase.
    #[must_use]
    pub fn was_rejected(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// Returns the acceptors that have not replied in this phase. They receive the same message again.
    #[must_use]
    pub fn unanswered(&self) -> Vec<NodeId> {
        let answered = |node: &NodeId| {
            self.rejected.contains(node)
                || match &self.phase {
                    Phase::Preparing { promised, .. } => promised.contains(node),
                    Phase::Accepting { learner, .. } => learner.has_vote_of(*node),
                    Phase::Idle | Phase::Chosen => true,
                }
        };
        self.quorum.voters().filter(|node| !answered(node)).collect()
    }
}
