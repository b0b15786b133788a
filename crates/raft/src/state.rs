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
    /// Last slot that the log no longer holds.
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

    /// Ballot of this node in its term.
    pub fn own_ballot(&self) -> Ballot {
        self.ballot_of(self.config.id())
    }

    /// Ballot of `node` in this node's term.
    pub fn ballot_of(&self, node: NodeId) -> Ballot {
        Ballot { round: self.hard_state.term.0, node }
    }

    /// Term of the next campaign; none at the end of all terms.
    pub fn next_term(&self) -> Option<Term> {
        // A term beyond would be rejected by every peer, and could not be recovered.
        Some(self.hard_state.term.next()).filter(|term| term.0 < HORIZON)
    }

    /// Last entry of the log.
    pub fn last_position(&self) -> Position {
        Position { term: self.log.last_stamp(), slot: self.log.last() }
    }

    /// Entry at `slot`; none before the base.
    pub fn position(&self, slot: Slot) -> Option<Position> {
        self.log.stamp_at(slot).map(|term| Position { term, slot })
    }

    /// Returns the last entry at or before `slot` whose term is not above `term`; none if it is
    /// compacted away. Leader and follower both skip with this, so a long divergent tail costs a
    /// round trip a term and not one an entry (Raft §5.3). O(runs).
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

    /// Returns what a snapshot at `through` must carry, if that slot is chosen and not compacted.
    pub fn chosen_base(&self, through: Slot) -> Option<Base<Term>> {
        if through > self.commit {
            return None;
        }
        // None below the base: that is part of an earlier snapshot (Raft §7).
        let stamp = self.log.stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    /// Commits everything up to `to`. Returns the bytes of the values that this commits.
    pub fn commit_through(&mut self, to: Slot, fx: &mut Fx<'_>) -> usize {
        let (from, last) = (self.commit, self.log.last());
        assert!(to > from && to <= last, "chosen from {from:?} to {to:?} of {last:?}");
        let mut bytes = 0;
        for run in self.log.runs_from(from.next()) {
            if run.first > to {
                break;
            }
            let count = to.0 - run.first.0 + 1;
            let whole = count >= run.values.len() as u64;
            // Cutting a run copies nothing, but it costs; nearly all end where a commit does.
            let run = if whole { run } else { run.prefix(count as usize) };
            bytes += run.values.byte_len();
            fx.chosen(run);
        }
        self.commit = to;
        bytes
    }

    /// Bytes of the log after the commit index. O(runs).
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
            // A range, from which each wait is drawn: so split votes are rare (Raft §5.2).
            fx.set_timer(Timer::Election, self.config.timing().election.clone());
        }
    }

    /// Asserts what holds in every role.
    pub fn check_invariants(&self) {
        let Self { hard_state, base, log, commit, .. } = self;
        assert!(hard_state.term.0 < HORIZON);
        assert_eq!(self.quorum, Quorum::majority(&self.members));
        assert_eq!(base.through, log.base());
        assert_eq!(log.stamp_at(base.through), Some(base.stamp), "the base has two terms");
        assert!(base.through <= *commit && *commit <= log.last(), "{commit:?} of {log:?}");
        assert!(log.gap_after(base.through) > log.last(), "the log has a gap: {log:?}");
        let mut term = base.stamp;
        for run in log.runs() {
            assert!(run.stamp >= term, "terms decrease at slot {}", run.first);
            term = run.stamp;
        }
        assert!(term <= hard_state.term, "an entry of {term:?} in {:?}", hard_state.term);
    }
}
