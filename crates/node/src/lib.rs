//! The Synod node: a replicated, etcd-compatible key-value store, and the `synod` command.
//!
//! This crate puts settings, an API and a command line on [`synod_runtime`]. [`node::serve`] runs one
//! node from its [`settings`]; [`dev`] runs a cluster of real processes on one machine; [`cli`] is the
//! command line. To run a protocol of your own, add a [`protocol::ProtocolKind`] and its arms in
//! [`registry`].
//!
//! ```no_run
//! use synod_node::node;
//! use synod_node::settings::{Layer, NodeSettings};
//!
//! # async fn run() -> anyhow::Result<()> {
//! let settings = NodeSettings::parse(Layer::from_file("node.toml".as_ref())?)?;
//! // Serves until Ctrl-C, then finishes what is pending.
//! node::serve(settings, async { drop(tokio::signal::ctrl_c().await) }).await
//! # }
//! ```
//!
//! Reads are answered on threads of their own, from views of the state, within a budget of memory
//! (`read-budget`, `max-reply`); the client API has a runtime of its own. So neither holds up
//! writes or the frames of peers. A client that takes nothing of its reply for a minute loses it.
//!
//! Left out on purpose: TLS and authentication for clients (listen on a loopback or a private
//! address), changes of the members while the cluster runs, and compaction of the log, which
//! needs snapshots that travel.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod backend;
mod certificates;
pub mod cli;
pub mod dev;
pub mod http;
pub mod node;
pub mod protocol;
pub mod registry;
pub mod server;
pub mod settings;
pub mod stores;
