//! Atomic changes of the store: all operations of one request at one revision.

use crate::entry::Entry;
use crate::range::{RangeCursor, RangeRead, ReplyBudget};
use crate::store::KvStore;
use crate::{
    Compare, CompareOperand, CompareRelation, DeleteRange, DeleteRangeResult, KvError,
    MAX_REPLY_BYTES, Op, OpReply, OpResult, Put, PutResult, ReplyBody, Revision, Txn, TxnResult,
    Version, encoding, range,
};
use bytes::Bytes;
use std::cmp::Ordering;
use synod_types::{Changes, SharedMap};

/// Writer of one request's changes. Preconditions are checked before ([`check_ops`]), so that an operation
/// can fail only because the reply is too large. Then [`atomically`] restores the store.
pub(crate) struct TxnWriter<'a> {
    store: &'a mut KvStore,
    changes: &'a mut Changes,
    /// Revision of the request's changes, if it makes any.
    next: Revision,
    changed: bool,
    /// Remaining size of the reply.
    budget: ReplyBudget,
}

/// Applies all checked operations of one request, or none if one fails.
pub(crate) fn atomically<T>(
    store: &mut KvStore,
    changes: &mut Changes,
    ops: Vec<Op>,
    collect: impl FnOnce(&mut TxnWriter<'_>, Vec<Op>) -> Result<T, KvError>,
) -> Result<T, KvError> {
    // Only operations that return keys can make a reply too large. Other requests avoid the clone, which
    // shares all nodes, so that each changed node must be copied.
    let before = ops.iter().any(returns_keys).then(|| store.clone());
    // Separate changes, which are dropped if an operation fails.
    let mut new_changes = Changes::new();
    let next = store.revision.next();
    let budget = ReplyBudget::new(MAX_REPLY_BYTES);
    let mut writer = TxnWriter { store, changes: &mut new_changes, next, changed: false, budget };
    let result = collect(&mut writer, ops);
    writer.finish();
    match (&result, before) {
        (Err(_), Some(before)) => *store = before,
        (Err(error), None) => unreachable!("a request that returns no keys failed: {error}"),
        (Ok(_), _) => changes.append(&mut new_changes),
    }
    result
}

/// Returns whether the reply to an operation contains keys.
fn returns_keys(op: &Op) -> bool {
    match op {
        Op::Put(put) => put.prev_kv,
        Op::DeleteRange(delete) => delete.prev_kv,
        Op::Range(_) => true,
    }
}

impl TxnWriter<'_> {
    /// Applies a checked operation.
    pub(crate) fn op(&mut self, op: Op) -> Result<OpResult, KvError> {
        Ok(match op {
            Op::Put(put) => OpResult::Put(self.put(put)?),
            Op::DeleteRange(delete) => OpResult::DeleteRange(self.delete(&delete)?),
            Op::Range(range) => {
                let mut read = RangeRead::new(range);
                loop {
                    let entries = &self.store.entries;
                    if let Some(result) = read.step(entries, usize::MAX, &mut self.budget)? {
                        break OpResult::Range(result);
                    }
                }
            }
        })
    }

    /// Sets the new revision if a key changed.
    fn finish(self) {
        if self.changed {
            self.store.revision = self.next;
            // In the same batch as the keys, so that a loaded state never has keys above its revision.
            self.changes.put(encoding::revision_key(), encoding::revision_value(self.next));
        }
    }

    /// Returns the revision after the operations so far.
    fn revision(&self) -> Revision {
        if self.changed { self.next } else { self.store.revision }
    }

    fn put(&mut self, put: Put) -> Result<PutResult, KvError> {
        let (key, next) = (put.key, self.next);
        let mut prev = None;
        if let Some(entry) = self.store.entries.get_mut(&key) {
            if put.prev_kv {
                let kv = range::key_value(&key, entry, false);
                self.budget.take(&kv)?;
                prev = Some(kv);
            }
            // The create revision stays, as in etcd.
            entry.value = put.value.unwrap_or_else(|| entry.value.clone());
            (entry.modified, entry.version) = (next, entry.version.next());
            self.changes.put(encoding::entry_key(&key), encoding::entry_value(entry));
        } else {
            let value = put.value.expect("`check_ops` rejects a put without a value for a new key");
            let entry = Entry { value, created: next, modified: next, version: Version(1) };
            self.changes.put(encoding::entry_key(&key), encoding::entry_value(&entry));
            self.store.entries.insert(key, entry);
        }
        self.changed = true;
        Ok(PutResult { prev })
    }

    fn delete(&mut self, delete: &DeleteRange) -> Result<DeleteRangeResult, KvError> {
        // The keys are collected first, because a removal changes the tree.
        let found = range::entries_in(&self.store.entries, &delete.keys);
        let keys: Vec<Bytes> = found.map(|(key, _)| key.clone()).collect();
        let mut result = DeleteRangeResult { deleted: keys.len() as u64, prev_kvs: Vec::new() };
        for key in keys {
            self.changes.delete(encoding::entry_key(&key));
            let entry = self.store.entries.remove(&key).expect("the key was just found");
            self.changed = true;
            if delete.prev_kv {
                let prev = range::key_value(&key, &entry, false);
                self.budget.take(&prev)?;
                result.prev_kvs.push(prev);
            }
        }
        Ok(result)
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
    // Only the executed branch: the preconditions of the other one do not matter.
    check_ops(store, &branch)?;
    let replies = atomically(store, changes, branch, |writer, branch| {
        let replies = branch.into_iter().map(|op| {
            let result = writer.op(op)?;
            Ok(OpReply { revision: writer.revision(), result })
        });
        replies.collect::<Result<_, KvError>>()
    })?;
    Ok(ReplyBody::Txn(TxnResult { succeeded, replies }))
}

/// Checks the preconditions that depend on the store, before any operation is applied. This is sufficient:
/// no branch writes a key twice, so no operation changes the precondition of a later one.
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
                // After a write of the same branch the store's old revision is history.
                if wrote && range.revision.is_some_and(|at| at == store.revision) {
                    return Err(KvError::HistoricRevision);
                }
            }
        }
    }
    Ok(())
}

/// Evaluation of a compare in bounded pieces.
#[derive(Debug)]
pub(crate) struct CompareEvaluation {
    relation: CompareRelation,
    operand: CompareOperand,
    cursor: RangeCursor,
    /// True if the range has at least one key.
    any: bool,
}

impl CompareEvaluation {
    pub(crate) fn new(compare: Compare) -> Self {
        let Compare { keys, relation, operand } = compare;
        Self { relation, operand, cursor: RangeCursor::new(keys), any: false }
    }

    /// Compares at most `most` keys. Returns the result when it is known.
    pub(crate) fn step(&mut self, entries: &SharedMap<Entry>, most: usize) -> Option<bool> {
        let Self { relation, operand, cursor, any } = self;
        let mut all = true;
        let more = cursor.advance(entries, most, |_, entry| {
            *any = true;
            all = relates(*relation, compare(entry, operand));
            // The first key that fails decides.
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
    // One piece of unlimited size suffices; the loop only satisfies the types.
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
        // A missing value is not an empty one: as in etcd the compare fails.
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
