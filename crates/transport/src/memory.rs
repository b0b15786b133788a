//! A network inside one process, for tests and examples.

use crate::queue::{Inbox, lock};
use crate::{Peer, PeerStats, Transport, TransportLimits};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use synod_types::{Lane, NodeId};

/// Network inside one process. A frame arrives at once. It is dropped if it is larger than
/// [`TransportLimits::max_frame`], if the receiver's queue is full, if either node is not a peer of the
/// other, or if the link is cut.
///
/// Clones share the network.
///
/// ```
/// use synod_transport::{MemoryNetwork, Peer, Transport};
/// use synod_types::{Lane, NodeId};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let network = MemoryNetwork::default();
/// let (one, two) = (network.join(NodeId(1)), network.join(NodeId(2)));
/// let at = |node| Peer { node: NodeId(node), address: String::new() };
/// one.set_peers(&[at(2)]);
/// two.set_peers(&[at(1)]);
///
/// one.send(NodeId(2), Lane::Control, "hello".into());
/// assert_eq!(two.recv().await, Some((NodeId(1), "hello".into())));
/// # });
/// ```
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    limits: TransportLimits,
    topology: Arc<Mutex<Topology>>,
}

#[derive(Default)]
struct Topology {
    nodes: BTreeMap<NodeId, Arc<Member>>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// State of one transport that the network can reach: its inbox and its peers.
struct Member {
    inbox: Inbox,
    peers: Mutex<BTreeMap<NodeId, PeerStats>>,
}

impl MemoryNetwork {
    /// Creates a network without nodes and without cut links.
    #[must_use]
    pub fn new(limits: TransportLimits) -> Self {
        Self { limits, topology: Arc::default() }
    }

    /// Adds a node and returns its transport. If the node has one already, that one is closed, as in a
    /// restart.
    #[must_use]
    pub fn join(&self, node: NodeId) -> MemoryTransport {
        let own = Arc::new(Member { inbox: Inbox::new(self.limits), peers: Mutex::default() });
        if let Some(earlier) = lock(&self.topology).nodes.insert(node, Arc::clone(&own)) {
            earlier.inbox.close();
        }
        MemoryTransport { network: self.clone(), id: node, own }
    }

    /// Cuts the link from `from` to `to`: frames in this direction are dropped. The other direction is not
    /// affected.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        lock(&self.topology).cut.insert((from, to));
    }

    /// Restores the link from `from` to `to`.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        lock(&self.topology).cut.remove(&(from, to));
    }

    /// Restores all links.
    pub fn heal_all(&self) {
        lock(&self.topology).cut.clear();
    }

    /// Returns the receiver of a link, if it is up.
    fn route(&self, from: NodeId, to: NodeId) -> Option<Arc<Member>> {
        let topology = lock(&self.topology);
        let node = topology.nodes.get(&to).filter(|_| !topology.cut.contains(&(from, to)))?;
        Some(Arc::clone(node))
    }

    fn deliver(&self, from: NodeId, to: NodeId, lane: Lane, frame: Bytes) -> bool {
        let size = frame.len();
        let Some(node) = self.route(from, to).filter(|_| size <= self.limits.max_frame) else {
            return false;
        };
        let mut peers = lock(&node.peers);
        let Some(stats) = peers.get_mut(&from) else { return false };
        let accepted = node.inbox.offer(lane, from, frame);
        if accepted {
            stats.received_frames += 1;
            stats.received_bytes += size as u64;
        }
        accepted
    }
}

/// Transport of one node on a [`MemoryNetwork`]. It does not use the addresses of peers.
pub struct MemoryTransport {
    network: MemoryNetwork,
    id: NodeId,
    own: Arc<Member>,
}

impl MemoryTransport {
    /// Returns the counters of each peer. Every peer is reported as connected.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<NodeId, PeerStats> {
        lock(&self.own.peers).clone()
    }

    /// Returns whether this is the node's current transport, and not one from before a restart.
    fn is_current(&self) -> bool {
        let topology = lock(&self.network.topology);
        topology.nodes.get(&self.id).is_some_and(|node| Arc::ptr_eq(node, &self.own))
    }

    fn leave(&self) {
        let mut topology = lock(&self.network.topology);
        if topology.nodes.get(&self.id).is_some_and(|node| Arc::ptr_eq(node, &self.own)) {
            topology.nodes.remove(&self.id);
        }
        drop(topology);
        self.own.inbox.close();
    }
}

#[async_trait]
impl Transport for MemoryTransport {
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) {
        if !lock(&self.own.peers).contains_key(&to) || !self.is_current() {
            return;
        }
        let size = frame.len() as u64;
        let delivered = self.network.deliver(self.id, to, lane, frame);
        // Looked up again: a node that held the lock of its own peers while it acquires the receiver's
        // would deadlock with a receiver that sends to it at the same time.
        if let Some(stats) = lock(&self.own.peers).get_mut(&to) {
            if delivered {
                stats.sent_frames += 1;
                stats.sent_bytes += size;
            } else {
                stats.dropped_frames += 1;
            }
        }
    }

    async fn recv(&self) -> Option<(NodeId, Bytes)> {
        self.own.inbox.recv().await
    }

    fn set_peers(&self, peers: &[Peer]) {
        let mut known = lock(&self.own.peers);
        let new = PeerStats { connected: true, connections: 1, ..PeerStats::default() };
        let kept = |peer: &Peer| known.get(&peer.node).copied().unwrap_or(new);
        let others = peers.iter().filter(|peer| peer.node != self.id);
        *known = others.map(|peer| (peer.node, kept(peer))).collect();
    }

    async fn close(&self) {
        self.leave();
    }
}

impl Drop for MemoryTransport {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TransportLimits =
        TransportLimits { max_frame: 100, queue_frames: 4, queue_bytes: 250 };

    fn pair(network: &MemoryNetwork) -> (MemoryTransport, MemoryTransport) {
        let (one, two) = (network.join(NodeId(1)), network.join(NodeId(2)));
        one.set_peers(&[Peer { node: NodeId(2), address: String::new() }]);
        two.set_peers(&[Peer { node: NodeId(1), address: String::new() }]);
        (one, two)
    }

    #[test]
    fn full_queue_drops_frames_and_counts_them() {
        let (one, two) = pair(&MemoryNetwork::new(LIMITS));
        for _ in 0..6 {
            one.send(NodeId(2), Lane::Log, vec![0; 10].into());
        }
        one.send(NodeId(2), Lane::Bulk, vec![0; 101].into());
        let sent = one.stats()[&NodeId(2)];
        assert_eq!((sent.sent_frames, sent.sent_bytes, sent.dropped_frames), (4, 40, 3));
        let got = two.stats()[&NodeId(1)];
        assert_eq!((got.received_frames, got.received_bytes), (4, 40));
    }

    #[test]
    fn cut_is_one_way_and_can_be_restored() {
        let network = MemoryNetwork::new(LIMITS);
        let (one, two) = pair(&network);
        network.cut(NodeId(1), NodeId(2));
        one.send(NodeId(2), Lane::Log, "lost".into());
        two.send(NodeId(1), Lane::Log, "kept".into());
        assert_eq!(one.stats()[&NodeId(2)].dropped_frames, 1);
        assert_eq!(one.stats()[&NodeId(2)].received_frames, 1);
        network.heal(NodeId(1), NodeId(2));
        one.send(NodeId(2), Lane::Log, "kept".into());
        assert_eq!(two.stats()[&NodeId(1)].received_frames, 1);
    }

    #[tokio::test]
    async fn restarted_node_replaces_its_earlier_transport() {
        let network = MemoryNetwork::new(LIMITS);
        let (one, earlier) = pair(&network);
        let later = network.join(NodeId(2));
        later.set_peers(&[Peer { node: NodeId(1), address: String::new() }]);
        assert_eq!(earlier.recv().await, None);
        earlier.send(NodeId(1), Lane::Log, "from before the restart".into());
        drop(earlier);
        one.send(NodeId(2), Lane::Log, "hello".into());
        assert_eq!(later.recv().await, Some((NodeId(1), "hello".into())));
        assert_eq!(one.stats()[&NodeId(2)].received_frames, 0);
    }
}
