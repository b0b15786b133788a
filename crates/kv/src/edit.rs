//! Changing the store: everything that one request does, at one revision.

use crate::store::{Entry, KvStore};
use crate::{
    Answer, Compare, DeleteRange, DeleteRangeAnswer, KvError, Op, OpAnswer, OpReply, Operand, Put,
    PutAnswer, Relation, Revision, Txn, TxnAnswer, Version, select, stored,
};
use bytes::Bytes;
use std::cmp::Ordering;
use synod_types::Changes;

/// One request's changes. The checks come first ([`check_ops`], [`KvStore::check_revision`]), so
/// that carrying it out cannot fail half-way.
pub(crate) struct Edit<'a> {
    store: &'a mut KvStore,
    changes: &'a mut Changes,
    /// The revision that the request's changes get, if there are any.
    next: Revision,
    changed: bool,
}

impl<'a> Edit<'a> {
    pub(crate) fn new(store: &'a mut KvStore, changes: &'a mut Changes) -> Self {
        let next = store.revision.next();
        Self { store, changes, next, changed: false }
    }

    /// Does a checked operation.
    pub(crate) fn op(&mut self, op: Op) -> OpAnswer {
        match op {
            Op::Put(put) => OpAnswer::Put(self.put(put)),
            Op::DeleteRange(delete) => OpAnswer::DeleteRange(self.delete(&delete)),
            Op::Range(range) => OpAnswer::Range(select::select(&self.store.entries, &range)),
        }
    }

    /// Moves the store to the new revision if anything changed.
    pub(crate) fn finish(self) {
        if self.changed {
            self.store.revision = self.next;
            self.changes.put(stored::revision_key(), stored::revision_value(self.next));
        }
    }

    /// The revision up to here.
    fn revision(&self) -> Revision {
        if self.changed { self.next } else { self.store.revision }
    }

    fn put(&mut self, put: Put) -> PutAnswer {
        let old = self.store.entries.get(&put.key);
        let prev =
            old.filter(|_| put.prev_kv).map(|entry| select::key_value(&put.key, entry, false));
        let value = put.value.or_else(|| old.map(|entry| entry.value.clone()));
        let entry = Entry {
            value: value.expect("a put without a value was checked to have an old one"),
            created: old.map_or(self.next, |entry| entry.created),
            modified: self.next,
            version: old.map_or(Version(1), |entry| entry.version.next()),
        };
        self.changes.put(stored::entry_key(&put.key), stored::entry_value(&entry));
        self.store.entries.insert(put.key, entry);
        self.changed = true;
        PutAnswer { prev }
    }

    fn delete(&mut self, delete: &DeleteRange) -> DeleteRangeAnswer {
        let found = select::within(&self.store.entries, &delete.keys);
        let keys: Vec<Bytes> = found.map(|(key, _)| key.clone()).collect();
        let mut answer = DeleteRangeAnswer { deleted: keys.len() as u64, prev_kvs: Vec::new() };
        for key in keys {
            self.changes.delete(stored::entry_key(&key));
            let entry = self.store.entries.remove(&key).expect("the key was just found");
            if delete.prev_kv {
                answer.prev_kvs.push(select::key_value(&key, &entry, false));
            }
            self.changed = true;
        }
        answer
    }
}

/// Carries out a transaction.
pub(crate) fn txn(store: &mut KvStore, txn: Txn, changes: &mut Changes) -> Result<Answer, KvError> {
    let (succeeded, branch) = choose(store, txn);
    check_ops(store, &branch)?;
    let mut edit = Edit::new(store, changes);
    let replies = branch.into_iter().map(|op| {
        let answer = edit.op(op);
        OpReply { revision: edit.revision(), answer }
    });
    let replies = replies.collect();
    edit.finish();
    Ok(Answer::Txn(TxnAnswer { succeeded, replies }))
}

/// Answers a transaction that only reads.
pub(crate) fn read_txn(store: &KvStore, txn: Txn) -> Result<Answer, KvError> {
    let (succeeded, branch) = choose(store, txn);
    check_ops(store, &branch)?;
    let read = |op| match op {
        Op::Range(range) => {
            let answer = OpAnswer::Range(select::select(&store.entries, &range));
            Ok(OpReply { revision: store.revision, answer })
        }
        Op::Put(_) | Op::DeleteRange(_) => Err(KvError::NotReadOnly),
    };
    let replies = branch.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Answer::Txn(TxnAnswer { succeeded, replies }))
}

/// Checks what depends on the store. As no branch writes a key twice, what holds before the
/// branch holds at each of its operations.
pub(crate) fn check_ops(store: &KvStore, ops: &[Op]) -> Result<(), KvError> {
    let mut wrote = false;
    for op in ops {
        match op {
            Op::Put(Put { key, value: None, .. }) if !store.entries.contains_key(key) => {
                return Err(KvError::KeyNotFound);
            }
            Op::Put(_) | Op::DeleteRange(_) => wrote = true,
            Op::Range(range) => {
                store.check_revision(range.revision)?;
                // What stood before the branch's own writes is history to a read behind them.
                if wrote && range.revision.is_some_and(|at| at == store.revision) {
                    return Err(KvError::HistoricRevision);
                }
            }
        }
    }
    Ok(())
}

fn choose(store: &KvStore, txn: Txn) -> (bool, Vec<Op>) {
    let succeeded = txn.compares.iter().all(|compare| holds(store, compare));
    (succeeded, if succeeded { txn.success } else { txn.failure })
}

fn holds(store: &KvStore, compare: &Compare) -> bool {
    let mut entries = select::within(&store.entries, &compare.keys).peekable();
    if entries.peek().is_none() {
        let ordering = match &compare.operand {
            Operand::Version(version) => Version(0).cmp(version),
            Operand::Created(revision) | Operand::Modified(revision) => Revision(0).cmp(revision),
            // No value is not an empty value: there is nothing to compare.
            Operand::Value(_) => return false,
        };
        return relates(compare.relation, ordering);
    }
    entries.all(|(_, entry)| {
        let ordering = match &compare.operand {
            Operand::Version(version) => entry.version.cmp(version),
            Operand::Created(revision) => entry.created.cmp(revision),
            Operand::Modified(revision) => entry.modified.cmp(revision),
            Operand::Value(value) => entry.value.cmp(value),
        };
        relates(compare.relation, ordering)
    })
}

fn relates(relation: Relation, ordering: Ordering) -> bool {
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::Greater => ordering.is_gt(),
    }
}
