//! How Synod's nodes talk: one trait, lossy and never blocking, with memory behind it. QUIC with
//! mutual TLS comes with the feature `quic`.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

use async_trait::async_trait;
use bytes::Bytes;
use synod_types::{Lane, NodeId};

/// Another node and where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub node: NodeId,
    /// Where it listens for peers: `host:port`; names are resolved again at every connection.
    pub address: String,
}

/// A network between the nodes of one cluster. Frames may be lost, and those of different lanes
/// may pass one another; none is damaged, and `from` is authenticated.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends a frame, or drops it: never blocks, never fails. Protocols send again what matters.
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes);

    /// The next frame and its sender; `None` once the transport is closed.
    async fn recv(&self) -> Option<(NodeId, Bytes)>;

    /// Replaces the peers. Connections to nodes that are no longer among them are closed.
    fn set_peers(&self, peers: &[Peer]);

    /// Closes all connections; `recv` returns `None` once what had arrived is taken.
    async fn close(&self);
}
