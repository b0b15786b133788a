//! The transport between Synod's nodes: one trait, [`Transport`], lossy and non-blocking, and an
//! implementation in memory. The feature `quic` adds QUIC with mutual TLS, and the feature
//! `certificates`, which it includes, the certificates of nodes and clients.
//!
//! Consensus protocols retransmit, so a transport may drop frames. It must not block the sender. Each
//! peer and [`Lane`] has a bounded queue of its own, and urgent lanes go first: Control, Log, Forward,
//! Bulk. So log entries in flight do not delay heartbeats, forwarded requests do not delay entries,
//! and an unreachable peer costs a bounded amount of memory.
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
//! To test a transport of your own, run the suite of [`conformance`] on it: see
//! `examples/own_transport.rs`.
//!
//! Out of scope: the content of frames (the driver encodes them), guaranteed delivery (the protocols
//! retransmit and acknowledge), discovery of peers (the caller of `set_peers` knows them), and
//! compression.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use async_trait::async_trait;
use bytes::Bytes;
use synod_types::{Lane, NodeId};

#[cfg(feature = "certificates")]
pub mod certificates;
pub mod conformance;
mod limits;
mod memory;
mod queue;
#[cfg(feature = "quic")]
pub mod quic;

pub use limits::{PeerStats, TransportLimits};
pub use memory::{MemoryNetwork, MemoryTransport};
#[cfg(feature = "quic")]
pub use quic::{Credentials, QuicConfig, QuicStats, QuicTransport, RejectReason, TransportError};

/// Another node and its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Id of the node.
    pub node: NodeId,
    /// Address for peers: `host:port`. Names are resolved again at every connection.
    pub address: String,
}

/// Transport of frames between the nodes of one cluster. Frames may be lost. Those of one lane arrive
/// in the order in which they were sent; those of different lanes may overtake each other. No frame is
/// corrupted or duplicated, and the sender is authenticated.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Queues a frame for sending, or drops it. Never blocks and never fails. A frame to this node
    /// itself, or to a node that is not a peer, is dropped.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes);

    /// Returns the next frame and its sender, or `None` after the transport is closed. The future is
    /// cancel-safe: dropping it, as in a `select!`, loses no frame.
    async fn recv(&self) -> Option<(NodeId, Bytes)>;

    /// Replaces the peers. Connections to nodes that are no longer peers are closed.
    fn set_peers(&self, peers: &[Peer]);

    /// Closes all connections. `recv` then returns the frames that have arrived already, and after them
    /// `None`.
    async fn close(&self);
}
