//! How a leader is made: canvassing, campaigning, voting (Raft §5.2, §5.4.1, thesis §9.6).

use crate::message::{HORIZON, Position};
use crate::role::{Role, Tally};
use crate::{Fx, Message, Raft};
use synod_consensus::{IgnoreReason, ProtocolEvent, StepDownReason};
use synod_types::{Ballot, Instant, NodeId, Term};

impl Raft {
    /// No leader was heard from for an election timeout. Any node may be handed this at any time.
    pub(crate) fn on_election_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if matches!(self.role, Role::Leader(_)) || !self.is_voter() {
            return;
        }
        let patience = self.config.timing().election.end;
        if self.stall.is_active(now, patience) || self.next_term().is_none() {
            // Others go first; but the wait goes on, or a lone survivor would never campaign.
            self.step_down(None, StepDownReason::MayNotCampaign, fx);
            self.role = Role::Follower(None);
            self.arm_election(fx);
        } else if self.config.pre_vote() {
            self.canvass(now, fx);
        } else {
            self.campaign(now, fx);
        }
    }

    /// Would they vote for us? Costs nobody a term, so a node that was cut off and comes back
    /// disturbs nobody, however often it asked.
    fn canvass(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let Some(asked) = self.next_term() else { return };
        let ballot = Ballot { round: asked.0, node: self.config.id() };
        fx.note(ProtocolEvent::PreCampaigning { ballot });
        let mut tally = Tally::default();
        tally.add(self.config.id());
        let won = tally.wins(&self.members);
        self.role = Role::Canvass(tally);
        self.arm_election(fx);
        if won {
            return self.campaign(now, fx);
        }
        let last = self.last_position();
        for voter in self.other_voters() {
            fx.send(voter, Message::PreVote { asked, last });
        }
    }

    /// Enters the next term and votes for itself, in the step that asks the others to. The own
    /// vote is a message like theirs: it counts once it is durable.
    fn campaign(&mut self, _now: Instant, fx: &mut Fx<'_>) {
        let Some(term) = self.next_term() else { return };
        let me = self.config.id();
        self.hard_state.term = term;
        self.hard_state.vote = Some(me);
        self.write_hard_state(fx);
        self.role = Role::Candidate(Tally::default());
        self.arm_election(fx);
        fx.note(ProtocolEvent::Campaigning { ballot: self.own_ballot() });
        fx.send(me, Message::Vote { term, granted: true });
        let last = self.last_position();
        for voter in self.other_voters() {
            fx.send(voter, Message::RequestVote { term, last });
        }
    }

    /// Says what this node would answer to a request for its vote, and changes nothing: not the
    /// term, not the vote, not the timer, not when the leader was last heard.
    pub(crate) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        asked: Term,
        last: Position,
        fx: &mut Fx<'_>,
    ) {
        let term = self.hard_state.term;
        let free = asked > term || (asked == term && self.may_vote_for(from));
        let granted = free && self.is_up_to_date(last) && !self.stands_by_leader(now, from);
        fx.send(from, Message::PreVoteReply { term, asked, granted });
    }

    /// Counts an answer to the canvass. A refusal by a node of a later term brings this node up
    /// to that term, or it would ask about a past one for ever.
    pub(crate) fn on_pre_vote_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        (term, asked, granted): (Term, Term, bool),
        fx: &mut Fx<'_>,
    ) {
        if !granted {
            if term > self.hard_state.term {
                self.adopt(term, None, StepDownReason::VoterInHigherTerm, fx);
            }
            return;
        }
        let current = self.next_term() == Some(asked);
        let Role::Canvass(tally) = &mut self.role else {
            return self.ignore(from, IgnoreReason::PreVoteOver, fx);
        };
        if !current {
            return self.ignore(from, IgnoreReason::OtherPreVote, fx);
        }
        tally.add(from);
        if tally.wins(&self.members) {
            self.campaign(now, fx);
        }
    }

    /// One vote a term, first come first served, and only for a log that lacks nothing of ours
    /// (Raft §5.2, §5.4.1). The timer starts anew only when the vote is given: a candidate that
    /// cannot win must not keep others from trying.
    pub(crate) fn on_request_vote(&mut self, from: NodeId, last: Position, fx: &mut Fx<'_>) {
        let term = self.hard_state.term;
        let granted = self.may_vote_for(from) && self.is_up_to_date(last);
        if granted && self.hard_state.vote.is_none() {
            self.hard_state.vote = Some(from);
            self.write_hard_state(fx);
            let ballot = Ballot { round: term.0, node: from };
            fx.note(ProtocolEvent::Voted { to: from, ballot });
            self.arm_election(fx);
        }
        fx.send(from, Message::Vote { term, granted });
    }

    /// Counts a vote of this term. Whether it was given is all that counts: an answer, or a term,
    /// is no vote.
    pub(crate) fn on_vote(&mut self, now: Instant, from: NodeId, granted: bool, fx: &mut Fx<'_>) {
        let Role::Candidate(tally) = &mut self.role else {
            return;
        };
        if !granted {
            return;
        }
        tally.add(from);
        if tally.wins(&self.members) {
            self.lead_term(now, fx);
        }
    }

    /// The disk or the apply side does not answer. A leader lets go, for it would block everyone
    /// while its heartbeats go on. Nor does the node campaign again before a vow that it makes to
    /// itself now has come back from the disk, and before the others have had their chance for
    /// one longest election timeout. It goes on following: its votes and acknowledgements wait at
    /// the gate by themselves, and its heartbeat answers do not, so the leader keeps its quorum.
    pub(crate) fn on_stalled(&mut self, now: Instant, fx: &mut Fx<'_>) {
        self.step_down(None, StepDownReason::Stalled, fx);
        self.stall.report(now);
        let (term, matched) = (self.hard_state.term, self.log.last());
        fx.send(self.config.id(), Message::AppendAck { term, probe: 0, matched });
    }

    /// The apply side lags: the wait for a leader starts again. A leader carries on.
    pub(crate) fn on_lagging(&self, fx: &mut Fx<'_>) {
        if !matches!(self.role, Role::Leader(_)) {
            self.arm_election(fx);
        }
    }

    fn may_vote_for(&self, candidate: NodeId) -> bool {
        self.hard_state.vote.is_none_or(|vote| vote == candidate)
    }

    /// Raft §5.4.1: last TERM first, then length; see [`Position`].
    fn is_up_to_date(&self, last: Position) -> bool {
        last >= self.last_position()
    }

    fn next_term(&self) -> Option<Term> {
        Some(self.hard_state.term.next()).filter(|term| term.0 < HORIZON)
    }

    fn other_voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        let me = self.config.id();
        self.members.voters().iter().copied().filter(move |voter| *voter != me)
    }
}
