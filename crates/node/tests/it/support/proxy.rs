//! The network between nodes: a UDP proxy for each ordered pair of nodes.

use super::free_ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

const NODES: usize = 3;

/// The links between three nodes. Each direction can be cut.
pub(crate) struct Links {
    runtime: Runtime,
    first: u16,
    /// `cut[a][b]` is true if packets from node a to node b are dropped.
    cut: [[Arc<AtomicBool>; NODES]; NODES],
}

impl Links {
    pub(crate) fn new() -> Self {
        Self {
            runtime: Runtime::new().expect("a runtime"),
            first: free_ports((NODES * NODES) as u16),
            cut: Default::default(),
        }
    }

    /// Returns the port at which node `from` dials node `to`.
    pub(crate) fn port(&self, from: usize, to: usize) -> u16 {
        self.first + (from * NODES + to) as u16
    }

    /// Starts forwarding datagrams to the ports that the nodes listen on.
    pub(crate) fn open(&self, peers: &[u16]) {
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let near = self.runtime.block_on(bind(self.port(from, to)));
                let far = self.runtime.block_on(bind(0));
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, peers[to]));
                let there = Arc::clone(&self.cut[from][to]);
                let back = Arc::clone(&self.cut[to][from]);
                self.runtime.spawn(forward(near, far, target, there, back));
            }
        }
    }

    /// Cuts the links between one node and all others, in both directions.
    pub(crate) fn isolate(&self, node: usize) {
        self.switch(node, true);
    }

    /// Restores the links of a node.
    pub(crate) fn heal(&self, node: usize) {
        self.switch(node, false);
    }

    fn switch(&self, node: usize, cut: bool) {
        for other in (0..NODES).filter(|other| *other != node) {
            self.cut[node][other].store(cut, Ordering::SeqCst);
            self.cut[other][node].store(cut, Ordering::SeqCst);
        }
    }
}

async fn bind(port: u16) -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port")
}

/// Forwards datagrams between the node that dials `near` and `target`, unless the direction is cut.
async fn forward(
    near: UdpSocket,
    far: UdpSocket,
    target: SocketAddr,
    there: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
) {
    let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
    let mut dialler = None;
    loop {
        // A datagram that cannot be sent is lost: a stopped node's port rejects it.
        tokio::select! {
            received = near.recv_from(&mut out) => {
                let Ok((size, from)) = received else { continue };
                dialler = Some(from);
                if !there.load(Ordering::SeqCst) {
                    let _ = far.send_to(&out[..size], target).await;
                }
            }
            received = far.recv_from(&mut home) => {
                let Ok((size, _)) = received else { continue };
                if let Some(to) = dialler.filter(|_| !back.load(Ordering::SeqCst)) {
                    let _ = near.send_to(&home[..size], to).await;
                }
            }
        }
    }
}
