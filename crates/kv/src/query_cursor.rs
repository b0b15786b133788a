//! Queries on a view of the store, executed in bounded pieces.

use crate::range::{RangeRead, ReplyBudget};
use crate::txn::{self, CompareEvaluation};
use crate::{KvError, KvStore, Op, OpReply, OpResult, Query, Reply, ReplyBody, Txn, TxnResult};
use std::vec;
use synod_consensus::PiecewiseRead;

/// Maximum number of keys that one piece reads.
const PIECE_KEYS: usize = 1024;

/// Query in progress on a view of the store.
///
/// After each piece the caller decides whether to continue: the client may have disconnected, or the reply may
/// take too much memory. Only the sort of the collected keys is not divided into pieces.
///
/// ```
/// use synod_kv::{KeyRange, KvStore, PiecewiseRead, Query, Range};
///
/// let store = KvStore::new();
/// let mut cursor = store.read(Query::Range(Range::new(KeyRange::all())), 1 << 20);
/// let reply = loop {
///     match cursor.step() {
///         Some(reply) => break reply,
///         None => assert!(cursor.bytes() < 1 << 20),
///     }
/// };
/// assert_eq!(reply, store.execute_query(Query::Range(Range::new(KeyRange::all()))));
/// ```
#[derive(Debug)]
pub struct QueryCursor {
    store: KvStore,
    budget: ReplyBudget,
    /// Size of the completed ranges of a transaction in bytes.
    complete: usize,
    state: QueryState,
}

#[derive(Debug)]
enum QueryState {
    /// Complete result.
    Ready(Result<ReplyBody, KvError>),
    Range(Box<RangeRead>),
    Txn(Box<ReadTxn>),
}

/// Read-only transaction in progress: first the compares, then one branch.
#[derive(Debug)]
struct ReadTxn {
    /// Compares that have not started.
    compares: vec::IntoIter<crate::Compare>,
    comparing: Option<CompareEvaluation>,
    /// Operations if a compare fails, and operations if all hold.
    branches: [Vec<Op>; 2],
    running: Option<Branch>,
}

/// Branch of a transaction in progress.
#[derive(Debug)]
struct Branch {
    succeeded: bool,
    /// Operations that have not started.
    ops: vec::IntoIter<Op>,
    reading: Option<RangeRead>,
    replies: Vec<OpReply>,
}

impl PiecewiseRead for QueryCursor {
    type Reply = Reply;

    fn step(&mut self) -> Option<Reply> {
        let result = self.piece(PIECE_KEYS)?;
        Some(Reply { revision: self.store.revision, result })
    }

    fn bytes(&self) -> usize {
        let reading = match &self.state {
            QueryState::Range(read) => Some(&**read),
            QueryState::Txn(txn) => txn.running.as_ref().and_then(|branch| branch.reading.as_ref()),
            QueryState::Ready(_) => None,
        };
        self.complete + reading.map_or(0, RangeRead::bytes)
    }
}

impl QueryCursor {
    pub(crate) fn new(store: KvStore, query: Query, max_bytes: usize) -> Self {
        // A rejected query is a cursor with a complete result, so callers have one path for both.
        let state = match query.check() {
            Err(error) => QueryState::Ready(Err(error)),
            Ok(()) => match query {
                Query::Revision => QueryState::Ready(Ok(ReplyBody::Revision)),
                Query::Txn(txn) => QueryState::Txn(Box::new(ReadTxn::new(txn))),
                Query::Range(range) => match store.check_revision(range.revision) {
                    Ok(()) => QueryState::Range(Box::new(RangeRead::new(range))),
                    Err(error) => QueryState::Ready(Err(error)),
                },
            },
        };
        Self { store, budget: ReplyBudget::new(max_bytes), complete: 0, state }
    }

    /// Executes all remaining pieces.
    #[must_use]
    pub fn finish(mut self) -> Reply {
        loop {
            if let Some(result) = self.piece(usize::MAX) {
                return Reply { revision: self.store.revision, result };
            }
        }
    }

    /// Executes a piece that reads at most `most` keys. Returns the result after the last piece.
    fn piece(&mut self, most: usize) -> Option<Result<ReplyBody, KvError>> {
        let Self { store, budget, complete, state } = self;
        let done = match state {
            QueryState::Ready(result) => return Some(result.clone()),
            QueryState::Range(read) => read
                .step(&store.entries, most, budget)
                .map(|result| result.map(|result| ReplyBody::Op(OpResult::Range(result)))),
            QueryState::Txn(txn) => txn.step(store, most, budget, complete),
        };
        done.transpose()
    }
}

impl ReadTxn {
    fn new(txn: Txn) -> Self {
        Self {
            compares: txn.compares.into_iter(),
            comparing: None,
            branches: [txn.failure, txn.success],
            running: None,
        }
    }

    fn step(
        &mut self,
        store: &KvStore,
        most: usize,
        budget: &mut ReplyBudget,
        complete: &mut usize,
    ) -> Result<Option<ReplyBody>, KvError> {
        match &mut self.running {
            Some(branch) => branch.step(store, most, budget, complete),
            None => {
                // The branch starts in the next piece.
                if let Some(succeeded) = self.compare(store, most) {
                    let ops = std::mem::take(&mut self.branches[usize::from(succeeded)]);
                    txn::check_ops(store, &ops)?;
                    let (ops, replies) = (ops.into_iter(), Vec::new());
                    self.running = Some(Branch { succeeded, ops, reading: None, replies });
                }
                Ok(None)
            }
        }
    }

    /// Evaluates one piece of the compares. Returns whether all hold, when it is known.
    fn compare(&mut self, store: &KvStore, most: usize) -> Option<bool> {
        // Without a compare left, all of them hold.
        let next = || self.compares.next().map(CompareEvaluation::new);
        let Some(comparing) = self.comparing.take().or_else(next) else { return Some(true) };
        let comparing = self.comparing.insert(comparing);
        match comparing.step(&store.entries, most) {
            Some(true) => self.comparing = None,
            // The first compare that fails decides.
            Some(false) => return Some(false),
            None => {}
        }
        None
    }
}

impl Branch {
    fn step(
        &mut self,
        store: &KvStore,
        most: usize,
        budget: &mut ReplyBudget,
        complete: &mut usize,
    ) -> Result<Option<ReplyBody>, KvError> {
        let Some(reading) = &mut self.reading else {
            self.reading = match self.ops.next() {
                Some(Op::Range(range)) => Some(RangeRead::new(range)),
                // `Query::check` has rejected such a query, so this is unreachable.
                Some(Op::Put(_) | Op::DeleteRange(_)) => return Err(KvError::NotReadOnly),
                None => {
                    let replies = std::mem::take(&mut self.replies);
                    return Ok(Some(ReplyBody::Txn(TxnResult {
                        succeeded: self.succeeded,
                        replies,
                    })));
                }
            };
            return Ok(None);
        };
        if let Some(result) = reading.step(&store.entries, most, budget)? {
            // The read is dropped, but its keys stay in memory as part of the reply.
            *complete += reading.bytes();
            self.reading = None;
            let result = OpResult::Range(result);
            self.replies.push(OpReply { revision: store.revision, result });
        }
        Ok(None)
    }
}
