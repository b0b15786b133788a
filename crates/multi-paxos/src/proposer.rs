//! A node as proposer: looking whether it should lead, campaigning, leading.

use crate::candidate::{Candidate, ReportProgress};
use crate::core::{Fx, Role};
use crate::election::PreCampaign;
use crate::leader::{AcceptBuilder, Leader};
use crate::message::{
    Accept, Accepted, Commit, ElectionState, HORIZON, Heartbeat, Nack, Prepare, Probe, Promise,
    Report, View,
};
use crate::span::prefix;
use crate::{Message, MultiPaxos, Timer};
use alloc::boxed::Box;
use core::mem;
use synod_consensus::{
    HistoryDigest, IgnoreReason, ProtocolEvent, Refusal, Run, StepDownReason, Write,
};
use synod_types::{Ballot, Instant, NodeId, Ticket};

/// A campaign that brings nothing new for this many of the longest election timeouts is given up.
const CAMPAIGN_TIMEOUT_FACTOR: u32 = 8;

/// The disk or the apply side did not answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stall {
    since: Instant,
    /// Whether a vow that was made afterwards has come back from the disk.
    disk_responded: bool,
}

impl MultiPaxos {
    /// No leader was heard from for an election timeout. Any node may be handed this at any time.
    pub(crate) fn on_election_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if self.is_proposer() {
            return;
        }
        self.arm_election(fx);
        if self.has_live_leader(now) {
            return;
        }
        if !self.election.is_pre_campaigning() {
            let round = self.acceptor.promised().round + 1;
            let ballot = Ballot { round, node: self.config.id() };
            fx.note(ProtocolEvent::PreCampaigning { ballot });
        }
        // Answers to an earlier canvass may be stale: ask anew.
        self.election.begin_pre_campaign(now);
        self.begin_round(now, fx);
        self.maybe_campaign(now, fx);
    }

    /// Campaigns if the answers so far say that it would be of use.
    pub(crate) fn maybe_campaign(&mut self, now: Instant, fx: &mut Fx<'_>) {
        if self.is_proposer() || !self.is_voter() || !self.election.is_pre_campaigning() {
            return;
        }
        if self.is_stalled(now) || self.next_round().is_none() {
            return;
        }
        let last = self.acceptor.log().last();
        match self.election.evaluate_pre_campaign(now, &self.config, last) {
            PreCampaign::Wait => {}
            PreCampaign::Defer => self.election.end_pre_campaign(),
            PreCampaign::Campaign => self.campaign(now, fx),
        }
    }

    /// Takes a ballot above everything seen and promises it in the step that asks the others to.
    /// The own promise is a message like theirs: it counts once it is durable.
    fn campaign(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let Some(round) = self.next_round() else { return };
        let me = self.config.id();
        let ballot = Ballot { round, node: me };
        self.promise(ballot, StepDownReason::NewCampaign, fx);
        self.election.begin_campaign();
        fx.note(ProtocolEvent::Campaigning { ballot });
        let from = self.learner.commit().next();
        let mut candidate = Candidate::new(now, ballot, from, self.acceptor.log());
        candidate.chosen_through = self.leader_commit;
        self.role = Role::Candidate(Box::new(candidate));
        fx.cancel_timer(Timer::Election);
        self.begin_round(now, fx);
        fx.send(me, Message::Promise(Promise { ballot, report: Report::empty(from) }));
        self.send_prepares(now, fx);
    }

    /// Prepare to everyone who has not reported everything: the same ballot again, because a higher
    /// one would only undo what it has already.
    fn send_prepares(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let me = self.config.id();
        let Role::Candidate(candidate) = &mut self.role else { return };
        candidate.last_prepare = now;
        let (ballot, commit) = (candidate.ballot(), self.learner.commit());
        for voter in self.members.voters().iter().copied().filter(|voter| *voter != me) {
            if let Some((from, held)) = candidate.next_request(voter, commit) {
                fx.send(voter, Message::Prepare(Prepare { ballot, from, held }));
            }
        }
    }

    /// Phase 1b arrives. Only promises of exactly this ballot count, each acceptor once.
    pub(crate) fn on_promise(
        &mut self,
        now: Instant,
        from: NodeId,
        promise: Promise,
        fx: &mut Fx<'_>,
    ) {
        let Promise { ballot, report } = promise;
        let Role::Candidate(candidate) = &mut self.role else { return };
        if candidate.ballot() != ballot {
            return self.ignore(from, IgnoreReason::OtherBallot, fx);
        }
        if from == self.config.id() {
            candidate.on_own_promise(from);
            return self.maybe_lead(fx);
        }
        let confirmed = prefix(&report.held, report.from, report.confirmed);
        self.confirm(report.from, &confirmed, fx);
        let (commit, Role::Candidate(candidate)) = (self.learner.commit(), &mut self.role) else {
            return;
        };
        match candidate.on_report(from, &report, commit) {
            ReportProgress::Stale => return,
            ReportProgress::Done => {}
            ReportProgress::More(_) => {
                if let Some((from_slot, held)) = candidate.next_request(from, commit) {
                    fx.send(from, Message::Prepare(Prepare { ballot, from: from_slot, held }));
                }
            }
        }
        candidate.last_progress = now;
        if report.commit > commit && self.learner.may_request(now) {
            // What is chosen is not reported. It must be learnt before this report counts.
            self.request_chosen(now, from, fx);
        }
        self.maybe_lead(fx);
    }

    /// Phase 1 is done if a quorum has reported everything: phase 2 begins.
    pub(crate) fn maybe_lead(&mut self, fx: &mut Fx<'_>) {
        let commit = self.learner.commit();
        let Role::Candidate(candidate) = &self.role else { return };
        if !candidate.is_complete(self.config.quorum(), commit) {
            return;
        }
        let ballot = candidate.ballot();
        let Some(found) = candidate.result(commit) else {
            return self.step_down(None, StepDownReason::UnfillableHoles, fx);
        };
        let (first, barrier) = (found.first(), found.barrier());
        if barrier.0 >= HORIZON {
            return self.step_down(None, StepDownReason::LogFull, fx);
        }
        let others = self.members.others(self.config.id());
        let mut leader = Leader::new(ballot, first, barrier, self.config.limits(), others);
        leader.found = Some(found);
        self.role = Role::Leader(Box::new(leader));
    }

    /// Proposes the next of what phase 1 has found. A long log goes out in slices as the ones
    /// before are chosen: heartbeats leave in between, and no step grows with the length of the log.
    fn propose_found(&mut self, fx: &mut Fx<'_>) {
        let limits = self.config.limits();
        let (most, batch_bytes) = (limits.inflight_bytes, limits.accept_bytes);
        while let Role::Leader(leader) = &mut self.role {
            let ballot = leader.ballot();
            let Some(found) = leader.found.as_mut().filter(|_| leader.window_bytes < most) else {
                return;
            };
            match found.next_batch(ballot, batch_bytes) {
                Some(run) => self.propose(run, fx),
                None => leader.found = None,
            }
        }
    }

    /// Somebody promised more: this ballot is over.
    pub(crate) fn on_nack(&mut self, nack: Nack, fx: &mut Fx<'_>) {
        let Nack { ballot, promised } = nack;
        let ours = match &self.role {
            Role::Follower => None,
            Role::Candidate(candidate) => Some(candidate.ballot()),
            Role::Leader(leader) => Some(leader.ballot()),
        };
        if ours == Some(ballot) {
            self.election.on_nack(promised);
            self.step_down(Some(promised.node), StepDownReason::HigherBallotPromised, fx);
        }
    }

    /// Takes a command into the batch that the next flush makes.
    pub(crate) fn on_propose(&mut self, ticket: Ticket, command: &[u8], fx: &mut Fx<'_>) {
        let hint = self.known_leader();
        let limits = self.config.limits();
        let commit = self.learner.commit();
        let Role::Leader(leader) = &mut self.role else {
            return fx.refuse(ticket, Refusal::NotLeader { hint });
        };
        let last = leader.proposed;
        if !leader.is_serving() {
            return fx.refuse(ticket, Refusal::NotLeader { hint });
        }
        if command.len() > limits.command_bytes {
            let limit = limits.command_bytes as u64;
            return fx.refuse(ticket, Refusal::TooLarge { limit });
        }
        let offered = leader.offered.byte_len();
        let size = command.len() + 1;
        let slots = (last.0 - commit.0) as usize + leader.offered.len();
        if slots >= limits.window_slots
            || leader.window_bytes + offered + size > limits.window_bytes
            || last.0 + 1 + leader.offered.len() as u64 >= HORIZON
        {
            return fx.refuse(ticket, Refusal::Busy);
        }
        if offered > 0 && offered + size > limits.accept_bytes {
            // A run that one Accept can carry whole is never cut or copied again.
            self.seal_batch(fx);
        }
        if let Role::Leader(leader) = &mut self.role {
            leader.offered.push_command(command);
            leader.tickets.push(ticket);
        }
    }

    /// Turns what was offered into one run, one write, one Accept a peer, and the answer to
    /// ourselves. Everything leaves before our own disk is done.
    pub(crate) fn flush_leader(&mut self, now: Instant, fx: &mut Fx<'_>) {
        self.propose_found(fx);
        self.seal_batch(fx);
        let Role::Leader(leader) = &mut self.role else { return };
        let (ballot, log, commit) = (leader.ballot(), self.acceptor.log(), self.learner.commit());
        let proposed = leader.proposed;
        if leader.self_ack_sent < proposed {
            let (first, through) = (leader.self_ack_sent.next().max(log.base().next()), proposed);
            leader.self_ack_sent = through;
            let accepted = Message::Accepted(Accepted { ballot, first, through, probe: 0 });
            fx.send(self.config.id(), accepted);
        }
        // Most peers lack exactly the newest run. If it is whole, it can be sent as it is.
        let newest = log.runs().next_back().filter(|run| run.last() == proposed);
        let sender =
            AcceptBuilder { now, log, limits: self.config.limits(), last: proposed, newest };
        let is_serving = leader.is_serving();
        for (node, peer) in leader.peers_mut() {
            while let Some(run) = sender.next(peer) {
                peer.sent_commit = commit;
                let before = run.first.prev();
                let digest = (before <= commit).then(|| HistoryDigest::of(log, before));
                fx.send(node, Message::Accept(Accept { run, commit, digest }));
            }
            if peer.needs_snapshot {
                fx.ship_snapshot(node);
            }
            if is_serving && peer.sent_commit < commit {
                peer.sent_commit = commit;
                fx.send(node, Message::Commit(Commit { ballot, commit }));
            }
        }
    }

    /// Phase 2b arrives, or our own disk is done: what a quorum has accepted is chosen.
    pub(crate) fn on_accepted(
        &mut self,
        now: Instant,
        from: NodeId,
        accepted: Accepted,
        fx: &mut Fx<'_>,
    ) {
        let Accepted { ballot, first, through, probe } = accepted;
        let base = self.acceptor.log().base();
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.ballot() != ballot {
            return self.ignore(from, IgnoreReason::OlderBallot, fx);
        }
        // It may have learnt more from others than is proposed by now.
        let through = through.min(leader.proposed);
        leader.accepted(now, from, first, through, base);
        leader.probe_answered(now, from, probe);
        if through > self.learner.commit() {
            let agreed = leader.agreed(self.config.quorum());
            if agreed > self.learner.commit() {
                self.learn(ballot, agreed, fx);
            }
        }
    }

    /// The next round of heartbeats, and what is overdue.
    pub(crate) fn on_heartbeat_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let timing = self.config.timing();
        let timeout = timing.election.end;
        // A timer that fires late shows that this node was held up, by a long step or by its
        // machine. The answers to its last heartbeats wait behind this timer, so it judges its
        // peers by the next one.
        let held_up = self.election.since_last_round(now) >= timing.heartbeat * 2;
        let skipped_quorum_check =
            held_up && !mem::replace(&mut self.skipped_quorum_check, held_up);
        self.skipped_quorum_check = skipped_quorum_check;
        if self.is_proposer() && !skipped_quorum_check && !self.sees_quorum(now) {
            return self.step_down(None, StepDownReason::NoQuorum, fx);
        }
        match &mut self.role {
            Role::Follower if !self.election.is_pre_campaigning() => return,
            Role::Follower => {}
            Role::Candidate(candidate)
                if now.since(candidate.last_progress) > timeout * CAMPAIGN_TIMEOUT_FACTOR =>
            {
                return self.step_down(None, StepDownReason::CampaignTimedOut, fx);
            }
            Role::Candidate(candidate) => {
                if now.since(candidate.last_prepare) >= timing.election.start {
                    self.send_prepares(now, fx);
                }
            }
            Role::Leader(leader) => {
                let ballot = leader.ballot();
                for (node, number) in leader.overdue_probes(now) {
                    fx.send(node, Message::Probe(Probe { ballot, number }));
                }
            }
        }
        self.begin_round(now, fx);
        self.maybe_campaign(now, fx);
    }

    /// Chosen slots wait to be applied: a node that does not lead waits for a leader again, and stops
    /// looking whether it should lead.
    pub(crate) fn on_lagging(&mut self, fx: &mut Fx<'_>) {
        self.election.end_pre_campaign();
        self.arm_election(fx);
    }

    /// The disk or the apply side does not answer. A leader lets go, for it would block everyone
    /// while its heartbeats go on. Nor does the node campaign again before a vow that it makes to
    /// itself now has come back from the disk, and before the others have had their chance for
    /// one longest election timeout.
    pub(crate) fn on_stalled(&mut self, now: Instant, fx: &mut Fx<'_>) {
        self.step_down(None, StepDownReason::Stalled, fx);
        self.stall = Some(Stall { since: now, disk_responded: false });
        let me = self.config.id();
        // A vow without content: it comes back when the disk is done. The ballot names this node
        // as the receiver, or the answer would be ignored as somebody else's.
        let ballot = Ballot { round: 1, node: me };
        let first = self.acceptor.log().base().next();
        fx.send(me, Message::Accepted(Accepted { ballot, first, through: first.prev(), probe: 0 }));
    }

    /// A message to itself came back: what was written before is durable.
    pub(crate) fn on_self_message(&mut self) {
        if let Some(stall) = &mut self.stall {
            stall.disk_responded = true;
        }
    }

    /// Leads and campaigns no more. What was accepted stays; what was only offered is refused.
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
                for ticket in it.take_tickets() {
                    fx.refuse(ticket, Refusal::NotLeader { hint });
                }
                it.ballot()
            }
        };
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

    /// Whether this node is served: it leads, or has heard from a leader of late, and there is a
    /// quorum.
    pub(crate) fn has_live_leader(&self, now: Instant) -> bool {
        match &self.role {
            Role::Leader(leader) => leader.is_serving() && self.sees_quorum(now),
            Role::Candidate(_) => false,
            Role::Follower => {
                self.election.has_live_leader(now, self.config.timing().election.start)
            }
        }
    }

    /// How this node sees the cluster.
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

    /// Whether enough voters answer: to lead, or to go on leading.
    fn sees_quorum(&self, now: Instant) -> bool {
        let (me, quorum) = (self.config.id(), self.config.quorum());
        let timeout = self.config.timing().election.end;
        let answers = |node| node == me || self.election.answered_within(now, node, timeout);
        match &self.role {
            Role::Leader(_) => quorum.is_second(answers),
            Role::Candidate(_) => quorum.is_first(answers) && quorum.is_second(answers),
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

    /// Puts what was offered into the log.
    fn seal_batch(&mut self, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.tickets.is_empty() {
            return;
        }
        let values = leader.offered.finish();
        let first = leader.proposed.next();
        for (index, ticket) in leader.tickets.drain(..).enumerate() {
            fx.placed(ticket, first.plus(index));
        }
        let run = Run { first, stamp: leader.ballot(), values };
        self.propose(run, fx);
    }

    /// Proposes, and accepts what it proposes.
    fn propose(&mut self, run: Run<Ballot>, fx: &mut Fx<'_>) {
        let Role::Leader(leader) = &mut self.role else { return };
        debug_assert_eq!(run.first, leader.proposed.next(), "proposals leave no hole");
        let commit = self.learner.commit();
        if run.last() > commit {
            leader.window_bytes += run.from(run.first.max(commit.next())).values.byte_len();
        }
        leader.proposed = run.last();
        fx.write(Write::Put(run.clone()));
        self.acceptor.propose(run);
    }

    fn known_leader(&self) -> Option<NodeId> {
        match &self.role {
            Role::Follower => self.election.leader().map(|ballot| ballot.node),
            Role::Candidate(_) | Role::Leader(_) => None,
        }
    }

    fn is_stalled(&mut self, now: Instant) -> bool {
        let timeout = self.config.timing().election.end;
        self.stall.take_if(|stall| stall.disk_responded && now.since(stall.since) >= timeout);
        self.stall.is_some()
    }

    fn next_round(&self) -> Option<u64> {
        let highest = self.acceptor.promised().round.max(self.election.max_nack_round());
        Some(highest + 1).filter(|round| *round < HORIZON)
    }
}
