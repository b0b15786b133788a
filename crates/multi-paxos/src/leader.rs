//! Leader: the distinguished proposer, in phase 2 (PMS 3).

use crate::candidate::Phase1Result;
use crate::config::Limits;
use crate::core::{Context, Fx, ignore};
use crate::message::{Accept, Accepted, Commit, HORIZON, Message, Probe};
use alloc::vec::Vec;
use core::cmp::{max, min};
use core::time::Duration;
use synod_consensus::{
    HistoryDigest, IgnoreReason, Proposals, ProtocolEvent, Quorum, ReadRounds, Refusal, Run,
    RunLog, SendWindow, WindowLimits, Write,
};
use synod_types::{Ballot, Instant, NodeId, Slot, Ticket};

/// Maximum number of unacknowledged Accepts to one acceptor.
const MAX_BATCHES: usize = 4096;

/// Queueing delay of an acceptor's replies above which the window shrinks.
const TARGET_DELAY: Duration = Duration::from_millis(50);

/// Proposer that has completed phase 1 for all slots: it runs phase 2 for many slots at a time (PMS 3).
///
/// It tracks what each acceptor has accepted; its proposals are in the log of its own
/// [`Acceptor`](crate::Acceptor). The three roles by hand:
///
/// ```
/// use synod_multi_paxos::consensus::{Quorum, Run, RunLog};
/// use synod_multi_paxos::types::{Ballot, Instant, Membership, NodeId, Slot};
/// use synod_multi_paxos::{Acceptor, Candidate, HardState, Leader, Limits, AcceptResult};
///
/// let (now, me, peer, limits) = (Instant::ZERO, NodeId(1), NodeId(2), Limits::default());
/// let members = Membership::new((1..=3).map(NodeId), [])?;
/// let quorum = Quorum::majority(&members);
/// let empty = || Acceptor::new(HardState::default(), RunLog::default());
/// let (mut mine, mut theirs) = (empty(), empty());
///
/// // Phase 1, for all slots. A promise counts once it is durable.
/// let ballot = Ballot { round: 1, node: me };
/// let mut candidate = Candidate::new(now, ballot, Slot(1), mine.log());
/// assert!(mine.promise(ballot) && theirs.promise(ballot));
/// candidate.on_own_promise(me);
/// candidate.on_report(peer, &theirs.report(Slot(1), &[], Slot::ZERO, 1 << 20), Slot::ZERO);
/// assert!(candidate.is_complete(&quorum, Slot::ZERO));
/// let mut found = candidate.result(Slot::ZERO).expect("few holes");
///
/// // Phase 2: what was found, which is nothing, and the barrier after it.
/// let (first, barrier) = (found.first(), found.barrier());
/// let mut leader = Leader::new(ballot, first, barrier, &limits, members.others(me));
/// let run = found.next_batch(ballot, 1 << 20).expect("the barrier");
/// assert!(matches!(mine.accept(&run, Slot::ZERO), AcceptResult::Accepted(_)));
/// leader.accepted(now, me, run.first, run.last(), Slot::ZERO);
/// let sent = leader.next_accept(now, peer, mine.log(), &limits).expect("it lacks the barrier");
/// assert!(matches!(theirs.accept(&sent, Slot::ZERO), AcceptResult::Accepted(_)));
/// leader.accepted(now, peer, sent.first, sent.last(), Slot::ZERO);
/// let commit = leader.agreed(&quorum);
/// assert!(leader.committed(commit, run.values.byte_len()), "now it serves");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    ballot: Ballot,
    /// Slot of the no-op after all values that phase 1 found. No request is served before it is chosen:
    /// until then values that no node has learnt may be chosen.
    pub(crate) barrier: Slot,
    is_serving: bool,
    /// Values from phase 1 that are not proposed yet.
    pub(crate) found: Option<Phase1Result>,
    /// Last proposed slot; all slots from the first of this ballot through it are proposed. Later slots of
    /// the own log were accepted at older ballots.
    proposed: Slot,
    /// Last slot that this node's own acceptor has durably accepted.
    durable: Slot,
    /// Last slot of the Accepted that was sent to this node itself.
    self_ack_sent: Slot,
    /// Other members, sorted by id. They are few, so a linear search is fastest.
    peers: Vec<(NodeId, Peer)>,
    /// Commands since the last flush, and the size of the proposals after the commit index.
    proposals: Proposals,
    /// Reads that wait for a quorum to confirm that this node still leads.
    pub(crate) reads: ReadRounds,
}

/// Replication state of one acceptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer {
    /// Last slot that it has accepted, with all slots from the first of this ballot.
    pub matched: Slot,
    /// Next slot to send.
    pub next: Slot,
    /// Commit index that was sent last.
    pub sent_commit: Slot,
    /// Accepts in flight.
    window: SendWindow,
    probes: Probes,
    /// True if it needs slots that are compacted away.
    pub needs_snapshot: bool,
}

/// Requests to acknowledge Accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Probes {
    /// Numbers of the first and the last probe since the last Accept was sent.
    first: u64,
    last: u64,
    /// First slot that was not sent before them; zero after a reply.
    sent: Slot,
}

impl Peer {
    fn probe(&mut self, now: Instant) -> u64 {
        self.window.probed(now);
        self.probes.last += 1;
        if self.probes.sent != self.next {
            self.probes.first = self.probes.last;
            self.probes.sent = self.next;
        }
        self.probes.last
    }

    fn accepted(&mut self, now: Instant, through: Slot) {
        // Late and duplicate acknowledgements count once.
        if through <= self.matched {
            return;
        }
        self.matched = through;
        self.next = max(self.next, through.next());
        self.needs_snapshot = false;
        self.window.acked(now, through);
    }

    /// Handles the reply to a probe: Accepts sent before the probe and not acknowledged were lost. Only
    /// this causes a retransmission; a late reply may merely be queued.
    fn probe_answered(&mut self, now: Instant, number: u64) {
        let Probes { first, last, sent } = self.probes;
        if !(first..=last).contains(&number) || sent == Slot::ZERO {
            return;
        }
        self.probes.sent = Slot::ZERO;
        if self.matched.next() < sent {
            self.window.lost(now);
            self.next = self.matched.next();
        }
    }
}

impl Leader {
    /// Begins phase 2 for the slots from `first` on. `barrier` is the last slot of phase 1's proposals,
    /// `others` are all members except the owner of the ballot.
    #[must_use]
    pub fn new(
        ballot: Ballot,
        first: Slot,
        barrier: Slot,
        limits: &Limits,
        others: impl Iterator<Item = NodeId>,
    ) -> Self {
        let limits = WindowLimits {
            batches: MAX_BATCHES,
            bytes: limits.inflight_bytes,
            target_delay: TARGET_DELAY,
        };
        assert!(first <= barrier, "the barrier comes after everything found");
        let peer = |node| {
            let peer = Peer {
                matched: first.prev(),
                next: first,
                sent_commit: Slot::ZERO,
                window: SendWindow::new(limits),
                probes: Probes::default(),
                needs_snapshot: false,
            };
            (node, peer)
        };
        let mut peers: Vec<_> = others.map(peer).collect();
        peers.sort_unstable_by_key(|(node, _)| *node);
        Self {
            ballot,
            barrier,
            is_serving: false,
            found: None,
            proposed: first.prev(),
            durable: first.prev(),
            self_ack_sent: first.prev(),
            peers,
            proposals: Proposals::default(),
            reads: ReadRounds::default(),
        }
    }

    /// Returns the ballot of all its proposals.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns whether its barrier is chosen.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.is_serving
    }

    /// Records that all slots through `commit` are chosen, `bytes` of values more than before. Returns
    /// whether the leader begins to serve.
    pub fn committed(&mut self, commit: Slot, bytes: usize) -> bool {
        // A leader that is driven by hand may propose values that it did not count.
        self.proposals.chosen(min(bytes, self.proposals.open_bytes()));
        // Serving begins once and does not end before the leader steps down.
        let begins = !self.is_serving && commit >= self.barrier;
        self.is_serving |= begins;
        begins
    }

    /// Records that an acceptor has durably accepted these slots at the leader's ballot, all of them
    /// proposed before. `base` is that of the leader's log: slots up to there are chosen, and need not
    /// be accepted.
    pub fn accepted(&mut self, now: Instant, from: NodeId, first: Slot, through: Slot, base: Slot) {
        match self.peers.iter_mut().find(|(node, _)| *node == from) {
            // Acceptances count without gaps only: `matched` covers all slots before it.
            Some((_, peer)) if first <= max(peer.matched, base).next() => {
                peer.accepted(now, through);
            }
            Some(_) => {}
            None if from == self.ballot.node && first <= max(self.durable, base).next() => {
                self.durable = max(self.durable, through);
            }
            None => {}
        }
    }

    /// Returns the last slot that a quorum of phase 2 has accepted, with all before it.
    #[must_use]
    pub fn agreed(&self, quorum: &Quorum) -> Slot {
        quorum.agreed(|node| self.matched(node))
    }

    fn matched(&self, node: NodeId) -> Slot {
        if node == self.ballot.node {
            return self.durable;
        }
        let peer = self.peers.iter().find(|(peer, _)| *peer == node);
        peer.map_or(Slot::ZERO, |(_, peer)| peer.matched)
    }

    /// Returns the last slot that each member has accepted, this node included.
    #[must_use]
    pub fn progress(&self) -> Vec<(NodeId, Slot)> {
        let peers = self.peers.iter().map(|(node, peer)| (*node, peer.matched));
        let mut all: Vec<_> = peers.chain([(self.ballot.node, self.durable)]).collect();
        all.sort_unstable();
        all
    }

    /// Refuses the commands that are not in the log yet.
    pub(crate) fn refuse_proposals(&mut self, hint: Option<NodeId>, fx: &mut Fx<'_>) {
        self.proposals.refuse(&Refusal::NotLeader { hint }, fx);
    }

    /// Returns the next Accept for `to`, if its window has room. `log` is the leader's own; this leader must
    /// have proposed all of it from its first slot on.
    pub fn next_accept(
        &mut self,
        now: Instant,
        to: NodeId,
        log: &RunLog<Ballot>,
        limits: &Limits,
    ) -> Option<Run<Ballot>> {
        let (_, peer) = self.peers.iter_mut().find(|(node, _)| *node == to)?;
        AcceptBuilder { now, log, limits, last: log.last() }.next(peer)
    }

    /// Returns whether `node` needs a snapshot, because its next slots are compacted away.
    #[must_use]
    pub fn needs_snapshot(&self, node: NodeId) -> bool {
        self.peers.iter().any(|(peer, it)| *peer == node && it.needs_snapshot)
    }

    /// Returns the acceptors whose replies are overdue, with the numbers of the probes to send. The timeout
    /// follows their response times, with backoff.
    pub fn overdue_probes(&mut self, now: Instant) -> Vec<(NodeId, u64)> {
        let overdue = self.peers.iter_mut().filter(|(_, peer)| peer.window.is_overdue(now));
        overdue.map(|(node, peer)| (*node, peer.probe(now))).collect()
    }

    /// Records that an acceptor replies to heartbeats again after a silence: the next probe need not wait.
    pub(crate) fn peer_returned(&mut self, from: NodeId) {
        if let Some((_, peer)) = self.peers.iter_mut().find(|(node, _)| *node == from) {
            peer.window.peer_returned();
        }
    }

    /// Handles the probe number in an Accepted. Lost values are sent again under the same ballot.
    pub fn probe_answered(&mut self, now: Instant, from: NodeId, number: u64) {
        if let Some((_, peer)) = self.peers.iter_mut().find(|(node, _)| *node == from) {
            peer.probe_answered(now, number);
        }
    }
}

impl Leader {
    /// Adds a command to the batch that the next flush proposes, or refuses it.
    pub(crate) fn on_propose(
        &mut self,
        ctx: &mut Context<'_>,
        ticket: Ticket,
        command: &[u8],
        fx: &mut Fx<'_>,
    ) {
        let (limits, last) = (ctx.config.proposal_limits(), self.proposed);
        // Until the barrier is chosen, values of earlier leaders may be chosen without being known.
        if !self.is_serving {
            return fx.refuse(ticket, Refusal::NotLeader { hint: None });
        }
        if let Err(refusal) = self.proposals.admit(command, &limits) {
            return fx.refuse(ticket, refusal);
        }
        let end = last.plus(self.proposals.len());
        // The slots of a leader are bounded, because the next one may find holes in all of them.
        let is_full = (end.0 - ctx.learner.commit().0) as usize >= ctx.config.limits().window_slots;
        if is_full || end.next().0 >= HORIZON {
            return fx.refuse(ticket, Refusal::Busy);
        }
        if !self.proposals.has_room(command, &limits) {
            self.seal_batch(ctx, fx);
        }
        self.proposals.push(ticket, command);
    }

    /// Proposes the commands since the last flush: one run, one write, one Accept a peer, and an Accepted
    /// to this node itself.
    pub(crate) fn flush(&mut self, ctx: &mut Context<'_>, now: Instant, fx: &mut Fx<'_>) {
        self.propose_found(ctx, fx);
        self.seal_batch(ctx, fx);
        let (ballot, proposed) = (self.ballot, self.proposed);
        let (log, commit) = (ctx.acceptor.log(), ctx.learner.commit());
        if self.self_ack_sent < proposed {
            // The own acceptance is a message like any other: it counts once it is durable.
            let (first, through) = (self.self_ack_sent.next().max(log.base().next()), proposed);
            debug_assert!(through <= log.last(), "acknowledges what is not in the log");
            self.self_ack_sent = through;
            let accepted = Accepted { ballot, first, through, probe: 0 };
            fx.send(ctx.config.id(), Message::Accepted(accepted));
        }
        let accepts = AcceptBuilder { now, log, limits: ctx.config.limits(), last: proposed };
        for (node, peer) in &mut self.peers {
            let node = *node;
            // Sent while the own disk still writes: an Accept claims nothing about it.
            while let Some(run) = accepts.next(peer) {
                peer.sent_commit = commit;
                let before = run.first.prev();
                let digest = (before <= commit).then(|| HistoryDigest::of(log, before));
                fx.send(node, Message::Accept(Accept { run, commit, digest }));
            }
            if peer.needs_snapshot {
                fx.ship_snapshot(node);
            }
            if self.is_serving && peer.sent_commit < commit {
                peer.sent_commit = commit;
                fx.send(node, Message::Commit(Commit { ballot, commit }));
            }
        }
    }

    /// Handles phase 2b of a peer or of this node itself.
    pub(crate) fn on_accepted(
        &mut self,
        ctx: &mut Context<'_>,
        now: Instant,
        from: NodeId,
        accepted: &Accepted,
        fx: &mut Fx<'_>,
    ) {
        let Accepted { ballot, first, through, probe } = *accepted;
        if self.ballot != ballot {
            // Acceptances of different ballots are never added up (PMS 2.3).
            return ignore(from, IgnoreReason::OlderBallot, fx);
        }
        // Bounded, because the acceptor may have learnt slots that this leader has not proposed yet.
        let through = through.min(self.proposed);
        self.accepted(now, from, first, through, ctx.acceptor.log().base());
        self.probe_answered(now, from, probe);
        let commit = ctx.learner.commit();
        if through > commit {
            // Chosen: accepted by a quorum of phase 2, at this one ballot (PMS 2.2, 2.3).
            let agreed = self.agreed(ctx.config.quorum());
            if agreed > commit {
                let chosen = ctx.learner.learn(ctx.acceptor.log(), ballot, agreed);
                self.on_chosen(ctx.learner.commit(), chosen, fx);
            }
        }
    }

    /// Reports newly chosen runs, through `commit`, and removes them from the open proposals.
    pub(crate) fn on_chosen(&mut self, commit: Slot, chosen: Vec<Run<Ballot>>, fx: &mut Fx<'_>) {
        if chosen.is_empty() {
            return;
        }
        // Runs under other stamps were learnt, not proposed, and do not count as open.
        let proposed = chosen.iter().filter(|run| run.stamp == self.ballot);
        let bytes = proposed.map(|run| run.values.byte_len()).sum();
        // Slots are chosen in order, so all slots before the barrier are chosen with it.
        if self.committed(commit, bytes) {
            fx.note(ProtocolEvent::Leading { ballot: self.ballot });
        }
        chosen.into_iter().for_each(|run| fx.chosen(run));
    }

    /// Sends probes to the acceptors whose replies are overdue.
    pub(crate) fn send_probes(&mut self, now: Instant, fx: &mut Fx<'_>) {
        let ballot = self.ballot;
        for (node, number) in self.overdue_probes(now) {
            fx.send(node, Message::Probe(Probe { ballot, number }));
        }
    }

    /// Proposes the next values that phase 1 found, in slices.
    fn propose_found(&mut self, ctx: &mut Context<'_>, fx: &mut Fx<'_>) {
        let limits = ctx.config.limits();
        let (max_bytes, batch_bytes) = (limits.inflight_bytes, limits.accept_bytes);
        // The next slice waits until earlier ones are chosen: heartbeats are sent in between, and no step
        // grows with the length of the log.
        while let Some(found) =
            self.found.as_mut().filter(|_| self.proposals.open_bytes() < max_bytes)
        {
            match found.next_batch(self.ballot, batch_bytes) {
                Some(run) => self.propose(ctx, run, fx),
                None => self.found = None,
            }
        }
    }

    /// Proposes the batch of commands.
    fn seal_batch(&mut self, ctx: &mut Context<'_>, fx: &mut Fx<'_>) {
        let first = self.proposed.next();
        if let Some(values) = self.proposals.place(first, fx) {
            self.propose(ctx, Run { first, stamp: self.ballot, values }, fx);
        }
    }

    pub(crate) fn check_invariants(&self, log: &RunLog<Ballot>, commit: Slot) {
        let proposed = self.proposed;
        // The commit index may be higher: values learnt as chosen are not proposed again.
        assert!(proposed <= log.last(), "proposals are in the log");
        assert!(self.durable <= proposed && self.self_ack_sent <= proposed, "own acceptance");
        assert!(!self.is_serving || commit >= self.barrier, "serves before its barrier is chosen");
        match &self.found {
            Some(found) => assert_eq!(found.first(), proposed.next(), "found values come first"),
            None => assert!(proposed >= self.barrier, "new values come after the barrier"),
        }
        let mut bytes = 0;
        for run in log.runs_from(commit.next()).take_while(|run| run.first <= proposed) {
            // P2: a leader has accepted its proposals itself, at its ballot and no other.
            assert_eq!(run.stamp, self.ballot, "proposals are of one ballot");
            bytes += run
                .prefix(run.values.len().min((proposed.0 - run.first.0 + 1) as usize))
                .values
                .byte_len();
        }
        self.proposals.check_invariants(bytes);
        assert!(self.peers.is_sorted_by_key(|(node, _)| *node), "peers are in order");
        self.reads.check_invariants();
        for (_, peer) in &self.peers {
            assert!(
                peer.matched < peer.next && peer.next <= proposed.next(),
                "accepted, then sent"
            );
            assert!(peer.sent_commit <= commit, "the sent commit index is known");
        }
    }

    /// Proposes a run, and accepts it at the own acceptor.
    fn propose(&mut self, ctx: &mut Context<'_>, run: Run<Ballot>, fx: &mut Fx<'_>) {
        debug_assert_eq!(run.first, self.proposed.next(), "proposals leave no hole");
        debug_assert_eq!(run.stamp, self.ballot, "proposals are of one ballot");
        let commit = ctx.learner.commit();
        if run.last() > commit {
            self.proposals.opened(run.from(run.first.max(commit.next())).values.byte_len());
        }
        // The own vote counts with the Accepted of the flush, once this write is durable (PMS 2.5).
        self.proposed = run.last();
        fx.write(Write::Put(run.clone()));
        ctx.acceptor.propose(run);
    }
}

/// Source of the Accepts of one flush.
pub(crate) struct AcceptBuilder<'a> {
    pub now: Instant,
    pub log: &'a RunLog<Ballot>,
    pub limits: &'a Limits,
    /// Last slot proposed.
    pub last: Slot,
}

impl AcceptBuilder<'_> {
    /// Returns the next run that `peer` lacks and has room for.
    pub fn next(&self, peer: &mut Peer) -> Option<Run<Ballot>> {
        // Beyond the window an Accept would only wait in a queue of the path.
        if peer.next > self.last || !peer.window.has_room() {
            return None;
        }
        // Compacted slots come as a snapshot; Accepts go on after it.
        if peer.next <= self.log.base() {
            peer.needs_snapshot = true;
            peer.next = self.log.base().next();
        }
        let most = min(self.limits.accept_bytes, peer.window.batch_bytes());
        let run = self.log.chunk(peer.next, self.last, most)?;
        peer.next = run.last().next();
        peer.window.sent(self.now, run.last(), SendWindow::frame_bytes(&run.values));
        Some(run)
    }
}
