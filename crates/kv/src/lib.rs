//! A deterministic key-value state machine with etcd's revisions.
//!
//! [`KvStore`] is a [`StateMachine`](synod_consensus::StateMachine): commands go in, replies and
//! the changes of the stored form come out, and every node that applies the same commands holds
//! the same bytes. An empty store stands at revision 1; each request that changes something moves
//! it by one, a whole transaction counts once. Every key knows the revision that created it, the
//! one that changed it last, and how often it was written since it was created.
//!
//! ```
//! use synod_consensus::{StateMachine, StateView};
//! use synod_kv::{Answer, Command, KeyRange, KvStore, OpAnswer};
//! use synod_kv::{Put, Query, Range, Reply, Revision};
//! use synod_types::{Changes, Slot};
//!
//! let mut store = KvStore::new();
//! let mut changes = Changes::new();
//!
//! // What the log carries is bytes, and so is what comes back.
//! let put = Command::Put(Put::new("greeting", "hello")).encode();
//! let reply = Reply::decode(&store.apply(Slot(1), &put, &mut changes)).unwrap();
//! assert_eq!(reply.revision, Revision(2));
//! assert_eq!(changes.as_slice().len(), 2, "the key and the revision");
//!
//! let query = Query::Range(Range::new(KeyRange::prefix("greet"))).encode();
//! let reply = Reply::decode(&store.query(&query)).unwrap();
//! let Ok(Answer::Op(OpAnswer::Range(found))) = reply.answer else { panic!("a range") };
//! assert_eq!(found.kvs[0].value, "hello");
//! assert_eq!(found.kvs[0].create_revision, Revision(2));
//! ```
//!
//! # Determinism
//! Nothing but the state and the command decides a reply: no clock, no slot number, no order of a
//! hash. A command that makes no sense changes nothing and gets a reply that says so, the same on
//! every node; so do bytes that are no command at all.
//!
//! # Stored form
//! One entry per key and one for the revision, each with a format byte in front. `load` checks
//! every entry and refuses what this state machine cannot have written.
//!
//! # Views and bounds
//! The keys live in a tree of shared nodes, so a clone of the store is a view that costs a
//! reference count. A [`Reading`] answers a query from such a view in bounded pieces. The reply to a
//! command is limited to [`MAX_REPLY_BYTES`]; a query's limit is the reader's to choose.
//!
//! # Left out on purpose
//! - History: only the newest revision can be read; an older one is refused by name.
//! - Leases, watches and transactions inside transactions.
//! - A limit on the size of a request: that belongs to the server that takes requests.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod codec;
mod command;
mod edit;
mod key_range;
mod reading;
mod reply;
mod select;
mod store;
mod stored;
mod tree;

pub use codec::Malformed;
pub use command::{
    Command, Compare, DeleteRange, MAX_REPLY_BYTES, MAX_TXN_OPS, Op, Operand, Order, Put, Query,
    Range, Relation, Sort, SortBy, Txn,
};
pub use key_range::KeyRange;
pub use reading::Reading;
pub use reply::{
    Answer, DeleteRangeAnswer, KeyValue, KvError, OpAnswer, OpReply, PutAnswer, RangeAnswer, Reply,
    Revision, TxnAnswer, Version,
};
pub use store::KvStore;
pub use synod_consensus::PiecewiseRead;
