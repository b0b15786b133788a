//! How clients' tasks talk to the replica's threads.

use super::apply::Task;
use super::core::Call;
use super::meters::Meters;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use synod_consensus::StateView;
use synod_replica::Outcome;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Commands under way may hold this many units of [`UNIT`] bytes: 64 MiB.
const UNITS: usize = 64 << 10;
const UNIT: usize = 1024;
/// Reads that wait for a view; more are refused.
const VIEWS: usize = 4096;

/// Why a call was not even taken. Nothing happened: it is safe to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Overload {
    /// Too much is under way.
    #[error("too many requests are under way")]
    Busy,
    /// The node stops.
    #[error("the node is stopping")]
    Stopping,
}

/// A running replica, to ask and to tell. Clones share it.
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

struct Shared {
    calls: mpsc::Sender<Call>,
    tasks: Sender<Task>,
    meters: Arc<Meters>,
    bytes: Arc<Semaphore>,
    views: Arc<Semaphore>,
    stopping: AtomicBool,
}

impl Handle {
    pub(super) fn new(calls: mpsc::Sender<Call>, tasks: Sender<Task>, meters: Arc<Meters>) -> Self {
        let room = |units| Arc::new(Semaphore::new(units));
        let (bytes, views) = (room(UNITS), room(VIEWS));
        let stopping = AtomicBool::new(false);
        Self { shared: Arc::new(Shared { calls, tasks, meters, bytes, views, stopping }) }
    }

    /// Has a command agreed on and applied, and waits for its outcome.
    ///
    /// # Errors
    /// If it was not taken; nothing happened.
    pub async fn request(&self, command: Bytes) -> Result<Outcome, Overload> {
        let units = u32::try_from(command.len() / UNIT + 1).map_err(|_| Overload::Busy)?;
        let room = take(&self.shared.bytes, units)?;
        self.call(|reply| Call::Request { command, room, reply }).await
    }

    /// Waits until this node has applied everything that was agreed on when this was called:
    /// [`Outcome::Readable`], unless it failed.
    ///
    /// # Errors
    /// If it was not taken.
    pub async fn read_barrier(&self) -> Result<Outcome, Overload> {
        self.call(|reply| Call::Read { reply }).await
    }

    /// A view of the state machine as it is on this node now. Reading from it holds up nothing
    /// else.
    ///
    /// # Errors
    /// If too many views are waited for, or the node stops.
    pub async fn view(&self) -> Result<Box<dyn StateView>, Overload> {
        let room = take(&self.shared.views, 1)?;
        let (reply, view) = oneshot::channel();
        let task = Task::View { room, reply };
        self.shared.tasks.send(task).map_err(|_| Overload::Stopping)?;
        view.await.map_err(|_| Overload::Stopping)
    }

    /// What the node measures of itself.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// From now on nothing is taken any more; what is under way goes on.
    pub fn refuse_new(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    async fn call(
        &self,
        call: impl FnOnce(oneshot::Sender<Outcome>) -> Call,
    ) -> Result<Outcome, Overload> {
        if self.shared.stopping.load(Ordering::Relaxed) {
            return Err(Overload::Stopping);
        }
        let (reply, outcome) = oneshot::channel();
        self.shared.calls.try_send(call(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Overload::Busy,
            mpsc::error::TrySendError::Closed(_) => Overload::Stopping,
        })?;
        // The core answers everything it takes, unless it stops first. Then nobody knows what
        // becomes of a command.
        Ok(outcome.await.unwrap_or(Outcome::Unknown))
    }
}

/// What is taken goes with the call and not with the caller: whoever hangs up leaves the call
/// behind, and the room that it needs.
fn take(semaphore: &Arc<Semaphore>, units: u32) -> Result<OwnedSemaphorePermit, Overload> {
    Arc::clone(semaphore).try_acquire_many_owned(units).map_err(|_| Overload::Busy)
}
