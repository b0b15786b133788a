//! Reading: a query that is answered piece by piece, from a store that stays as it is.

use crate::edit::{self, Comparison};
use crate::select::{Room, Selection};
use crate::{Answer, KvError, KvStore, Op, OpAnswer, OpReply, Query, Reply, Txn, TxnAnswer};
use std::vec;
use synod_consensus::PiecewiseRead;

/// The most keys that one piece walks over.
const PIECE: usize = 1024;

/// A query in progress on a view of the store.
///
/// The reader decides after each piece whether to go on: the client may have left, or the reply
/// may take more memory than there is. Only the sorting of what was found is not divided.
///
/// ```
/// use synod_kv::{KeyRange, KvStore, PiecewiseRead, Query, Range};
///
/// let store = KvStore::new();
/// let mut reading = store.read(Query::Range(Range::new(KeyRange::all())), 1 << 20);
/// let reply = loop {
///     match reading.step() {
///         Some(reply) => break reply,
///         None => assert!(reading.bytes() < 1 << 20),
///     }
/// };
/// assert_eq!(reply, store.answer(Query::Range(Range::new(KeyRange::all()))));
/// ```
#[derive(Debug)]
pub struct Reading {
    store: KvStore,
    room: Room,
    /// The bytes of the ranges of a transaction that are complete.
    complete: usize,
    work: Work,
}

#[derive(Debug)]
enum Work {
    /// The answer is known.
    Ready(Result<Answer, KvError>),
    Range(Box<Selection>),
    Txn(Box<ReadTxn>),
}

/// A transaction that only reads: the compares, then one branch.
#[derive(Debug)]
struct ReadTxn {
    compares: vec::IntoIter<crate::Compare>,
    comparing: Option<Comparison>,
    branches: [Vec<Op>; 2],
    running: Option<Branch>,
}

#[derive(Debug)]
struct Branch {
    succeeded: bool,
    ops: vec::IntoIter<Op>,
    selecting: Option<Selection>,
    replies: Vec<OpReply>,
}

impl PiecewiseRead for Reading {
    type Reply = Reply;

    fn step(&mut self) -> Option<Reply> {
        let answer = self.piece(PIECE)?;
        Some(Reply { revision: self.store.revision, answer })
    }

    fn bytes(&self) -> usize {
        let selecting = match &self.work {
            Work::Range(selection) => Some(&**selection),
            Work::Txn(txn) => txn.running.as_ref().and_then(|branch| branch.selecting.as_ref()),
            Work::Ready(_) => None,
        };
        self.complete + selecting.map_or(0, Selection::bytes)
    }
}

impl Reading {
    pub(crate) fn new(store: KvStore, query: Query, max_bytes: usize) -> Self {
        let work = match query.check() {
            Err(error) => Work::Ready(Err(error)),
            Ok(()) => match query {
                Query::Revision => Work::Ready(Ok(Answer::Revision)),
                Query::Txn(txn) => Work::Txn(Box::new(ReadTxn::new(txn))),
                Query::Range(range) => match store.check_revision(range.revision) {
                    Ok(()) => Work::Range(Box::new(Selection::new(range))),
                    Err(error) => Work::Ready(Err(error)),
                },
            },
        };
        Self { store, room: Room::new(max_bytes), complete: 0, work }
    }

    /// Does all pieces that are left.
    #[must_use]
    pub fn finish(mut self) -> Reply {
        loop {
            if let Some(answer) = self.piece(usize::MAX) {
                return Reply { revision: self.store.revision, answer };
            }
        }
    }

    fn piece(&mut self, most: usize) -> Option<Result<Answer, KvError>> {
        let Self { store, room, complete, work } = self;
        let done = match work {
            Work::Ready(answer) => return Some(answer.clone()),
            Work::Range(selection) => selection
                .step(&store.entries, most, room)
                .map(|answer| answer.map(|answer| Answer::Op(OpAnswer::Range(answer)))),
            Work::Txn(txn) => txn.step(store, most, room, complete),
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
        room: &mut Room,
        complete: &mut usize,
    ) -> Result<Option<Answer>, KvError> {
        match &mut self.running {
            Some(branch) => branch.step(store, most, room, complete),
            None => {
                if let Some(succeeded) = self.compare(store, most) {
                    let ops = std::mem::take(&mut self.branches[usize::from(succeeded)]);
                    edit::check_ops(store, &ops)?;
                    let (ops, replies) = (ops.into_iter(), Vec::new());
                    self.running = Some(Branch { succeeded, ops, selecting: None, replies });
                }
                Ok(None)
            }
        }
    }

    /// Compares on; returns whether all compares hold if that is known then.
    fn compare(&mut self, store: &KvStore, most: usize) -> Option<bool> {
        let next = || self.compares.next().map(Comparison::new);
        let Some(comparing) = self.comparing.take().or_else(next) else { return Some(true) };
        let comparing = self.comparing.insert(comparing);
        match comparing.step(&store.entries, most) {
            Some(true) => self.comparing = None,
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
        room: &mut Room,
        complete: &mut usize,
    ) -> Result<Option<Answer>, KvError> {
        let Some(selecting) = &mut self.selecting else {
            self.selecting = match self.ops.next() {
                Some(Op::Range(range)) => Some(Selection::new(range)),
                Some(Op::Put(_) | Op::DeleteRange(_)) => return Err(KvError::NotReadOnly),
                None => {
                    let replies = std::mem::take(&mut self.replies);
                    return Ok(Some(Answer::Txn(TxnAnswer { succeeded: self.succeeded, replies })));
                }
            };
            return Ok(None);
        };
        if let Some(answer) = selecting.step(&store.entries, most, room)? {
            *complete += selecting.bytes();
            self.selecting = None;
            let answer = OpAnswer::Range(answer);
            self.replies.push(OpReply { revision: store.revision, answer });
        }
        Ok(None)
    }
}
