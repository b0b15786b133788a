//! Changing the store: everything that one request does, at one revision.

use crate::select::{Room, Selection, Walk};
use crate::store::{Entry, KvStore};
use crate::tree::Tree;
use crate::{
    Answer, Compare, DeleteRange, DeleteRangeAnswer, KvError, MAX_REPLY_BYTES, Op, OpAnswer,
    OpReply, Operand, Put, PutAnswer, Relation, Revision, Txn, TxnAnswer, Version, select, stored,
};
use bytes::Bytes;
use std::cmp::Ordering;
use synod_types::Changes;

/// One request's changes. What depends on the store is checked first ([`check_ops`]); only a reply
/// that becomes too large ends an edit half-way, and then [`atomically`] undoes it.
pub(crate) struct Edit<'a> {
    store: &'a mut KvStore,
    changes: &'a mut Changes,
    /// The revision that the request's changes get, if there are any.
    next: Revision,
    changed: bool,
    /// What the reply may still hold.
    room: Room,
}

/// Carries out checked operations of one request, all of them or none.
pub(crate) fn atomically<T>(
    store: &mut KvStore,
    changes: &mut Changes,
    ops: Vec<Op>,
    collect: impl FnOnce(&mut Edit<'_>, Vec<Op>) -> Result<T, KvError>,
) -> Result<T, KvError> {
    // Only what reads can make a reply too large. Other requests are spared the copy: it costs a
    // reference count, but then each changed node has to be copied.
    let before = ops.iter().any(returns_keys).then(|| store.clone());
    let mut own = Changes::new();
    let next = store.revision.next();
    let room = Room::new(MAX_REPLY_BYTES);
    let mut edit = Edit { store, changes: &mut own, next, changed: false, room };
    let answer = collect(&mut edit, ops);
    edit.finish();
    match (&answer, before) {
        (Err(_), Some(before)) => *store = before,
        (Err(error), None) => unreachable!("a request that returns no keys failed: {error}"),
        (Ok(_), _) => changes.append(&mut own),
    }
    answer
}

/// Returns whether the reply to an operation holds keys.
fn returns_keys(op: &Op) -> bool {
    match op {
        Op::Put(put) => put.prev_kv,
        Op::DeleteRange(delete) => delete.prev_kv,
        Op::Range(_) => true,
    }
}

impl Edit<'_> {
    /// Does a checked operation.
    pub(crate) fn op(&mut self, op: Op) -> Result<OpAnswer, KvError> {
        Ok(match op {
            Op::Put(put) => OpAnswer::Put(self.put(put)?),
            Op::DeleteRange(delete) => OpAnswer::DeleteRange(self.delete(&delete)?),
            Op::Range(range) => {
                let mut selection = Selection::new(range);
                loop {
                    let entries = &self.store.entries;
                    if let Some(answer) = selection.step(entries, usize::MAX, &mut self.room)? {
                        break OpAnswer::Range(answer);
                    }
                }
            }
        })
    }

    /// Moves the store to the new revision if anything changed.
    fn finish(self) {
        if self.changed {
            self.store.revision = self.next;
            self.changes.put(stored::revision_key(), stored::revision_value(self.next));
        }
    }

    /// The revision up to here.
    fn revision(&self) -> Revision {
        if self.changed { self.next } else { self.store.revision }
    }

    fn put(&mut self, put: Put) -> Result<PutAnswer, KvError> {
        let (key, next) = (put.key, self.next);
        let mut prev = None;
        if let Some(entry) = self.store.entries.get_mut(&key) {
            if put.prev_kv {
                let kv = select::key_value(&key, entry, false);
                self.room.take(&kv)?;
                prev = Some(kv);
            }
            entry.value = put.value.unwrap_or_else(|| entry.value.clone());
            (entry.modified, entry.version) = (next, entry.version.next());
            self.changes.put(stored::entry_key(&key), stored::entry_value(entry));
        } else {
            let value = put.value.expect("a put without a value was checked to have an old one");
            let entry = Entry { value, created: next, modified: next, version: Version(1) };
            self.changes.put(stored::entry_key(&key), stored::entry_value(&entry));
            self.store.entries.insert(key, entry);
        }
        self.changed = true;
        Ok(PutAnswer { prev })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<DeleteRangeAnswer, KvError> {
        let found = select::within(&self.store.entries, &delete.keys);
        let keys: Vec<Bytes> = found.map(|(key, _)| key.clone()).collect();
        let mut answer = DeleteRangeAnswer { deleted: keys.len() as u64, prev_kvs: Vec::new() };
        for key in keys {
            self.changes.delete(stored::entry_key(&key));
            let entry = self.store.entries.remove(&key).expect("the key was just found");
            self.changed = true;
            if delete.prev_kv {
                let prev = select::key_value(&key, &entry, false);
                self.room.take(&prev)?;
                answer.prev_kvs.push(prev);
            }
        }
        Ok(answer)
    }
}

/// Carries out a transaction.
pub(crate) fn txn(store: &mut KvStore, txn: Txn, changes: &mut Changes) -> Result<Answer, KvError> {
    let succeeded = txn.compares.into_iter().all(|compare| holds(store, compare));
    let branch = if succeeded { txn.success } else { txn.failure };
    check_ops(store, &branch)?;
    let replies = atomically(store, changes, branch, |edit, branch| {
        let replies = branch.into_iter().map(|op| {
            let answer = edit.op(op)?;
            Ok(OpReply { revision: edit.revision(), answer })
        });
        replies.collect::<Result<_, KvError>>()
    })?;
    Ok(Answer::Txn(TxnAnswer { succeeded, replies }))
}

/// Checks what depends on the store. As no branch writes a key twice, what holds before the
/// branch holds at each of its operations.
pub(crate) fn check_ops(store: &KvStore, ops: &[Op]) -> Result<(), KvError> {
    let mut wrote = false;
    for op in ops {
        match op {
            Op::Put(Put { key, value: None, .. }) if store.entries.get(key).is_none() => {
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

/// The evaluation of a compare, piece by piece.
#[derive(Debug)]
pub(crate) struct Comparison {
    relation: Relation,
    operand: Operand,
    walk: Walk,
    /// Whether there was a key.
    any: bool,
}

impl Comparison {
    pub(crate) fn new(compare: Compare) -> Self {
        let Compare { keys, relation, operand } = compare;
        Self { relation, operand, walk: Walk::new(keys), any: false }
    }

    /// Walks on over at most `most` keys; returns the outcome if it is known then.
    pub(crate) fn step(&mut self, entries: &Tree<Entry>, most: usize) -> Option<bool> {
        let Self { relation, operand, walk, any } = self;
        let mut all = true;
        let more = walk.go(entries, most, |_, entry| {
            *any = true;
            all = relates(*relation, compare(entry, operand));
            Ok(all)
        });
        match more {
            Ok(true) => None,
            _ if *any => Some(all),
            _ => Some(without_keys(*relation, operand)),
        }
    }
}

fn holds(store: &KvStore, compare: Compare) -> bool {
    let mut comparison = Comparison::new(compare);
    loop {
        if let Some(holds) = comparison.step(&store.entries, usize::MAX) {
            return holds;
        }
    }
}

fn compare(entry: &Entry, operand: &Operand) -> Ordering {
    match operand {
        Operand::Version(version) => entry.version.cmp(version),
        Operand::Created(revision) => entry.created.cmp(revision),
        Operand::Modified(revision) => entry.modified.cmp(revision),
        Operand::Value(value) => entry.value.cmp(value),
    }
}

/// The outcome of a compare of which there is no key.
fn without_keys(relation: Relation, operand: &Operand) -> bool {
    let ordering = match operand {
        Operand::Version(version) => Version(0).cmp(version),
        Operand::Created(revision) | Operand::Modified(revision) => Revision(0).cmp(revision),
        // No value is not an empty value: there is nothing to compare.
        Operand::Value(_) => return false,
    };
    relates(relation, ordering)
}

fn relates(relation: Relation, ordering: Ordering) -> bool {
    match relation {
        Relation::Equal => ordering.is_eq(),
        Relation::NotEqual => ordering.is_ne(),
        Relation::Less => ordering.is_lt(),
        Relation::Greater => ordering.is_gt(),
    }
}
