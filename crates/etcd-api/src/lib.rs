//! The etcd v3 gRPC API over a Synod key-value store.
//!
//! A node implements [`Backend`], and [`router`] returns HTTP routes for it that serve `etcdctl` and etcd's
//! client libraries. Replies have etcd's headers. Errors have etcd's codes and texts.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//! use synod_etcd_api::{Backend, BackendError, Consistency, MemberInfo, NodeStatus, QueryReply};
//! use synod_kv::{Command, KvStore, Query, Reply};
//! use synod_types::{Changes, ClusterId, NodeId, Slot, Term};
//!
//! /// A single node in memory.
//! struct SingleNode(Mutex<KvStore>);
//!
//! #[tonic::async_trait]
//! impl Backend for SingleNode {
//!     async fn propose(&self, command: Command) -> Result<Reply, BackendError> {
//!         Ok(self.0.lock().unwrap().execute(command, &mut Changes::new()))
//!     }
//!     async fn query(&self, query: Query, _: Consistency) -> Result<QueryReply, BackendError> {
//!         Ok(self.0.lock().unwrap().execute_query(query).into())
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
//!     fn members(&self) -> Vec<MemberInfo> {
//!         Vec::new()
//!     }
//! }
//!
//! let api = synod_etcd_api::router(Arc::new(SingleNode(Mutex::new(KvStore::new()))));
//! // Merge it with other routes, and serve all of them with `axum::serve`.
//! let app = axum::Router::new().merge(api);
//! # let _: axum::Router = app;
//! ```
//!
//! # Supported methods
//! `KV` (Range, Put, DeleteRange, Txn), `Maintenance` (Status, Alarm GET) and `Cluster`
//! (MemberList). [`proto`] also has clients for them. A large reply is encoded in pieces while its client
//! reads it, and its [guard](ReplyGuard) is dropped once it has been sent.
//!
//! # Not supported
//! Every other method returns the error Unimplemented, with the name of the method, at once. So do leases,
//! nested transactions and reads of older revisions, with the name of the feature. TLS, authentication and
//! timeouts are the task of the server that serves the routes.
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

pub use backend::{Backend, BackendError, MemberInfo, NodeStatus, QueryReply, ReplyGuard};
pub use routes::router;
pub use service::MAX_REQUEST_BYTES;
pub use synod_consensus::Consistency;
