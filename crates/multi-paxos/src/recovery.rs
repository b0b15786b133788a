//! Recovery from disk, and compaction of the log.

use crate::acceptor::Acceptor;
use crate::core::{Fx, Role, ignore};
use crate::election::Election;
use crate::history::Agreement;
use crate::learner::Learner;
use crate::message::{CHOSEN, HORIZON};
use crate::{Config, MultiPaxos};
use alloc::collections::BTreeSet;
use synod_consensus::{
    Base, IgnoreReason, ReadRelay, RecoveryError, Run, Saved, Stall, StepDownReason, Write,
};
use synod_types::{Ballot, Instant, Slot};

/// Writes that are due at [`synod_consensus::Input::Start`], so that disk and core agree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Repair {
    base: bool,
}

/// Recovers a core from its disk: see [`synod_consensus::Protocol::recover`]. The applied slot and
/// [`CHOSEN`] stamps show the chosen slots; peers send the others.
pub(crate) fn recover(
    config: Config,
    saved: Saved<MultiPaxos>,
) -> Result<MultiPaxos, RecoveryError> {
    let floor = saved.floor()?;
    let Saved { hard_state, base, log, .. } = saved;
    let end = log.last().max(base.through);
    // Applied slots are chosen, and peers may need them: they must be in the log.
    if log.gap_after(base.through) <= floor {
        return Err(RecoveryError::MissingChosen { slot: log.gap_after(base.through) });
    }
    // A damaged disk, or one of another program.
    if end.0.max(hard_state.promised.round) >= HORIZON {
        return Err(RecoveryError::OutOfRange { slot: end, at: hard_state.promised });
    }
    // An Accept raises the promise in the same batch (P1a): a lower one means lost writes.
    let is_above = |run: &&Run<Ballot>| run.stamp > hard_state.promised && run.stamp != CHOSEN;
    if let Some(run) = log.runs().find(is_above) {
        let (slot, accepted, promised) = (run.first, run.stamp, hard_state.promised);
        return Err(RecoveryError::AcceptedAbovePromise { slot, accepted, promised });
    }
    let is_ahead = base.through > log.base();
    let mut acceptor = Acceptor::new(hard_state, log);
    // A snapshot is written before the log is compacted: a crash may have come between the two.
    acceptor.compact(base.through, base.stamp);
    let members = base.members.clone().unwrap_or_else(|| config.members().clone());
    Ok(MultiPaxos {
        config,
        members,
        // Applied slots are chosen; all others are learnt again.
        learner: Learner::new(floor),
        base,
        acceptor,
        election: Election::default(),
        role: Role::Follower,
        must_ack: false,
        last_probe: 0,
        skipped_quorum_check: false,
        stall: Stall::default(),
        agreement: Agreement::default(),
        leader_commit: Slot::ZERO,
        contradicting: BTreeSet::new(),
        reads: ReadRelay::default(),
        repair: Repair { base: is_ahead },
    })
}

impl MultiPaxos {
    /// Starts as a follower.
    pub(crate) fn on_start(&mut self, now: Instant, fx: &mut Fx<'_>) {
        // Never as leader: the next ballot is above the promise, so no ballot is used again after a crash.
        let repair = core::mem::take(&mut self.repair);
        // Recovery is pure; the write waits for the first step.
        if repair.base {
            fx.write(Write::Compact(self.base.clone()));
        }
        fx.peers(&self.members);
        // Learnt values that were not applied before the crash.
        self.learn(CHOSEN, self.learner.commit(), fx);
        self.arm_election(fx);
        // The first round of heartbeats: nodes exchange their views before the first election.
        self.begin_round(now, fx);
    }

    /// Returns the base of a snapshot at `through`.
    pub(crate) fn chosen_base(&self, through: Slot) -> Option<Base<Ballot>> {
        if through > self.learner.commit() {
            return None;
        }
        // `None` below the base, too: these slots are compacted.
        let stamp = self.acceptor.log().stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    /// Compacts the log through a slot of which a snapshot is durable.
    pub(crate) fn on_compact(&mut self, through: Slot, fx: &mut Fx<'_>) {
        if through > self.base.through
            && let Some(base) = self.chosen_base(through)
        {
            self.move_base(base, fx);
        }
    }

    /// Continues from a peer's snapshot, which is durable. The promise and the values accepted after the
    /// snapshot stay: promises and votes are never withdrawn.
    pub(crate) fn on_installed(&mut self, base: Base<Ballot>, fx: &mut Fx<'_>) {
        // It comes from a peer, so it is validated like a message.
        let me = self.config.id();
        let is_stamp = base.stamp == CHOSEN || base.stamp.round < HORIZON;
        if base.through.0 >= HORIZON || !is_stamp {
            return ignore(me, IgnoreReason::OutOfRange, fx);
        }
        if base.through <= self.base.through {
            return;
        }
        if base.through > self.learner.commit() && matches!(self.role, Role::Leader(_)) {
            // A leader's log holds all chosen slots, so another node leads by now.
            self.step_down(None, StepDownReason::Installed, fx);
        }
        let members = base.members.clone().unwrap_or_else(|| self.config.members().clone());
        if members != self.members {
            self.members = members;
            fx.peers(&self.members);
        }
        self.move_base(base, fx);
        self.learn(CHOSEN, self.learner.commit(), fx);
    }

    fn move_base(&mut self, base: Base<Ballot>, fx: &mut Fx<'_>) {
        assert!(base.through > self.base.through, "the base only moves forward");
        fx.write(Write::Compact(base.clone()));
        self.acceptor.compact(base.through, base.stamp);
        self.learner.skip_to(base.through);
        assert_eq!(self.acceptor.log().base(), base.through, "base and log begin at one slot");
        assert!(self.learner.commit() >= base.through, "compacted slots are chosen");
        self.base = base;
    }
}
