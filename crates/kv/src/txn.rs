//! Atomic changes of the store: all operations of one request, at one revision.

use crate::entry::Entry;
use crate::range::{RangeCursor, RangeRead, ReplyBudget};
use crate::store::KvStore;
use crate::{
    Compare, CompareOperand, CompareRelation, DeleteRange, DeleteRangeAnswer, KvError,
    MAX_REPLY_BYTES, Op, OpAnswer, OpReply, Put, PutAnswer, ReplyBody, Revision, Txn, TxnAnswer,
    Version, encoding, range,
};
use bytes::Bytes;
use std::cmp::Ordering;
use synod_types::{Changes, SharedMap};

/// Writer of one request's changes. Preconditions are checked first ([`check_ops`]); only a reply that is
/// too large interrupts the changes, and then [`atomically`] undoes them.
pub(crate) struct TxnWriter<'a> {
    store: &'a mut KvStore,
    changes: &'a mut Changes,
    /// The revision that the request's changes get, if there are any.
    next: Revision,
    changed: bool,
    /// The remaining size of the reply.
    budget: ReplyBudget,
}

/// Applies checked operations of one request, all of them or none.
pub(crate) fn atomically<T>(
    store: &mut KvStore,
    changes: &mut Changes,
    ops: Vec<Op>,
    collect: impl FnOnce(&mut TxnWriter<'_>, Vec<Op>) -> Result<T, KvError>,
) -> Result<T, KvError> {
    // Only operations that return keys can make a reply too large. Other requests need no copy, which
    // costs a reference count, and then a copy of each changed node.
    let before = ops.iter().any(returns_keys).then(|| store.clone());
    let mut new_changes = Changes::new();
    let next = store.revision.next();
    let budget = ReplyBudget::new(MAX_REPLY_BYTES);
    let mut writer = TxnWriter { store, changes: &mut new_changes, next, changed: false, budget };
    let answer = collect(&mut writer, ops);
    writer.finish();
    match (&answer, before) {
        (Err(_), Some(before)) => *store = before,
        (Err(error), None) => unreachable!("a request that returns no keys failed: {error}"),
        (Ok(_), _) => changes.append(&mut new_changes),
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

impl TxnWriter<'_> {
    /// Applies a checked operation.
    pub(crate) fn op(&mut self, op: Op) -> Result<OpAnswer, KvError> {
        Ok(match op {
            Op::Put(put) => OpAnswer::Put(self.put(put)?),
            Op::DeleteRange(delete) => OpAnswer::DeleteRange(self.delete(&delete)?),
            Op::Range(range) => {
                let mut read = RangeRead::new(range);
                loop {
                    let entries = &self.store.entries;
                    if let Some(answer) = read.step(entries, usize::MAX, &mut self.budget)? {
                        break OpAnswer::Range(answer);
                    }
                }
            }
        })
    }

    /// Sets the new revision if anything changed.
    fn finish(self) {
        if self.changed {
            self.store.revision = self.next;
            self.changes.put(encoding::revision_key(), encoding::revision_value(self.next));
        }
    }

    /// Returns the revision after the operations so far.
    fn revision(&self) -> Revision {
        if self.changed { self.next } else { self.store.revision }
    }

    fn put(&mut self, put: Put) -> Result<PutAnswer, KvError> {
        let (key, next) = (put.key, self.next);
        let mut prev = None;
        if let Some(entry) = self.store.entries.get_mut(&key) {
            if put.prev_kv {
                let kv = range::key_value(&key, entry, false);
                self.budget.take(&kv)?;
                prev = Some(kv);
            }
            entry.value = put.value.unwrap_or_else(|| entry.value.clone());
            (entry.modified, entry.version) = (next, entry.version.next());
            self.changes.put(encoding::entry_key(&key), encoding::entry_value(entry));
        } else {
            let value = put.value.expect("a put without a value was checked to have an old one");
            let entry = Entry { value, created: next, modified: next, version: Version(1) };
            self.changes.put(encoding::entry_key(&key), encoding::entry_value(&entry));
            self.store.entries.insert(key, entry);
        }
        self.changed = true;
        Ok(PutAnswer { prev })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<DeleteRangeAnswer, KvError> {
        let found = range::entries_in(&self.store.entries, &delete.keys);
        let keys: Vec<Bytes> = found.map(|(key, _)| key.clone()).collect();
        let mut answer = DeleteRangeAnswer { deleted: keys.len() as u64, prev_kvs: Vec::new() };
        for key in keys {
            self.changes.delete(encoding::entry_key(&key));
            let entry = self.store.entries.remove(&key).expect("the key was just found");
            self.changed = true;
            if delete.prev_kv {
                let prev = range::key_value(&key, &entry, false);
                self.budget.take(&prev)?;
                answer.prev_kvs.push(prev);
            }
        }
        Ok(answer)
    }
}

/// Applies a transaction.
pub(crate) fn apply_txn(
    store: &mut KvStore,
    txn: Txn,
    changes: &mut Changes,
) -> Result<ReplyBody, KvError> {
    let succeeded = txn.compares.into_iter().all(|compare| holds(store, compare));
    let branch = if succeeded { txn.success } else { txn.failure };
    check_ops(store, &branch)?;
    let replies = atomically(store, changes, branch, |writer, branch| {
        let replies = branch.into_iter().map(|op| {
            let answer = writer.op(op)?;
            Ok(OpReply { revision: writer.revision(), answer })
        });
        replies.collect::<Result<_, KvError>>()
    })?;
    Ok(ReplyBody::Txn(TxnAnswer { succeeded, replies }))
}

/// Checks the preconditions that depend on the store. No branch writes a key twice, so that a
/// precondition that holds before the branch holds at each of its operations.
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
                // The state before the branch's own writes is history to a read after them.
                if wrote && range.revision.is_some_and(|at| at == store.revision) {
                    return Err(KvError::HistoricRevision);
                }
            }
        }
    }
    Ok(())
}

/// The evaluation of a compare, in bounded pieces.
#[derive(Debug)]
pub(crate) struct CompareEvaluation {
    relation: CompareRelation,
    operand: CompareOperand,
    cursor: RangeCursor,
    /// True if the range has a key.
    any: bool,
}

impl CompareEvaluation {
    pub(crate) fn new(compare: Compare) -> Self {
        let Compare { keys, relation, operand } = compare;
        Self { relation, operand, cursor: RangeCursor::new(keys), any: false }
    }

    /// Compares at most `most` keys, and returns the result once it is certain.
    pub(crate) fn step(&mut self, entries: &SharedMap<Entry>, most: usize) -> Option<bool> {
        let Self { relation, operand, cursor, any } = self;
        let mut all = true;
        let more = cursor.advance(entries, most, |_, entry| {
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
    let mut evaluation = CompareEvaluation::new(compare);
    loop {
        if let Some(holds) = evaluation.step(&store.entries, usize::MAX) {
            return holds;
        }
    }
}

fn compare(entry: &Entry, operand: &CompareOperand) -> Ordering {
    match operand {
        CompareOperand::Version(version) => entry.version.cmp(version),
        CompareOperand::Created(revision) => entry.created.cmp(revision),
        CompareOperand::Modified(revision) => entry.modified.cmp(revision),
        CompareOperand::Value(value) => entry.value.cmp(value),
    }
}

/// Returns the result of a compare of a range without keys.
fn without_keys(relation: CompareRelation, operand: &CompareOperand) -> bool {
    let ordering = match operand {
        CompareOperand::Version(version) => Version(0).cmp(version),
        CompareOperand::Created(revision) | CompareOperand::Modified(revision) => {
            Revision(0).cmp(revision)
        }
        // A missing value is not an empty value: the compare fails.
        CompareOperand::Value(_) => return false,
    };
    relates(relation, ordering)
}

fn relates(relation: CompareRelation, ordering: Ordering) -> bool {
    match relation {
        CompareRelation::Equal => ordering.is_eq(),
        CompareRelation::NotEqual => ordering.is_ne(),
        CompareRelation::Less => ordering.is_lt(),
        CompareRelation::Greater => ordering.is_gt(),
    }
}
