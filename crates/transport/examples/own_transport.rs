//! A transport of your own: channels between tasks, tested with the conformance suite.
//!
//! Run it with `cargo run -p synod-transport --example own_transport`.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, RwLock};
use synod_transport::conformance::{self, Harness};
use synod_transport::{Peer, Transport};
use synod_types::{Lane, NodeId};
use tokio::sync::mpsc::{self, Receiver, Sender};

const MAX_FRAME: usize = 1 << 20;
const QUEUE: usize = 256;

/// The only sender of a node's queue. `close` drops it, which ends the receiver.
type Queue = Mutex<Option<Sender<(NodeId, Bytes)>>>;

/// The queue of a node, and the peers that may use it.
#[derive(Clone)]
struct Port {
    peers: Arc<RwLock<Vec<NodeId>>>,
    queue: Arc<Queue>,
}

/// The port of each node, by its address.
type Directory = Arc<RwLock<BTreeMap<NodeId, Port>>>;

struct Channels {
    id: NodeId,
    own: Port,
    directory: Directory,
    arrived: tokio::sync::Mutex<Receiver<(NodeId, Bytes)>>,
}

impl Channels {
    fn new(id: NodeId, directory: &Directory) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let own = Port { peers: Arc::default(), queue: Arc::new(Mutex::new(Some(sender))) };
        directory.write().unwrap().insert(id, own.clone());
        Self { id, own, directory: Arc::clone(directory), arrived: receiver.into() }
    }
}

#[async_trait]
impl Transport for Channels {
    fn send(&self, to: NodeId, _lane: Lane, frame: Bytes) {
        let port = self.directory.read().unwrap().get(&to).cloned();
        let Some(port) = port.filter(|_| frame.len() <= MAX_FRAME) else { return };
        let has_peer = |port: &Port, node| port.peers.read().unwrap().contains(&node);
        if has_peer(&self.own, to) && has_peer(&port, self.id) {
            // If the queue is full, the frame is dropped: a transport must not block.
            let _ =
                port.queue.lock().unwrap().as_ref().map(|queue| queue.try_send((self.id, frame)));
        }
    }

    async fn recv(&self) -> Option<(NodeId, Bytes)> {
        self.arrived.lock().await.recv().await
    }

    fn set_peers(&self, peers: &[Peer]) {
        let others = peers.iter().map(|peer| peer.node).filter(|node| *node != self.id);
        *self.own.peers.write().unwrap() = others.collect();
    }

    async fn close(&self) {
        self.own.queue.lock().unwrap().take();
    }
}

struct ChannelHarness(Directory);

#[async_trait]
impl Harness for ChannelHarness {
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Channels::new(node, &self.0))
    }

    fn address(&self, node: NodeId) -> String {
        node.to_string()
    }

    fn max_frame(&self) -> usize {
        MAX_FRAME
    }

    fn flood_frames(&self) -> usize {
        QUEUE + 1
    }
}

#[tokio::main]
async fn main() {
    conformance::run(&mut ChannelHarness(Directory::default())).await;
    println!("the transport passes the conformance suite");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn own_transport_passes_the_suite() {
        conformance::run(&mut ChannelHarness(Directory::default())).await;
    }
}
