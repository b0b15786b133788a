//! The network between nodes: a UDP proxy for each direction in which a node dials another.

use super::free_ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

const NODES: usize = 3;

/// Every way between three nodes, each with a switch.
pub(crate) struct Links {
    runtime: Runtime,
    first: u16,
    /// Whether what node a sends to node b is dropped: `cut[a][b]`.
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

    /// The port under which node `from` finds node `to`.
    pub(crate) fn port(&self, from: usize, to: usize) -> u16 {
        self.first + (from * NODES + to) as u16
    }

    /// Begins to carry datagrams to where the nodes listen.
    pub(crate) fn open(&self, peers: &[u16]) {
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let near = self.runtime.block_on(bind(self.port(from, to)));
                let far = self.runtime.block_on(bind(0));
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, peers[to]));
                let there = Arc::clone(&self.cut[from][to]);
                let back = Arc::clone(&self.cut[to][from]);
                self.runtime.spawn(carry(near, far, target, there, back));
            }
        }
    }

    /// Cuts one node off from all others, in both directions.
    pub(crate) fn isolate(&self, node: usize) {
        self.switch(node, true);
    }

    /// Ends the cut.
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

/// Carries datagrams between whoever dials `near` and `target`, unless that direction is cut.
async fn carry(
    near: UdpSocket,
    far: UdpSocket,
    target: SocketAddr,
    there: Arc<AtomicBool>,
    back: Arc<AtomicBool>,
) {
    let (mut out, mut home) = (vec![0; 65_536], vec![0; 65_536]);
    let mut dialler = None;
    loop {
        // What cannot be sent is lost, as on any network: a node that is down refuses.
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
