//! Node as acceptor and learner: replies to proposers, catch-up, and the followed leader.

use crate::acceptor::AcceptResult;
use crate::core::{Fx, Role, ignore};
use crate::message::{
    Accept, Accepted, Commit, ElectionState, Heartbeat, HeartbeatReply, Known, LAST_SLOT, Learn,
    Learned, Nack, Prepare, Probe, Promise, Report, View,
};
use crate::span::{Span, prefix, spans};
use crate::{Message, MultiPaxos, Timer};
use alloc::vec::Vec;
use synod_consensus::{HistoryDigest, IgnoreReason, ProtocolEvent, Run, StepDownReason, Write};
use synod_types::{Ballot, Instant, NodeId, Slot};

impl MultiPaxos {
    /// Handles phase 1a (PMS 2.2). A promised ballot gets another reply, from the current log: its proposer
    /// lost the first one, or requests the next part.
    pub(crate) fn on_prepare(
        &mut self,
        now: Instant,
        from: NodeId,
        prepare: Prepare,
        fx: &mut Fx<'_>,
    ) {
        let (ballot, promised) = (prepare.ballot, self.acceptor.promised());
        if ballot < promised {
            return fx.send(from, Message::Nack(Nack { ballot, promised }));
        }
        if ballot > promised {
            // No Nack: it would make the rival retry with a higher ballot.
            if self.protects_leader(now, from) {
                return ignore(from, IgnoreReason::LiveLeader, fx);
            }
            self.promise(ballot, StepDownReason::HigherBallotPromised, fx);
            fx.note(ProtocolEvent::Voted { to: from, ballot });
            self.election.clear_leader();
            self.arm_election(fx);
        }
        // The promise is one for all slots (PMS 3); the report covers what may still be undecided.
        let limits = self.config.limits();
        let commit = self.learner.commit();
        let Prepare { from: first, held, .. } = prepare;
        let report = self.acceptor.report(first, &held, commit, limits.chunk_bytes);
        let report = Report { leader_commit: self.leader_commit, ..report };
        fx.send(from, Message::Promise(Promise { ballot, report }));
    }

    /// Handles phase 2a. The reply is sent by the flush.
    pub(crate) fn on_accept(
        &mut self,
        now: Instant,
        from: NodeId,
        accept: Accept,
        fx: &mut Fx<'_>,
    ) {
        let Accept { run, commit, digest } = accept;
        let (ballot, promised) = (run.stamp, self.acceptor.promised());
        // Only this node proposes under its own ballot.
        if ballot == promised && self.is_proposer() {
            return ignore(from, IgnoreReason::OwnBallot, fx);
        }
        match self.acceptor.accept(&run, self.learner.commit()) {
            AcceptResult::Rejected(promised) => {
                return fx.send(from, Message::Nack(Nack { ballot, promised }));
            }
            AcceptResult::Contradiction => {
                let reason = IgnoreReason::ContradictsEarlier;
                return ignore(from, reason, fx);
            }
            AcceptResult::Accepted(parts) => {
                if ballot > promised {
                    self.on_promise_raised(
                        promised,
                        Some(from),
                        StepDownReason::HigherBallotActive,
                        fx,
                    );
                }
                parts.into_iter().for_each(|part| fx.write(Write::Put(part)));
            }
        }
        // One acknowledgement a flush covers every Accept before it.
        self.must_ack = true;
        // The digest was compared on arrival: up to the run the histories are equal.
        if digest.is_some() && run.first.prev() <= self.learner.commit() {
            self.agreement.record(ballot, run.first.prev());
        }
        self.agreement.extend(&run);
        self.leader_commit = self.leader_commit.max(commit);
        if self.election.leader() == Some(ballot) {
            self.follow(now, ballot, true, fx);
        } else {
            // Phase 2 has begun: the proposer serves soon.
            self.arm_election(fx);
        }
        self.learn_from_leader(ballot, commit, fx);
    }

    /// Sends the leader one Accepted for all Accepts since the last flush.
    pub(crate) fn flush_acceptor(&mut self, fx: &mut Fx<'_>) {
        if !core::mem::take(&mut self.must_ack) {
            return;
        }
        let (ballot, probe) = (self.acceptor.promised(), self.last_probe);
        let (first, through) = match self.acceptor.accepted_range() {
            Some(accepted_range) => (accepted_range.first, accepted_range.through),
            // None of the Accepts before the probe arrived.
            None => (Slot(1), Slot::ZERO),
        };
        fx.send(ballot.node, Message::Accepted(Accepted { ballot, first, through, probe }));
    }

    /// Handles a probe of the leader: Accepts sent before it that have not arrived were lost.
    pub(crate) fn on_probe(&mut self, from: NodeId, probe: Probe, fx: &mut Fx<'_>) {
        let Probe { ballot, number } = probe;
        let promised = self.acceptor.promised();
        if ballot < promised {
            return fx.send(from, Message::Nack(Nack { ballot, promised }));
        }
        if ballot > promised {
            // Every Accept was lost. A probe by itself raises no promise.
            let (first, through) = (Slot(1), Slot::ZERO);
            let reply = Message::Accepted(Accepted { ballot, first, through, probe: number });
            return fx.send(from, reply);
        }
        // Accepts and probes share a lane, so an Accept sent before the probe has arrived or is lost.
        self.last_probe = self.last_probe.max(number);
        self.must_ack = true;
    }

    /// Handles the commit index of a leader.
    pub(crate) fn on_commit(
        &mut self,
        now: Instant,
        from: NodeId,
        commit: Commit,
        fx: &mut Fx<'_>,
    ) {
        let Commit { ballot, commit } = commit;
        let promised = self.acceptor.promised();
        if ballot < promised {
            return fx.send(from, Message::Nack(Nack { ballot, promised }));
        }
        if self.follow(now, ballot, true, fx) {
            self.learn_from_leader(ballot, commit, fx);
        }
    }

    /// Handles a heartbeat.
    pub(crate) fn on_heartbeat(
        &mut self,
        now: Instant,
        from: NodeId,
        heartbeat: Heartbeat,
        fx: &mut Fx<'_>,
    ) {
        let Heartbeat { round, view } = heartbeat;
        let (ballot, promised) = (view.ballot, self.acceptor.promised());
        // Its Accepts may be lost: the Nack makes an overtaken leader step down.
        if view.state == ElectionState::Leading && ballot < promised {
            fx.send(from, Message::Nack(Nack { ballot, promised }));
        }
        self.on_view(now, from, &view, fx);
        fx.send(from, Message::HeartbeatReply(HeartbeatReply { round, view: self.view(now) }));
    }

    /// Handles the reply to a heartbeat.
    pub(crate) fn on_heartbeat_reply(
        &mut self,
        now: Instant,
        from: NodeId,
        reply: HeartbeatReply,
        fx: &mut Fx<'_>,
    ) {
        let HeartbeatReply { round, view } = reply;
        let was_silent =
            !self.election.answered_within(now, from, self.config.timing().election.start);
        if !self.election.on_reply(now, from, round, view) {
            return;
        }
        if let Role::Leader(leader) = &mut self.role
            && was_silent
        {
            leader.peer_returned(from);
        }
        self.on_view(now, from, &view, fx);
        self.maybe_campaign(now, fx);
    }

    /// Handles a learner's request. Values that it holds already are confirmed without sending them.
    pub(crate) fn on_learn(&mut self, from: NodeId, learn: Learn, fx: &mut Fx<'_>) {
        let Learn { from: first, through, held } = learn;
        let (log, commit) = (self.acceptor.log(), self.learner.commit());
        // Compacted slots are only in a snapshot.
        if first <= log.base() {
            return fx.ship_snapshot(from);
        }
        // Values that the learner holds under the same stamps need not be sent.
        let confirmed = self.acceptor.confirmed(first, &held, commit);
        if first <= confirmed {
            let spans = prefix(&held, first, confirmed);
            let digest = HistoryDigest::of(log, first.prev());
            return fx.send(from, Message::Known(Known { first, spans, commit, digest }));
        }
        let max_bytes = self.config.limits().chunk_bytes;
        if let Some(run) = self.acceptor.chosen(first, commit.min(through), max_bytes) {
            let digest = HistoryDigest::of(log, first.prev());
            fx.send(from, Message::Learned(Learned { run, commit, digest }));
        }
    }

    /// Handles chosen values. They change neither the promise nor any other slot.
    pub(crate) fn on_learned(
        &mut self,
        now: Instant,
        from: NodeId,
        learned: Learned,
        fx: &mut Fx<'_>,
    ) {
        let Learned { run, commit, .. } = learned;
        let next = self.learner.commit().next();
        // A run that begins earlier overlaps what is chosen here, and must be equal.
        if let Some(slot) = self.contradiction(&run).filter(|_| run.first < next) {
            return self.contradicted(from, slot, fx);
        }
        // Slots are learnt in order. A leader holds all chosen values already.
        if self.is_leader() || run.first > next || run.last() < next {
            return;
        }
        let run = run.from(next);
        let Some(parts) = self.acceptor.learn(&run, self.learner.commit()) else {
            return ignore(from, IgnoreReason::Contradiction, fx);
        };
        // These values come from another node: agreement with the leader ends before them.
        if let Some(first) = parts.first() {
            self.agreement.truncate(first.first);
        }
        parts.into_iter().for_each(|part| fx.write(Write::Put(part)));
        self.learn(crate::CHOSEN, run.last(), fx);
        debug_assert!(self.learner.commit() >= run.last(), "learnt values are in order");
        self.record_agreement(from);
        self.continue_catch_up(now, from, commit, fx);
    }

    /// Handles a reply without values: the values that this node holds under these stamps are chosen.
    pub(crate) fn on_known(&mut self, now: Instant, from: NodeId, known: Known, fx: &mut Fx<'_>) {
        let Known { first, spans, commit, .. } = known;
        let before = self.learner.commit();
        // A gap before the first span: later slots are no evidence for earlier ones.
        if self.is_leader() || first > before.next() {
            return;
        }
        self.confirm(first, &spans, fx);
        // A reply without progress must not trigger the next request, which would loop.
        if self.learner.commit() > before {
            if first == before.next() {
                self.record_agreement(from);
            }
            self.continue_catch_up(now, from, commit, fx);
        }
    }

    /// Requests the next part after a reply that advanced the commit index, and continues a campaign.
    fn continue_catch_up(&mut self, now: Instant, from: NodeId, theirs: Slot, fx: &mut Fx<'_>) {
        self.learner.on_reply(now);
        if let Role::Candidate(candidate) = &mut self.role {
            candidate.last_progress = now;
        }
        // Catch-up is a chain of requests, each for one part of bounded size.
        if self.learner.commit() < theirs && !self.is_receiving_accepts(now) {
            self.request_chosen(now, from, fx);
        }
        self.maybe_lead(fx);
    }

    /// Continues a campaign after a new part of a report, whose sender has this commit index.
    pub(crate) fn after_report(
        &mut self,
        now: Instant,
        from: NodeId,
        theirs: Slot,
        fx: &mut Fx<'_>,
    ) {
        if theirs > self.learner.commit() && self.learner.may_request(now) {
            // Reports have no values for chosen slots. They must be learnt before this one counts.
            self.request_chosen(now, from, fx);
        }
        self.maybe_lead(fx);
    }

    /// Requests from `node` the chosen slots that this node lacks, up to the first slot of the leader's
    /// Accepts.
    pub(crate) fn request_chosen(&mut self, now: Instant, node: NodeId, fx: &mut Fx<'_>) {
        let timing = self.config.timing();
        // Bounded, because the delay after a long pause does not predict the next one, and until the
        // timeout no other node receives a request.
        let timeout = timing.election.end.min(timing.heartbeat * 2 + self.election.delay(node));
        self.learner.record_request(now, node, timeout);
        let from = self.learner.commit().next();
        let accepted_range =
            self.acceptor.accepted_range().filter(|accepted_range| from < accepted_range.first);
        let through =
            accepted_range.map_or(LAST_SLOT, |accepted_range| accepted_range.first.prev());
        let held = spans(self.acceptor.log(), from, through);
        fx.send(node, Message::Learn(Learn { from, through, held }));
    }

    /// Returns whether the followed leader sends the next slot.
    fn is_receiving_accepts(&self, now: Instant) -> bool {
        // A leader sends every slot from the first of its ballot on until it is acknowledged. A heartbeat
        // that overtakes them names slots in flight: requesting these would send them twice. Values of a
        // leader with another history are not known to be chosen, so they must be requested.
        let next = self.learner.commit().next();
        self.election.leader() == Some(self.acceptor.promised())
            && self.has_live_leader(now)
            && self.agrees()
            && self
                .acceptor
                .accepted_range()
                .is_some_and(|accepted_range| accepted_range.first <= next)
    }

    /// Learns and reports newly chosen slots, through `through` for values accepted at `ballot`.
    pub(crate) fn learn(&mut self, ballot: Ballot, through: Slot, fx: &mut Fx<'_>) {
        let newly_chosen = self.learner.learn(self.acceptor.log(), ballot, through);
        self.report_chosen(newly_chosen, fx);
    }

    /// Learns and reports slots that a peer knows to be chosen and this node holds under the same stamps.
    pub(crate) fn confirm(&mut self, first: Slot, spans: &[Span], fx: &mut Fx<'_>) {
        let newly_chosen = self.learner.confirm(self.acceptor.log(), first, spans);
        self.report_chosen(newly_chosen, fx);
    }

    fn report_chosen(&mut self, chosen: Vec<Run<Ballot>>, fx: &mut Fx<'_>) {
        let commit = self.learner.commit();
        match &mut self.role {
            Role::Leader(leader) => leader.on_chosen(commit, chosen, fx),
            Role::Follower | Role::Candidate(_) => {
                chosen.into_iter().for_each(|run| fx.chosen(run));
            }
        }
    }

    /// Follows the leader of `ballot`, whose barrier is chosen, and promises its ballot. Returns `false`
    /// if a higher ballot was promised.
    fn follow(&mut self, now: Instant, ballot: Ballot, has_quorum: bool, fx: &mut Fx<'_>) -> bool {
        // A leader below the promise was overtaken: its values are rejected here.
        if ballot < self.acceptor.promised() {
            return false;
        }
        // As with an Accept: the promise needs no Prepare, and rules out older proposers from now on.
        self.promise(ballot, StepDownReason::OtherLeader, fx);
        debug_assert_eq!(self.acceptor.promised(), ballot, "following promises");
        if self.election.follow(now, ballot, has_quorum) {
            fx.note(ProtocolEvent::Following { leader: ballot.node, ballot });
        }
        if has_quorum {
            fx.cancel_timer(Timer::Heartbeat);
            self.arm_election(fx);
        }
        true
    }

    /// Handles the view in a heartbeat or its reply.
    fn on_view(&mut self, now: Instant, from: NodeId, view: &View, fx: &mut Fx<'_>) {
        // A heartbeat of the followed leader in another state ends following.
        let followed = self.election.leader().filter(|leader| leader.node == from);
        match view.state {
            ElectionState::Leading => {
                if self.follow(now, view.ballot, view.has_quorum, fx) {
                    if view.commit <= self.learner.commit() {
                        self.agreement.record(view.ballot, view.commit);
                    }
                    self.learn_from_leader(view.ballot, view.commit, fx);
                }
            }
            ElectionState::Campaigning
            | ElectionState::Following
            | ElectionState::PreCampaigning => {
                if followed.is_some_and(|leader| leader <= view.ballot) {
                    // The followed leader has stepped down.
                    self.election.clear_leader();
                }
                let waits = view.state == ElectionState::Campaigning && view.has_quorum;
                if waits && view.ballot >= self.acceptor.promised() && !self.is_proposer() {
                    self.arm_election(fx);
                }
            }
        }
        let is_late = self.learner.should_request(now, from, view.commit);
        if is_late && !self.is_leader() && !self.is_receiving_accepts(now) {
            self.request_chosen(now, from, fx);
        }
    }

    /// Promises `ballot` if it is above the promise.
    pub(crate) fn promise(&mut self, ballot: Ballot, why: StepDownReason, fx: &mut Fx<'_>) {
        let before = self.acceptor.promised();
        if self.acceptor.promise(ballot) {
            self.on_promise_raised(before, Some(ballot.node), why, fx);
        }
    }

    /// Writes the raised promise, and drops pending acknowledgements of the old one.
    fn on_promise_raised(
        &mut self,
        old: Ballot,
        by: Option<NodeId>,
        why: StepDownReason,
        fx: &mut Fx<'_>,
    ) {
        assert!(self.acceptor.promised() > old, "a promise only rises");
        fx.write(Write::HardState(self.acceptor.hard_state()));
        // A late acknowledgement of the old ballot would claim values at the new one.
        self.must_ack = false;
        self.last_probe = 0;
        self.step_down(by, why, fx);
    }

    /// Returns whether Prepares of `rival` are ignored, because this node received a message of its leader
    /// within the shortest election timeout. For stability only; safety does not depend on it.
    fn protects_leader(&self, now: Instant, rival: NodeId) -> bool {
        let is_rival = self.election.leader().is_some_and(|leader| leader.node != rival);
        self.has_live_leader(now) && (is_rival || self.is_leader())
    }
}
