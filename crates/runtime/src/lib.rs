//! Runtime of a replicated state machine: a replica's threads, stores and network behind one handle.
//!
//! Depend on this crate, one protocol crate and tokio. Implement [`TypedMachine`] for your state, start
//! a [`Replica`] on each node, and [`execute`](Replica::execute) commands on any of them. Every node
//! applies each command once, in the same order.
//!
//! ```
//! use std::sync::Arc;
//! use synod_raft::Raft;
//! use synod_runtime::{
//!     ClusterId, Consistency, MemoryNetwork, NodeId, Output, Replica, Slot, StateError, StateView,
//!     TypedMachine, decode, encode,
//! };
//!
//! #[derive(Clone, Default)]
//! struct Counter(u64);
//!
//! impl TypedMachine for Counter {
//!     type Command = u64;
//!     type Query = ();
//!     type Reply = u64;
//!
//!     fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
//!         self.0 = state.get(b"count")?.map_or(Ok(0), |count| decode(&count))?;
//!         Ok(())
//!     }
//!
//!     fn apply(&mut self, _: Slot, step: u64, output: &mut Output) -> u64 {
//!         self.0 = self.0.wrapping_add(step);
//!         output.changes.put("count", encode(&self.0));
//!         self.0
//!     }
//!
//!     fn query(&self, (): ()) -> u64 {
//!         self.0
//!     }
//! }
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let me = NodeId(1);
//! let replica = Replica::builder::<Raft>(ClusterId(7), me)
//!     .members([(me, "127.0.0.1:2380")])
//!     .in_memory() // or .data_dir("data")
//!     .transport(Arc::new(MemoryNetwork::default().join(me))) // or a QuicTransport
//!     .start(Counter::default())
//!     .await?;
//! assert_eq!(replica.execute(42).await?, 42);
//! assert_eq!(replica.read((), Consistency::Linearizable).await?, 42);
//! replica.shutdown().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`TypedMachine`] holds its state in memory. A [`StateMachine`] may keep values in its store, and read
//! them while it applies and from its readers. See `examples/own_state_machine.rs`, which also emits
//! events ([`Builder::on_events`]) and removes old keys in slices.
//!
//! Several replicas may run in one process: there are no globals, and thread names and spans carry the
//! node's id. You can provide your own stores, transport and protocol. To choose the protocol at run
//! time, `match` around the builder: the type of [`Replica`] does not depend on the protocol.
//!
//! # Errors
//! - [`StartError`]: the replica cannot start, for example because the data folder is of another node,
//!   protocol or list of members.
//! - [`ReplicaError`]: a call has no reply. [`is_retryable`](ReplicaError::is_retryable) returns whether
//!   a retry is safe and may succeed.
//! - [`Fatal`]: the replica stopped, because a disk failed or an invariant was violated.
//!   [`shutdown`](Replica::shutdown) returns the first one.
//! - [`StateError`]: a state machine cannot read its stored state. It is fatal while the state machine
//!   loads or applies. A reader's [`query`](StateReader::query) returns it to its caller.
//!
//! # Features
//! - `quic`: the QUIC transport with mutual TLS, and `dev::credentials`.
//! - `rocksdb`: `Builder::data_dir`. Builds a large C++ library.
//!
//! Left out on purpose: membership changes, and compaction of the log, which needs snapshot transfer.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
mod data_dir;
#[cfg(feature = "quic")]
pub mod dev;
mod error;
mod fatal;
mod readers;
mod replica;
mod run;
mod typed;

pub use builder::{Builder, StartError};
pub use data_dir::{DataDirError, Stores, folder_bytes, open_data_dir, random};
pub use error::ReplicaError;
pub use fatal::{Fatal, FatalErrorReceiver, FatalErrorSender};
pub use readers::{ReadError, Readers};
pub use replica::{Replica, Untyped};
pub use run::metrics::{Histogram, Metrics, ReplicaStatus};
pub use typed::{Typed, TypedMachine, decode, encode};

pub use bytes::Bytes;
pub use synod_consensus as consensus;
pub use synod_consensus::{
    Consistency, Output, Protocol, Role, StateEntries, StateError, StateEvent, StateMachine,
    StateReader, StateView,
};
pub use synod_replica::Counters;
pub use synod_storage as storage;
pub use synod_transport as transport;
#[cfg(feature = "quic")]
pub use synod_transport::{Credentials, QuicConfig, QuicTransport};
pub use synod_transport::{MemoryNetwork, Transport};
pub use synod_types as types;
pub use synod_types::{Changes, ClusterId, NodeId, Slot};
