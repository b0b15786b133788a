//! State that a node has in every role (Raft fig. 2).

use crate::core::Fx;
use crate::message::{HORIZON, Position};
use crate::{Config, HardState, Timer};
use synod_consensus::{Base, Quorum, RunLog, Stall, Write};
use synod_types::{Ballot, Membership, NodeId, Slot, Term};

/// State of a node beside its role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub config: Config,
    pub members: Membership,
    /// Majority of the voters among the members.
    pub quorum: Quorum,
    pub hard_state: HardState,
    /// Base of the log: the last slot that it no longer holds, its term, and the members then.
    pub base: Base<Term>,
    pub log: RunLog<Term>,
    /// Commit index: everything up to here is chosen.
    pub commit: Slot,
    pub stall: Stall,
}

impl State {
    /// Returns whether this node votes.
    pub fn is_voter(&self) -> bool {
        self.members.is_voter(self.config.id())
    }

    /// Returns the ballot of this node in its term.
    pub fn own_ballot(&self) -> Ballot {
        self.ballot_of(self.config.id())
    }

    /// Returns the ballot of `node` in this node's term.
    pub fn ballot_of(&self, node: NodeId) -> Ballot {
        Ballot { round: self.hard_state.term.0, node }
    }

    /// Returns the term of the next campaign; `None` if no term is left.
    pub fn next_term(&self) -> Option<Term> {
        // Every peer would reject a term beyond, and this node could not be recovered with it.
        Some(self.hard_state.term.next()).filter(|term| term.0 < HORIZON)
    }

    /// Returns the last entry of the log.
    pub fn last_position(&self) -> Position {
        Position { term: self.log.last_stamp(), slot: self.log.last() }
    }

    /// Returns the entry at `slot`; `None` before the base and after the end.
    pub fn position(&self, slot: Slot) -> Option<Position> {
        self.log.stamp_at(slot).map(|term| Position { term, slot })
    }

    /// Returns the last entry at or before `slot` whose term is not above `term`; `None` if it is
    /// compacted away. Leader and follower both skip with this, so a long divergent tail costs a round
    /// trip for each term and not for each entry (Raft §5.3). O(runs).
    pub fn last_not_after(&self, slot: Slot, term: Term) -> Option<Position> {
        // Terms never decrease along the log, so the first that fits from the end is the last one.
        for run in self.log.runs().rev() {
            if run.first <= slot && run.stamp <= term {
                return Some(Position { term: run.stamp, slot: run.last().min(slot) });
            }
        }
        let base = Position { term: self.base.stamp, slot: self.base.through };
        (base.slot <= slot && base.term <= term).then_some(base)
    }

    /// Returns the base of a snapshot at `through`, if that slot is chosen and not compacted away.
    pub fn chosen_base(&self, through: Slot) -> Option<Base<Term>> {
        // A snapshot covers "just the committed entries in its log" (Raft §7): others may be overwritten.
        if through > self.commit {
            return None;
        }
        // `None` before the base: an earlier snapshot covers that.
        let stamp = self.log.stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    /// Commits all entries up to `to`. Returns the size of their values in bytes.
    pub fn commit_through(&mut self, to: Slot, fx: &mut Fx<'_>) -> usize {
        let (from, last) = (self.commit, self.log.last());
        // Only entries at hand can be applied, and each is applied once (Raft §5.3).
        assert!(to > from && to <= last, "chosen from {from:?} to {to:?} of {last:?}");
        let mut bytes = 0;
        for run in self.log.runs_from(from.next()) {
            if run.first > to {
                break;
            }
            let count = to.0 - run.first.0 + 1;
            let whole = count >= run.values.len() as u64;
            // A prefix copies no bytes, but it is not free, and nearly all runs commit as a whole.
            let run = if whole { run } else { run.prefix(count as usize) };
            bytes += run.values.byte_len();
            fx.chosen(run);
        }
        self.commit = to;
        bytes
    }

    /// Returns the size of the values after the commit index, in bytes. O(runs).
    pub fn uncommitted_bytes(&self) -> usize {
        self.log.runs_from(self.commit.next()).map(|run| run.values.byte_len()).sum()
    }

    /// Writes term and vote.
    pub fn write_hard_state(&self, fx: &mut Fx<'_>) {
        fx.write(Write::HardState(self.hard_state));
    }

    /// Starts the election timeout again. A learner has none.
    pub fn arm_election(&self, fx: &mut Fx<'_>) {
        if self.is_voter() {
            // Each timeout is drawn from the range, so that split votes are rare (Raft §5.2).
            fx.set_timer(Timer::Election, self.config.timing().election.clone());
        }
    }

    /// Asserts the invariants of every role.
    pub fn check_invariants(&self) {
        let Self { hard_state, base, log, commit, .. } = self;
        assert!(hard_state.term.0 < HORIZON, "{:?} is out of range", hard_state.term);
        assert_eq!(self.quorum, Quorum::majority(&self.members));
        assert_eq!(base.through, log.base());
        // The entry after the base is checked against this term (Raft §7).
        assert_eq!(log.stamp_at(base.through), Some(base.stamp), "the base has two terms");
        assert!(base.through <= *commit && *commit <= log.last(), "commit {commit:?} in {log:?}");
        // Appends name the entry before them, so a log grows without gaps (Raft §5.3).
        assert!(log.gap_after(base.through) > log.last(), "the log has a gap: {log:?}");
        let mut term = base.stamp;
        for run in log.runs() {
            assert!(run.stamp >= term, "terms decrease at slot {}", run.first);
            term = run.stamp;
        }
        // A leader sends under its own term, to which its followers move first (Raft §5.1).
        assert!(term <= hard_state.term, "an entry of {term:?} in {:?}", hard_state.term);
    }
}
