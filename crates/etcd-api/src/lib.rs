//! The etcd v3 gRPC API over a Synod key-value store.
//!
//! Whoever has the store implements [`Backend`]; [`router`] makes routes of it that `etcdctl` and
//! etcd's client libraries understand. Replies carry etcd's headers, errors its codes and texts.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use synod_etcd_api::{Answered, Backend, BackendError, Consistency, Member, NodeStatus};
//! use synod_kv::{Command, KvStore, Query, Reply};
//! use synod_types::{Changes, ClusterId, NodeId, Slot, Term};
//!
//! /// A node that is alone and forgets everything when it stops.
//! struct Alone(Mutex<KvStore>);
//!
//! #[tonic::async_trait]
//! impl Backend for Alone {
//!     async fn propose(&self, command: Command) -> Result<Reply, BackendError> {
//!         Ok(self.0.lock().unwrap().execute(command, &mut Changes::new()))
//!     }
//!     async fn query(&self, query: Query, _: Consistency) -> Result<Answered, BackendError> {
//!         Ok(self.0.lock().unwrap().answer(query).into())
//!     }
//!     fn status(&self) -> NodeStatus {
//!         NodeStatus {
//!             cluster_id: ClusterId(1),
//!             member_id: NodeId(1),
//!             leader: Some(NodeId(1)),
//!             term: Term(1),
//!             committed: Slot(0),
//!             applied: Slot(0),
//!             db_size: 0,
//!             is_learner: false,
//!             version: "0.1.0",
//!             errors: Vec::new(),
//!         }
//!     }
//!     fn members(&self) -> Vec<Member> {
//!         Vec::new()
//!     }
//! }
//!
//! let api = synod_etcd_api::router(Arc::new(Alone(Mutex::new(KvStore::new()))));
//! // Merge it with other routes and hand it to `axum::serve`.
//! let app = axum::Router::new().merge(api);
//! # let _: axum::Router = app;
//! ```
//!
//! # What is served
//! `KV` (Range, Put, DeleteRange, Txn), `Maintenance` (Status, Alarm GET) and `Cluster`
//! (MemberList). [`proto`] holds clients for them, too. A large reply is encoded piece by piece
//! while its client takes it; what it [holds](Held) is released when it is sent.
//!
//! # Left out on purpose
//! Every other method answers Unimplemented with its name, at once; so do, inside the methods that
//! are served, leases, transactions inside transactions and reads of older revisions. TLS and
//! authentication belong to the server that mounts the routes, and so do time limits.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod backend;
mod error;
pub mod proto;
mod request;
mod response;
mod routes;
mod service;
mod stream;

pub use backend::{Answered, Backend, BackendError, Held, Member, NodeStatus};
pub use routes::router;
pub use service::MAX_REQUEST_BYTES;
pub use synod_consensus::Consistency;
