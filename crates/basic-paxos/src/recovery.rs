//! Recovery from disk, and compaction of the log.

use crate::catch_up::CatchUp;
use crate::config::Config;
use crate::core::PaxosLog;
use crate::hard_state::HardState;
use crate::message::{CHOSEN, HORIZON, is_stamp};
use crate::node_proposer::Proposals;
use crate::outgoing::Outgoing;
use crate::protocol::Arity;
use crate::round_trip::RoundTrip;
use crate::slots::Slots;
use core::marker::PhantomData;
use synod_consensus::{Base, Effects, IgnoreReason, RecoveryError, RunLog, Saved, Write};
use synod_types::{Ballot, Instant, Slot};

/// Checks that log and hard state are consistent.
fn check(hard_state: &HardState, log: &RunLog<Ballot>) -> Result<(), RecoveryError> {
    let chosen = hard_state.chosen();
    if log.last().0.max(chosen.0) >= HORIZON {
        return Err(RecoveryError::OutOfRange { slot: log.last().max(chosen), at: Ballot::ZERO });
    }
    // Chosen slots have no promise left, so their values must be there: no vote can fill the hole.
    if log.gap_after(log.base()) <= chosen {
        return Err(RecoveryError::MissingChosen { slot: log.gap_after(log.base()) });
    }
    for run in log.runs_from(log.base().next()) {
        if !is_stamp(run.stamp) {
            return Err(RecoveryError::OutOfRange { slot: run.first, at: run.stamp });
        }
        for index in 0..run.values.len() {
            let slot = run.first.plus(index);
            let (accepted, promised) = (run.stamp, hard_state.promised(slot));
            // A vote raises the promise, and both are written in one batch. A promise below its vote means
            // that the disk lost a write, so none of its promises can be relied on.
            if slot > chosen && accepted != CHOSEN && promised < accepted {
                return Err(RecoveryError::AcceptedAbovePromise { slot, accepted, promised });
            }
        }
    }
    match hard_state.promises().find(|(slot, at)| slot.0 >= HORIZON || at.round >= 2 * HORIZON) {
        Some((slot, at)) => Err(RecoveryError::OutOfRange { slot, at }),
        None => Ok(()),
    }
}

impl<A: Arity> PaxosLog<A> {
    /// Recovers a core from its disk: see [`synod_consensus::Protocol::recover`].
    pub(crate) fn from_disk(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        let applied = saved.floor()?;
        let Saved { mut hard_state, base, mut log, .. } = saved;
        let lacks_base = base.through > log.base();
        // A snapshot is written before the log is compacted: a crash may have come between the two.
        log.compact(base.through, base.stamp);
        // Applied slots are chosen, even if the hard state that records it was not written yet. Left
        // open, they would be voted on again after other nodes lost their disks.
        hard_state.choose(applied);
        check(&hard_state, &log)?;
        let slots = Slots::new(hard_state, base, log, config.limits().window, Slot(A::SLOTS));
        let mut core = Self {
            catch_up: CatchUp::new(&config),
            round_trip: RoundTrip::guess(config.timing().round_trip),
            config,
            slots,
            proposals: Proposals::default(),
            outgoing: Outgoing::default(),
            applied,
            lacks_base,
            arity: PhantomData,
        };
        core.outgoing.statement = core.statement();
        Ok(core)
    }

    /// Starts a node: completes an interrupted compaction and emits chosen slots that are not applied.
    pub(crate) fn on_start(&mut self, now: Instant, fx: &mut Effects<'_, Self>) {
        if core::mem::take(&mut self.lacks_base) {
            fx.write(Write::Compact(self.slots.base().clone()));
        }
        fx.peers(self.config.members());
        self.slots.emit(self.applied, fx);
        CatchUp::arm(&mut self.parts(now, fx).0);
    }

    /// Moves the base to a slot through which a snapshot is durable.
    pub(crate) fn on_compact(&mut self, through: Slot, fx: &mut Effects<'_, Self>) {
        if through > self.slots.base().through
            && let Some(base) = self.slots.base_at(through)
        {
            self.slots.move_base(base, fx);
        }
    }

    /// Moves the base to a peer's snapshot, which is installed and durable.
    pub(crate) fn on_installed(
        &mut self,
        now: Instant,
        base: Base<Ballot>,
        fx: &mut Effects<'_, Self>,
    ) {
        let (mut cx, proposals, _) = self.parts(now, fx);
        let cx = &mut cx;
        // It comes from a peer, so it is validated like a message.
        if base.through > cx.slots.end() || !is_stamp(base.stamp) {
            return cx.ignore(cx.me(), IgnoreReason::OutOfRange);
        }
        if base.through <= cx.slots.base().through {
            return;
        }
        let (through, before) = (base.through, cx.slots.chosen());
        cx.slots.move_base(base, cx.fx);
        // Otherwise only the base moves: the node knows these slots to be chosen already.
        if through > before {
            cx.slots.install(through);
            proposals.close_installed(cx, through);
            CatchUp::advance(cx, proposals);
        }
    }
}
