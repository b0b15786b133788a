//! Invariants of a core that cost more than a comparison to check.

use crate::MultiPaxos;
use crate::core::Role;
use crate::message::CHOSEN;

impl MultiPaxos {
    /// Panics if an [invariant](MultiPaxos#invariants) of the core is broken. For tests, after each step:
    /// it reads the whole log.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.check_log();
        self.check_proposer();
        self.election.check_invariants();
        let promised = self.acceptor.promised();
        // Below, if an Accept of a proposer that does not lead yet has raised the promise.
        let leader = self.election.leader();
        assert!(leader.is_none_or(|leader| leader <= promised), "following promises");
        assert!(self.agreement.ballot() <= promised, "agreement is with a promised leader");
        assert!(!self.contradicting.contains(&self.config.id()), "own history contradicts itself");
    }

    fn check_log(&self) {
        let (log, commit) = (self.acceptor.log(), self.learner.commit());
        let promised = self.acceptor.promised();
        assert_eq!(self.base.through, log.base(), "base and log begin at one slot");
        assert!((log.base()..=log.last()).contains(&commit), "the commit index is in the log");
        assert!(log.gap_after(log.base()) > commit, "the chosen prefix has no gap");
        for run in log.runs() {
            // P1a and P2: a value is accepted only at a ballot that is promised.
            assert!(run.stamp <= promised || run.stamp == CHOSEN, "accepted above the promise");
        }
        if let Some(range) = self.acceptor.accepted_range() {
            assert!(range.first <= range.through, "an accepted range is not empty");
            assert!(range.through <= log.last(), "an accepted range is in the log");
            let first = range.first.max(log.base().next());
            for run in log.runs_from(first).take_while(|run| run.first <= range.through) {
                assert!(run.stamp >= promised, "accepted range below the promise");
            }
            assert!(log.gap_after(first.prev()) > range.through, "an accepted range has no gap");
        }
    }

    fn check_proposer(&self) {
        let Some(ballot) = self.role.ballot() else { return };
        assert_eq!(ballot, self.acceptor.promised(), "a proposer has promised its own ballot");
        assert_eq!(ballot.node, self.config.id(), "a ballot names its proposer");
        assert_eq!(self.election.leader(), None, "a proposer follows no node");
        assert!(!self.must_ack, "a proposer acknowledges by messages to itself");
        let (log, commit) = (self.acceptor.log(), self.learner.commit());
        match &self.role {
            Role::Follower => {}
            Role::Candidate(candidate) => candidate.check_invariants(commit),
            Role::Leader(leader) => leader.check_invariants(log, commit),
        }
    }
}
