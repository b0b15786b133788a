//! The apply thread: the state machine, views of it, and writing behind.

use super::core::Signal;
use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use synod_consensus::StateView;
use synod_replica::{Applied, Applier, ChosenRun, Piece};
use synod_types::Slot;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// How long applied changes wait in memory at most before they are saved, if the log allows.
const SAVE_EVERY: Duration = Duration::from_millis(50);
/// Unsaved bytes that are saved without waiting.
const SAVE_BYTES: usize = 256 << 10;
/// How long the thread sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_secs(5);
/// Tasks that are done at most before the driver receives a report.
const ROUND: usize = 256;

/// Work for the apply thread.
pub(crate) enum Task {
    /// Apply these, which the core handed out at that time.
    Runs(Vec<ChosenRun>, Instant),
    /// The state may be saved up to here.
    Durable(Slot),
    /// Hand out a view of the state as applied so far.
    View { room: OwnedSemaphorePermit, reply: oneshot::Sender<Box<dyn StateView>> },
    /// Save what may be saved, and end.
    Stop,
}

/// Owns the state machine and its store.
pub(super) struct Apply {
    applier: Applier,
    tasks: Receiver<Task>,
    signals: UnboundedSender<Signal>,
    /// Changes for the saver.
    pieces: SyncSender<Piece>,
    meter: Arc<Meter>,
    durable: Slot,
    last_save: Instant,
}

impl Apply {
    pub(super) fn new(
        applier: Applier,
        tasks: Receiver<Task>,
        signals: UnboundedSender<Signal>,
        pieces: SyncSender<Piece>,
        meter: &Arc<Meter>,
    ) -> Self {
        Self {
            durable: applier.applied(),
            applier,
            tasks,
            signals,
            pieces,
            meter: Arc::clone(meter),
            last_save: Instant::now(),
        }
    }

    /// Applies until it receives [`Task::Stop`], or the core and every handle are gone.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        loop {
            match self.tasks.recv_timeout(self.patience()) {
                Ok(task) => {
                    if self.round(task) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.save_if_due();
        }
        self.applier.seal();
        self.save();
        Ok(())
    }

    /// Does a task and those that wait behind it; returns whether one of them was to stop.
    fn round(&mut self, first: Task) -> bool {
        let mut report = Applied::default();
        let mut oldest = None;
        let mut next = Some(first);
        let mut stop = false;
        for _ in 0..ROUND {
            match next.take().or_else(|| self.tasks.try_recv().ok()) {
                Some(Task::Runs(runs, since)) => {
                    runs.iter().for_each(|run| self.applier.apply(run, &mut report));
                    oldest = oldest.or(Some(since));
                }
                Some(Task::Durable(slot)) => self.durable = slot,
                Some(Task::View { room, reply }) => {
                    // The client may have gone.
                    let _ = reply.send(self.applier.view());
                    drop(room);
                }
                Some(Task::Stop) => stop = true,
                None => break,
            }
        }
        if let Some(since) = oldest {
            self.meter.applied(since.elapsed(), &self.applier);
            // The core may have ended.
            let _ = self.signals.send(Signal::Applied(report));
        }
        stop
    }

    fn save_if_due(&mut self) {
        let large = self.applier.unsaved_bytes() >= SAVE_BYTES;
        let due = self.last_save.elapsed() >= SAVE_EVERY;
        if self.is_unsaved() && (large || due) {
            self.last_save = Instant::now();
            self.applier.seal();
            self.save();
        }
    }

    /// Hands what may be saved to the saver; waits only if that is far behind.
    fn save(&mut self) {
        if let Some(piece) = self.applier.take_sealed(self.durable) {
            // The saver's end is gone only if it failed, and it has reported that.
            let _ = self.pieces.send(piece);
        }
    }

    /// How long to wait for a task before it is time to save.
    fn patience(&self) -> Duration {
        let save = self.is_unsaved().then(|| SAVE_EVERY.saturating_sub(self.last_save.elapsed()));
        save.unwrap_or(IDLE)
    }

    fn is_unsaved(&self) -> bool {
        self.applier.applied() > self.applier.persisted()
    }
}
