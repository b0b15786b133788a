//! What the store answers.

use crate::codec::{self, Malformed};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A state of the store: 1 when it is empty and new, one more after every request that changed
/// something. Signed as on etcd's wire.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl Revision {
    /// An empty store's revision.
    pub const FIRST: Self = Self(1);

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// How often a key was written since it was created: 1 for a new key. Signed as on etcd's wire.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub i64);

impl Version {
    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A key and all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// The key; never empty.
    pub key: Bytes,
    /// The value; empty if only keys were asked for.
    pub value: Bytes,
    /// The revision that created the key.
    pub create_revision: Revision,
    /// The revision that wrote it last.
    pub mod_revision: Revision,
    /// How often it was written since it was created.
    pub version: Version,
}

/// The answer to a command or a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The store's revision after the request.
    pub revision: Revision,
    /// What came of it. An error means that nothing changed.
    pub answer: Result<Answer, KvError>,
}

impl Reply {
    /// The reply as bytes.
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
}

/// What came of a request that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Of a single operation.
    Op(OpAnswer),
    /// Of a transaction.
    Txn(TxnAnswer),
    /// Only the revision was asked for.
    Revision,
}

/// What came of one operation, alone or inside a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpAnswer {
    /// Of a put.
    Put(PutAnswer),
    /// Of a delete.
    DeleteRange(DeleteRangeAnswer),
    /// Of a read.
    Range(RangeAnswer),
}

/// What came of a put.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutAnswer {
    /// The key as it was before, if asked for and if there was one.
    pub prev: Option<KeyValue>,
}

/// What came of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeAnswer {
    /// How many keys are gone.
    pub deleted: u64,
    /// What they were, in order, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// What came of a read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeAnswer {
    /// The keys found, at most as many as the limit.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys lie in the range, whatever the limit and the filters.
    pub count: u64,
}

/// What came of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnAnswer {
    /// Whether all compares held, so that the first branch ran and not the second.
    pub succeeded: bool,
    /// One reply for each operation of the branch that ran, in order.
    pub replies: Vec<OpReply>,
}

/// The reply to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpReply {
    /// The revision when the operation was done: the transaction's from its first change on.
    pub revision: Revision,
    /// What came of it.
    pub answer: OpAnswer,
}

/// Why a request was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// A key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// A put that keeps the value met a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A transaction has more than [`MAX_TXN_OPS`](crate::MAX_TXN_OPS) compares or operations.
    #[error("too many operations in a transaction")]
    TooManyOps,
    /// One branch of a transaction would write a key twice.
    #[error("a transaction writes the same key twice")]
    DuplicateKey,
    /// A read asks for a revision that does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// A read asks for a revision that was overwritten: the store keeps no history.
    #[error("reads of an older revision are not supported")]
    HistoricRevision,
    /// A query contains a put or a delete.
    #[error("a query cannot write")]
    NotReadOnly,
    /// The bytes are no request of this version.
    #[error("malformed request")]
    Malformed,
    /// The reply would be larger than it may be: [`MAX_REPLY_BYTES`](crate::MAX_REPLY_BYTES) for a
    /// command, the reader's own limit for a query.
    #[error("the reply is too large: read fewer keys at once, in pages with a limit")]
    ReplyTooLarge,
}

impl From<Malformed> for KvError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}
