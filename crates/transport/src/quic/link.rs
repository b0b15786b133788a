//! The link to one peer: its queue, its counters, and its connection.

use super::{Shared, session};
use crate::queue::{Outbox, lock};
use crate::{PeerStats, TransportLimits};
use bytes::Bytes;
use quinn::{Connection, RecvStream, VarInt};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use synod_types::{Lane, NodeId};
use tokio::task::AbortHandle;

/// Codes of closed connections. The peer logs the code and the reason.
#[derive(Clone, Copy)]
pub(super) enum CloseCode {
    /// The transport is closed.
    Closing = 0,
    /// The peer was removed.
    Removed = 1,
    /// A newer connection of the same peer replaced this one.
    Replaced = 2,
    /// The peer violated the protocol.
    Violation = 3,
    /// The peer's certificate is valid, but the connection is not permitted.
    Rejected = 4,
    /// The tasks of the connection ended: it was lost, or its task was aborted.
    Ended = 5,
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// The link to one peer.
pub(super) struct Link {
    pub(super) node: NodeId,
    /// Address of the peer, `host:port`, not resolved.
    pub(super) address: String,
    pub(super) outbox: Outbox,
    counters: Counters,
    current: Mutex<Current>,
    /// The task that dials the peer, or that transfers the frames of an accepted connection.
    task: Mutex<Option<AbortHandle>>,
}

#[derive(Default)]
struct Current {
    generation: u64,
    connection: Option<Connection>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    dropped_frames: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
}

fn add(counter: &AtomicU64, count: usize) {
    counter.fetch_add(count as u64, Ordering::Relaxed);
}

impl Link {
    pub(super) fn new(node: NodeId, address: String, limits: TransportLimits) -> Self {
        Self {
            node,
            address,
            outbox: Outbox::new(limits),
            counters: Counters::default(),
            current: Mutex::default(),
            task: Mutex::default(),
        }
    }

    /// Queues a frame, and counts dropped ones.
    pub(super) fn send(&self, lane: Lane, frame: Bytes) {
        self.count_dropped(self.outbox.offer(lane, frame));
    }

    pub(super) fn count_dropped(&self, frames: u64) {
        self.counters.dropped_frames.fetch_add(frames, Ordering::Relaxed);
    }

    pub(super) fn count_sent(&self, frames: usize, bytes: usize) {
        add(&self.counters.sent_frames, frames);
        add(&self.counters.sent_bytes, bytes);
    }

    pub(super) fn count_received(&self, frames: usize, bytes: usize) {
        add(&self.counters.received_frames, frames);
        add(&self.counters.received_bytes, bytes);
    }

    pub(super) fn stats(&self) -> PeerStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PeerStats {
            connected: lock(&self.current).connection.is_some(),
            connections: get(&self.counters.connections),
            sent_frames: get(&self.counters.sent_frames),
            sent_bytes: get(&self.counters.sent_bytes),
            dropped_frames: get(&self.counters.dropped_frames),
            received_frames: get(&self.counters.received_frames),
            received_bytes: get(&self.counters.received_bytes),
        }
    }

    /// Returns the remote address of the live connection, if there is one.
    pub(super) fn live_address(&self) -> Option<SocketAddr> {
        let current = lock(&self.current);
        let live = current.connection.as_ref().filter(|live| live.close_reason().is_none());
        live.map(Connection::remote_address)
    }

    /// Attaches a connection and replaces the earlier one.
    pub(super) fn attach(self: &Arc<Self>, connection: Connection) -> Attached {
        let mut current = lock(&self.current);
        current.generation += 1;
        let generation = current.generation;
        if let Some(earlier) = current.connection.replace(connection.clone()) {
            earlier.close(CloseCode::Replaced.into(), b"replaced by a newer connection");
        }
        drop(current);
        add(&self.counters.connections, 1);
        self.outbox.set_online(true);
        Attached { link: Arc::clone(self), connection, generation }
    }

    /// Sets the task of the link and aborts the earlier one.
    pub(super) fn set_task(&self, task: AbortHandle) {
        if let Some(earlier) = lock(&self.task).replace(task) {
            earlier.abort();
        }
    }

    /// Closes the link.
    pub(super) fn close(&self, code: CloseCode, reason: &[u8]) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
        if let Some(connection) = lock(&self.current).connection.take() {
            connection.close(code.into(), reason);
        }
        self.outbox.set_online(false);
    }

    fn detach(&self, generation: u64) {
        let mut current = lock(&self.current);
        if current.generation == generation {
            current.connection = None;
            // Under the lock: otherwise this could mark a connection offline that is attached meanwhile.
            self.outbox.set_online(false);
        }
    }
}

/// A connection that is attached to its link until this is dropped.
pub(super) struct Attached {
    link: Arc<Link>,
    connection: Connection,
    generation: u64,
}

impl Attached {
    /// Transfers frames both ways until the connection ends, and returns the reason. `first` is the peer's
    /// first stream, if it has been accepted.
    pub(super) async fn run(self, shared: &Arc<Shared>, first: Option<RecvStream>) -> String {
        let (local, peer) = (shared.trust.own(), self.link.node);
        let from = self.connection.remote_address();
        tracing::info!(%local, %peer, address = %from, "connected to peer");
        let end = session::run(shared, &self.link, &self.connection, first).await;
        tracing::info!(%local, %peer, address = %from, reason = %end, "disconnected from peer");
        end
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.link.detach(self.generation);
        // Has no effect on a closed connection. The connection is still open only if the task was aborted.
        self.connection.close(CloseCode::Ended.into(), b"connection task aborted");
    }
}
