//! Coming back from disk, and the log's compacted front.

use crate::Config;
use crate::command_queue::CommandQueue;
use crate::congestion::CongestionWindow;
use crate::core::{Arity, CHOSEN, Fx, PaxosLog};
use crate::message::{HORIZON, is_stamp};
use crate::outgoing::Outgoing;
use alloc::collections::{BTreeMap, BTreeSet};
use core::marker::PhantomData;
use synod_consensus::{Base, IgnoreReason, RecoveryError, RunLog, Saved, Write};
use synod_types::{Ballot, Instant, Slot};

/// See [`synod_consensus::Protocol::recover`].
pub(crate) fn recover<K: Arity>(
    config: Config,
    saved: Saved<PaxosLog<K>>,
) -> Result<PaxosLog<K>, RecoveryError> {
    let floor = saved.floor()?;
    let Saved { mut hard_state, base, mut log, .. } = saved;
    let repair = base.through > log.base();
    // The state machine may be ahead of the log's front: a crash came between the two writes.
    log.compact(base.through, base.stamp);
    hard_state.choose(floor);
    check(&hard_state, &log)?;
    let mut decided = BTreeSet::new();
    for run in log.runs_from(hard_state.chosen().next()).filter(|run| run.stamp == CHOSEN) {
        decided.extend((0..run.values.len()).map(|index| run.first.plus(index)));
    }
    while decided.remove(&hard_state.chosen().next()) {
        hard_state.choose(hard_state.chosen().next());
    }
    let (me, voters) = (config.id(), config.members().voters());
    let guide = if voters.contains(&me) { me } else { voters[0] };
    let mut core = PaxosLog {
        seen: log.last().max(hard_state.last()),
        config,
        hard_state,
        base,
        log,
        decided,
        proposals: BTreeMap::new(),
        waiting: CommandQueue::default(),
        outgoing: Outgoing::default(),
        width: CongestionWindow::default(),
        told: Slot(0),
        advanced: Instant::ZERO,
        got_on: BTreeMap::new(),
        active: BTreeMap::new(),
        measured: None,
        turn: 0,
        guide,
        guided: Instant::ZERO,
        asked: None,
        chosen_at_ask: Slot::ZERO,
        answered: BTreeMap::new(),
        histories: BTreeMap::new(),
        repair,
        floor,
        unsaved: false,
        kind: PhantomData,
    };
    core.outgoing.known = core.known();
    Ok(core)
}

/// Whether vows and votes can belong together.
fn check(hard_state: &crate::HardState, log: &RunLog<Ballot>) -> Result<(), RecoveryError> {
    let chosen = hard_state.chosen();
    if log.last().0.max(chosen.0) >= HORIZON {
        return Err(RecoveryError::OutOfRange { slot: log.last().max(chosen), at: Ballot::ZERO });
    }
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

impl<K: Arity> PaxosLog<K> {
    /// A node restarts with its vows, and with what it knew to be chosen.
    pub(crate) fn on_start(&mut self, fx: &mut Fx<'_, K>) {
        if core::mem::take(&mut self.repair) {
            fx.write(Write::Compact(self.base.clone()));
        }
        fx.peers(self.config.members());
        self.emit(self.floor, fx);
        self.arm_ask(fx);
    }

    /// A snapshot through this slot is durable.
    pub(crate) fn on_compact(&mut self, through: Slot, fx: &mut Fx<'_, K>) {
        if through > self.base.through
            && let Some(base) = synod_consensus::Protocol::base_at(self, through)
        {
            self.move_base(base, fx);
        }
    }

    /// A peer's snapshot was installed and is durable.
    pub(crate) fn on_installed(&mut self, base: Base<Ballot>, fx: &mut Fx<'_, K>) {
        if base.through > Slot(K::SLOTS) || !is_stamp(base.stamp) {
            return self.ignore(self.config.id(), IgnoreReason::OutOfRange, fx);
        }
        if base.through <= self.base.through {
            return;
        }
        let (through, before) = (base.through, self.hard_state.chosen());
        self.move_base(base, fx);
        if through > before {
            self.hard_state.choose(through);
            self.decided = self.decided.split_off(&through.next());
            self.seen = self.seen.max(through);
            self.unsaved = true;
            self.close_unseen(through, fx);
            self.advance(fx);
        }
    }

    /// Votes after a new base stay, whatever stamp the base has.
    fn move_base(&mut self, base: Base<Ballot>, fx: &mut Fx<'_, K>) {
        self.log.compact(base.through, base.stamp);
        self.base = base;
        fx.write(Write::Compact(self.base.clone()));
    }
}
