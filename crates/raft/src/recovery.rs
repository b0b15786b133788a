//! Coming back from disk, and the log's compacted front (Raft §7).

use crate::message::HORIZON;
use crate::role::Role;
use crate::{Config, Fx, Raft};
use core::cmp::{max, min};
use synod_consensus::{
    Base, IgnoreReason, RecoveryError, Saved, Stall, Stamp, StepDownReason, Write,
};
use synod_types::{NodeId, Slot, Term};

/// What [`synod_consensus::Input::Start`] must write before the disk agrees with the core.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    base: bool,
    /// What lies behind the base on disk continues another history.
    suffix: bool,
    term: bool,
}

/// See [`synod_consensus::Protocol::recover`].
pub(crate) fn recover(config: Config, saved: Saved<Raft>) -> Result<Raft, RecoveryError> {
    let floor = saved.floor()?;
    let Saved { mut hard_state, base, mut log, .. } = saved;
    let (end, latest) = (max(log.last(), base.through), max(hard_state.term, base.stamp));
    if max(end.0, latest.0) >= HORIZON {
        return Err(RecoveryError::OutOfRange { slot: end, at: latest.ballot() });
    }
    let mut repair = Repair::default();
    if base.through > log.base() {
        // The state machine is ahead of the log's front: a crash came between the two writes.
        repair.suffix = log.stamp_at(base.through) != Some(base.stamp);
        repair.base = true;
        if repair.suffix {
            log.truncate_from(base.through.next());
        }
        log.compact(base.through, base.stamp);
    }
    if log.stamp_at(base.through) != Some(base.stamp) {
        return Err(RecoveryError::BaseMismatch { at: base.through });
    }
    if base.stamp > hard_state.term {
        // A snapshot of a later term was installed and the term was not written any more.
        hard_state = crate::HardState { term: base.stamp, vote: None };
        repair.term = true;
    }
    if log.gap_after(base.through) <= log.last() {
        return Err(RecoveryError::MissingSlot { slot: log.gap_after(base.through) });
    }
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
    // What is applied is chosen, whatever this node's peers hold: no leader may cut it again.
    let (commit, role, stall) = (floor, Role::Follower(None), Stall::default());
    Ok(Raft { config, members, hard_state, base, log, commit, role, stall, repair })
}

impl Raft {
    /// A node restarts as a follower that waits for a leader, whatever it was before.
    pub(crate) fn on_start(&mut self, fx: &mut Fx<'_>) {
        let repair = core::mem::take(&mut self.repair);
        if repair.term {
            self.write_hard_state(fx);
        }
        if repair.base {
            self.write_base(repair.suffix, fx);
        }
        fx.peers(&self.members);
        self.arm_election(fx);
    }

    /// What a snapshot at `through` must carry.
    pub(crate) fn chosen_base(&self, through: Slot) -> Option<Base<Term>> {
        if through > self.commit {
            return None;
        }
        // `None` below the base, too: that is compacted.
        let stamp = self.log.stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    /// A snapshot through this slot is durable.
    pub(crate) fn on_compact(&mut self, through: Slot, fx: &mut Fx<'_>) {
        if through > self.base.through
            && let Some(base) = self.chosen_base(through)
        {
            self.move_base(base, fx);
        }
    }

    /// A peer's snapshot was installed and is durable.
    pub(crate) fn on_installed(&mut self, base: Base<Term>, fx: &mut Fx<'_>) {
        let me = self.config.id();
        if base.through.0 >= HORIZON || base.stamp.0 >= HORIZON {
            return self.ignore(me, IgnoreReason::OutOfRange, fx);
        }
        if base.through <= self.base.through {
            return;
        }
        let agrees = self.log.stamp_at(base.through) == Some(base.stamp);
        if !agrees && base.through <= self.commit {
            return self.ignore(me, IgnoreReason::ForeignSnapshot, fx);
        }
        if !agrees || base.members != self.base.members {
            // As a leader we would have held every chosen entry: another one leads by now.
            self.step_down(None, StepDownReason::Installed, fx);
        }
        if base.stamp > self.hard_state.term {
            self.adopt(base.stamp, None, StepDownReason::SnapshotOfHigherTerm, fx);
        }
        let members = base.members.clone().unwrap_or_else(|| self.config.members().clone());
        if members != self.members {
            self.members = members;
            fx.peers(&self.members);
        }
        let through = base.through;
        self.move_base(base, fx);
        let last = self.log.last();
        if let Some(lead) = self.lead() {
            // A log of another history is gone, and with it what was verified and acknowledged.
            lead.verified = min(lead.verified, last);
            if let Some(ack) = &mut lead.ack {
                ack.matched = min(ack.matched, last);
            }
            lead.acknowledge(0, through);
        }
    }

    fn move_base(&mut self, base: Base<Term>, fx: &mut Fx<'_>) {
        let foreign = self.log.stamp_at(base.through) != Some(base.stamp);
        if foreign {
            self.log.truncate_from(base.through.next());
        }
        self.log.compact(base.through, base.stamp);
        self.commit = max(self.commit, base.through);
        self.base = base;
        self.write_base(foreign, fx);
        let bytes = self.uncommitted_bytes();
        if let Role::Leader(leader) = &mut self.role {
            leader.set_uncommitted(bytes);
        }
    }

    /// Tells the disk where the log begins. A store keeps what lies behind a base; where that is
    /// of another history it is cut, or it would come back behind the snapshot after a restart.
    fn write_base(&self, cut: bool, fx: &mut Fx<'_>) {
        if cut {
            fx.write(Write::TruncateFrom(self.base.through.next()));
        }
        fx.write(Write::Compact(self.base.clone()));
    }

    /// Whether this node votes.
    pub(crate) fn is_voter(&self) -> bool {
        self.members.is_voter(self.config.id())
    }

    /// Whether a message of `node` is any of this node's business.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.members.contains(node)
    }
}
