//! Leader: proposals, replication and commits (Raft §5.3, §5.4.2).

use crate::core::{Fx, ignore};
use crate::message::Position;
use crate::progress::{ConflictAction, Progress};
use crate::state::State;
use crate::{Append, AppendAck, AppendConflict, Commit, Heartbeat, Message, Timer};
use alloc::vec::Vec;
use core::cmp::{max, min};
use synod_consensus::{
    HistoryDigest, IgnoreReason, Proposals, ReadRounds, Refusal, Run, StepDownReason, Write,
};
use synod_types::{Instant, NodeId, Slot, Term, Ticket, Values};

/// State of the leader of a term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    /// Slot of the no-op that opened the term. All entries from here on are of this term.
    pub term_start: Slot,
    /// Last slot that is durable in the leader's own log.
    durable: Slot,
    /// Last slot of the acknowledgement that it sent to itself.
    self_ack_sent: Slot,
    /// Progress of each peer, in the order of the ids. For so few a scan is faster than a map.
    peers: Vec<(NodeId, Progress)>,
    /// Proposals since the last flush. All entries after the commit index count as open, including those
    /// of earlier terms.
    proposals: Proposals,
    /// Reads that are pending until a quorum confirms that this node still leads.
    pub reads: ReadRounds,
}

impl Leader {
    /// Begins the term of a candidate that a majority voted for. Appends a no-op at once: older entries
    /// commit with it (Raft §5.4.2, §8), and its append announces the leader.
    pub fn new(state: &mut State, now: Instant, fx: &mut Fx<'_>) -> Self {
        // "nextIndex: initialized to leader last log index + 1" (fig. 2).
        let (next, window) = (state.log.last().next(), state.config.window());
        let others = state.members.others(state.config.id());
        let mut peers: Vec<_> =
            others.map(|peer| (peer, Progress::new(next, window, now))).collect();
        peers.sort_unstable_by_key(|(peer, _)| *peer);
        let mut leader = Self {
            term_start: next,
            // Each term counts from zero, its own copy included: an acknowledgement of an earlier one may be of
            // entries that were replaced since.
            durable: Slot::ZERO,
            self_ack_sent: Slot::ZERO,
            peers,
            proposals: Proposals::default(),
            reads: ReadRounds::default(),
        };
        // Entries of earlier terms take part in backpressure: they commit only with those of this one.
        leader.proposals.recount(state.uncommitted_bytes());
        arm_heartbeat(state, fx);
        leader.append_to_log(state, Values::noop(), fx);
        leader
    }

    /// Refuses the proposals that are not in the log. `hint` is the next leader, if known.
    pub fn refuse_proposals(mut self, hint: Option<NodeId>, fx: &mut Fx<'_>) {
        self.proposals.refuse(&Refusal::NotLeader { hint }, fx);
    }

    /// Returns the last slot that each member holds durably, this node `me` included.
    pub fn match_slots(&self, me: NodeId) -> Vec<(NodeId, Slot)> {
        let peers = self.peers.iter().map(|(peer, progress)| (*peer, progress.matched));
        let mut all: Vec<_> = peers.chain([(me, self.durable)]).collect();
        all.sort_unstable();
        all
    }

    /// Adds a command to the batch that the next flush appends to the log.
    pub fn on_propose(
        &mut self,
        state: &mut State,
        ticket: Ticket,
        command: &[u8],
        fx: &mut Fx<'_>,
    ) {
        let limits = state.config.proposal_limits();
        if let Err(refusal) = self.proposals.admit(command, &limits) {
            return fx.refuse(ticket, refusal);
        }
        // The command starts a new batch, so that each batch becomes one append.
        if !self.proposals.has_room(command, &limits) {
            self.append_batch(state, fx);
        }
        self.proposals.push(ticket, command);
    }

    /// Turns the batch into one run, one write, at most one message for each peer, and the
    /// acknowledgement to itself.
    pub fn flush(&mut self, state: &mut State, now: Instant, fx: &mut Fx<'_>) {
        self.append_batch(state, fx);
        let (term, last) = (state.hard_state.term, state.log.last());
        if self.self_ack_sent < last {
            self.self_ack_sent = last;
            // Its own copy counts as any other: once it is durable. The appends below do not wait for that
            // (thesis §10.2.1, writing to the leader's disk in parallel).
            let ack = AppendAck { term, probe: 0, matched: last };
            fx.send(state.config.id(), Message::AppendAck(ack));
        }
        let replicator = Replicator { now, state };
        for (peer, progress) in &mut self.peers {
            replicator.replicate(*peer, progress, fx);
        }
    }

    /// Handles an acknowledgement: the log of a peer, or its own, is durable and equal to this one up to a
    /// slot.
    pub fn on_append_ack(
        &mut self,
        state: &mut State,
        now: Instant,
        from: NodeId,
        ack: AppendAck,
        fx: &mut Fx<'_>,
    ) {
        // A leader's log never shrinks, so all entries that it sent are in it.
        if ack.matched > state.log.last() {
            return ignore(from, IgnoreReason::NeverSent, fx);
        }
        if let Some(progress) = self.peer_mut(from) {
            progress.on_contact(now, state.config.timing().heartbeat);
            progress.on_ack(now, ack, state.log.base());
        } else {
            self.durable = max(self.durable, ack.matched);
        }
        // An acknowledgement at or below the commit index cannot raise it.
        if ack.matched > state.commit {
            self.advance_commit(state, fx);
        }
    }

    /// Handles a conflict: goes back to an entry that the peer may hold, and skips those that cannot be
    /// equal (Raft §5.3).
    pub fn on_append_conflict(
        &mut self,
        state: &State,
        now: Instant,
        from: NodeId,
        conflict: AppendConflict,
        fx: &mut Fx<'_>,
    ) {
        let Some(progress) = self.peer_mut(from) else { return };
        progress.on_contact(now, state.config.timing().heartbeat);
        match progress.classify_conflict(&conflict) {
            ConflictAction::ReportLoss => ignore(from, IgnoreReason::StaleConflict, fx),
            ConflictAction::Ignore => {}
            ConflictAction::SearchBack => {
                let AppendConflict { at, hint, .. } = conflict;
                // Both sides skip whole terms: the follower's hint skips its terms above the leader's, and
                // this skips the leader's terms above the hint's.
                let meeting = state.last_not_after(min(hint.slot, at.prev()), hint.term);
                // If the entry is compacted away, the peer needs a snapshot, see `replicate`.
                let next = meeting.map_or(state.log.base(), |entry| entry.slot.next());
                progress.search_from(now, next);
            }
        }
    }

    /// Records that a peer is alive. The message acknowledges no entry.
    pub fn on_heartbeat_ack(&mut self, state: &State, now: Instant, from: NodeId) {
        if let Some(progress) = self.peer_mut(from) {
            progress.on_contact(now, state.config.timing().heartbeat);
        }
    }

    /// Sends heartbeats, and probes peers whose acknowledgements are overdue.
    ///
    /// # Errors
    /// If the leader must step down.
    pub fn on_heartbeat_timeout(
        &mut self,
        state: &State,
        now: Instant,
        fx: &mut Fx<'_>,
    ) -> Result<(), StepDownReason> {
        // It cannot commit anything, and its heartbeats would keep its followers from electing another
        // leader. Clients would wait in vain (thesis §6.2).
        if state.config.check_quorum() && !self.has_active_quorum(state, now) {
            return Err(StepDownReason::NoQuorum);
        }
        let replicator = Replicator { now, state };
        // The messages of a round may be lost, so heartbeats repeat its number.
        let round = self.reads.open_round();
        for (peer, progress) in &mut self.peers {
            replicator.heartbeat(*peer, progress, round, fx);
            // Leaders retry for ever: "if followers crash or run slowly, or if network packets are lost,
            // the leader retries AppendEntries RPCs indefinitely" (§5.3).
            if progress.is_overdue(now) {
                replicator.probe(*peer, progress, fx);
            }
        }
        arm_heartbeat(state, fx);
        Ok(())
    }

    /// Sends a heartbeat with the number of a round of reads to each voter, in addition to the heartbeats
    /// of the timer.
    pub fn send_round(&mut self, state: &State, now: Instant, round: u64, fx: &mut Fx<'_>) {
        let replicator = Replicator { now, state };
        for (peer, progress) in &mut self.peers {
            // Learners are in no quorum, so their replies would confirm nothing.
            if state.quorum.is_voter(*peer) {
                replicator.heartbeat(*peer, progress, round, fx);
            }
        }
    }

    /// Handles a new base of the log, which may have moved the commit index.
    pub fn on_base_moved(&mut self, state: &State) {
        self.proposals.recount(state.uncommitted_bytes());
    }

    /// Returns whether a quorum, this node included, has replied within the longest election timeout.
    fn has_active_quorum(&self, state: &State, now: Instant) -> bool {
        let timeout = state.config.timing().election.end;
        let is_active = |node| self.peer(node).is_none_or(|peer| peer.is_active(now, timeout));
        state.quorum.is_second(is_active)
    }

    /// Returns the last slot that a quorum holds durably; at least the commit index.
    fn agreed(&self, state: &State) -> Slot {
        let held = |node| self.peer(node).map_or(self.durable, |peer| peer.matched);
        // Fast path: most acknowledgements complete no quorum.
        if !state.quorum.is_second(|node| held(node) > state.commit) {
            return state.commit;
        }
        state.quorum.agreed(held)
    }

    /// Commits the entries that a quorum holds. Only entries of its own term commit by counting; older
    /// ones commit with them (Raft §5.4.2).
    fn advance_commit(&mut self, state: &mut State, fx: &mut Fx<'_>) {
        let agreed = self.agreed(state);
        // Fig. 8: a majority may hold an entry of an older term, and a later leader that does not hold it
        // may still be elected and overwrite it.
        if agreed > state.commit && agreed >= self.term_start {
            debug_assert_eq!(state.log.stamp_at(agreed), Some(state.hard_state.term));
            self.proposals.chosen(state.commit_through(agreed, fx));
        }
    }

    /// Appends the batch to the log.
    fn append_batch(&mut self, state: &mut State, fx: &mut Fx<'_>) {
        if let Some(values) = self.proposals.place(state.log.last().next(), fx) {
            self.append_to_log(state, values, fx);
        }
    }

    /// Appends values to the log, under this leader's term.
    fn append_to_log(&mut self, state: &mut State, values: Values, fx: &mut Fx<'_>) {
        self.proposals.opened(values.byte_len());
        let (first, stamp) = (state.log.last().next(), state.hard_state.term);
        // Leader Append-Only (Raft §5.3): `first` is after the end, so nothing is overwritten.
        debug_assert!(state.log.last_stamp() <= stamp, "terms decrease at slot {first}");
        let run = Run { first, stamp, values };
        fx.write(Write::Put(run.clone()));
        state.log.put(run);
    }

    fn peer(&self, node: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    fn peer_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    /// Asserts the invariants of a leader.
    pub fn check_invariants(&self, state: &State) {
        let (me, term, log) = (state.config.id(), state.hard_state.term, &state.log);
        assert_eq!(state.hard_state.vote, Some(me), "a leader votes for itself");
        assert!(self.term_start <= log.last() && log.last_stamp() == term, "{log:?}");
        let before = log.stamp_at(self.term_start.prev());
        assert!(before.is_none_or(|stamp| stamp < term), "the term begins at its no-op");
        assert!(self.durable <= log.last() && self.self_ack_sent <= log.last());
        self.proposals.check_invariants(state.uncommitted_bytes());
        let mut others: Vec<_> = state.members.others(me).collect();
        others.sort_unstable();
        assert!(self.peers.iter().map(|(peer, _)| *peer).eq(others), "the peers are the members");
        self.peers.iter().for_each(|(_, progress)| progress.check_invariants(log.last()));
        self.reads.check_invariants();
    }
}

fn arm_heartbeat(state: &State, fx: &mut Fx<'_>) {
    let interval = state.config.timing().heartbeat;
    fx.set_timer(Timer::Heartbeat, interval..interval);
}

/// Sender of the leader's log to its peers.
struct Replicator<'a> {
    now: Instant,
    state: &'a State,
}

impl Replicator<'_> {
    /// Sends `peer` the entries that it lacks, as far as its window has room. Sends the commit index if no
    /// append carried it.
    fn replicate(&self, peer: NodeId, progress: &mut Progress, fx: &mut Fx<'_>) {
        let Self { state, .. } = *self;
        let last = state.log.last();
        while progress.next <= last && progress.may_send() {
            // Below the base there is no entry to name, and none to send (Raft §7).
            let Some(prev) = state.position(progress.next.prev()) else {
                progress.await_snapshot();
                return fx.ship_snapshot(peer);
            };
            self.append(peer, progress, prev, fx);
        }
        if progress.commit_sent < state.commit && progress.is_replicating() {
            // Followers apply an entry only once they learn that it is committed (§5.3).
            progress.commit_sent = state.commit;
            let commit = Commit { term: state.hard_state.term, commit: state.commit };
            fx.send(peer, Message::Commit(commit));
        }
    }

    fn append(&self, peer: NodeId, progress: &mut Progress, prev: Position, fx: &mut Fx<'_>) {
        let log = &self.state.log;
        let max_bytes = min(self.state.config.limits().append_bytes, progress.batch_bytes());
        let chunk = log.chunk(progress.next, log.last(), max_bytes);
        let run = chunk.expect("the log has no gaps");
        progress.on_sent(self.now, &run, self.state.commit);
        self.send_append(peer, progress, prev, run, fx);
    }

    /// Sends a heartbeat. It repeats the commit index as far as the peer is known to hold the log.
    fn heartbeat(&self, peer: NodeId, progress: &mut Progress, round: u64, fx: &mut Fx<'_>) {
        // Before this node's base the term of a slot is not known. Slot 0 is in every log.
        let prev = self.state.position(progress.matched).unwrap_or_default();
        let commit = min(self.state.commit, prev.slot);
        progress.commit_sent = max(progress.commit_sent, commit);
        let heartbeat = Heartbeat { term: self.state.hard_state.term, prev, commit, round };
        fx.send(peer, Message::Heartbeat(heartbeat));
    }

    /// Sends an append without entries after everything that was sent to `peer`: the reply shows how much
    /// of it has arrived.
    fn probe(&self, peer: NodeId, progress: &mut Progress, fx: &mut Fx<'_>) {
        let Self { state, .. } = *self;
        let needs_snapshot = progress.needs_snapshot();
        // A peer that has installed the snapshot acknowledges its last entry.
        let end = if needs_snapshot { state.log.base() } else { progress.next.prev() };
        let Some(prev) = state.position(end) else {
            progress.await_snapshot();
            return fx.ship_snapshot(peer);
        };
        if needs_snapshot {
            fx.ship_snapshot(peer);
        }
        progress.on_probe_sent(self.now, state.commit);
        let (first, stamp) = (prev.slot.next(), state.hard_state.term);
        let run = Run { first, stamp, values: Values::default() };
        self.send_append(peer, progress, prev, run, fx);
    }

    fn send_append(
        &self,
        peer: NodeId,
        progress: &Progress,
        prev: Position,
        run: Run<Term>,
        fx: &mut Fx<'_>,
    ) {
        let (term, commit, probe) = (self.state.hard_state.term, self.state.commit, progress.probe);
        // The append that the peer acknowledged first compared the histories; later ones need no digest.
        let is_known = progress.matched > Slot::ZERO && !run.values.is_empty();
        let digest = match is_known {
            true => HistoryDigest::UNKNOWN,
            false => HistoryDigest::of(&self.state.log, prev.slot),
        };
        fx.send(peer, Message::Append(Append { term, probe, prev, run, commit, digest }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Raft};
    use proptest::prelude::*;
    use synod_consensus::{Outbox, Protocol, Saved};
    use synod_types::Membership;

    /// Returns a leader whose nodes, itself first, are known to hold the log through these slots.
    fn leader_of(held: &[Slot]) -> (Leader, State) {
        let members = Membership::new((1..=held.len() as u64).map(NodeId), []).unwrap();
        let config = Config::new(NodeId(1), members).unwrap();
        let mut state = Raft::recover(config, Saved::default()).unwrap().state;
        let mut leader =
            Leader::new(&mut state, Instant::ZERO, &mut Outbox::<Raft>::default().effects());
        leader.durable = held[0];
        for ((_, progress), matched) in leader.peers.iter_mut().zip(&held[1..]) {
            progress.matched = *matched;
        }
        (leader, state)
    }

    proptest! {
        #[test]
        fn agreed_slot_is_the_highest_that_a_majority_holds(
            held in prop::collection::vec((0..9_u64).prop_map(Slot), 1..10),
        ) {
            let (leader, state) = leader_of(&held);
            let agreed = leader.agreed(&state);
            let reach = |slot: Slot| held.iter().filter(|held| **held >= slot).count();
            let majority = held.len() / 2 + 1;
            prop_assert!(reach(agreed) >= majority, "{agreed:?} is not on a majority");
            prop_assert!(reach(agreed.next()) < majority, "a slot after {agreed:?} is on a majority");
        }
    }
}
