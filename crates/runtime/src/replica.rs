//! Handle of a running replica, which sends clients' calls to its threads.

use crate::run::Task;
use crate::run::core::{Call, Signal, Waiting};
use crate::run::metrics::{Meter, Metrics, ReplicaStatus};
use crate::{Fatal, FatalErrorReceiver, FatalErrorSender, ReplicaError};
use bytes::Bytes;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use synod_consensus::StateReader;
use synod_replica::Outcome;
use synod_transport::Transport;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

/// Memory limit of all pending commands, in units of [`UNIT`] bytes: 64 MiB.
const UNITS: usize = 64 << 10;
const UNIT: usize = 1024;
/// Limit of calls that wait for a reader of the state. Further ones are rejected as busy.
const READERS: usize = 4096;
/// Interval at which a draining replica polls for pending requests.
const DRAIN_POLL: Duration = Duration::from_millis(10);

/// Type parameter of a replica whose commands, queries and replies are bytes: that of a
/// [`StateMachine`](synod_consensus::StateMachine).
#[derive(Clone, Copy, Debug)]
pub enum Untyped {}

/// Handle of a running replica of the state machine `M`. Clones share the replica.
///
/// [`shutdown`](Self::shutdown) completes every accepted command first. Dropping the last handle stops
/// the replica abruptly: pending commands get no reply, and the threads end shortly afterwards.
pub struct Replica<M = Untyped> {
    shared: Arc<Shared>,
    machine: PhantomData<fn() -> M>,
}

/// State shared by all handles of a replica.
pub(crate) struct Shared {
    calls: mpsc::Sender<Call>,
    tasks: Sender<Task>,
    meter: Arc<Meter>,
    bytes: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    /// One permit for each pending request. Closed when the replica stops accepting requests.
    pending: Arc<Semaphore>,
    threads: Threads,
    fatal: FatalErrorSender,
    errors: FatalErrorReceiver,
}

/// Running threads of a replica, and its transport.
pub(crate) struct Threads {
    pub(crate) signals: mpsc::UnboundedSender<Signal>,
    /// Channel that closes when all threads have ended.
    pub(crate) ended: watch::Receiver<()>,
    pub(crate) receiving: AbortHandle,
    pub(crate) transport: Arc<dyn Transport>,
}

impl Shared {
    pub(crate) fn new(
        calls: mpsc::Sender<Call>,
        tasks: Sender<Task>,
        meter: Arc<Meter>,
        threads: Threads,
        fatal: FatalErrorSender,
        errors: FatalErrorReceiver,
    ) -> Self {
        let room = |units| Arc::new(Semaphore::new(units));
        let (bytes, readers, pending) = (room(UNITS), room(READERS), room(Semaphore::MAX_PERMITS));
        Self { calls, tasks, meter, bytes, readers, pending, threads, fatal, errors }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.threads.receiving.abort();
        // The core may have ended before.
        let _ = self.threads.signals.send(Signal::Stop);
    }
}

impl<M> Clone for Replica<M> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), machine: PhantomData }
    }
}

impl<M> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl<M> Replica<M> {
    pub(crate) fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared), machine: PhantomData }
    }

    /// Replicates and applies a command, and returns the state machine's reply. Any node accepts it and
    /// forwards it to the leader. Cancelling the future does not cancel the command.
    ///
    /// # Errors
    /// If there is no reply. Only after [`OutcomeUnknown`](ReplicaError::OutcomeUnknown) is it unknown
    /// whether the command was applied.
    pub async fn execute_bytes(&self, command: Bytes) -> Result<Bytes, ReplicaError> {
        let units = command.len() / UNIT + 1;
        if units > UNITS {
            return Err(ReplicaError::TooLarge { limit: (UNITS * UNIT - 1) as u64 });
        }
        let room = Some(self.acquire(&self.shared.bytes, units as u32)?);
        let unknown = |cause| ReplicaError::OutcomeUnknown { cause };
        match self.call(room, |waiting| Call::Request { command, waiting }).await? {
            Some(Outcome::Done(_, reply)) => Ok(reply),
            Some(Outcome::Refused(refusal)) => Err(ReplicaError::refused(refusal)),
            Some(Outcome::Unknown) => Err(unknown(None)),
            Some(Outcome::Readable) => unreachable!("the outcome of a read for a command"),
            None => Err(unknown(self.shared.errors.get())),
        }
    }

    /// Waits until this node has applied every command that any node acknowledged before the call.
    ///
    /// # Errors
    /// If no quorum confirms the read in time, or the replica stops.
    pub async fn read_barrier(&self) -> Result<(), ReplicaError> {
        match self.call(None, |waiting| Call::Read { waiting }).await? {
            Some(Outcome::Readable) => Ok(()),
            Some(Outcome::Refused(refusal)) => Err(ReplicaError::refused(refusal)),
            Some(Outcome::Unknown) => Err(ReplicaError::ReadTimedOut),
            Some(Outcome::Done(..)) => unreachable!("the outcome of a command for a read"),
            None => Err(self.stopped()),
        }
    }

    /// Returns a reader of the state as applied on this node. Its queries do not delay commands.
    ///
    /// # Errors
    /// If too many calls wait for one, or the replica stops.
    pub async fn reader(&self) -> Result<Box<dyn StateReader>, ReplicaError> {
        let room = self.acquire(&self.shared.readers, 1)?;
        let (reply, reader) = oneshot::channel();
        let task = Task::Reader { room, reply };
        self.shared.tasks.send(task).map_err(|_| self.stopped())?;
        reader.await.map_err(|_| self.stopped())
    }

    /// Returns the status as of the last round.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        *self.watch().borrow()
    }

    /// Returns a channel that watches the status.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ReplicaStatus> {
        self.shared.meter.watch()
    }

    /// Returns a snapshot of the metrics.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.shared.meter.snapshot()
    }

    /// Waits for the first fatal error. Never completes if there is none.
    pub async fn failed(&self) -> Fatal {
        match self.shared.errors.first().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Returns the first fatal error, if there is one.
    #[must_use]
    pub fn failure(&self) -> Option<Fatal> {
        self.shared.errors.get()
    }

    /// Returns a sender of fatal errors, for other threads without which the replica must stop.
    #[must_use]
    pub fn fatal_error_sender(&self) -> FatalErrorSender {
        self.shared.fatal.clone()
    }

    /// Rejects new requests from now on. Pending ones continue.
    pub fn refuse_new(&self) {
        self.shared.pending.close();
    }

    /// Rejects new requests, and waits until all pending ones are complete, or until the threads have
    /// ended after a fatal error.
    pub async fn drain(&self) {
        self.refuse_new();
        while self.shared.pending.available_permits() < Semaphore::MAX_PERMITS
            // If the core ends, calls in its queue keep their permits: the end of the threads counts.
            && self.shared.threads.ended.has_changed().is_ok()
        {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    }

    /// Stops the replica without draining. Syncs the log, saves the applied state, and completes when
    /// all threads have ended and the transport is closed.
    ///
    /// # Errors
    /// The first fatal error.
    pub async fn stop(&self) -> Result<(), Fatal> {
        self.refuse_new();
        // The core may have ended before.
        let _ = self.shared.threads.signals.send(Signal::Stop);
        let mut ended = self.shared.threads.ended.clone();
        while ended.changed().await.is_ok() {}
        self.shared.threads.transport.close().await;
        self.failure().map_or(Ok(()), Err)
    }

    /// Completes every accepted command, then [stops](Self::stop). Takes no longer than the time limit of
    /// requests, unless a disk hangs.
    ///
    /// # Errors
    /// The first fatal error.
    pub async fn shutdown(&self) -> Result<(), Fatal> {
        self.drain().await;
        self.stop().await
    }

    fn stopped(&self) -> ReplicaError {
        ReplicaError::Stopped { cause: self.failure() }
    }

    /// Sends a call to the core and returns its outcome, or `None` if the core ended without one.
    async fn call(
        &self,
        room: Option<OwnedSemaphorePermit>,
        call: impl FnOnce(Waiting) -> Call,
    ) -> Result<Option<Outcome>, ReplicaError> {
        let pending = self.acquire(&self.shared.pending, 1)?;
        let (reply, outcome) = oneshot::channel();
        let call = call(Waiting { reply, pending, room });
        self.shared.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReplicaError::Busy,
            mpsc::error::TrySendError::Closed(_) => self.stopped(),
        })?;
        Ok(outcome.await.ok())
    }

    /// Acquires permits that belong to the request: cancelling the client's future does not release
    /// them.
    fn acquire(
        &self,
        semaphore: &Arc<Semaphore>,
        units: u32,
    ) -> Result<OwnedSemaphorePermit, ReplicaError> {
        Arc::clone(semaphore).try_acquire_many_owned(units).map_err(|error| match error {
            TryAcquireError::NoPermits => ReplicaError::Busy,
            TryAcquireError::Closed => self.stopped(),
        })
    }
}
