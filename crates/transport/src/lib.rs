//! How Synod's nodes talk: one trait, [`Transport`], lossy and never blocking, with memory behind
//! it. QUIC with mutual TLS comes with the feature `quic`.
//!
//! Consensus protocols send again what matters, so a transport may drop; what it must not do is
//! hold up the node that sends. Each peer and [`Lane`] has a bounded queue of its own, and urgent
//! lanes go first: Control, Log, Forward, Bulk. So entries in flight delay no heartbeat, forwarded
//! requests delay no entries, and a dead peer costs a bounded amount of memory.
//!
//! ```
//! use synod_transport::{MemoryNetwork, Peer, Transport};
//! use synod_types::{Lane, NodeId};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let network = MemoryNetwork::default();
//! let one = network.join(NodeId(1));
//! let two = network.join(NodeId(2));
//! one.set_peers(&[Peer { node: NodeId(2), address: "two.example:2380".into() }]);
//! two.set_peers(&[Peer { node: NodeId(1), address: "one.example:2380".into() }]);
//!
//! one.send(NodeId(2), Lane::Log, "entries".into());
//! let (from, frame) = two.recv().await.unwrap();
//! assert_eq!((from, &frame[..]), (NodeId(1), &b"entries"[..]));
//! # });
//! ```
//!
//! A transport of your own implements the trait's four methods and proves itself with
//! [`conformance`]; `examples/own_transport.rs` is one of 60 lines.
//!
//! Left out on purpose: what is inside a frame (the driver's codec), delivery guarantees and
//! acknowledgements (the protocols'), discovery (peers are given, by `set_peers`), and compression.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use async_trait::async_trait;
use bytes::Bytes;
use synod_types::{Lane, NodeId};

#[cfg(feature = "quic")]
pub mod certs;
pub mod conformance;
mod limits;
mod memory;
mod queue;
#[cfg(feature = "quic")]
pub mod quic;

pub use limits::{Limits, PeerStats};
pub use memory::{MemoryNetwork, MemoryTransport};
#[cfg(feature = "quic")]
pub use quic::{Credentials, QuicConfig, QuicStats, QuicTransport, Refusal, TransportError};

/// Another node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub node: NodeId,
    /// Where it listens for peers: `host:port`; names are resolved again at every connection.
    pub address: String,
}

/// A network between the nodes of one cluster. Frames may be lost, and those of different lanes
/// may pass one another; none is damaged or doubled, and `from` is authenticated.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a frame, or drops it: never blocks, never fails. Protocols send again what matters.
    /// A frame to a node that is no peer, the own node among them, is dropped.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes);

    /// The next frame and its sender; `None` once the transport is closed. The future may be
    /// dropped at any time, as in a `select!`, without losing a frame.
    async fn recv(&self) -> Option<(NodeId, Bytes)>;

    /// Replaces the peers. Connections to nodes that are no longer among them are closed.
    fn set_peers(&self, peers: &[Peer]);

    /// Closes all connections; `recv` returns `None` once what had arrived is taken.
    async fn close(&self);
}
