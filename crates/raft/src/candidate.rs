//! Elections: pre-votes, campaigns and votes (Raft §5.2, §5.4.1, thesis §9.6).

use crate::core::Fx;
use crate::message::Position;
use crate::role::Role;
use crate::state::State;
use crate::{AppendAck, Message, PreVote, PreVoteReply, Raft, RequestVote, Vote};
use alloc::collections::BTreeSet;
use synod_consensus::{IgnoreReason, ProtocolEvent, Quorum, StepDownReason};
use synod_types::{Ballot, Instant, NodeId, Term};

/// Nodes that granted their vote. A set and not a count, because a reply may arrive twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct VoteSet(BTreeSet<NodeId>);

impl VoteSet {
    /// Records that `voter` granted its vote.
    pub fn add(&mut self, voter: NodeId) {
        self.0.insert(voter);
    }

    /// Returns whether these votes elect a leader.
    pub fn wins(&self, quorum: &Quorum) -> bool {
        // Majorities intersect, and each voter votes once a term: a term has at most one leader
        // (Raft §5.2, Election Safety).
        quorum.is_first(|voter| self.0.contains(&voter))
    }
}

/// Node that checks whether it could win an election, before it enters a term (thesis §9.6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PreCandidate(VoteSet);

impl PreCandidate {
    /// Counts a granted pre-vote. Returns whether the node would win.
    pub fn on_reply(
        &mut self,
        state: &State,
        from: NodeId,
        reply: PreVoteReply,
    ) -> Result<bool, IgnoreReason> {
        // A reply to an earlier pre-vote does not vouch for the term of this one.
        if state.next_term() != Some(reply.next_term) {
            return Err(IgnoreReason::OtherPreVote);
        }
        self.0.add(from);
        Ok(self.0.wins(&state.quorum))
    }

    pub fn check_invariants(&self, state: &State) {
        assert!(!self.0.wins(&state.quorum), "a pre-candidate with a quorum has not campaigned");
    }
}

/// Node that campaigns for its term (Raft §5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Candidate(VoteSet);

impl Candidate {
    /// Counts a vote of this term, if it is granted. Returns whether the node is elected.
    pub fn on_vote(&mut self, state: &State, from: NodeId, vote: Vote) -> bool {
        debug_assert_eq!(vote.term, state.hard_state.term);
        // A rejection carries the voter's term, too: the term alone is no vote (§5.2).
        if vote.granted {
            self.0.add(from);
        }
        vote.granted && self.0.wins(&state.quorum)
    }

    pub fn check_invariants(&self, state: &State) {
        assert_eq!(state.hard_state.vote, Some(state.config.id()), "a candidate votes for itself");
        assert!(!self.0.wins(&state.quorum), "a candidate with a quorum does not lead");
    }
}

impl Raft {
    /// Campaigns, since no leader sent anything for an election timeout.
    pub(crate) fn on_election_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        // A timer that was cancelled may still run out, so the role is checked.
        if matches!(self.role, Role::Leader(_)) || !self.state.is_voter() {
            return;
        }
        let longest = self.state.config.timing().election.end;
        if self.state.stall.is_active(now, longest) || self.state.next_term().is_none() {
            // The timer starts again: if no other node can lead, this one campaigns after its stall.
            self.step_down(None, StepDownReason::MayNotCampaign, fx);
            self.role = Role::Follower(None);
            self.state.arm_election(fx);
        } else if self.state.config.pre_vote() {
            self.pre_campaign(fx);
        } else {
            self.campaign(fx);
        }
    }

    /// Requests pre-votes. They change no term, so a node that was partitioned and returns does not
    /// disrupt the leader, even after many pre-campaigns (thesis §9.6).
    fn pre_campaign(&mut self, fx: &mut Fx<'_>) {
        let Some(next_term) = self.state.next_term() else { return };
        let me = self.state.config.id();
        fx.note(ProtocolEvent::PreCampaigning { ballot: Ballot { round: next_term.0, node: me } });
        let mut votes = VoteSet::default();
        // A pre-vote is no promise, so this node's own one need not wait for the disk.
        votes.add(me);
        let won = votes.wins(&self.state.quorum);
        self.role = Role::PreCandidate(PreCandidate(votes));
        self.state.arm_election(fx);
        // A single voter is a majority, and there is no reply that it could wait for.
        if won {
            return self.campaign(fx);
        }
        let pre_vote = PreVote { next_term, last: self.state.last_position() };
        for voter in self.state.other_voters() {
            fx.send(voter, Message::PreVote(pre_vote));
        }
    }

    /// Enters the next term, votes for itself and requests the votes of the others (Raft §5.2).
    pub(crate) fn campaign(&mut self, fx: &mut Fx<'_>) {
        let Some(term) = self.state.next_term() else { return };
        let me = self.state.config.id();
        assert!(self.state.is_voter(), "a node without a vote campaigns");
        assert!(term > self.state.hard_state.term, "{term:?} is not later");
        // Term and vote are one record: a crash finds both on disk, or neither.
        self.state.hard_state.term = term;
        self.state.hard_state.vote = Some(me);
        self.state.write_hard_state(fx);
        self.role = Role::Candidate(Candidate::default());
        // After a split vote the timeout starts the next election (Raft §5.2).
        self.state.arm_election(fx);
        fx.note(ProtocolEvent::Campaigning { ballot: self.state.own_ballot() });
        // Its own vote is a message, too: it counts once it is durable.
        fx.send(me, Message::Vote(Vote { term, granted: true }));
        let request = RequestVote { term, last: self.state.last_position() };
        for voter in self.state.other_voters() {
            fx.send(voter, Message::RequestVote(request));
        }
    }

    /// Replies as this node would reply to a request for its vote. Changes no state: not the term, the
    /// vote, the timer, or the time of the last contact with the leader (thesis §9.6).
    pub(crate) fn on_pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        pre_vote: PreVote,
        fx: &mut Fx<'_>,
    ) {
        let PreVote { next_term, last } = pre_vote;
        let term = self.state.hard_state.term;
        // This node has no vote in a later term yet.
        let is_free = next_term > term || (next_term == term && self.state.may_vote_for(from));
        // The last condition keeps a node that cannot receive heartbeats from deposing a leader that the
        // others follow (thesis §9.6, §4.2.3).
        let granted = is_free && self.state.is_up_to_date(last) && !self.has_live_leader(now, from);
        fx.send(from, Message::PreVoteReply(PreVoteReply { term, next_term, granted }));
    }

    /// Moves to the term of a voter that rejected a pre-vote. Otherwise this node would request
    /// pre-votes for a past term for ever.
    pub(crate) fn on_pre_vote_rejected(&mut self, term: Term, fx: &mut Fx<'_>) {
        if term > self.state.hard_state.term {
            self.advance_term(term, None, StepDownReason::VoterInHigherTerm, fx);
        }
    }

    /// Steps down, since its disk or state machine is stalled: a leader would block the cluster
    /// while its heartbeats continue. A follower continues to follow: its votes and acknowledgements wait
    /// for the disk, but its replies to heartbeats do not, so the leader keeps its quorum.
    pub(crate) fn on_stalled(&mut self, now: Instant, fx: &mut Fx<'_>) {
        self.step_down(None, StepDownReason::Stalled, fx);
        self.state.stall.report(now);
        // Its arrival shows that the disk works: a durable message waits for all writes before it.
        let (term, matched) = (self.state.hard_state.term, self.state.log.last());
        let ack = AppendAck { term, probe: 0, matched };
        fx.send(self.state.config.id(), Message::AppendAck(ack));
    }

    /// Starts the election timeout again, since the state machine lags. A leader continues.
    pub(crate) fn on_lagging(&self, fx: &mut Fx<'_>) {
        // As leader it could serve no read before its state machine has caught up.
        if !matches!(self.role, Role::Leader(_)) {
            self.state.arm_election(fx);
        }
    }
}

impl State {
    /// Handles a request for a vote: grants one vote a term, first come first served, and only to a log
    /// that is at least as up to date as this node's (Raft §5.2, §5.4.1).
    pub fn on_request_vote(&mut self, from: NodeId, request: RequestVote, fx: &mut Fx<'_>) {
        let term = self.hard_state.term;
        let granted = self.may_vote_for(from) && self.is_up_to_date(request.last);
        // A repeated request gets the same reply, and the vote is on disk already.
        if granted && self.hard_state.vote.is_none() {
            self.hard_state.vote = Some(from);
            self.write_hard_state(fx);
            fx.note(ProtocolEvent::Voted { to: from, ballot: self.ballot_of(from) });
            // Only for a granted vote (§5.2): a candidate that cannot win must not keep others from
            // campaigning.
            self.arm_election(fx);
        }
        fx.send(from, Message::Vote(Vote { term, granted }));
    }

    /// Returns whether this node has its vote, or gave it to `candidate`.
    fn may_vote_for(&self, candidate: NodeId) -> bool {
        // "votedFor is null or candidateId" (fig. 2, RequestVote RPC).
        self.hard_state.vote.is_none_or(|vote| vote == candidate)
    }

    /// Returns whether a log that ends with `last` is at least as up to date as this one: the last TERM
    /// decides, then the length (Raft §5.4.1). See [`Position`].
    fn is_up_to_date(&self, last: Position) -> bool {
        // A chosen entry is on a majority, so no majority votes for a log without it (§5.4.3, Leader
        // Completeness).
        last >= self.last_position()
    }

    /// Returns the voters without this node.
    fn other_voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        let me = self.config.id();
        self.members.voters().iter().copied().filter(move |voter| *voter != me)
    }
}
