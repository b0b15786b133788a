//! Long links that lose packets: a UDP proxy for each ordered pair of nodes.

use crate::support::free_ports;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

const NODES: usize = 3;

/// The links between three nodes, all with the same delay and without a rate limit.
pub(crate) struct Wan {
    runtime: Runtime,
    first: u16,
    delay: Duration,
    losses: Arc<Losses>,
}

/// Packet loss: its probability, and counters.
#[derive(Default)]
struct Losses {
    /// Probability of the loss of a packet, in thousandths.
    thousandths: AtomicU64,
    carried: AtomicU64,
    lost: AtomicU64,
}

/// A packet and its time of arrival.
type Packet = (Instant, Vec<u8>);

impl Wan {
    /// Returns links with this delay and, at first, without loss.
    pub(crate) fn new(delay: Duration) -> Self {
        Self {
            runtime: Runtime::new().expect("a runtime"),
            first: free_ports((NODES * NODES) as u16),
            delay,
            losses: Arc::default(),
        }
    }

    /// Returns the port at which node `from` dials node `to`.
    pub(crate) fn port(&self, from: usize, to: usize) -> u16 {
        self.first + (from * NODES + to) as u16
    }

    /// Sets the probability of packet loss, in thousandths.
    pub(crate) fn lose(&self, thousandths: u64) {
        self.losses.carried.store(0, Ordering::Relaxed);
        self.losses.thousandths.store(thousandths, Ordering::Relaxed);
    }

    /// Returns the share of packets lost since the last call of [`Wan::lose`].
    pub(crate) fn lost_share(&self) -> f64 {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
        count(&self.losses.lost) / count(&self.losses.carried).max(1.0)
    }

    /// Starts forwarding packets to the ports that the nodes listen on.
    pub(crate) fn open(&self, peers: &[u16]) {
        let pairs = (0..NODES).flat_map(|from| (0..NODES).map(move |to| (from, to)));
        for (from, to) in pairs.filter(|(from, to)| from != to) {
            let near = self.runtime.block_on(bind(self.port(from, to)));
            let far = self.runtime.block_on(bind(0));
            // A node dials from the port that it listens on.
            self.forward(&near, &far, peers[to]);
            self.forward(&far, &near, peers[from]);
        }
    }

    /// Forwards the packets received at `from` to a node, sent from `to`.
    fn forward(&self, from: &Arc<UdpSocket>, to: &Arc<UdpSocket>, node: u16) {
        let (packets, arriving) = unbounded_channel();
        let losses = Arc::clone(&self.losses);
        self.runtime.spawn(depart(Arc::clone(from), self.delay, losses, packets));
        let node = SocketAddr::from((Ipv4Addr::LOCALHOST, node));
        self.runtime.spawn(arrive(Arc::clone(to), node, arriving));
    }
}

async fn bind(port: u16) -> Arc<UdpSocket> {
    Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port"))
}

/// Receives packets from a socket, drops some, and queues the others with their time of arrival.
async fn depart(
    from: Arc<UdpSocket>,
    delay: Duration,
    losses: Arc<Losses>,
    packets: UnboundedSender<Packet>,
) {
    let mut packet = vec![0; 65_536];
    loop {
        // A stopped node's port rejects packets, which the next call reports as an error.
        let Ok(size) = from.recv(&mut packet).await else { continue };
        let number = losses.carried.fetch_add(1, Ordering::Relaxed);
        if pseudorandom(number) % 1000 < losses.thousandths.load(Ordering::Relaxed) {
            losses.lost.fetch_add(1, Ordering::Relaxed);
        } else if packets.send((Instant::now() + delay, packet[..size].to_vec())).is_err() {
            return;
        }
    }
}

/// Delivers each packet at its time of arrival.
async fn arrive(to: Arc<UdpSocket>, node: SocketAddr, mut packets: UnboundedReceiver<Packet>) {
    while let Some((due, packet)) = packets.recv().await {
        tokio::time::sleep_until(due).await;
        // A packet that cannot be sent is lost.
        let _ = to.send_to(&packet, node).await;
    }
}

/// Returns a pseudorandom number for a counter (SplitMix64).
fn pseudorandom(count: u64) -> u64 {
    let mut mixed = count.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
