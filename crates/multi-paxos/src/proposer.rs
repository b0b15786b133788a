//! Node as proposer: pre-campaign, campaign, heartbeats and stepping down.

use crate::candidate::Candidate;
use crate::core::{Fx, Role};
use crate::election::PreCampaign;
use crate::message::{
    Accepted, ElectionState, HORIZON, Heartbeat, Message, Nack, Promise, Report, View,
};
use crate::{MultiPaxos, Timer};
use alloc::boxed::Box;
use core::mem;
use synod_consensus::{HistoryDigest, ProtocolEvent, StepDownReason};
use synod_types::{Ballot, Instant, NodeId};

impl MultiPaxos {
    /// Begins a pre-campaign, because no leader sent a message for an election timeout. The input may come
    /// at any time.
    pub(crate) fn on_election_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if self.is_proposer() {
            return;
        }
        self.arm_election(fx);
        // The timer may be stale: a message of the leader came in between.
        if self.has_live_leader(now) {
            return;
        }
        if !self.election.is_pre_campaigning() {
            let round = self.acceptor.promised().round + 1;
            let ballot = Ballot { round, node: self.config.id() };
            fx.note(ProtocolEvent::PreCampaigning { ballot });
        }
        // Replies to an earlier pre-campaign may be stale.
        self.election.begin_pre_campaign(now);
        self.begin_round(now, fx);
        self.maybe_campaign(now, fx);
    }

    /// Campaigns if the replies to the pre-campaign allow it.
    pub(crate) fn maybe_campaign(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if self.is_proposer() || !self.is_voter() || !self.election.is_pre_campaigning() {
            return;
        }
        // The own promise would wait for the stalled disk, and the others would wait for this campaign.
        let timeout = self.config.timing().election.end;
        if self.stall.is_active(now, timeout) || self.next_round().is_none() {
            return;
        }
        let last = self.acceptor.log().last();
        match self.election.evaluate_pre_campaign(now, &self.config, last) {
            PreCampaign::Wait => {}
            PreCampaign::Defer => self.election.end_pre_campaign(),
            PreCampaign::Campaign => self.campaign(now, fx),
        }
    }

    /// Begins a campaign: promises a ballot above every known one and sends Prepares (PMS 2.2, phase 1a).
    /// The own promise is a message like those of peers: it counts once it is durable.
    fn campaign(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let Some(round) = self.next_round() else { return };
        let me = self.config.id();
        let ballot = Ballot { round, node: me };
        // The own promise makes the ballot unique (PMS 2.5): it is durable before the first Prepare is
        // sent, so this node does not use the ballot again after a restart.
        assert!(ballot > self.acceptor.promised(), "a campaign needs a ballot of its own");
        self.promise(ballot, StepDownReason::NewCampaign, fx);
        self.election.begin_campaign();
        fx.note(ProtocolEvent::Campaigning { ballot });
        let from = self.learner.commit().next();
        let mut candidate = Candidate::new(now, ballot, from, self.acceptor.log());
        // Every quorum holds values through this slot: a hole among them means lost disks.
        candidate.chosen_through = self.leader_commit;
        self.role = Role::Candidate(Box::new(candidate));
        fx.cancel_timer(Timer::Election);
        self.begin_round(now, fx);
        fx.send(me, Message::Promise(Promise { ballot, report: Report::empty(from) }));
        if let (Role::Candidate(candidate), ctx) = self.parts() {
            candidate.send_prepares(&ctx, now, fx);
        }
    }

    /// Becomes leader once a quorum has reported everything, or steps down if that is impossible.
    pub(crate) fn maybe_lead(&mut self, fx: &mut Fx<'_>) {
        let (role, ctx) = self.parts();
        let result = match role {
            Role::Candidate(candidate) => candidate.conclude(&ctx),
            Role::Follower | Role::Leader(_) => None,
        };
        match result {
            None => {}
            Some(Ok(leader)) => self.role = Role::Leader(Box::new(leader)),
            Some(Err(reason)) => self.step_down(None, reason, fx),
        }
    }

    /// Steps down if the own ballot was rejected for a higher one.
    pub(crate) fn on_nack(&mut self, nack: Nack, fx: &mut Fx<'_>) {
        let Nack { ballot, promised } = nack;
        // The Nack names the rejected ballot: a late one ends no later campaign.
        if self.role.ballot() == Some(ballot) {
            self.election.on_nack(promised);
            self.step_down(Some(promised.node), StepDownReason::HigherBallotPromised, fx);
        }
    }

    /// Begins the next round of heartbeats, and retransmits overdue messages.
    pub(crate) fn on_heartbeat_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        // A timer that fires late shows that this node was delayed, by a long step or by its machine.
        // Replies to its last heartbeats are queued after this timer, so the quorum is checked at the
        // next one.
        let is_late = self.election.since_last_round(now) >= self.config.timing().heartbeat * 2;
        let skips_check = is_late && !mem::replace(&mut self.skipped_quorum_check, is_late);
        self.skipped_quorum_check = skips_check;
        if self.is_proposer() && !skips_check && !self.sees_quorum(now) {
            return self.step_down(None, StepDownReason::NoQuorum, fx);
        }
        let is_pre_campaigning = self.election.is_pre_campaigning();
        let (role, ctx) = self.parts();
        match role {
            Role::Follower if !is_pre_campaigning => return,
            Role::Follower => {}
            Role::Candidate(candidate) if candidate.has_timed_out(&ctx, now) => {
                return self.step_down(None, StepDownReason::CampaignTimedOut, fx);
            }
            Role::Candidate(candidate) => candidate.retry_prepares(&ctx, now, fx),
            Role::Leader(leader) => {
                leader.send_probes(now, fx);
                leader.repeat_round(&ctx, fx);
            }
        }
        self.begin_round(now, fx);
        self.maybe_campaign(now, fx);
    }

    /// Ends a pre-campaign, because chosen slots are not applied yet.
    pub(crate) fn on_lagging(&mut self, fx: &mut Fx<'_>) {
        // As leader it would serve late. Another node may lead meanwhile.
        self.election.end_pre_campaign();
        self.arm_election(fx);
    }

    /// Steps down, because the disk or the state machine is stalled. The node campaigns again after its
    /// disk has completed a write, and after the longest election timeout, so that other nodes go first.
    pub(crate) fn on_stalled(&mut self, now: Instant, fx: &mut Fx<'_>) {
        // A stalled leader would block the cluster, because its heartbeats continue.
        self.step_down(None, StepDownReason::Stalled, fx);
        self.stall.report(now);
        let me = self.config.id();
        // An empty claim, which is delivered when the disk has completed its writes. The ballot names this
        // node as the receiver; otherwise the message would be ignored as one for another node.
        let ballot = Ballot { round: 1, node: me };
        let first = self.acceptor.log().base().next();
        fx.send(me, Message::Accepted(Accepted { ballot, first, through: first.prev(), probe: 0 }));
    }

    /// Stops leading or campaigning. Accepted values stay, because they may be chosen; commands that are
    /// not in the log yet are refused.
    pub(crate) fn step_down(
        &mut self,
        leader: Option<NodeId>,
        reason: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        let ballot = match &mut self.role {
            Role::Follower => return,
            Role::Candidate(candidate) => candidate.ballot(),
            Role::Leader(it) => {
                let hint = leader.filter(|node| *node != self.config.id());
                it.refuse_proposals(hint, fx);
                it.refuse_reads(hint, fx);
                it.ballot()
            }
        };
        debug_assert!(self.election.leader().is_none(), "a proposer follows no node");
        self.role = Role::Follower;
        self.election.clear_leader();
        self.must_ack = false;
        fx.note(ProtocolEvent::SteppedDown { ballot, reason });
        fx.cancel_timer(Timer::Heartbeat);
        self.arm_election(fx);
    }

    pub(crate) fn arm_election(&self, fx: &mut Fx<'_>) {
        if !self.is_proposer() {
            fx.set_timer(Timer::Election, self.config.timing().election.clone());
        }
    }

    pub(crate) fn is_proposer(&self) -> bool {
        !matches!(self.role, Role::Follower)
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// Returns whether this node leads with a quorum, or has recently received a message of a leader with
    /// a quorum.
    pub(crate) fn has_live_leader(&self, now: Instant) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_serving() && self.sees_quorum(now),
            Role::Candidate(_) => false,
            Role::Follower => {
                self.election.has_live_leader(now, self.config.timing().election.start)
            }
        }
    }

    /// Returns the view that heartbeats carry.
    pub(crate) fn view(&self, now: Instant) -> View {
        let (state, leader) = match &self.role {
            Role::Leader(leader) if leader.is_serving() => {
                (ElectionState::Leading, Some(leader.ballot()))
            }
            Role::Leader(_) | Role::Candidate(_) => (ElectionState::Campaigning, None),
            Role::Follower if self.election.is_pre_campaigning() => {
                (ElectionState::PreCampaigning, self.election.leader())
            }
            Role::Follower => (ElectionState::Following, self.election.leader()),
        };
        View {
            ballot: self.acceptor.promised(),
            leader,
            state,
            has_quorum: self.sees_quorum(now),
            has_live_leader: self.has_live_leader(now),
            commit: self.learner.commit(),
            digest: HistoryDigest::of(self.acceptor.log(), self.learner.commit()),
            priority: self.config.priority(),
        }
    }

    /// Returns whether enough voters reply for this node to lead or to keep leading.
    fn sees_quorum(&self, now: Instant) -> bool {
        let (me, quorum) = (self.config.id(), self.config.quorum());
        let timeout = self.config.timing().election.end;
        let has_replied = |node| node == me || self.election.answered_within(now, node, timeout);
        match &self.role {
            // A leader has completed phase 1, and needs quorums of phase 2 only.
            Role::Leader(_) => quorum.is_second(has_replied),
            Role::Candidate(_) => quorum.is_first(has_replied) && quorum.is_second(has_replied),
            Role::Follower => self.election.reaches_quorum(me, quorum),
        }
    }

    pub(crate) fn begin_round(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let round = self.election.begin_round(now);
        let view = self.view(now);
        for node in self.members.others(self.config.id()) {
            fx.send(node, Message::Heartbeat(Heartbeat { round, view }));
        }
        let interval = self.config.timing().heartbeat;
        fx.set_timer(Timer::Heartbeat, interval..interval);
    }

    fn next_round(&self) -> Option<u64> {
        // Ballots of Nacks count, too: acceptors would reject a ballot below them.
        let highest = self.acceptor.promised().round.max(self.election.max_nack_round());
        Some(highest + 1).filter(|round| *round < HORIZON)
    }
}
