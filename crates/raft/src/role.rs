//! Roles of a node, and the transitions between them.

use crate::candidate::{Candidate, PreCandidate};
use crate::core::{Fx, ignore};
use crate::follower::FollowedLeader;
use crate::leader::Leader;
use crate::{Raft, Timer};
use core::mem;
use synod_consensus::{IgnoreReason, ProtocolEvent, StepDownReason};
use synod_types::{Instant, NodeId, Term};

/// Role of a node (Raft §5.1, thesis §9.6). Each role owns its state, so that no state of one term or
/// role can leak into the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Follows a leader, or waits for one.
    Follower(Option<FollowedLeader>),
    /// Requests pre-votes, to find out that it could win an election.
    PreCandidate(PreCandidate),
    /// Campaigns.
    Candidate(Candidate),
    /// Leads.
    Leader(Leader),
}

impl Raft {
    /// Enters a later term, without a vote in it (Raft §5.1). `hint` is the leader of that term, if known.
    pub(crate) fn advance_term(
        &mut self,
        term: Term,
        hint: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        assert!(term > self.state.hard_state.term, "{term:?} is not later");
        // Before the term changes: a leader's pending proposals belong to the old one.
        self.step_down(hint, reason, fx);
        // The leader of the earlier term is not the leader of this one.
        self.role = Role::Follower(None);
        self.state.hard_state.term = term;
        // One vote a term: in the new term this node has it again (Raft §5.2).
        self.state.hard_state.vote = None;
        self.state.write_hard_state(fx);
    }

    /// Stops leading or campaigning; a follower continues to follow. Refuses a leader's proposals that
    /// are not in its log: they belong to its term and must not enter the log under another.
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
            // Leaders have none; the election timer of a candidate is running already.
            self.state.arm_election(fx);
        }
    }

    /// Accepts `node` as the leader of this term, or records that it is alive. Returns false if this
    /// node or another one leads the term already, which cannot happen in a correct cluster.
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
        assert_ne!(node, self.state.config.id(), "a node follows itself");
        // A new `FollowedLeader`: nothing is verified against this leader's log yet.
        self.role = Role::Follower(Some(FollowedLeader::new(node, now)));
        self.state.arm_election(fx);
        fx.note(ProtocolEvent::Following { leader: node, ballot: self.state.ballot_of(node) });
        true
    }

    /// Becomes leader of this term, in which a majority voted for this node.
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

    /// Returns whether this node must protect a leader against `candidate`: it leads, or it received a
    /// message from the leader within the shortest election timeout (Raft §6, thesis §4.2.3).
    pub(crate) fn has_live_leader(&self, now: Instant, candidate: NodeId) -> bool {
        let timeout = self.state.config.timing().election.start;
        match &self.role {
            Role::Leader(_) => true,
            // A leader that requests votes no longer leads, for instance after a restart.
            Role::Follower(Some(leader)) => {
                leader.node != candidate && leader.is_alive(now, timeout)
            }
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => false,
        }
    }
}
