//! What a follower does with the leader's log (Raft §5.3).

use crate::message::Position;
use crate::role::PendingAck;
use crate::{Fx, Message, Raft};
use core::cmp::{max, min};
use synod_consensus::{
    Comparison, Contradiction, HistoryDigest, IgnoreReason, ProtocolEvent, Run, RunLog, Write,
};
use synod_types::{Instant, NodeId, Slot, Term};

const CONTRADICTION: IgnoreReason = IgnoreReason::ChangedMind;

impl Raft {
    /// Puts entries behind `prev` if the log holds that, wherever in the log it stands.
    pub(crate) fn on_append(
        &mut self,
        now: Instant,
        from: NodeId,
        (probe, prev, run, commit): (u64, Position, Run<Term>, Slot),
        digest: HistoryDigest,
        fx: &mut Fx<'_>,
    ) {
        if !self.follow(now, from, fx) {
            return;
        }
        if !self.holds(prev) {
            return self.object(from, probe, prev, fx);
        }
        if let Some(slot) = self.contradiction(prev, digest, &run) {
            return fx.contradicted(Contradiction { slot, by: from });
        }
        let matched = run.last();
        if !self.merge(run, fx) {
            return self.ignore(from, CONTRADICTION, fx);
        }
        if let Some(lead) = self.lead() {
            lead.verify(matched);
            lead.acknowledge(probe, matched);
        }
        self.learn_commit(commit, fx);
    }

    /// Handles a heartbeat. It names an entry that this node acknowledged, perhaps before a
    /// restart: up to there the logs are equal.
    pub(crate) fn on_heartbeat(
        &mut self,
        now: Instant,
        from: NodeId,
        prev: Position,
        commit: Slot,
        fx: &mut Fx<'_>,
    ) {
        if !self.follow(now, from, fx) {
            return;
        }
        fx.send(from, Message::HeartbeatAck { term: self.hard_state.term });
        if !self.holds(prev) {
            return self.ignore(from, IgnoreReason::MissingAcknowledged, fx);
        }
        if let Some(lead) = self.lead() {
            lead.verify(prev.slot);
        }
        self.learn_commit(commit, fx);
    }

    /// The commit index moved.
    pub(crate) fn on_commit(&mut self, now: Instant, from: NodeId, commit: Slot, fx: &mut Fx<'_>) {
        if self.follow(now, from, fx) {
            self.learn_commit(commit, fx);
        }
    }

    /// One acknowledgement for everything since the last flush.
    pub(crate) fn flush_follower(&mut self, fx: &mut Fx<'_>) {
        let term = self.hard_state.term;
        if let Some(lead) = self.lead()
            && let Some(PendingAck { probe, matched }) = lead.ack.take()
        {
            fx.send(lead.node, Message::AppendAck { term, probe, matched });
        }
    }

    /// Whether our log holds this very entry. What is compacted away is chosen, so it is in every
    /// leader's log and equal by definition.
    fn holds(&self, entry: Position) -> bool {
        entry.slot < self.log.base() || self.log.stamp_at(entry.slot) == Some(entry.term)
    }

    /// Returns a slot in which the leader's log has another value under the same term. One term has one
    /// leader and a slot one value in it, unless a quorum has lost its disks and begun again at term 1.
    fn contradiction(
        &self,
        prev: Position,
        digest: HistoryDigest,
        run: &Run<Term>,
    ) -> Option<Slot> {
        if let Comparison::Differs { from } = digest.compare(&self.log, prev.slot) {
            return Some(from);
        }
        let overlap = (run.first.0..=min(run.last(), self.log.last()).0).map(Slot);
        overlap.zip(run.values.iter()).find_map(|(slot, theirs)| {
            let (stamp, mine) = self.log.get(slot)?;
            (stamp == run.stamp && mine != theirs).then_some(slot)
        })
    }

    fn object(&self, to: NodeId, probe: u64, prev: Position, fx: &mut Fx<'_>) {
        let chosen = Position { term: self.base.stamp, slot: self.base.through };
        let hint = last_not_after(&self.log, prev.slot, prev.term).unwrap_or(chosen);
        let term = self.hard_state.term;
        fx.send(to, Message::AppendConflict { term, probe, at: prev.slot, hint });
    }

    /// Makes our log hold `run`. What is equal already stays untouched: rewriting it, or cutting
    /// what lies behind, would undo acknowledgements when an old append arrives late. Only from
    /// the first entry that differs on, the log is cut and written, in one batch. False, and
    /// nothing done, if that would undo what is chosen or what this very leader sent before: a
    /// working leader never asks for it.
    fn merge(&mut self, run: Run<Term>, fx: &mut Fx<'_>) -> bool {
        let (base, end) = (self.log.base(), run.last());
        let covers_base = run.first <= base && base <= end;
        if covers_base && self.log.stamp_at(base) != Some(run.stamp) {
            return false;
        }
        let mut next = max(run.first, base.next());
        while let Some(held) = self.log.run_at(next)
            && held.stamp == run.stamp
            && next <= end
        {
            next = held.last().next();
        }
        if next > end {
            return true;
        }
        if next <= self.log.last() {
            let settled = self.lead().map_or(Slot::ZERO, |lead| lead.verified);
            if next <= max(self.commit, settled) {
                return false;
            }
            fx.note(ProtocolEvent::Truncated { from: next });
            fx.write(Write::TruncateFrom(next));
            self.log.truncate_from(next);
        }
        let news = if next == run.first { run } else { run.from(next) };
        fx.write(Write::Put(news.clone()));
        self.log.put(news);
        true
    }

    /// What the leader says is chosen is chosen here as far as our log is known to be equal to
    /// the leader's, and not to the end of our log: that may still be an older leader's.
    fn learn_commit(&mut self, commit: Slot, fx: &mut Fx<'_>) {
        let Some(lead) = self.lead() else { return };
        lead.notice = max(lead.notice, commit);
        let known = min(lead.notice, lead.verified);
        if known > self.commit {
            self.advance(known, fx);
        }
    }
}

/// The last entry at or before `slot` whose term is not above `term`; `None` if it is compacted
/// away. The side that answers and the side that is answered both skip with this, so a long
/// divergent tail costs a round trip a term and not one an entry. O(runs).
pub(crate) fn last_not_after(log: &RunLog<Term>, slot: Slot, term: Term) -> Option<Position> {
    for run in log.runs().rev() {
        if run.first <= slot && run.stamp <= term {
            return Some(Position { term: run.stamp, slot: min(run.last(), slot) });
        }
    }
    let base = log.base();
    let stamp = log.stamp_at(base)?;
    (base <= slot && stamp <= term).then_some(Position { term: stamp, slot: base })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, HardState};
    use alloc::format;
    use alloc::vec::Vec;
    use synod_consensus::{FatalError, Host, Input, Protocol, Saved};
    use synod_types::{Membership, Values};

    const ME: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);

    /// n1 of three nodes, in term 3. Its log has entries of term 1 in slots 1 and 2, and of term 2 in
    /// slots 3 and 4.
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
    fn append_inside_the_log_proves_nothing_of_the_entries_after_it() {
        // First slot, term and number of the entries; the last slot that is then known to be equal.
        let cases =
            [(1, 1, 0, 0), (1, 1, 1, 1), (1, 1, 2, 2), (2, 1, 1, 2), (3, 2, 0, 2), (3, 2, 1, 3)];
        for (first, term, count, equal) in cases {
            let case = format!("{count} entries of term {term} from slot {first}");
            let mut host = node();
            let slot = Slot(first).prev();
            let prev = Position { slot, term: host.core().log.stamp_at(slot).unwrap() };
            let run = entries(first, term, count);
            // Twice: a repetition says no more than the first.
            for _ in 0..2 {
                let append = Message::Append {
                    term: Term(3),
                    probe: 0,
                    prev,
                    run: run.clone(),
                    commit: Slot(9),
                    digest: HistoryDigest::UNKNOWN,
                };
                let input = Input::Message { from: LEADER, message: append };
                let _ = host.input(Instant(1), input, &mut ());
                let ack = Message::AppendAck { term: Term(3), probe: 0, matched: Slot(equal) };
                let round = host.round(Instant(1), &mut ());
                assert_eq!(round.sends.as_slice(), [(LEADER, ack)], "{case}");
                assert_eq!(round.writes.as_slice(), [], "{case}");
                assert_eq!(host.core().status().commit, Slot(equal), "{case}");
                assert_eq!(host.core().log.last(), Slot(4), "{case}");
            }
        }
    }

    /// Two of three nodes lost their disks, and the new history began at term 1, too: the terms of
    /// the entries are equal, and nothing but their commands tells the histories apart.
    #[test]
    fn a_leader_of_another_history_is_found_by_its_digest() {
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
            let append = Message::Append {
                term: Term(1),
                probe: 1,
                prev,
                run: entries(first, 1, 1),
                commit: Slot(2),
                digest,
            };
            let input = Input::Message { from: LEADER, message: append };
            assert_eq!(host.input(Instant(1), input, &mut ()).fatal, fatal, "{case}");
            let writes: Vec<_> = host.round(Instant(1), &mut ()).writes.drain(..).collect();
            let end = if fatal.is_none() { (Slot(2), Slot(2)) } else { (Slot(1), Slot(0)) };
            assert_eq!(writes.is_empty(), fatal.is_some(), "{case}");
            assert_eq!((host.core().log.last(), host.core().status().commit), end, "{case}");
        }
    }
}
