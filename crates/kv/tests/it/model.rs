//! Reference model: an unordered list of keys, with linear searches and a full copy for each command. The
//! store must return the same reply for any history of commands.

use crate::strategy;
use proptest::prelude::*;
use synod_kv::{
    Command, Compare, CompareOperand, CompareRelation, DeleteRange, DeleteRangeResult, KeyRange,
    KeyValue, KvError, KvStore, MAX_TXN_OPS, Op, OpReply, OpResult, Put, PutResult, Query, Range,
    RangeResult, Reply, ReplyBody, Revision, SortBy, SortDirection, Txn, TxnResult, Version,
};
use synod_types::Changes;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn store_equals_the_model_for_any_history(commands in strategy::commands(1..40)) {
        let (mut store, mut model) = (KvStore::new(), Model::new());
        for command in commands {
            let mut changes = Changes::new();
            let before = store.revision();
            let reply = store.execute(command.clone(), &mut changes);
            prop_assert_eq!(&reply, &model.execute(command.clone()), "{:?}", &command);
            let moved = store.revision() != before;
            prop_assert_eq!(changes.is_empty(), !moved, "{:?}", &command);
            if let Command::Query(query) = command {
                prop_assert_eq!(&store.execute_query(query), &reply, "a query and its logged form differ");
            }
        }
        let all = Query::Range(Range::new(KeyRange::all()));
        prop_assert_eq!(store.execute_query(all.clone()), model.execute(Command::Query(all)));
    }
}

#[derive(Clone)]
struct Model {
    revision: i64,
    kvs: Vec<KeyValue>,
}

impl Model {
    fn new() -> Self {
        Self { revision: 1, kvs: Vec::new() }
    }

    fn execute(&mut self, command: Command) -> Reply {
        let mut after = self.clone();
        let (txn, single) = match command {
            Command::Put(put) => (one(Op::Put(put)), true),
            Command::DeleteRange(delete) => (one(Op::DeleteRange(delete)), true),
            Command::Query(Query::Range(range)) => (one(Op::Range(range)), true),
            Command::Query(Query::Revision) => return self.reply(Ok(ReplyBody::Revision)),
            Command::Query(Query::Txn(txn)) => {
                let mut ops = txn.success.iter().chain(&txn.failure);
                if ops.any(|op| !matches!(op, Op::Range(_))) {
                    return self.reply(Err(KvError::NotReadOnly));
                }
                (txn, false)
            }
            Command::Txn(txn) => (txn, false),
        };
        match after.txn(txn) {
            Err(error) => self.reply(Err(error)),
            Ok(result) => {
                *self = after;
                let alone = |mut replies: Vec<OpReply>| ReplyBody::Op(replies.remove(0).result);
                self.reply(Ok(if single { alone(result.replies) } else { ReplyBody::Txn(result) }))
            }
        }
    }

    fn reply(&self, result: Result<ReplyBody, KvError>) -> Reply {
        Reply { revision: Revision(self.revision), result }
    }

    fn txn(&mut self, txn: Txn) -> Result<TxnResult, KvError> {
        check(&txn)?;
        let succeeded = txn.compares.iter().all(|compare| self.holds(compare));
        let branch = if succeeded { txn.success } else { txn.failure };
        // A delete of no keys is a write for later reads of the branch, but changes nothing.
        let (start, mut changed, mut wrote) = (self.revision, false, false);
        let mut replies = Vec::new();
        for op in branch {
            let result = match op {
                Op::Put(put) => {
                    (changed, wrote) = (true, true);
                    OpResult::Put(self.put(put, start + 1)?)
                }
                Op::DeleteRange(delete) => {
                    wrote = true;
                    let result = self.delete(&delete);
                    changed |= result.deleted > 0;
                    OpResult::DeleteRange(result)
                }
                Op::Range(range) => {
                    let at = range.revision.map_or(0, |revision| revision.0);
                    if at > start {
                        return Err(KvError::FutureRevision);
                    }
                    if at > 0 && (at < start || wrote) {
                        return Err(KvError::HistoricRevision);
                    }
                    OpResult::Range(self.range(&range))
                }
            };
            replies.push(OpReply { revision: Revision(start + i64::from(changed)), result });
        }
        self.revision = start + i64::from(changed);
        Ok(TxnResult { succeeded, replies })
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.within(&compare.keys);
        let number = |is: i64, with: i64| match compare.relation {
            CompareRelation::Equal => is == with,
            CompareRelation::NotEqual => is != with,
            CompareRelation::Less => is < with,
            CompareRelation::Greater => is > with,
        };
        let fields =
            |version: Version, created: Revision, modified: Revision| match &compare.operand {
                CompareOperand::Version(with) => Some(number(version.0, with.0)),
                CompareOperand::Created(with) => Some(number(created.0, with.0)),
                CompareOperand::Modified(with) => Some(number(modified.0, with.0)),
                CompareOperand::Value(_) => None,
            };
        if found.is_empty() {
            return fields(Version(0), Revision(0), Revision(0)).unwrap_or(false);
        }
        found.iter().all(|kv| {
            fields(kv.version, kv.create_revision, kv.mod_revision).unwrap_or_else(|| {
                let CompareOperand::Value(with) = &compare.operand else { unreachable!() };
                match compare.relation {
                    CompareRelation::Equal => kv.value == with,
                    CompareRelation::NotEqual => kv.value != with,
                    CompareRelation::Less => kv.value < with,
                    CompareRelation::Greater => kv.value > with,
                }
            })
        })
    }

    fn put(&mut self, put: Put, revision: i64) -> Result<PutResult, KvError> {
        let old = self.kvs.iter().position(|kv| kv.key == put.key).map(|at| self.kvs.remove(at));
        let value = match (put.value, &old) {
            (Some(value), _) => value,
            (None, Some(old)) => old.value.clone(),
            (None, None) => return Err(KvError::KeyNotFound),
        };
        self.kvs.push(KeyValue {
            key: put.key,
            value,
            create_revision: old.as_ref().map_or(Revision(revision), |old| old.create_revision),
            mod_revision: Revision(revision),
            version: Version(old.as_ref().map_or(0, |old| old.version.0) + 1),
        });
        Ok(PutResult { prev: old.filter(|_| put.prev_kv) })
    }

    fn delete(&mut self, delete: &DeleteRange) -> DeleteRangeResult {
        let removed = self.within(&delete.keys);
        self.kvs.retain(|kv| !removed.contains(kv));
        let deleted = removed.len() as u64;
        DeleteRangeResult { deleted, prev_kvs: if delete.prev_kv { removed } else { Vec::new() } }
    }

    fn range(&self, range: &Range) -> RangeResult {
        let mut kvs = self.within(&range.keys);
        let count = kvs.len() as u64;
        if range.count_only {
            return RangeResult { kvs: Vec::new(), more: false, count };
        }
        if let Some(min) = range.min_mod_revision {
            kvs.retain(|kv| kv.mod_revision >= min);
        }
        if let Some(max) = range.max_mod_revision {
            kvs.retain(|kv| kv.mod_revision <= max);
        }
        if let Some(min) = range.min_create_revision {
            kvs.retain(|kv| kv.create_revision >= min);
        }
        if let Some(max) = range.max_create_revision {
            kvs.retain(|kv| kv.create_revision <= max);
        }
        if let Some(sort) = range.sort {
            let filters = [
                range.min_mod_revision,
                range.max_mod_revision,
                range.min_create_revision,
                range.max_create_revision,
            ];
            let unfiltered = filters.iter().all(Option::is_none) && range.limit > 0;
            if sort.order == SortDirection::AscendingWithinLimit && unfiltered {
                kvs.truncate(usize::try_from(range.limit).unwrap().saturating_add(1));
            }
            // A stable sort keeps equal entries in the order of their keys. For a descending order the list
            // is reversed before and after the sort, which keeps that order, too.
            if sort.order == SortDirection::Descending {
                kvs.reverse();
            }
            match sort.by {
                SortBy::Key => kvs.sort_by_key(|kv| kv.key.clone()),
                SortBy::Version => kvs.sort_by_key(|kv| kv.version),
                SortBy::Created => kvs.sort_by_key(|kv| kv.create_revision),
                SortBy::Modified => kvs.sort_by_key(|kv| kv.mod_revision),
                SortBy::Value => kvs.sort_by_key(|kv| kv.value.clone()),
            }
            if sort.order == SortDirection::Descending {
                kvs.reverse();
            }
        }
        let more = range.limit > 0 && kvs.len() as u64 > range.limit;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResult { kvs, more, count }
    }

    fn within(&self, keys: &KeyRange) -> Vec<KeyValue> {
        let mut found: Vec<_> =
            self.kvs.iter().filter(|kv| keys.contains(&kv.key)).cloned().collect();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found
    }
}

fn one(op: Op) -> Txn {
    Txn { success: vec![op], ..Txn::default() }
}

fn check(txn: &Txn) -> Result<(), KvError> {
    let most = txn.compares.len().max(txn.success.len()).max(txn.failure.len());
    if most > MAX_TXN_OPS {
        return Err(KvError::TooManyOps);
    }
    let compared = txn.compares.iter().map(|compare| compare.keys.start());
    let touched = txn.success.iter().chain(&txn.failure).map(|op| match op {
        Op::Put(put) => &put.key,
        Op::DeleteRange(delete) => delete.keys.start(),
        Op::Range(range) => range.keys.start(),
    });
    if compared.chain(touched).any(|key| key.is_empty()) {
        return Err(KvError::EmptyKey);
    }
    for branch in [&txn.success, &txn.failure] {
        for (at, op) in branch.iter().enumerate() {
            let Op::Put(put) = op else { continue };
            let conflicts = branch.iter().enumerate().any(|(other, op)| match op {
                Op::Put(second) => other != at && second.key == put.key,
                Op::DeleteRange(delete) => delete.keys.contains(&put.key),
                Op::Range(_) => false,
            });
            if conflicts {
                return Err(KvError::DuplicateKey);
            }
        }
    }
    Ok(())
}
