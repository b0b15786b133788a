//! Replies of the store.

use crate::codec::{self, FormatError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Revision of the store: 1 for a new store, incremented by every request that changes something. Signed,
/// as in etcd's API.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub i64);

impl Revision {
    /// Revision of a new store.
    pub const FIRST: Self = Self(1);

    /// Returns the next revision.
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

/// Number of writes of a key since its creation: 1 for a new key. Signed, as in etcd's API.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Version(pub i64);

impl Version {
    /// Returns the next version.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Key with its value, revisions and version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyValue {
    /// Key, never empty.
    pub key: Bytes,
    /// Value, empty if only keys were requested.
    pub value: Bytes,
    /// Revision that created the key.
    pub create_revision: Revision,
    /// Revision that wrote the key last.
    pub mod_revision: Revision,
    /// Number of writes since the creation of the key.
    pub version: Version,
}

/// Reply to a command or a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Revision of the store after the request.
    pub revision: Revision,
    /// Result of the request. After an error the store is unchanged.
    pub result: Result<ReplyBody, KvError>,
}

impl Reply {
    /// Encodes the reply.
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
}

/// Content of the reply to a successful request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplyBody {
    /// Result of a single operation.
    Op(OpResult),
    /// Result of a transaction.
    Txn(TxnResult),
    /// Empty result of a query of the revision: the reply contains the revision.
    Revision,
}

/// Result of one operation, alone or in a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpResult {
    /// Result of a put.
    Put(PutResult),
    /// Result of a delete.
    DeleteRange(DeleteRangeResult),
    /// Result of a range read.
    Range(RangeResult),
}

/// Result of a put.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutResult {
    /// Previous key-value pair, if it was requested and existed.
    pub prev: Option<KeyValue>,
}

/// Result of a delete.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRangeResult {
    /// Number of deleted keys.
    pub deleted: u64,
    /// Deleted key-value pairs in ascending order of their keys, if requested.
    pub prev_kvs: Vec<KeyValue>,
}

/// Result of a range read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeResult {
    /// Key-value pairs of the range, up to the limit.
    pub kvs: Vec<KeyValue>,
    /// True if the limit excluded keys.
    pub more: bool,
    /// Number of keys in the range, regardless of limit and filters.
    pub count: u64,
}

/// Result of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxnResult {
    /// True if all compares held and the branch `success` was executed, false for the branch `failure`.
    pub succeeded: bool,
    /// Replies to the operations of the executed branch, in order.
    pub replies: Vec<OpReply>,
}

/// Reply to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpReply {
    /// Revision after the operation: the new one from the first change of the transaction on.
    pub revision: Revision,
    /// Result of the operation.
    pub result: OpResult,
}

/// Reason for the rejection of a request. The store is unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum KvError {
    /// A key is empty.
    #[error("key is not provided")]
    EmptyKey,
    /// A put without a value is for a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A transaction has more than [`MAX_TXN_OPS`](crate::MAX_TXN_OPS) compares or operations.
    #[error("too many operations in a transaction")]
    TooManyOps,
    /// A branch of a transaction writes a key twice.
    #[error("a transaction writes the same key twice")]
    DuplicateKey,
    /// The revision of a read does not exist yet.
    #[error("required revision is a future revision")]
    FutureRevision,
    /// The revision of a read is older than the store's: the store has no history.
    #[error("reads of an older revision are not supported")]
    HistoricRevision,
    /// A query contains a put or a delete.
    #[error("a query cannot write")]
    NotReadOnly,
    /// The bytes are not a request in the format of this version.
    #[error("malformed request")]
    Malformed,
    /// The reply exceeds its limit: [`MAX_REPLY_BYTES`](crate::MAX_REPLY_BYTES) for a command, the caller's
    /// limit for a query.
    #[error("the reply is too large: read fewer keys at once, in pages with a limit")]
    ReplyTooLarge,
}

impl From<FormatError> for KvError {
    fn from(_: FormatError) -> Self {
        Self::Malformed
    }
}
