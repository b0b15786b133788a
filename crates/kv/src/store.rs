//! The state machine.

use crate::tree::Tree;
use crate::{
    Answer, Command, KvError, MAX_REPLY_BYTES, Op, Query, Reading, Reply, Revision, Version, edit,
    stored,
};
use bytes::Bytes;
use synod_consensus::{StateError, StateMachine, StateView};
use synod_types::{Changes, Slot};

/// The key-value store: every key in memory, in order, and one revision.
///
/// A clone is a view: it shares the keys with the store, costs a reference count, and stays as it
/// is when the store moves on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvStore {
    pub(crate) revision: Revision,
    pub(crate) entries: Tree<Entry>,
}

/// What is known of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    pub(crate) created: Revision,
    pub(crate) modified: Revision,
    pub(crate) version: Version,
}

impl Default for KvStore {
    fn default() -> Self {
        Self::new()
    }
}

impl KvStore {
    /// An empty store at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: Revision::FIRST, entries: Tree::new() }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }

    /// Applies a command that is already decoded: [`StateMachine::apply`] without the bytes.
    pub fn execute(&mut self, command: Command, changes: &mut Changes) -> Reply {
        let answer = command.check().and_then(|()| match command {
            Command::Put(put) => self.single(Op::Put(put), changes),
            Command::DeleteRange(delete) => self.single(Op::DeleteRange(delete), changes),
            Command::Txn(txn) => edit::txn(self, txn, changes),
            Command::Query(query) => self.read(query, MAX_REPLY_BYTES).finish().answer,
        });
        Reply { revision: self.revision, answer }
    }

    /// Answers a query that is already decoded: [`StateView::query`] without the bytes.
    #[must_use]
    pub fn answer(&self, query: Query) -> Reply {
        self.read(query, usize::MAX).finish()
    }

    /// Begins to answer a query from the store as it is now. A reply of more than about
    /// `max_bytes` is refused with [`KvError::ReplyTooLarge`].
    #[must_use]
    pub fn read(&self, query: Query, max_bytes: usize) -> Reading {
        Reading::new(self.clone(), query, max_bytes)
    }

    fn single(&mut self, op: Op, changes: &mut Changes) -> Result<Answer, KvError> {
        edit::check_ops(self, std::slice::from_ref(&op))?;
        let answer = edit::atomically(self, changes, vec![op], |edit, ops| {
            ops.into_iter().map(|op| edit.op(op)).collect::<Result<Vec<_>, _>>()
        });
        let mut answers = answer?;
        Ok(Answer::Op(answers.pop().expect("one operation has one answer")))
    }

    /// Only the newest revision can be read.
    pub(crate) fn check_revision(&self, at: Option<Revision>) -> Result<(), KvError> {
        match at {
            Some(at) if at > self.revision => Err(KvError::FutureRevision),
            Some(at) if at > Revision(0) && at < self.revision => Err(KvError::HistoricRevision),
            _ => Ok(()),
        }
    }
}

impl StateMachine for KvStore {
    fn load(
        &mut self,
        entries: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), StateError> {
        (self.revision, self.entries) = stored::load(entries)?;
        Ok(())
    }

    fn apply(&mut self, _: Slot, command: &[u8], changes: &mut Changes) -> Bytes {
        let reply = match Command::decode(command) {
            Ok(command) => self.execute(command, changes),
            Err(malformed) => Reply { revision: self.revision, answer: Err(malformed.into()) },
        };
        reply.encode()
    }

    fn view(&self) -> Box<dyn StateView> {
        Box::new(self.clone())
    }
}

impl StateView for KvStore {
    fn query(&self, query: &[u8]) -> Bytes {
        let reply = match Query::decode(query) {
            Ok(query) => self.answer(query),
            Err(malformed) => Reply { revision: self.revision, answer: Err(malformed.into()) },
        };
        reply.encode()
    }
}
