//! Commands and queries of the store.

use crate::codec::{self, FormatError};
use crate::{KeyRange, KvError, Revision, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Maximum number of compares, and of operations in each branch, of a transaction.
pub const MAX_TXN_OPS: usize = 128;

/// Maximum size of the reply to a command in bytes, approximately: keys, values and a constant for each
/// key. A command with a larger reply is rejected as a whole, before its reply is built.
///
/// The limit is part of the state machine and not configurable: every node must reject the same commands,
/// also when it replays the log, or their states would diverge.
pub const MAX_REPLY_BYTES: usize = 16 << 20;

/// Request that is replicated through the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Executes one of two lists of operations at one revision.
    Txn(Txn),
    /// Executes a query at the command's position in the log, which makes it linearizable.
    Query(Query),
}

impl Command {
    /// Encodes the command for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Decodes the result of [`encode`](Self::encode).
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        codec::decode(bytes)
    }

    /// Checks the rules that do not depend on the store, so that a server can reject an invalid request
    /// before it enters the log. [`KvStore::execute`](crate::KvStore::execute) checks them again.
    ///
    /// # Errors
    /// The error that applying the command would return.
    pub fn check(&self) -> Result<(), KvError> {
        match self {
            Self::Put(put) => check_key(&put.key),
            Self::DeleteRange(delete) => check_key(delete.keys.start()),
            Self::Txn(txn) => txn.check(),
            Self::Query(query) => query.check(),
        }
    }
}

/// Request that only reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Reads keys.
    Range(Range),
    /// Executes a transaction whose branches only read.
    Txn(Txn),
    /// Reads the revision only.
    Revision,
}

impl Query {
    /// Encodes the query.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Decodes the result of [`encode`](Self::encode).
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        codec::decode(bytes)
    }

    /// Checks the rules that do not depend on the store.
    ///
    /// # Errors
    /// The error that the query would return.
    pub fn check(&self) -> Result<(), KvError> {
        match self {
            Self::Range(range) => check_key(range.keys.start()),
            // A query does not enter the log, so it must not change the store.
            Self::Txn(txn) if !txn.is_read_only() => Err(KvError::NotReadOnly),
            Self::Txn(txn) => txn.check(),
            Self::Revision => Ok(()),
        }
    }
}

/// Write of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Key, which must not be empty.
    pub key: Bytes,
    /// New value. `None` keeps the current value with a new revision and version, and fails if the key does
    /// not exist.
    pub value: Option<Bytes>,
    /// True if the result includes the previous key-value pair.
    pub prev_kv: bool,
}

impl Put {
    /// Creates a put.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()), prev_kv: false }
    }
}

/// Deletion of all keys of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// Keys to delete.
    pub keys: KeyRange,
    /// True if the result includes the deleted key-value pairs.
    pub prev_kv: bool,
}

impl DeleteRange {
    /// Creates a deletion.
    #[must_use]
    pub fn new(keys: KeyRange) -> Self {
        Self { keys, prev_kv: false }
    }
}

/// Read of the keys of a range, with filters, order and limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Keys to read.
    pub keys: KeyRange,
    /// Maximum number of keys in the result. 0 means no limit.
    pub limit: u64,
    /// Revision to read. `None`, 0 and negative numbers mean the newest one. Other revisions are rejected.
    pub revision: Option<Revision>,
    /// Order of the result. `None` means ascending keys.
    pub sort: Option<Sort>,
    /// True if values are omitted.
    pub keys_only: bool,
    /// True if only the count is returned.
    pub count_only: bool,
    /// Inclusive lower bound of the mod revision.
    pub min_mod_revision: Option<Revision>,
    /// Inclusive upper bound of the mod revision.
    pub max_mod_revision: Option<Revision>,
    /// Inclusive lower bound of the create revision.
    pub min_create_revision: Option<Revision>,
    /// Inclusive upper bound of the create revision.
    pub max_create_revision: Option<Revision>,
}

impl Range {
    /// Creates a read of all `keys` in order.
    #[must_use]
    pub fn new(keys: KeyRange) -> Self {
        Self {
            keys,
            limit: 0,
            revision: None,
            sort: None,
            keys_only: false,
            count_only: false,
            min_mod_revision: None,
            max_mod_revision: None,
            min_create_revision: None,
            max_create_revision: None,
        }
    }
}

/// Order of a result. Entries with equal properties are in ascending order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// Property to sort by.
    pub by: SortBy,
    /// Direction of the order.
    pub order: SortDirection,
}

/// Direction of sorting. The encoding is compatible with the earlier flag `descending`, so that commands
/// of older logs keep their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortDirection {
    /// Lowest first.
    Ascending,
    /// Highest first.
    Descending,
    /// Lowest first, but only of the first keys of the range: the limit plus one key is applied before the
    /// sort, and the extra key is removed afterwards. Without a limit, or with a filter on revisions, all keys
    /// are sorted. This is etcd's behaviour for a request with a sort target and no sort order.
    AscendingWithinLimit,
}

/// Property to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortBy {
    /// Bytes of the key.
    Key,
    /// Version of the key.
    Version,
    /// Create revision of the key.
    Created,
    /// Mod revision of the key.
    Modified,
    /// Bytes of the value.
    Value,
}

/// Transaction: compares that select one of two lists of operations. All changes get one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// Conditions. All must hold for `success`.
    pub compares: Vec<Compare>,
    /// Operations if every compare holds. Each observes the effects of the previous ones.
    pub success: Vec<Op>,
    /// Operations if a compare does not hold.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Returns whether both branches consist of reads.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }

    fn check(&self) -> Result<(), KvError> {
        // The limit comes first: it bounds the work of the checks below.
        let lists = [self.compares.len(), self.success.len(), self.failure.len()];
        if lists.iter().any(|len| *len > MAX_TXN_OPS) {
            return Err(KvError::TooManyOps);
        }
        self.compares.iter().try_for_each(|compare| check_key(compare.keys.start()))?;
        // Both branches are checked: a rejection must not depend on the keys in the store.
        for branch in [&self.success, &self.failure] {
            branch.iter().try_for_each(|op| check_key(op.start()))?;
        }
        check_writes(&self.success)?;
        check_writes(&self.failure)
    }
}

/// Operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Reads keys.
    Range(Range),
}

impl Op {
    fn start(&self) -> &Bytes {
        match self {
            Self::Put(put) => &put.key,
            Self::DeleteRange(delete) => delete.keys.start(),
            Self::Range(range) => range.keys.start(),
        }
    }
}

/// Condition of a transaction. It must hold for every key of a range.
///
/// If the range has no keys, a compare of values fails, and any other property counts as 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Keys to compare.
    pub keys: KeyRange,
    /// Required relation of the stored property to `operand`.
    pub relation: CompareRelation,
    /// Property to compare, and the operand.
    pub operand: CompareOperand,
}

/// Required relation of a stored property to an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareRelation {
    /// The stored property equals the operand.
    Equal,
    /// The stored property differs from the operand.
    NotEqual,
    /// The stored property is less than the operand.
    Less,
    /// The stored property is greater than the operand.
    Greater,
}

/// Property of a compare, with the value to compare it with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareOperand {
    /// Version of the key, 0 if the key does not exist.
    Version(Version),
    /// Create revision of the key, 0 if the key does not exist.
    Created(Revision),
    /// Mod revision of the key, 0 if the key does not exist.
    Modified(Revision),
    /// Value of the key.
    Value(Bytes),
}

fn check_key(key: &Bytes) -> Result<(), KvError> {
    if key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

/// Checks that a branch writes each key at most once, because two writes at one revision would have no
/// observable order. Deletes may overlap, as in etcd.
fn check_writes(branch: &[Op]) -> Result<(), KvError> {
    let deleted: Vec<&KeyRange> = branch
        .iter()
        .filter_map(|op| match op {
            Op::DeleteRange(delete) => Some(&delete.keys),
            Op::Put(_) | Op::Range(_) => None,
        })
        .collect();
    // Deletes count wherever they are in the branch: the order of the operations does not matter.
    let mut put = BTreeSet::new();
    for op in branch {
        let Op::Put(Put { key, .. }) = op else { continue };
        if !put.insert(key) || deleted.iter().any(|keys| keys.contains(key)) {
            return Err(KvError::DuplicateKey);
        }
    }
    Ok(())
}
