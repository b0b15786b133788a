//! Reader threads, which run long reads on views of the state, within a memory budget.
//!
//! The apply thread only creates the view. A read runs in steps. The client's task runs the first
//! step, which completes most reads. A few reader threads run the other steps round-robin, so that a
//! short read does not wait for a long one. After each step, the read is dropped if its client is
//! gone, and rejected if all replies in memory exceed the budget. A reply keeps its part of the budget
//! until it is sent.

use crate::FatalErrorSender;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use synod_consensus::PiecewiseRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Unit of the budget, in bytes.
const UNIT: usize = 1 << 10;
/// Minimum units of a read: for its own state, and for memory that its view keeps alive.
const MIN_UNITS: usize = 4;

/// Reply, and its part of the budget.
type Read<R> = (<R as PiecewiseRead>::Reply, OwnedSemaphorePermit);

/// Error of a read without a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The memory budget is exhausted.
    #[error("the replies of all reads exceed the memory budget: retry after a pause")]
    Budget,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Reader threads and their memory budget. The threads end when this is dropped.
pub struct Readers<R: PiecewiseRead> {
    queue: Arc<Queue<R>>,
    budget: Arc<Semaphore>,
}

/// Read that is not complete.
struct Job<R: PiecewiseRead> {
    reading: R,
    room: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Read<R>, ReadError>>,
}

/// Queue of reads that wait for their next step.
struct Queue<R: PiecewiseRead> {
    waiting: Mutex<Waiting<R>>,
    changed: Condvar,
}

struct Waiting<R: PiecewiseRead> {
    jobs: VecDeque<Job<R>>,
    closed: bool,
}

impl<R: PiecewiseRead> Readers<R> {
    /// Starts one reader thread for each two CPUs, and at least one: reads must leave CPU time for
    /// writes.
    ///
    /// # Errors
    /// If the operating system cannot start a thread.
    pub fn start(budget: usize, fatal: &FatalErrorSender) -> io::Result<Self> {
        let readers = Self::without_threads(budget);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..(cores / 2).max(1) {
            let queue = Arc::clone(&readers.queue);
            fatal.thread("synod-reader", queue, |queue| {
                queue.work();
                Ok(())
            })?;
        }
        Ok(readers)
    }

    /// Returns readers without threads, which never complete a read of more than one step. For tests.
    #[must_use]
    pub fn without_threads(budget: usize) -> Self {
        let units = (budget / UNIT).min(Semaphore::MAX_PERMITS);
        let waiting = Mutex::new(Waiting { jobs: VecDeque::new(), closed: false });
        let queue = Arc::new(Queue { waiting, changed: Condvar::new() });
        Self { queue, budget: Arc::new(Semaphore::new(units)) }
    }

    /// Runs a read and returns its reply with the reply's part of the budget: drop the permit when the
    /// reply is sent. Dropping the future drops the read.
    ///
    /// # Errors
    /// If the budget is exhausted, or the readers are dropped.
    pub async fn read(
        &self,
        mut reading: R,
    ) -> Result<(R::Reply, OwnedSemaphorePermit), ReadError> {
        let mut room = acquire(&self.budget, MIN_UNITS)?;
        // The first step runs here: most reads need no reader thread.
        let done = reading.step();
        grow(&self.budget, &mut room, reading.bytes())?;
        if let Some(reply) = done {
            return Ok((reply, room));
        }
        let (reply, answer) = oneshot::channel();
        self.queue.push(Job { reading, room, reply })?;
        answer.await.unwrap_or(Err(ReadError::Stopping))
    }
}

impl<R: PiecewiseRead> Drop for Readers<R> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl<R: PiecewiseRead> Queue<R> {
    fn push(&self, job: Job<R>) -> Result<(), ReadError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(ReadError::Stopping);
        }
        waiting.jobs.push_back(job);
        drop(waiting);
        self.changed.notify_one();
        Ok(())
    }

    /// Drops all queued reads. A read on a thread is dropped after its step.
    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.jobs.clear();
        drop(waiting);
        self.changed.notify_all();
    }

    /// Runs steps of queued reads until the queue is closed.
    fn work(&self) {
        loop {
            let waiting = self.lock();
            let idle = |waiting: &mut Waiting<R>| waiting.jobs.is_empty() && !waiting.closed;
            let waiting = self.changed.wait_while(waiting, idle);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let Some(job) = waiting.jobs.pop_front() else { return };
            drop(waiting);
            self.run_step(job);
        }
    }

    /// Runs the next step of a read, unless its client is gone.
    fn run_step(&self, mut job: Job<R>) {
        if job.reply.is_closed() {
            return;
        }
        let done = job.reading.step();
        let budget = Arc::clone(job.room.semaphore());
        let grown = grow(&budget, &mut job.room, job.reading.bytes());
        // A send fails if the client has gone in the meantime.
        match (grown, done) {
            (Err(error), _) => drop(job.reply.send(Err(error))),
            (Ok(()), Some(reply)) => drop(job.reply.send(Ok((reply, job.room)))),
            // The push fails only if the node stops. That drops the sender, which the client sees.
            (Ok(()), None) => drop(self.push(job)),
        }
    }

    /// Locks the queue. A poisoned lock is safe: each push or pop leaves the queue consistent.
    fn lock(&self) -> MutexGuard<'_, Waiting<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn acquire(budget: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, ReadError> {
    let units = u32::try_from(units).map_err(|_| ReadError::Budget)?;
    Arc::clone(budget).try_acquire_many_owned(units).map_err(|_| ReadError::Budget)
}

/// Raises a read's part of the budget to `bytes`, the size of what it has collected.
fn grow(
    budget: &Arc<Semaphore>,
    room: &mut OwnedSemaphorePermit,
    bytes: usize,
) -> Result<(), ReadError> {
    let more = (bytes / UNIT + 1).saturating_sub(room.num_permits());
    if more > 0 {
        room.merge(acquire(budget, more)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use synod_kv::{
        Command, KeyRange, KvStore, OpResult, Put, Query, QueryCursor, Range, Reply, ReplyBody,
    };
    use synod_types::Changes;

    const BUDGET: usize = 1 << 20;

    /// Returns a store of 4,000 keys with values of 100 bytes: more than 500 KiB in total.
    fn store() -> KvStore {
        let mut store = KvStore::new();
        for key in 0..4_000 {
            let put = Put::new(format!("key {key:04}"), vec![7; 100]);
            store.execute(Command::Put(put), &mut Changes::new());
        }
        store
    }

    fn reading(store: &KvStore, limit: u64) -> QueryCursor {
        let range = Range { limit, ..Range::new(KeyRange::all()) };
        store.read(Query::Range(range), usize::MAX)
    }

    type Readers = super::Readers<QueryCursor>;
    type Read = (Reply, OwnedSemaphorePermit);
    type Started<'a> = Pin<Box<dyn Future<Output = Result<Read, ReadError>> + 'a>>;

    fn poll(read: &mut Started<'_>) -> Poll<Result<Read, ReadError>> {
        read.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn start<'a>(readers: &'a Readers, store: &KvStore) -> Started<'a> {
        let mut read: Started<'a> = Box::pin(readers.read(reading(store, 0)));
        assert!(poll(&mut read).is_pending(), "the read takes more than one step");
        read
    }

    /// Runs one step, as a reader thread does; returns whether a read was queued.
    fn run_step(readers: &Readers) -> bool {
        let job = readers.queue.lock().jobs.pop_front();
        job.map(|job| readers.queue.run_step(job)).is_some()
    }

    fn keys((reply, _): &Read) -> usize {
        let Ok(ReplyBody::Op(OpResult::Range(found))) = &reply.result else { panic!("{reply:?}") };
        found.kvs.len()
    }

    fn free(readers: &Readers) -> usize {
        readers.budget.available_permits() * UNIT
    }

    #[test]
    fn read_without_a_client_ends_after_its_step() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut read = start(&readers, &store);
        assert!(run_step(&readers) && poll(&mut read).is_pending());
        assert!(free(&readers) < BUDGET - 200_000, "two steps take part of the budget");
        drop(read);
        assert!(run_step(&readers), "the read is still queued");
        assert!(!run_step(&readers), "the read was queued again");
        assert_eq!(free(&readers), BUDGET);
    }

    #[test]
    fn read_beyond_the_budget_is_rejected_until_a_reply_is_sent() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut first = start(&readers, &store);
        while run_step(&readers) {}
        let Poll::Ready(Ok(first)) = poll(&mut first) else { panic!("the first read fails") };
        assert_eq!(keys(&first), 4_000);
        let mut second = start(&readers, &store);
        while run_step(&readers) {}
        let Poll::Ready(rejected) = poll(&mut second) else { panic!("the second read is pending") };
        assert_eq!(rejected.map(|read| keys(&read)), Err(ReadError::Budget));
        drop(first);
        assert_eq!(free(&readers), BUDGET, "a sent reply releases its part of the budget");
        let mut third = start(&readers, &store);
        while run_step(&readers) {}
        assert!(matches!(poll(&mut third), Poll::Ready(Ok(read)) if keys(&read) == 4_000));
    }

    #[test]
    fn short_read_does_not_wait_for_a_long_one() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut long = start(&readers, &store);
        let mut medium: Started<'_> = Box::pin(readers.read(reading(&store, 1_500)));
        assert!(poll(&mut medium).is_pending());
        let mut short: Started<'_> = Box::pin(readers.read(reading(&store, 10)));
        assert!(matches!(poll(&mut short), Poll::Ready(Ok(read)) if keys(&read) == 10));
        assert!(run_step(&readers) && run_step(&readers));
        assert!(matches!(poll(&mut medium), Poll::Ready(Ok(read)) if keys(&read) == 1_500));
        assert!(poll(&mut long).is_pending());
    }

    #[test]
    fn closed_readers_fail_queued_and_new_reads() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut read = start(&readers, &store);
        readers.queue.close();
        let stopped = |read: Poll<Result<Read, ReadError>>| match read {
            Poll::Ready(Err(error)) => error == ReadError::Stopping,
            _ => false,
        };
        assert!(stopped(poll(&mut read)));
        let mut late: Started<'_> = Box::pin(readers.read(reading(&store, 0)));
        assert!(stopped(poll(&mut late)));
        readers.queue.work();
    }
}
