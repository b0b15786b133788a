//! The Synod node: a replicated, etcd-compatible key-value store, and the `synod` command.
//!
//! This crate adds settings, the client API and a command line to [`synod_runtime`]. [`node::serve`]
//! runs one node from its [`settings`]; [`dev`] runs a cluster of real processes on one machine; [`cli`]
//! is the command line. To add a protocol, add a variant to [`protocol::ProtocolKind`] and its arms in
//! [`registry`].
//!
//! ```no_run
//! use synod_node::node;
//! use synod_node::settings::{Layer, NodeSettings};
//!
//! # async fn run() -> anyhow::Result<()> {
//! let settings = NodeSettings::parse(Layer::from_file("node.toml".as_ref())?)?;
//! // Serves until Ctrl-C, then drains pending requests.
//! node::serve(settings, async { drop(tokio::signal::ctrl_c().await) }).await
//! # }
//! ```
//!
//! Reader threads serve reads from immutable views of the state, within a memory budget (settings
//! `read-budget` and `max-reply`). The client API has an async runtime of its own. So neither long reads nor
//! client load delay writes or the frames of peers. A reply is aborted if its client reads nothing of it
//! for a minute.
//!
//! Not supported: TLS and authentication for clients (listen on a loopback or a private address),
//! membership changes while the cluster runs, and log compaction, which needs snapshot transfer.
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
