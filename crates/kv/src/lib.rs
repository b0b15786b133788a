//! Deterministic key-value state machine with etcd's revisions.
//!
//! [`KvStore`] is a [`StateMachine`](synod_consensus::StateMachine): it applies commands, and returns replies
//! and changes of the stored state. All nodes that apply the same commands store the same bytes. An empty
//! store has revision 1. Each request that changes something increments the revision once, also a
//! transaction. Every key has a create revision, a mod revision (of its last write), and a version: the
//! number of writes since its creation.
//!
//! ```
//! use std::collections::BTreeMap;
//! use synod_consensus::{Output, StateMachine, StateReader};
//! use synod_kv::{Command, KeyRange, KvStore, OpResult};
//! use synod_kv::{Put, Query, Range, Reply, ReplyBody, Revision};
//! use synod_types::Slot;
//!
//! # fn main() -> Result<(), synod_consensus::StateError> {
//! let mut store = KvStore::new();
//! // The store keeps all keys in memory, and reads the stored state only when it starts.
//! let (stored, mut output) = (BTreeMap::new(), Output::new());
//!
//! // Commands and replies are bytes.
//! let put = Command::Put(Put::new("greeting", "hello")).encode();
//! let reply = Reply::decode(&store.apply(Slot(1), &put, &stored, &mut output)?).unwrap();
//! assert_eq!(reply.revision, Revision(2));
//! assert_eq!(output.changes.as_slice().len(), 2, "the key and the revision");
//!
//! let query = Query::Range(Range::new(KeyRange::prefix("greet"))).encode();
//! let reply = Reply::decode(&store.query(&query)?).unwrap();
//! let Ok(ReplyBody::Op(OpResult::Range(found))) = reply.result else { panic!("a range") };
//! assert_eq!(found.kvs[0].value, "hello");
//! assert_eq!(found.kvs[0].create_revision, Revision(2));
//! # Ok(())
//! # }
//! ```
//!
//! # Determinism
//! A reply depends only on the state and the command, not on a clock, a slot number or a hash order. An
//! invalid command, and bytes that are no command, change nothing; their reply is the same error on every
//! node.
//!
//! # Stored state
//! The state store has one entry per key and one for the revision. Each value starts with a format byte.
//! `load` checks every entry and rejects entries that this state machine cannot have written.
//!
//! # Readers and limits
//! The keys are in a copy-on-write tree, so a clone of the store is a consistent view that costs one
//! reference count. A [`QueryCursor`] executes a query on such a view in bounded pieces. The reply to a
//! command is limited to [`MAX_REPLY_BYTES`]; the caller limits the reply to a query.
//!
//! # Not supported
//! - History: only the newest revision can be read. A read of an older one is rejected.
//! - Leases, watches and nested transactions.
//! - A limit on the size of a request: the server that accepts requests has one.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod codec;
mod command;
mod encoding;
mod entry;
mod key_range;
mod query_cursor;
mod range;
mod reply;
mod store;
mod txn;

pub use codec::FormatError;
pub use command::{
    Command, Compare, CompareOperand, CompareRelation, DeleteRange, MAX_REPLY_BYTES, MAX_TXN_OPS,
    Op, Put, Query, Range, Sort, SortBy, SortDirection, Txn,
};
pub use key_range::KeyRange;
pub use query_cursor::QueryCursor;
pub use reply::{
    DeleteRangeResult, KeyValue, KvError, OpReply, OpResult, PutResult, RangeResult, Reply,
    ReplyBody, Revision, TxnResult, Version,
};
pub use store::KvStore;
pub use synod_consensus::PiecewiseRead;
