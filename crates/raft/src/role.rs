//! Roles of a node, and the transitions between them.

use crate::candidate::{Candidate, PreCandidate};
use crate::core::{Fx, ignore};
use crate::follower::FollowedLeader;
use crate::leader::Leader;
use crate::{Raft, Timer};
use core::mem;
use synod_consensus::{IgnoreReason, ProtocolEvent, StepDownReason};
use synod_types::{Instant, NodeId, Term};

/// Role of a node (Raft §5.1, thesis §9.6). Each owns what only it may touch, so that nothing of one
/// term or role can leak into the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Follows a leader, or waits for one.
    Follower(Option<FollowedLeader>),
    /// Checks whether it could win an election.
    PreCandidate(PreCandidate),
    /// Campaigns.
    Candidate(Candidate),
    /// Leads.
    Leader(Leader),
}

impl Raft {
    /// Enters a later term, without a vote in it (Raft §5.1). `hint` is its leader, if known.
    pub(crate) fn advance_term(
        &mut self,
        term: Term,
        hint: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        assert!(term > self.state.hard_state.term, "{term:?} is not later");
        self.step_down(hint, reason, fx);
        // The leader of the earlier term leads no more.
        self.role = Role::Follower(None);
        self.state.hard_state.term = term;
        self.state.hard_state.vote = None;
        self.state.write_hard_state(fx);
    }

    /// Stops leading or campaigning; a follower goes on following. A leader's proposals that are not
    /// in its log are refused: they belong to its term and must not enter the log under another.
    pub(crate) fn step_down(
        &mut self,
        hint: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        if matches!(self.role, Role::Follower(_)) {
            return;
        }
        fx.note(ProtocolEvent::SteppedDown { ballot: self.state.own_ballot(), reason });
        if let Role::Leader(mut leader) = mem::replace(&mut self.role, Role::Follower(None)) {
            leader.refuse_reads(self.state.config.id(), hint, fx);
            leader.refuse_proposals(hint, fx);
            fx.cancel_timer(Timer::Heartbeat);
            // That of a candidate is running already.
            self.state.arm_election(fx);
        }
    }

    /// Accepts `node` as the leader of this term, or records that it is alive. Returns false if this
    /// node or another one leads the term already, which no working cluster shows.
    pub(crate) fn follow(&mut self, now: Instant, node: NodeId, fx: &mut Fx<'_>) -> bool {
        match &mut self.role {
            Role::Follower(Some(leader)) if leader.node == node => {
                leader.on_contact(&self.state, now, fx);
                return true;
            }
            // Election Safety: at most one leader can be elected in a term (Raft §5.2).
            Role::Leader(_) | Role::Follower(Some(_)) => {
                ignore(node, IgnoreReason::SecondLeader, fx);
                return false;
            }
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => {}
        }
        // A candidate returns to follower state when another node wins its term (Raft §5.2).
        self.step_down(Some(node), StepDownReason::OtherLeader, fx);
        assert_ne!(node, self.state.config.id(), "it follows itself");
        self.role = Role::Follower(Some(FollowedLeader::new(node, now)));
        self.state.arm_election(fx);
        fx.note(ProtocolEvent::Following { leader: node, ballot: self.state.ballot_of(node) });
        true
    }

    /// Leads the term in which a majority gave its votes.
    pub(crate) fn become_leader(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let me = self.state.config.id();
        assert_eq!(self.state.hard_state.vote, Some(me), "a leader votes for itself");
        fx.note(ProtocolEvent::Leading { ballot: self.state.own_ballot() });
        fx.cancel_timer(Timer::Election);
        self.role = Role::Leader(Leader::new(&mut self.state, now, fx));
    }

    /// Returns the leader of this term, if known.
    pub(crate) fn leader_id(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(leader) => leader.as_ref().map(|leader| leader.node),
            Role::PreCandidate(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.state.config.id()),
        }
    }

    /// Returns whether this node protects a leader against `candidate`: it leads, or received a
    /// message from a leader within the shortest election timeout (Raft §6, thesis §4.2.3).
    pub(crate) fn has_live_leader(&self, now: Instant, candidate: NodeId) -> bool {
        let timeout = self.state.config.timing().election.start;
        match &self.role {
            Role::Leader(_) => true,
            // A leader that asks for votes has lost its leadership, by a restart or otherwise.
            Role::Follower(Some(leader)) => {
                leader.node != candidate && leader.is_alive(now, timeout)
            }
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }
}
