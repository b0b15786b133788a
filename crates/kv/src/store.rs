//! The state machine.

use crate::edit::{self, Edit};
use crate::{
    Answer, Command, KvError, Op, OpAnswer, Query, Range, Reply, Revision, Version, select, stored,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use synod_consensus::{StateError, StateMachine};
use synod_types::{Changes, Slot};

/// The key-value store: every key in memory, in order, and one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvStore {
    pub(crate) revision: Revision,
    pub(crate) entries: BTreeMap<Bytes, Entry>,
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
        Self { revision: Revision::FIRST, entries: BTreeMap::new() }
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
        self.entries.is_empty()
    }

    /// Applies a command that is already decoded: [`StateMachine::apply`] without the bytes.
    pub fn execute(&mut self, command: Command, changes: &mut Changes) -> Reply {
        let answer = command.check().and_then(|()| match command {
            Command::Put(put) => self.single(Op::Put(put), changes),
            Command::DeleteRange(delete) => self.single(Op::DeleteRange(delete), changes),
            Command::Txn(txn) => edit::txn(self, txn, changes),
            Command::Query(query) => self.read(query),
        });
        Reply { revision: self.revision, answer }
    }

    /// Answers a query that is already decoded: [`StateMachine::query`] without the bytes.
    #[must_use]
    pub fn answer(&self, query: Query) -> Reply {
        let answer = query.check().and_then(|()| self.read(query));
        Reply { revision: self.revision, answer }
    }

    fn single(&mut self, op: Op, changes: &mut Changes) -> Result<Answer, KvError> {
        edit::check_ops(self, std::slice::from_ref(&op))?;
        let mut edit = Edit::new(self, changes);
        let answer = edit.op(op);
        edit.finish();
        Ok(Answer::Op(answer))
    }

    fn read(&self, query: Query) -> Result<Answer, KvError> {
        match query {
            Query::Range(range) => self.range(&range),
            Query::Txn(txn) => edit::read_txn(self, txn),
            Query::Revision => Ok(Answer::Revision),
        }
    }

    fn range(&self, range: &Range) -> Result<Answer, KvError> {
        self.check_revision(range.revision)?;
        Ok(Answer::Op(OpAnswer::Range(select::select(&self.entries, range))))
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

    fn query(&self, query: &[u8]) -> Bytes {
        let reply = match Query::decode(query) {
            Ok(query) => self.answer(query),
            Err(malformed) => Reply { revision: self.revision, answer: Err(malformed.into()) },
        };
        reply.encode()
    }
}
