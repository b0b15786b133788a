//! A transport of your own: channels between tasks. Four methods make it one, the conformance
//! suite says whether it is a good one.
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

/// Emptied by `close`: the receiver ends when the last sender is gone.
type Queue = Mutex<Option<Sender<(NodeId, Bytes)>>>;

/// A node's way in, and which peers may use it.
#[derive(Clone)]
struct Door {
    peers: Arc<RwLock<Vec<NodeId>>>,
    queue: Arc<Queue>,
}

/// The "addresses": which node's door is where.
type Town = Arc<RwLock<BTreeMap<NodeId, Door>>>;

struct Channels {
    id: NodeId,
    own: Door,
    town: Town,
    arrived: tokio::sync::Mutex<Receiver<(NodeId, Bytes)>>,
}

impl Channels {
    fn new(id: NodeId, town: &Town) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let own = Door { peers: Arc::default(), queue: Arc::new(Mutex::new(Some(sender))) };
        town.write().unwrap().insert(id, own.clone());
        Self { id, own, town: Arc::clone(town), arrived: receiver.into() }
    }
}

#[async_trait]
impl Transport for Channels {
    fn send(&self, to: NodeId, _lane: Lane, frame: Bytes) {
        let door = self.town.read().unwrap().get(&to).cloned();
        let Some(door) = door.filter(|_| frame.len() <= MAX_FRAME) else { return };
        let knows = |door: &Door, node| door.peers.read().unwrap().contains(&node);
        if knows(&self.own, to) && knows(&door, self.id) {
            // A full queue drops the frame: a transport never blocks.
            let _ =
                door.queue.lock().unwrap().as_ref().map(|queue| queue.try_send((self.id, frame)));
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

struct Suite(Town);

#[async_trait]
impl Harness for Suite {
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(Channels::new(node, &self.0))
    }

    fn address(&self, node: NodeId) -> String {
        node.to_string()
    }

    fn max_frame(&self) -> usize {
        MAX_FRAME
    }

    fn flood(&self) -> usize {
        QUEUE + 1
    }
}

#[tokio::main]
async fn main() {
    conformance::run(&mut Suite(Town::default())).await;
    println!("the transport conforms");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn own_transport_conforms() {
        conformance::run(&mut Suite(Town::default())).await;
    }
}
