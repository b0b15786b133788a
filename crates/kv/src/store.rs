//! The key-value state machine.

use crate::entry::Entry;
use crate::{
    Command, KvError, MAX_REPLY_BYTES, Op, Query, QueryCursor, Reply, ReplyBody, Revision,
    encoding, txn,
};
use bytes::Bytes;
use synod_consensus::{Output, StateError, StateMachine, StateReader, StateView};
use synod_types::{Changes, SharedMap, Slot};

/// Key-value state machine: an ordered map in memory, with one revision.
///
/// A clone is a consistent view. It shares the keys with the store, costs one reference count, and does not
/// change when the store changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvStore {
    pub(crate) revision: Revision,
    pub(crate) entries: SharedMap<Entry>,
}

impl Default for KvStore {
    fn default() -> Self {
        Self::new()
    }
}

impl KvStore {
    /// Creates an empty store at revision 1.
    #[must_use]
    pub fn new() -> Self {
        Self { revision: Revision::FIRST, entries: SharedMap::new() }
    }

    /// Returns the newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns the number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the store has no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Applies a decoded command, and appends its changes of the stored state to `changes`.
    pub fn execute(&mut self, command: Command, changes: &mut Changes) -> Reply {
        // Checked here, too: the log may contain commands from a node that did not check them.
        let result = command.check().and_then(|()| match command {
            Command::Put(put) => self.apply_op(Op::Put(put), changes),
            Command::DeleteRange(delete) => self.apply_op(Op::DeleteRange(delete), changes),
            Command::Txn(txn) => txn::apply_txn(self, txn, changes),
            Command::Query(query) => self.read(query, MAX_REPLY_BYTES).finish().result,
        });
        Reply { revision: self.revision, result }
    }

    /// Executes a decoded query, without a limit on its reply.
    #[must_use]
    pub fn execute_query(&self, query: Query) -> Reply {
        self.read(query, usize::MAX).finish()
    }

    /// Starts a query on a view of the store. The query fails with [`KvError::ReplyTooLarge`] if its reply
    /// exceeds about `max_bytes`.
    #[must_use]
    pub fn read(&self, query: Query, max_bytes: usize) -> QueryCursor {
        QueryCursor::new(self.clone(), query, max_bytes)
    }

    fn apply_op(&mut self, op: Op, changes: &mut Changes) -> Result<ReplyBody, KvError> {
        // As a branch of one operation, so that both kinds of commands share the checks and the undo.
        txn::check_ops(self, std::slice::from_ref(&op))?;
        let result = txn::atomically(self, changes, vec![op], |writer, ops| {
            ops.into_iter().map(|op| writer.op(op)).collect::<Result<Vec<_>, _>>()
        });
        let mut results = result?;
        Ok(ReplyBody::Op(results.pop().expect("one operation has one result")))
    }

    /// Checks the revision of a read. The store has no history, so only the newest revision is readable.
    pub(crate) fn check_revision(&self, at: Option<Revision>) -> Result<(), KvError> {
        match at {
            // In etcd's API 0 and below mean the newest revision.
            Some(at) if at > self.revision => Err(KvError::FutureRevision),
            Some(at) if at > Revision(0) && at < self.revision => Err(KvError::HistoricRevision),
            _ => Ok(()),
        }
    }
}

impl StateMachine for KvStore {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        // Assigned only after all entries have passed the checks: a failed load changes nothing.
        (self.revision, self.entries) = encoding::load(state.range(&[], None))?;
        Ok(())
    }

    fn apply(
        &mut self,
        _: Slot,
        command: &[u8],
        _: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        // A malformed command is not an error of the state machine: every node returns the same reply.
        let reply = match Command::decode(command) {
            Ok(command) => self.execute(command, &mut output.changes),
            Err(malformed) => Reply { revision: self.revision, result: Err(malformed.into()) },
        };
        Ok(reply.encode())
    }

    fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(self.clone()))
    }
}

impl StateReader for KvStore {
    fn query(&self, query: &[u8]) -> Result<Bytes, StateError> {
        let reply = match Query::decode(query) {
            Ok(query) => self.execute_query(query),
            Err(malformed) => Reply { revision: self.revision, result: Err(malformed.into()) },
        };
        Ok(reply.encode())
    }
}
