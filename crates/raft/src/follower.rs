//! Follower: replicates the leader's log (Raft §5.3).

use crate::core::{Fx, ignore};
use crate::message::Position;
use crate::state::State;
use crate::{Append, AppendAck, AppendConflict, Heartbeat, HeartbeatAck, Message};
use core::cmp::{max, min};
use core::time::Duration;
use synod_consensus::{Comparison, Contradiction, IgnoreReason, ProtocolEvent, Run, Write};
use synod_types::{Instant, NodeId, Slot, Term};

/// Leader that a follower received a message from in this term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FollowedLeader {
    pub node: NodeId,
    /// Time of its latest message.
    last_contact: Instant,
    /// Time at which the election timer was set last.
    timer_set: Instant,
    /// Last slot through which this node's log is known to be equal to the leader's. The entries after it
    /// may be an older leader's, and may be cut.
    verified: Slot,
    /// Highest commit index that the leader sent.
    leader_commit: Slot,
    /// Acknowledgement to send at the next flush.
    pending_ack: Option<PendingAck>,
}

/// One acknowledgement for all appends since the last flush.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct PendingAck {
    /// Latest search among them.
    probe: u64,
    /// Highest slot among them.
    matched: Slot,
}

impl FollowedLeader {
    pub fn new(node: NodeId, now: Instant) -> Self {
        let (verified, leader_commit) = (Slot::ZERO, Slot::ZERO);
        let (last_contact, timer_set) = (now, now);
        Self { node, last_contact, timer_set, verified, leader_commit, pending_ack: None }
    }

    /// Records that the leader is alive.
    pub fn on_contact(&mut self, state: &State, now: Instant, fx: &mut Fx<'_>) {
        self.last_contact = now;
        // A leader sends many thousand appends a second, and the timer need not be that exact.
        if now.since(self.timer_set) >= state.config.timing().heartbeat / 8 {
            self.timer_set = now;
            state.arm_election(fx);
        }
    }

    /// Returns whether the leader sent anything within `timeout`.
    pub fn is_alive(&self, now: Instant, timeout: Duration) -> bool {
        now.since(self.last_contact) < timeout
    }

    /// Handles an append: accepts its entries if the log holds the entry before them, at any place in
    /// the log (Raft §5.3).
    pub fn on_append(&mut self, state: &mut State, append: Append, fx: &mut Fx<'_>) {
        // "If two entries in different logs have the same index and term, then the logs are identical in
        // all preceding entries" (§5.3, Log Matching), so one comparison suffices.
        if !state.has_entry(append.prev) {
            return self.reject_append(state, &append, fx);
        }
        if let Some(slot) = state.find_contradiction(&append) {
            return fx.contradicted(Contradiction { slot, by: self.node });
        }
        let Append { probe, run, commit, .. } = append;
        // Not the end of the log: the entries after the run may differ from the leader's (fig. 2).
        let matched = run.last();
        if let Err(reason) = self.merge(state, run, fx) {
            return ignore(self.node, reason, fx);
        }
        self.verified = max(self.verified, matched);
        self.acknowledge(probe, matched);
        self.advance_commit(state, commit, fx);
    }

    /// Handles a heartbeat. It names an entry that this node acknowledged, perhaps before a restart: the
    /// logs are equal up to that entry.
    pub fn on_heartbeat(&mut self, state: &mut State, heartbeat: Heartbeat, fx: &mut Fx<'_>) {
        let Heartbeat { term, prev, commit, round } = heartbeat;
        // Even if the log does not match: the leader counts contacts for its check-quorum (thesis §6.2)
        // and replies to its rounds of reads (thesis §6.4).
        fx.send(self.node, Message::HeartbeatAck(HeartbeatAck { term, round }));
        if !state.has_entry(prev) {
            // No retry helps: this log is not the one that was acknowledged, so a disk was lost.
            return ignore(self.node, IgnoreReason::MissingAcknowledged, fx);
        }
        self.verified = max(self.verified, prev.slot);
        self.advance_commit(state, commit, fx);
    }

    /// Commits the entries that the leader committed, as far as this node's log is known to be equal to
    /// the leader's (Raft fig. 2, AppendEntries 5): the entries after that may be an older leader's.
    pub fn advance_commit(&mut self, state: &mut State, commit: Slot, fx: &mut Fx<'_>) {
        // Kept for the entries that are not verified yet: the leader may send it only once.
        self.leader_commit = max(self.leader_commit, commit);
        let committed = min(self.leader_commit, self.verified);
        if committed > state.commit {
            state.commit_through(committed, fx);
        }
    }

    /// Sends one acknowledgement for all appends since the last flush.
    pub fn flush(&mut self, state: &State, fx: &mut Fx<'_>) {
        // Acknowledgements are cumulative, so the highest slot covers the appends before it.
        if let Some(PendingAck { probe, matched }) = self.pending_ack.take() {
            let term = state.hard_state.term;
            fx.send(self.node, Message::AppendAck(AppendAck { term, probe, matched }));
        }
    }

    /// Handles a new base of the log: an installed snapshot through `through`. The log ends at `last`.
    pub fn on_installed(&mut self, last: Slot, through: Slot) {
        // If the log was of another history it is gone, and with it what was verified in it.
        self.verified = min(self.verified, last);
        if let Some(ack) = &mut self.pending_ack {
            ack.matched = min(ack.matched, last);
        }
        // The leader waits for this to continue after the snapshot.
        self.acknowledge(0, through);
    }

    /// Adds an acknowledgement to the one that the next flush sends.
    fn acknowledge(&mut self, probe: u64, matched: Slot) {
        let ack = self.pending_ack.get_or_insert_default();
        ack.probe = max(ack.probe, probe);
        ack.matched = max(ack.matched, matched);
    }

    /// Rejects an append, with a hint from which the leader finds the last common entry.
    fn reject_append(&self, state: &State, append: &Append, fx: &mut Fx<'_>) {
        let Append { term, probe, prev, .. } = *append;
        let base = Position { term: state.base.stamp, slot: state.base.through };
        // The base is chosen, so the leader's log matches there: the search need not go further back.
        let hint = state.last_not_after(prev.slot, prev.term).unwrap_or(base);
        let conflict = AppendConflict { term, probe, at: prev.slot, hint };
        fx.send(self.node, Message::AppendConflict(conflict));
    }

    /// Merges `run` into the log, with one batch of writes from the first entry that differs on.
    ///
    /// # Errors
    /// If this would replace a chosen entry, or one that this leader sent before, which no correct
    /// leader requests (Raft §5.3, Leader Append-Only). Changes nothing then.
    fn merge(
        &self,
        state: &mut State,
        run: Run<Term>,
        fx: &mut Fx<'_>,
    ) -> Result<(), IgnoreReason> {
        let (base, end) = (state.log.base(), run.last());
        // The base is chosen, so every later leader holds it under the same term (Raft §5.4.3).
        let covers_base = run.first <= base && base <= end;
        if covers_base && state.log.stamp_at(base) != Some(run.stamp) {
            return Err(IgnoreReason::ContradictsEarlier);
        }
        // Equal entries are neither rewritten nor cut: otherwise an old append that arrives late would
        // remove acknowledged entries after it (Raft §5.5).
        let mut next = max(run.first, base.next());
        while let Some(held) = state.log.run_at(next)
            && held.stamp == run.stamp
            && next <= end
        {
            next = held.last().next();
        }
        if next > end {
            return Ok(());
        }
        // "If an existing entry conflicts with a new one (same index but different terms), delete the
        // existing entry and all that follow it" (fig. 2, AppendEntries RPC 3).
        if next <= state.log.last() {
            if next <= max(state.commit, self.verified) {
                return Err(IgnoreReason::ContradictsEarlier);
            }
            fx.note(ProtocolEvent::Truncated { from: next });
            state.truncate_from(next, fx);
        }
        let new_entries = if next == run.first { run } else { run.from(next) };
        // In one batch with the cut: after a crash the disk has both writes or neither.
        fx.write(Write::Put(new_entries.clone()));
        state.log.put(new_entries);
        Ok(())
    }

    /// Asserts the invariants of a follower that has a leader.
    pub fn check_invariants(&self, state: &State) {
        assert_ne!(self.node, state.config.id(), "a node follows itself");
        let last = state.log.last();
        assert!(
            self.verified <= last,
            "verified {:?}, but the log ends at {last:?}",
            self.verified
        );
        let acked = self.pending_ack.map_or(Slot::ZERO, |ack| ack.matched);
        assert!(acked <= last, "acknowledges {acked:?}, but the log ends at {last:?}");
        let committed = min(self.leader_commit, self.verified);
        assert!(committed <= state.commit, "{committed:?} is verified and not committed");
    }
}

impl State {
    /// Returns whether the log holds this entry. Entries that are compacted away are chosen, so every
    /// leader's log holds the same ones (Raft §5.4.3, Leader Completeness).
    fn has_entry(&self, entry: Position) -> bool {
        entry.slot < self.log.base() || self.log.stamp_at(entry.slot) == Some(entry.term)
    }

    /// Returns a slot in which the leader's log has another value under the same term. A term has one
    /// leader, which proposes one value for a slot, unless a quorum has lost its disks and begun again
    /// at term 1.
    fn find_contradiction(&self, append: &Append) -> Option<Slot> {
        let Append { prev, run, digest, .. } = append;
        if let Comparison::Differs { from } = digest.compare(&self.log, prev.slot) {
            return Some(from);
        }
        let overlap = (run.first.0..=min(run.last(), self.log.last()).0).map(Slot);
        overlap.zip(run.values.iter()).find_map(|(slot, theirs)| {
            let (stamp, mine) = self.log.get(slot)?;
            (stamp == run.stamp && mine != theirs).then_some(slot)
        })
    }

    /// Removes the entries from `slot` on. Only followers do so (Raft §5.3, Leader Append-Only).
    fn truncate_from(&mut self, slot: Slot, fx: &mut Fx<'_>) {
        assert!(slot > self.commit, "chosen slot {slot} would be cut");
        fx.write(Write::TruncateFrom(slot));
        self.log.truncate_from(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, HardState, Raft};
    use alloc::format;
    use alloc::vec::Vec;
    use synod_consensus::{FatalError, HistoryDigest, Host, Input, Protocol, RunLog, Saved};
    use synod_types::{Membership, Values};

    const ME: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);

    /// Returns n1 of three nodes, in term 3. Its log has entries of term 1 in slots 1 and 2, and of term 2
    /// in slots 3 and 4.
    fn node() -> Host<Raft> {
        let mut log = RunLog::default();
        for (first, term) in [(1, 1), (3, 2)] {
            log.put(entries(first, term, 2));
        }
        recover(3, log)
    }

    fn recover(term: u64, log: RunLog<Term>) -> Host<Raft> {
        let members = Membership::new([ME, LEADER, NodeId(3)], []).unwrap();
        let hard_state = HardState { term: Term(term), vote: None };
        let saved = Saved { hard_state, log, ..Saved::default() };
        let mut host = Host::recover(ME, Config::new(ME, members).unwrap(), saved).unwrap();
        let _ = host.input(Instant(1), Input::Start, &mut ());
        host
    }

    fn entries(first: u64, term: u64, count: usize) -> Run<Term> {
        let values = (0..count).map(|_| synod_types::Value::Command((&b"x"[..]).into()));
        let values: Values = values.collect();
        Run { first: Slot(first), stamp: Term(term), values }
    }

    #[test]
    fn append_inside_the_log_does_not_verify_the_entries_after_it() {
        // (first slot, term and number of the entries, last slot that is then verified)
        let cases =
            [(1, 1, 0, 0), (1, 1, 1, 1), (1, 1, 2, 2), (2, 1, 1, 2), (3, 2, 0, 2), (3, 2, 1, 3)];
        for (first, term, count, equal) in cases {
            let case = format!("{count} entries of term {term} from slot {first}");
            let mut host = node();
            let slot = Slot(first).prev();
            let prev = Position { slot, term: host.core().state.log.stamp_at(slot).unwrap() };
            let run = entries(first, term, count);
            // Twice: a repetition verifies no more.
            for _ in 0..2 {
                let append = Message::Append(Append {
                    term: Term(3),
                    probe: 0,
                    prev,
                    run: run.clone(),
                    commit: Slot(9),
                    digest: HistoryDigest::UNKNOWN,
                });
                let input = Input::Message { from: LEADER, message: append };
                let _ = host.input(Instant(1), input, &mut ());
                let ack =
                    Message::AppendAck(AppendAck { term: Term(3), probe: 0, matched: Slot(equal) });
                let round = host.round(Instant(1), &mut ());
                assert_eq!(round.sends.as_slice(), [(LEADER, ack)], "{case}");
                assert_eq!(round.writes.as_slice(), [], "{case}");
                assert_eq!(host.core().status().commit, Slot(equal), "{case}");
                assert_eq!(host.core().state.log.last(), Slot(4), "{case}");
            }
        }
    }

    /// Two of three nodes lost their disks, and the new history began at term 1, too: the terms of
    /// the entries are equal, and only their commands tell the histories apart.
    #[test]
    fn leader_of_another_history_is_detected_by_its_digest() {
        let log_of = |command: &[u8]| {
            let mut log = RunLog::default();
            let values = Values::command_only(command);
            log.put(Run { first: Slot(1), stamp: Term(1), values });
            log
        };
        let of = |command: &[u8]| HistoryDigest::of(&log_of(command), Slot(1));
        let differs = Some(FatalError::Contradicted { slot: Slot(1), by: LEADER });
        let cases = [
            ("its own", 2, of(b"old"), None),
            ("another", 2, of(b"new"), differs),
            ("not stated", 2, HistoryDigest::UNKNOWN, None),
            ("another value", 1, HistoryDigest::NO_COMMAND, differs),
        ];
        for (case, first, digest, fatal) in cases {
            let mut host = recover(1, log_of(b"old"));
            let prev = Position { slot: Slot(first - 1), term: Term(first - 1) };
            let append = Message::Append(Append {
                term: Term(1),
                probe: 1,
                prev,
                run: entries(first, 1, 1),
                commit: Slot(2),
                digest,
            });
            let input = Input::Message { from: LEADER, message: append };
            assert_eq!(host.input(Instant(1), input, &mut ()).fatal, fatal, "{case}");
            let writes: Vec<_> = host.round(Instant(1), &mut ()).writes.drain(..).collect();
            let end = if fatal.is_none() { (Slot(2), Slot(2)) } else { (Slot(1), Slot(0)) };
            assert_eq!(writes.is_empty(), fatal.is_some(), "{case}");
            assert_eq!((host.core().state.log.last(), host.core().status().commit), end, "{case}");
        }
    }
}
