//! Reader threads: long reads from views of the state, within a budget of memory.
//!
//! The apply thread only hands out the view. A read is done in pieces: the first by the client's
//! own task, which is all that most reads need, and the others by a few reader threads, in turn, so
//! that a short read does not wait for a long one. After each piece the read is dropped if its
//! client has gone, and refused if the bytes of all replies in memory pass the budget. A reply
//! keeps its part of the budget until it is sent.

use crate::FatalErrorSender;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use synod_consensus::PiecewiseRead;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The budget is counted in units of this many bytes.
const UNIT: usize = 1 << 10;
/// A read takes this many units at least: what it needs itself, and what its view may keep alive.
const MIN_UNITS: usize = 4;

/// A reply, and its part of the budget.
type Read<R> = (<R as PiecewiseRead>::Reply, OwnedSemaphorePermit);

/// The reason that there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The budget is used up.
    #[error("the replies to all reads take too much memory: retry after a pause")]
    Budget,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// The reader threads and their budget. The threads end when this is dropped.
pub struct Readers<R: PiecewiseRead> {
    queue: Arc<Queue<R>>,
    budget: Arc<Semaphore>,
}

/// A read that is not finished.
struct Job<R: PiecewiseRead> {
    reading: R,
    room: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Read<R>, ReadError>>,
}

/// Reads that wait for their next piece, in turn.
struct Queue<R: PiecewiseRead> {
    waiting: Mutex<Waiting<R>>,
    changed: Condvar,
}

struct Waiting<R: PiecewiseRead> {
    jobs: VecDeque<Job<R>>,
    closed: bool,
}

impl<R: PiecewiseRead> Readers<R> {
    /// Starts as many reader threads as half of the cores: reads must leave time for writes.
    ///
    /// # Errors
    /// If the system refuses a thread.
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

    /// Returns readers without threads: of a long read only the first piece is ever done. For tests.
    #[must_use]
    pub fn without_threads(budget: usize) -> Self {
        let units = (budget / UNIT).min(Semaphore::MAX_PERMITS);
        let waiting = Mutex::new(Waiting { jobs: VecDeque::new(), closed: false });
        let queue = Arc::new(Queue { waiting, changed: Condvar::new() });
        Self { queue, budget: Arc::new(Semaphore::new(units)) }
    }

    /// Answers a query. Dropping the future drops the read. The permit is the reply's part of the
    /// budget: drop it once the reply is sent.
    ///
    /// # Errors
    /// If the budget is used up, or the readers are dropped.
    pub async fn read(
        &self,
        mut reading: R,
    ) -> Result<(R::Reply, OwnedSemaphorePermit), ReadError> {
        let mut room = take(&self.budget, MIN_UNITS)?;
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

    /// Drops all reads; those that a thread is at go after their piece.
    fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.jobs.clear();
        drop(waiting);
        self.changed.notify_all();
    }

    /// Does pieces until the queue is closed.
    fn work(&self) {
        loop {
            let waiting = self.lock();
            let idle = |waiting: &mut Waiting<R>| waiting.jobs.is_empty() && !waiting.closed;
            let waiting = self.changed.wait_while(waiting, idle);
            let mut waiting = waiting.unwrap_or_else(PoisonError::into_inner);
            let Some(job) = waiting.jobs.pop_front() else { return };
            drop(waiting);
            self.piece(job);
        }
    }

    /// Does the next piece of a read whose client is still there.
    fn piece(&self, mut job: Job<R>) {
        if job.reply.is_closed() {
            return;
        }
        let done = job.reading.step();
        let budget = Arc::clone(job.room.semaphore());
        let grown = grow(&budget, &mut job.room, job.reading.bytes());
        // The client may have gone in the meantime.
        match (grown, done) {
            (Err(error), _) => drop(job.reply.send(Err(error))),
            (Ok(()), Some(reply)) => drop(job.reply.send(Ok((reply, job.room)))),
            // Refused only when the node stops, and then the client sees its end dropped.
            (Ok(()), None) => drop(self.push(job)),
        }
    }

    /// A panic elsewhere leaves the queue whole: it is only ever pushed to and popped from.
    fn lock(&self) -> MutexGuard<'_, Waiting<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take(budget: &Arc<Semaphore>, units: usize) -> Result<OwnedSemaphorePermit, ReadError> {
    let units = u32::try_from(units).map_err(|_| ReadError::Budget)?;
    Arc::clone(budget).try_acquire_many_owned(units).map_err(|_| ReadError::Budget)
}

/// Makes room for as many bytes as a read has gathered.
fn grow(
    budget: &Arc<Semaphore>,
    room: &mut OwnedSemaphorePermit,
    bytes: usize,
) -> Result<(), ReadError> {
    let more = (bytes / UNIT + 1).saturating_sub(room.num_permits());
    if more > 0 {
        room.merge(take(budget, more)?);
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
        Command, KeyRange, KvStore, OpAnswer, Put, Query, QueryCursor, Range, Reply, ReplyBody,
    };
    use synod_types::Changes;

    const BUDGET: usize = 1 << 20;

    /// 4000 keys of 100 bytes: more than 500 KiB with what goes with a key.
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
        assert!(poll(&mut read).is_pending(), "more than a piece");
        read
    }

    /// Does one piece, as a reader thread does; returns whether there was one.
    fn piece(readers: &Readers) -> bool {
        let job = readers.queue.lock().jobs.pop_front();
        job.map(|job| readers.queue.piece(job)).is_some()
    }

    fn keys((reply, _): &Read) -> usize {
        let Ok(ReplyBody::Op(OpAnswer::Range(found))) = &reply.answer else { panic!("{reply:?}") };
        found.kvs.len()
    }

    fn free(readers: &Readers) -> usize {
        readers.budget.available_permits() * UNIT
    }

    #[test]
    fn read_without_a_client_ends_with_the_piece_it_is_at() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut read = start(&readers, &store);
        assert!(piece(&readers) && poll(&mut read).is_pending());
        assert!(free(&readers) < BUDGET - 200_000, "two pieces take room");
        drop(read);
        assert!(piece(&readers), "the read is looked at once more");
        assert!(!piece(&readers), "and not put back");
        assert_eq!(free(&readers), BUDGET);
    }

    #[test]
    fn budget_refuses_what_it_has_no_room_for_until_a_reply_is_sent() {
        let (readers, store) = (Readers::without_threads(BUDGET), store());
        let mut first = start(&readers, &store);
        while piece(&readers) {}
        let Poll::Ready(Ok(first)) = poll(&mut first) else { panic!("the first fits") };
        assert_eq!(keys(&first), 4_000);
        let mut second = start(&readers, &store);
        while piece(&readers) {}
        let Poll::Ready(refused) = poll(&mut second) else { panic!("it is answered") };
        assert_eq!(refused.map(|read| keys(&read)), Err(ReadError::Budget));
        drop(first);
        assert_eq!(free(&readers), BUDGET, "a reply that is sent leaves its room");
        let mut third = start(&readers, &store);
        while piece(&readers) {}
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
        assert!(piece(&readers) && piece(&readers));
        assert!(matches!(poll(&mut medium), Poll::Ready(Ok(read)) if keys(&read) == 1_500));
        assert!(poll(&mut long).is_pending());
    }

    #[test]
    fn dropped_readers_answer_what_waits_and_take_nothing_new() {
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
