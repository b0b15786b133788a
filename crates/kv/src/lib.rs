//! A deterministic key-value state machine with etcd's revisions.
//!
//! [`KvStore`] is a [`StateMachine`](synod_consensus::StateMachine): it turns commands into
//! replies and changes of the stored form, and every node that applies the same commands holds the same
//! bytes. An empty store has revision 1. Each request that changes something increments it once, also a
//! transaction. Every key has the revision that created it, the revision that changed it last, and a
//! version: the number of writes since its creation.
//!
//! ```
//! use std::collections::BTreeMap;
//! use synod_consensus::{Output, StateMachine, StateReader};
//! use synod_kv::{Command, KeyRange, KvStore, OpAnswer};
//! use synod_kv::{Put, Query, Range, Reply, ReplyBody, Revision};
//! use synod_types::Slot;
//!
//! # fn main() -> Result<(), synod_consensus::StateError> {
//! let mut store = KvStore::new();
//! // The store keeps all in memory, and reads no stored form after its start.
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
//! let Ok(ReplyBody::Op(OpAnswer::Range(found))) = reply.answer else { panic!("a range") };
//! assert_eq!(found.kvs[0].value, "hello");
//! assert_eq!(found.kvs[0].create_revision, Revision(2));
//! # Ok(())
//! # }
//! ```
//!
//! # Determinism
//! A reply depends only on the state and the command: on no clock, slot number or hash order. An invalid
//! command changes nothing and gets an error as its reply, the same on every node. So do bytes that are
//! no command.
//!
//! # Stored form
//! One entry per key and one for the revision, each with a format byte in front. `load` checks
//! every entry and rejects those that this state machine cannot have written.
//!
//! # Readers and bounds
//! The keys live in a tree of shared nodes, so a clone of the store is a reader that costs a
//! reference count. A [`QueryCursor`] answers a query from such a clone in bounded pieces. The reply to a
//! command is limited to [`MAX_REPLY_BYTES`], the reply to a query by the caller.
//!
//! # Not supported
//! - History: only the newest revision can be read. A read of an older one is rejected with an error.
//! - Leases, watches and transactions inside transactions.
//! - A limit on the size of a request: that belongs to the server that accepts requests.
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
    DeleteRangeAnswer, KeyValue, KvError, OpAnswer, OpReply, PutAnswer, RangeAnswer, Reply,
    ReplyBody, Revision, TxnAnswer, Version,
};
pub use store::KvStore;
pub use synod_consensus::PiecewiseRead;
