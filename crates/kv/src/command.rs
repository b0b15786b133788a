//! What the store can be asked to do.

use crate::codec::{self, Malformed};
use crate::{KeyRange, KvError, Revision, Version};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The most compares, and the most operations in each branch, that a transaction may have.
pub const MAX_TXN_OPS: usize = 128;

/// The most bytes, about, that the reply to a command may hold: keys, values and a little for each
/// key. A command whose reply would be larger is refused as a whole, before its reply is built.
///
/// The limit is a part of the state machine: every node must refuse the same commands, at replay,
/// too, or their states would differ. No node's settings may change it.
pub const MAX_REPLY_BYTES: usize = 16 << 20;

/// A request that goes through the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Writes one key.
    Put(Put),
    /// Deletes keys.
    DeleteRange(DeleteRange),
    /// Compares, then does one of two lists of operations, all at one revision.
    Txn(Txn),
    /// Reads at this place in the log. It changes nothing, and its reply is linearizable.
    Query(Query),
}

impl Command {
    /// The command as bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        codec::decode(bytes)
    }

    /// Checks what can be checked without the store, so that a request which cannot succeed need
    /// not enter the log. Applying checks it again.
    ///
    /// # Errors
    /// What applying the command would answer.
    pub fn check(&self) -> Result<(), KvError> {
        match self {
            Self::Put(put) => check_key(&put.key),
            Self::DeleteRange(delete) => check_key(delete.keys.start()),
            Self::Txn(txn) => txn.check(),
            Self::Query(query) => query.check(),
        }
    }
}

/// A question that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Reads keys.
    Range(Range),
    /// A transaction whose branches only read.
    Txn(Txn),
    /// Asks for the revision alone.
    Revision,
}

impl Query {
    /// The query as bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        codec::encode(self)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        codec::decode(bytes)
    }

    /// Checks what can be checked without the store.
    ///
    /// # Errors
    /// What the query would be answered with.
    pub fn check(&self) -> Result<(), KvError> {
        match self {
            Self::Range(range) => check_key(range.keys.start()),
            Self::Txn(txn) if !txn.is_read_only() => Err(KvError::NotReadOnly),
            Self::Txn(txn) => txn.check(),
            Self::Revision => Ok(()),
        }
    }
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key; must not be empty.
    pub key: Bytes,
    /// The new value. `None` writes the value that the key has (it gets a new revision and
    /// version) and is refused if the key does not exist.
    pub value: Option<Bytes>,
    /// Whether the answer shall hold the key as it was before.
    pub prev_kv: bool,
}

impl Put {
    /// Gives `key` this value.
    #[must_use]
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: Some(value.into()), prev_kv: false }
    }
}

/// Deletes every key of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: KeyRange,
    /// Whether the answer shall hold the keys as they were.
    pub prev_kv: bool,
}

impl DeleteRange {
    /// Deletes `keys`.
    #[must_use]
    pub fn new(keys: KeyRange) -> Self {
        Self { keys, prev_kv: false }
    }
}

/// Reads the keys of a range, filtered, sorted and cut as asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub keys: KeyRange,
    /// The most keys to answer with; 0 for all.
    pub limit: u64,
    /// The revision to read at; `None`, 0 and below mean the newest. Any but the newest is
    /// refused.
    pub revision: Option<Revision>,
    /// The order of the answer; `None` is the order of the keys.
    pub sort: Option<Sort>,
    /// Leaves the values out.
    pub keys_only: bool,
    /// Answers the count alone.
    pub count_only: bool,
    /// Leaves out keys last written before this revision.
    pub min_mod_revision: Option<Revision>,
    /// Leaves out keys last written after this revision.
    pub max_mod_revision: Option<Revision>,
    /// Leaves out keys created before this revision.
    pub min_create_revision: Option<Revision>,
    /// Leaves out keys created after this revision.
    pub max_create_revision: Option<Revision>,
}

impl Range {
    /// Reads all of `keys` as they are.
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

/// An order of keys. Equal ones stay in the order of their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// What is compared.
    pub by: SortBy,
    /// The direction.
    pub order: Order,
}

/// A direction of sorting, and what is sorted. Encoded as the flag `descending` was that stood
/// here before, so commands of older logs are read as they were meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The lowest first.
    Ascending,
    /// The highest first.
    Descending,
    /// The lowest first, but of the first keys only: a limit takes effect before the sorting, up to
    /// one key, which is cut off afterwards. Without a limit or with a filter on revisions, all
    /// keys are sorted. etcd answers in this way if a request names a target and no order.
    AscendingWithinLimit,
}

/// What an order looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SortBy {
    /// The key's bytes.
    Key,
    /// The key's version.
    Version,
    /// The revision that created the key.
    Created,
    /// The revision that wrote the key last.
    Modified,
    /// The value's bytes.
    Value,
}

/// Compares, then does one of two lists of operations. All changes get one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What must hold, all of it, for `success` to be done.
    pub compares: Vec<Compare>,
    /// Done if every compare holds; each sees what those before it did.
    pub success: Vec<Op>,
    /// Done otherwise.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Whether neither branch can change anything.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }

    fn check(&self) -> Result<(), KvError> {
        let lists = [self.compares.len(), self.success.len(), self.failure.len()];
        if lists.iter().any(|len| *len > MAX_TXN_OPS) {
            return Err(KvError::TooManyOps);
        }
        self.compares.iter().try_for_each(|compare| check_key(compare.keys.start()))?;
        for branch in [&self.success, &self.failure] {
            branch.iter().try_for_each(|op| check_key(op.start()))?;
        }
        check_writes(&self.success)?;
        check_writes(&self.failure)
    }
}

/// One operation of a transaction.
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

/// One condition of a transaction: it must hold for every key of the range.
///
/// If there is no such key, a compare of values fails, and any other compares with 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys.
    pub keys: KeyRange,
    /// How what the store has must stand to `operand`.
    pub relation: Relation,
    /// What is compared, and with what.
    pub operand: Operand,
}

/// How two numbers or values stand to one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Relation {
    /// They are the same.
    Equal,
    /// They are not.
    NotEqual,
    /// The store's is less.
    Less,
    /// The store's is greater.
    Greater,
}

/// What a compare looks at, and what it expects there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// The key's version; 0 if there is no such key.
    Version(Version),
    /// The revision that created the key; 0 if there is no such key.
    Created(Revision),
    /// The revision that wrote the key last; 0 if there is no such key.
    Modified(Revision),
    /// The value.
    Value(Bytes),
}

fn check_key(key: &Bytes) -> Result<(), KvError> {
    if key.is_empty() { Err(KvError::EmptyKey) } else { Ok(()) }
}

/// At one revision a key can be written once: two puts of a key, or a put of a key that the same
/// branch deletes, have no order that a reader of revisions could see. Two deletes may overlap.
fn check_writes(branch: &[Op]) -> Result<(), KvError> {
    let deleted: Vec<&KeyRange> = branch
        .iter()
        .filter_map(|op| match op {
            Op::DeleteRange(delete) => Some(&delete.keys),
            Op::Put(_) | Op::Range(_) => None,
        })
        .collect();
    let mut put = BTreeSet::new();
    for op in branch {
        let Op::Put(Put { key, .. }) = op else { continue };
        if !put.insert(key) || deleted.iter().any(|keys| keys.contains(key)) {
            return Err(KvError::DuplicateKey);
        }
    }
    Ok(())
}
