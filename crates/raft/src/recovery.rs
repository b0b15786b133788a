//! Recovery from disk, and the base of the log (Raft §7).

use crate::core::{Fx, ignore};
use crate::message::HORIZON;
use crate::role::Role;
use crate::state::State;
use crate::{Config, Raft};
use core::cmp::max;
use synod_consensus::{
    Base, IgnoreReason, Quorum, ReadRelay, RecoveryError, Saved, Stall, Stamp, StepDownReason,
    Write,
};
use synod_types::{Slot, Term};

/// Writes that [`synod_consensus::Input::Start`] must make, so that the disk agrees with the core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    /// True if the log on disk has an older base.
    base: bool,
    /// True if the entries after the base on disk are of another history.
    suffix: bool,
    /// True if the term on disk is older than the base's.
    term: bool,
}

/// Recovers a core, see [`synod_consensus::Protocol::recover`].
pub(crate) fn recover(config: Config, saved: Saved<Raft>) -> Result<Raft, RecoveryError> {
    let floor = saved.floor()?;
    let Saved { mut hard_state, base, mut log, .. } = saved;
    // Numbers beyond the horizon are damage. Rejecting them keeps every sum in this crate from overflow.
    let (end, latest) = (max(log.last(), base.through), max(hard_state.term, base.stamp));
    if max(end.0, latest.0) >= HORIZON {
        return Err(RecoveryError::OutOfRange { slot: end, at: latest.ballot() });
    }
    let mut repair = Repair::default();
    if base.through > log.base() {
        // The crash was after a snapshot became durable, and before the log was compacted. If the log
        // does not hold the snapshot's last entry, its entries are another history's (Raft §7).
        repair.suffix = log.stamp_at(base.through) != Some(base.stamp);
        repair.base = true;
        if repair.suffix {
            log.truncate_from(base.through.next());
        }
        log.compact(base.through, base.stamp);
        // Applied entries are chosen. If they were cut, log and state are not of one history.
        if floor > log.last() {
            let (applied, last) = (floor, log.last());
            return Err(RecoveryError::AppliedBeyondLog { applied, last });
        }
    }
    // Log and state name the same slot as their base, but different terms: they are not of one history.
    if log.stamp_at(base.through) != Some(base.stamp) {
        return Err(RecoveryError::BaseMismatch { at: base.through });
    }
    if base.stamp > hard_state.term {
        // A crash came between an installed snapshot of a later term and the write of that term. No
        // vote is lost by this repair: the node has not voted in that term.
        hard_state = crate::HardState { term: base.stamp, vote: None };
        repair.term = true;
    }
    // Appends name the entry before them, so Raft writes no gap: records were lost (Raft §5.3).
    if log.gap_after(base.through) <= log.last() {
        return Err(RecoveryError::MissingSlot { slot: log.gap_after(base.through) });
    }
    // Terms never decrease along a log, and its node has been in the last of them or a later one: term
    // and entries are written in that order (Raft §5.1, §5.3).
    let mut stamp = base.stamp;
    for run in log.runs() {
        if run.stamp < stamp || run.stamp > hard_state.term {
            let limit = if run.stamp < stamp { stamp } else { hard_state.term };
            let (slot, stamp, limit) = (run.first, run.stamp.ballot(), limit.ballot());
            return Err(RecoveryError::StampOutOfOrder { slot, stamp, limit });
        }
        stamp = run.stamp;
    }
    let members = base.members.clone().unwrap_or_else(|| config.members().clone());
    let (quorum, stall) = (Quorum::majority(&members), Stall::default());
    // Applied entries are chosen, even if no peer holds them any more: no leader may cut them.
    let commit = floor;
    let state = State { config, members, quorum, hard_state, base, log, commit, stall };
    Ok(Raft { state, role: Role::Follower(None), reads: ReadRelay::default(), repair })
}

impl Raft {
    /// Repairs the disk, and starts as a follower (Raft §5.2).
    pub(crate) fn on_start(&mut self, fx: &mut Fx<'_>) {
        let repair = core::mem::take(&mut self.repair);
        if repair.term {
            self.state.write_hard_state(fx);
        }
        if repair.base {
            self.state.write_base(repair.suffix, fx);
        }
        fx.peers(&self.state.members);
        self.state.arm_election(fx);
    }

    /// Compacts the log, since a snapshot through this slot is durable (Raft §7).
    pub(crate) fn on_compact(&mut self, through: Slot, fx: &mut Fx<'_>) {
        // Snapshots may complete out of order; the latest one counts.
        if through > self.state.base.through
            && let Some(base) = self.state.chosen_base(through)
        {
            self.move_base(base, fx);
        }
    }

    /// Adopts the base of a peer's snapshot, which is installed and durable (Raft §7).
    pub(crate) fn on_installed(&mut self, base: Base<Term>, fx: &mut Fx<'_>) {
        let me = self.state.config.id();
        if base.through.0 >= HORIZON || base.stamp.0 >= HORIZON {
            return ignore(me, IgnoreReason::OutOfRange, fx);
        }
        // Older than this node's own snapshot: it brings nothing.
        if base.through <= self.state.base.through {
            return;
        }
        let agrees = self.state.log.stamp_at(base.through) == Some(base.stamp);
        // Chosen entries never change, so such a snapshot is of another history.
        if !agrees && base.through <= self.state.commit {
            return ignore(me, IgnoreReason::ForeignSnapshot, fx);
        }
        if !agrees || base.members != self.state.base.members {
            // A leader holds every chosen entry (Raft §5.4.3, Leader Completeness), so another node leads
            // by now.
            self.step_down(None, StepDownReason::Installed, fx);
        }
        // No log holds an entry of a later term than its node's.
        if base.stamp > self.state.hard_state.term {
            self.advance_term(base.stamp, None, StepDownReason::SnapshotOfHigherTerm, fx);
        }
        // The entries that changed the members may be among those that the snapshot replaces.
        let members = base.members.as_ref().unwrap_or(self.state.config.members());
        if *members != self.state.members {
            self.state.members = members.clone();
            self.state.quorum = Quorum::majority(&self.state.members);
            fx.peers(&self.state.members);
        }
        let through = base.through;
        self.move_base(base, fx);
        if let Role::Follower(Some(leader)) = &mut self.role {
            leader.on_installed(self.state.log.last(), through);
        }
    }

    fn move_base(&mut self, base: Base<Term>, fx: &mut Fx<'_>) {
        self.state.move_base(base, fx);
        // The commit index may have risen, so fewer bytes are uncommitted.
        if let Role::Leader(leader) = &mut self.role {
            leader.on_base_moved(&self.state);
        }
    }
}

impl State {
    fn move_base(&mut self, base: Base<Term>, fx: &mut Fx<'_>) {
        assert!(base.through > self.base.through, "the base moves back to {base:?}");
        // "If existing log entry has same index and term as snapshot's last included entry, retain log
        // entries following it" (fig. 13, InstallSnapshot RPC 6).
        let is_foreign = self.log.stamp_at(base.through) != Some(base.stamp);
        if is_foreign {
            assert!(base.through > self.commit, "{base:?} contradicts what is chosen");
            self.log.truncate_from(base.through.next());
        }
        self.log.compact(base.through, base.stamp);
        // A snapshot holds chosen entries only.
        self.commit = max(self.commit, base.through);
        self.base = base;
        self.write_base(is_foreign, fx);
    }

    /// Writes the base of the log. A store keeps the entries after a base. If they are of another
    /// history they are cut, or a restart would bring them back after the snapshot.
    fn write_base(&self, cut: bool, fx: &mut Fx<'_>) {
        if cut {
            fx.write(Write::TruncateFrom(self.base.through.next()));
        }
        fx.write(Write::Compact(self.base.clone()));
    }
}
