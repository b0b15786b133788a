//! A network inside one process, for tests and for trying things out.

use crate::queue::{Inbox, lock};
use crate::{Limits, Peer, PeerStats, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use synod_types::{Lane, NodeId};

/// A network inside one process. Frames arrive at once, or are dropped: when the receiver's queue
/// is full, when either side does not know the other, or when the link is cut.
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
    limits: Limits,
    wires: Arc<Mutex<Wires>>,
}

#[derive(Default)]
struct Wires {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// What the network knows of one transport.
struct Node {
    inbox: Inbox,
    peers: Mutex<BTreeMap<NodeId, PeerStats>>,
}

impl MemoryNetwork {
    /// An empty network with all links up.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, wires: Arc::default() }
    }

    /// The transport of a node. An earlier one of the same node is closed: the node was restarted.
    #[must_use]
    pub fn join(&self, node: NodeId) -> MemoryTransport {
        let own = Arc::new(Node { inbox: Inbox::new(self.limits), peers: Mutex::default() });
        if let Some(earlier) = lock(&self.wires).nodes.insert(node, Arc::clone(&own)) {
            earlier.inbox.close();
        }
        MemoryTransport { network: self.clone(), id: node, own }
    }

    /// Drops what `from` sends to `to` from here on. The other direction stays as it is.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        lock(&self.wires).cut.insert((from, to));
    }

    /// Carries again what `from` sends to `to`.
    pub fn heal(&self, from: NodeId, to: NodeId) {
        lock(&self.wires).cut.remove(&(from, to));
    }

    /// Carries again what was cut, everywhere.
    pub fn heal_all(&self) {
        lock(&self.wires).cut.clear();
    }

    /// The node at the other end, if a frame would get there.
    fn route(&self, from: NodeId, to: NodeId) -> Option<Arc<Node>> {
        let wires = lock(&self.wires);
        let node = wires.nodes.get(&to).filter(|_| !wires.cut.contains(&(from, to)))?;
        Some(Arc::clone(node))
    }

    fn deliver(&self, from: NodeId, to: NodeId, lane: Lane, frame: Bytes) -> bool {
        let size = frame.len();
        let Some(node) = self.route(from, to).filter(|_| size <= self.limits.max_frame) else {
            return false;
        };
        let mut peers = lock(&node.peers);
        let Some(stats) = peers.get_mut(&from) else { return false };
        let taken = node.inbox.offer(lane, from, frame);
        if taken {
            stats.received_frames += 1;
            stats.received_bytes += size as u64;
        }
        taken
    }
}

/// One node's end of a [`MemoryNetwork`]. Addresses of peers are not used.
pub struct MemoryTransport {
    network: MemoryNetwork,
    id: NodeId,
    own: Arc<Node>,
}

impl MemoryTransport {
    /// What passed between this node and each of its peers. Peers count as connected always.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<NodeId, PeerStats> {
        lock(&self.own.peers).clone()
    }

    /// Whether this is still the node's transport, and not one from before a restart.
    fn is_current(&self) -> bool {
        let wires = lock(&self.network.wires);
        wires.nodes.get(&self.id).is_some_and(|node| Arc::ptr_eq(node, &self.own))
    }

    fn leave(&self) {
        let mut wires = lock(&self.network.wires);
        if wires.nodes.get(&self.id).is_some_and(|node| Arc::ptr_eq(node, &self.own)) {
            wires.nodes.remove(&self.id);
        }
        drop(wires);
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
        // Looked up again: the other side's table may not be locked under our own, or two nodes
        // that send to each other at once would wait for each other.
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
        self.own.inbox.take().await
    }

    fn set_peers(&self, peers: &[Peer]) {
        let mut known = lock(&self.own.peers);
        let fresh = PeerStats { connected: true, connections: 1, ..PeerStats::default() };
        let kept = |peer: &Peer| known.get(&peer.node).copied().unwrap_or(fresh);
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

    const LIMITS: Limits = Limits { max_frame: 100, queue_frames: 4, queue_bytes: 250 };

    fn pair(network: &MemoryNetwork) -> (MemoryTransport, MemoryTransport) {
        let (one, two) = (network.join(NodeId(1)), network.join(NodeId(2)));
        one.set_peers(&[Peer { node: NodeId(2), address: String::new() }]);
        two.set_peers(&[Peer { node: NodeId(1), address: String::new() }]);
        (one, two)
    }

    #[test]
    fn full_queues_drop_and_count() {
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
    fn a_cut_is_one_way_and_heals() {
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
    async fn a_restarted_node_replaces_the_earlier_one() {
        let network = MemoryNetwork::new(LIMITS);
        let (one, earlier) = pair(&network);
        let later = network.join(NodeId(2));
        later.set_peers(&[Peer { node: NodeId(1), address: String::new() }]);
        assert_eq!(earlier.recv().await, None);
        earlier.send(NodeId(1), Lane::Log, "from the grave".into());
        drop(earlier);
        one.send(NodeId(2), Lane::Log, "hello".into());
        assert_eq!(later.recv().await, Some((NodeId(1), "hello".into())));
        assert_eq!(one.stats()[&NodeId(2)].received_frames, 0);
    }
}
