//! Apply thread: applies commands, creates readers, and passes changes to the saver.

use super::core::Signal;
use super::metrics::Meter;
use crate::Fatal;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};
use synod_consensus::StateReader;
use synod_replica::{Applied, Applier, ApplyError, ChosenRun, Piece};
use synod_types::Slot;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Longest time that applied changes stay unsaved, if the log is durable.
const SAVE_EVERY: Duration = Duration::from_millis(50);
/// Size of the unsaved changes at which they are saved at once, in bytes.
const SAVE_BYTES: usize = 256 << 10;
/// Longest sleep of the thread if there is no work.
const IDLE: Duration = Duration::from_secs(5);
/// Limit of tasks in one round, after which the driver receives a report.
const ROUND: usize = 256;
/// Limit of stored keys that the state machine removes in one call of `maintain`.
const MAINTAIN_KEYS: usize = 256;
/// Interval of maintenance under load, in rounds: otherwise a thread that is never idle would never
/// remove obsolete keys.
const MAINTAIN_ROUNDS: u32 = 16;

/// Work for the apply thread.
pub(crate) enum Task {
    /// Applies runs, which the core handed out at this time.
    Runs(Vec<ChosenRun>, Instant),
    /// Permits saves of the state through this slot.
    Durable(Slot),
    /// Creates a reader of the state as applied now.
    Reader { room: OwnedSemaphorePermit, reply: oneshot::Sender<Box<dyn StateReader>> },
    /// Saves the changes that may be saved, and ends the thread.
    Stop,
}

/// Owner of the state machine.
pub(super) struct Apply {
    applier: Applier,
    tasks: Receiver<Task>,
    signals: UnboundedSender<Signal>,
    /// Queue of the saver.
    pieces: SyncSender<Piece>,
    meter: Arc<Meter>,
    durable: Slot,
    last_save: Instant,
    /// True if the state machine may have obsolete keys in its store.
    maintainable: bool,
    /// Rounds since the last maintenance.
    rounds: u32,
    /// Reply channel of the call whose reader failed. It is kept until the error is reported, so that
    /// the caller can read the reason.
    failed_call: Option<oneshot::Sender<Box<dyn StateReader>>>,
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
            maintainable: true,
            rounds: 0,
            failed_call: None,
        }
    }

    /// Runs tasks until [`Task::Stop`], or until the core and all handles are dropped.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        self.work().map_err(Fatal::Apply)
    }

    fn work(&mut self) -> Result<(), ApplyError> {
        loop {
            match self.tasks.recv_timeout(self.wait_time()) {
                Ok(task) => {
                    if self.round(task)? {
                        break;
                    }
                    if self.rounds >= MAINTAIN_ROUNDS {
                        self.maintain()?;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.maintain()?,
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.save_if_due();
        }
        self.applier.seal();
        self.save();
        Ok(())
    }

    fn maintain(&mut self) -> Result<(), ApplyError> {
        self.rounds = 0;
        self.maintainable = self.applier.maintain(MAINTAIN_KEYS)?;
        Ok(())
    }

    /// Runs a task and those that are queued after it. Returns whether one of them was to stop.
    fn round(&mut self, first: Task) -> Result<bool, ApplyError> {
        let mut report = Applied::default();
        let mut oldest = None;
        let mut next = Some(first);
        let mut stop = false;
        for _ in 0..ROUND {
            match next.take().or_else(|| self.tasks.try_recv().ok()) {
                Some(Task::Runs(runs, since)) => {
                    runs.iter().try_for_each(|run| self.applier.apply(run, &mut report))?;
                    oldest = oldest.or(Some(since));
                }
                Some(Task::Durable(slot)) => self.durable = slot,
                Some(Task::Reader { room, reply }) => {
                    match self.applier.reader() {
                        // The client may have cancelled the call.
                        Ok(reader) => drop(reply.send(reader)),
                        Err(error) => {
                            self.failed_call = Some(reply);
                            return Err(error);
                        }
                    }
                    drop(room);
                }
                Some(Task::Stop) => stop = true,
                None => break,
            }
        }
        if let Some(since) = oldest {
            self.meter.applied(since.elapsed(), &self.applier);
            // The core may have ended before.
            let _ = self.signals.send(Signal::Applied(report));
            // New commands may have made stored keys obsolete.
            self.maintainable = true;
            self.rounds += 1;
        }
        Ok(stop)
    }

    fn save_if_due(&mut self) {
        let large = self.applier.unsaved_bytes() >= SAVE_BYTES;
        let due = self.last_save.elapsed() >= SAVE_EVERY;
        if self.applier.is_unsaved() && (large || due) {
            self.last_save = Instant::now();
            self.applier.seal();
            self.save();
        }
    }

    /// Hands the changes that may be saved to the saver. Waits if the saver's queue is full.
    fn save(&mut self) {
        if let Some(piece) = self.applier.take_sealed(self.durable) {
            // The send fails only after the saver has reported a fatal error.
            let _ = self.pieces.send(piece);
        }
    }

    /// Returns the time to wait for a task before maintenance or a save is due.
    fn wait_time(&self) -> Duration {
        if self.maintainable {
            return Duration::ZERO;
        }
        let unsaved = self.applier.is_unsaved();
        let save = unsaved.then(|| SAVE_EVERY.saturating_sub(self.last_save.elapsed()));
        save.unwrap_or(IDLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;
    use synod_consensus::{Output, Role, StateError, StateMachine, StateView, Status};
    use synod_replica::Session;
    use synod_storage::MemoryState;
    use synod_types::{Ballot, Changes, Incarnation, NodeId};

    /// State machine that counts its maintenance calls, and always has more keys to remove.
    struct Endless(Arc<AtomicU32>);

    impl StateMachine for Endless {
        fn load(&mut self, _: &dyn StateView) -> Result<(), StateError> {
            Ok(())
        }

        fn apply(
            &mut self,
            _: Slot,
            _: &[u8],
            _: &dyn StateView,
            _: &mut Output,
        ) -> Result<Bytes, StateError> {
            Ok(Bytes::new())
        }

        fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
            Err(StateError::Store("this test reads nothing".into()))
        }

        fn maintain(
            &mut self,
            _: &dyn StateView,
            _: usize,
            _: &mut Changes,
        ) -> Result<bool, StateError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(true)
        }
    }

    #[test]
    fn maintenance_runs_every_few_rounds_on_a_thread_that_is_never_idle() {
        let calls = Arc::new(AtomicU32::new(0));
        let machine = Box::new(Endless(Arc::clone(&calls)));
        let me = Session { node: NodeId(1), incarnation: Incarnation(1), boot: 1 };
        let applier = Applier::open(machine, Box::new(MemoryState::new()), me).unwrap();
        let status = Status {
            role: Role::Follower,
            ballot: Ballot { round: 0, node: NodeId(0) },
            leader: None,
            commit: Slot::ZERO,
            last: Slot::ZERO,
            base: Slot::ZERO,
            progress: Vec::new(),
        };
        let meter = Arc::new(Meter::new(&status, &applier));
        let (tasks, queued) = mpsc::channel();
        let (signals, _received) = tokio::sync::mpsc::unbounded_channel();
        let (pieces, _written) = mpsc::sync_channel(1);
        let rounds = 3 * MAINTAIN_ROUNDS;
        for _ in 0..rounds as usize * ROUND {
            tasks.send(Task::Runs(Vec::new(), Instant::now())).unwrap();
        }
        tasks.send(Task::Stop).unwrap();
        Apply::new(applier, queued, signals, pieces, &meter).run().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 3, "once in {MAINTAIN_ROUNDS} rounds");
    }
}
