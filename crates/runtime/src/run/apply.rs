//! The apply thread: the state machine, readers of it, and writing behind.

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

/// How long applied changes wait in memory at most before they are saved, if the log allows.
const SAVE_EVERY: Duration = Duration::from_millis(50);
/// Unsaved bytes that are saved without waiting.
const SAVE_BYTES: usize = 256 << 10;
/// How long the thread sleeps when there is nothing to do.
const IDLE: Duration = Duration::from_secs(5);
/// Tasks that are done at most before the driver receives a report.
const ROUND: usize = 256;
/// Stored keys that the state machine removes at most before the next task.
const MAINTAIN_KEYS: usize = 256;
/// Rounds after which it does so under load, too: a thread that is never idle must not keep them for
/// ever.
const MAINTAIN_ROUNDS: u32 = 16;

/// Work for the apply thread.
pub(crate) enum Task {
    /// Apply these, which the core handed out at that time.
    Runs(Vec<ChosenRun>, Instant),
    /// The state may be saved up to here.
    Durable(Slot),
    /// Hand out a reader of the state as applied so far.
    Reader { room: OwnedSemaphorePermit, reply: oneshot::Sender<Box<dyn StateReader>> },
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
    /// Whether the state machine may have stored keys to remove.
    maintainable: bool,
    /// Rounds since it last was asked to.
    rounds: u32,
    /// The call that failed. It is dropped after the error is reported, so that it finds the reason.
    unanswered: Option<oneshot::Sender<Box<dyn StateReader>>>,
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
            unanswered: None,
        }
    }

    /// Applies until it receives [`Task::Stop`], or the core and every handle are gone.
    pub(super) fn run(&mut self) -> Result<(), Fatal> {
        self.work().map_err(Fatal::Apply)
    }

    fn work(&mut self) -> Result<(), ApplyError> {
        loop {
            match self.tasks.recv_timeout(self.patience()) {
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

    /// Does a task and those that wait behind it; returns whether one of them was to stop.
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
                        // The client may have gone.
                        Ok(reader) => drop(reply.send(reader)),
                        Err(error) => {
                            self.unanswered = Some(reply);
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
            // The core may have ended.
            let _ = self.signals.send(Signal::Applied(report));
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

    /// Hands what may be saved to the saver; waits only if that is far behind.
    fn save(&mut self) {
        if let Some(piece) = self.applier.take_sealed(self.durable) {
            // The saver's end is gone only if it failed, and it has reported that.
            let _ = self.pieces.send(piece);
        }
    }

    /// How long to wait for a task before there is something else to do.
    fn patience(&self) -> Duration {
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

    /// Counts how often it is maintained; there is always more.
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
            Err(StateError::Store("nothing is read here".into()))
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
    fn thread_that_is_never_idle_maintains_the_state_now_and_then() {
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
