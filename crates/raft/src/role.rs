//! What a node is, and what it knows only as long as it is that.

use crate::Fx;
use crate::Raft;
use crate::leader::Leader;
use alloc::collections::BTreeSet;
use core::cmp::max;
use core::mem;
use synod_consensus::{IgnoreReason, ProtocolEvent, Refusal, StepDownReason};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Term};

/// The roles of Raft §5.1, and the canvasser of thesis §9.6. Each owns what only it may touch, so
/// that nothing of one term or role can leak into the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    /// Follows the leader that it heard from, or waits for one.
    Follower(Option<Lead>),
    /// Asks whether it could win.
    Canvass(Tally),
    /// Campaigns.
    Candidate(Tally),
    /// Leads.
    Leader(Leader),
}

/// The leader that a follower heard from in this term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lead {
    /// Who it is.
    pub node: NodeId,
    /// When it last said anything.
    pub heard: Instant,
    /// When the election timer was last set.
    pub armed: Instant,
    /// Our log is equal to this leader's up to here. Not the end of our log: what lies behind may
    /// be an older leader's and go.
    pub verified: Slot,
    /// The highest commit index that this leader named.
    pub notice: Slot,
    /// Acknowledgement to send at the next flush.
    pub ack: Option<PendingAck>,
}

/// One acknowledgement for all appends since the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct PendingAck {
    /// The latest probe among them.
    pub probe: u64,
    /// The highest slot among them.
    pub matched: Slot,
}

impl Lead {
    fn new(node: NodeId, now: Instant) -> Self {
        let (verified, notice) = (Slot::ZERO, Slot::ZERO);
        Self { node, heard: now, armed: now, verified, notice, ack: None }
    }

    /// Our log is equal to the leader's up to `slot`.
    pub fn verify(&mut self, slot: Slot) {
        self.verified = max(self.verified, slot);
    }

    /// Adds an acknowledgement to the one that the next flush sends.
    pub fn acknowledge(&mut self, probe: u64, matched: Slot) {
        let ack = self.ack.get_or_insert_default();
        ack.probe = max(ack.probe, probe);
        ack.matched = max(ack.matched, matched);
    }
}

/// Who said yes. A set of nodes and not a count: an answer may arrive twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tally(BTreeSet<NodeId>);

impl Tally {
    /// `voter` said yes.
    pub fn add(&mut self, voter: NodeId) {
        self.0.insert(voter);
    }

    /// Whether a majority of the voters did.
    pub fn wins(&self, members: &Membership) -> bool {
        let granted = members.voters().iter().filter(|voter| self.0.contains(voter)).count();
        granted >= members.majority()
    }
}

impl Raft {
    /// Enters a later term without a vote in it (Raft §5.1). `hint` is who leads it, if known.
    pub(crate) fn adopt(
        &mut self,
        term: Term,
        hint: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        debug_assert!(term > self.hard_state.term, "{term:?} is not later");
        self.step_down(hint, reason, fx);
        self.role = Role::Follower(None);
        self.hard_state.term = term;
        self.hard_state.vote = None;
        self.write_hard_state(fx);
    }

    /// Gives up leading and campaigning; a follower goes on following. A leader's unplaced
    /// proposals are refused: they belong to its term and must not enter the log under another.
    pub(crate) fn step_down(
        &mut self,
        hint: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        if matches!(self.role, Role::Follower(_)) {
            return;
        }
        fx.note(ProtocolEvent::SteppedDown { ballot: self.own_ballot(), reason });
        let Role::Leader(mut leader) = mem::replace(&mut self.role, Role::Follower(None)) else {
            // The election timer of a candidate runs on.
            return;
        };
        for ticket in leader.take_tickets() {
            fx.refuse(ticket, Refusal::NotLeader { hint });
        }
        fx.cancel_timer(crate::Timer::Heartbeat);
        self.arm_election(fx);
    }

    /// Accepts `node` as the leader of this term, or hears from it again. False if this node or
    /// another one leads the term already, which no working cluster shows.
    pub(crate) fn follow(&mut self, now: Instant, node: NodeId, fx: &mut Fx<'_>) -> bool {
        match &mut self.role {
            Role::Follower(Some(lead)) if lead.node == node => {
                lead.heard = now;
                // Appends come by the hundred thousand; the timer need not be that exact.
                if now.since(lead.armed) >= self.config.timing().heartbeat / 8 {
                    lead.armed = now;
                    self.arm_election(fx);
                }
                return true;
            }
            Role::Leader(_) | Role::Follower(Some(_)) => {
                self.ignore(node, IgnoreReason::SecondLeader, fx);
                return false;
            }
            Role::Follower(None) | Role::Canvass(_) | Role::Candidate(_) => {}
        }
        self.step_down(Some(node), StepDownReason::OtherLeader, fx);
        self.role = Role::Follower(Some(Lead::new(node, now)));
        self.arm_election(fx);
        let ballot = Ballot { round: self.hard_state.term.0, node };
        fx.note(ProtocolEvent::Following { leader: node, ballot });
        true
    }

    /// The leader that this node follows.
    pub(crate) fn lead(&mut self) -> Option<&mut Lead> {
        match &mut self.role {
            Role::Follower(lead) => lead.as_mut(),
            Role::Canvass(_) | Role::Candidate(_) | Role::Leader(_) => None,
        }
    }

    /// The leader of this term as far as this node knows.
    pub(crate) fn leader_id(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower(lead) => lead.as_ref().map(|lead| lead.node),
            Role::Canvass(_) | Role::Candidate(_) => None,
            Role::Leader(_) => Some(self.config.id()),
        }
    }

    /// Whether this node stands by a leader other than `node`: it leads, or heard from a leader
    /// within the shortest election timeout (Raft §6, thesis §4.2.3). A leader that asks for votes
    /// itself has evidently started over.
    pub(crate) fn stands_by_leader(&self, now: Instant, node: NodeId) -> bool {
        match &self.role {
            Role::Leader(_) => true,
            Role::Follower(Some(lead)) => {
                lead.node != node && now.since(lead.heard) < self.config.timing().election.start
            }
            Role::Follower(None) | Role::Canvass(_) | Role::Candidate(_) => false,
        }
    }

    /// This node in its term, as a ballot.
    pub(crate) fn own_ballot(&self) -> Ballot {
        Ballot { round: self.hard_state.term.0, node: self.config.id() }
    }

    /// Starts the wait for a leader anew. A learner waits for ever.
    pub(crate) fn arm_election(&self, fx: &mut Fx<'_>) {
        if self.is_voter() {
            fx.set_timer(crate::Timer::Election, self.config.timing().election.clone());
        }
    }
}
