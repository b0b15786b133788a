//! The conformance suite over QUIC.

use crate::support::{bind, config, loopback};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use synod_transport::Transport;
use synod_transport::conformance::{self, FLOOD_FRAME_BYTES, Harness};
use synod_types::NodeId;

/// Nodes that restart at the same address.
#[derive(Default)]
struct Quic {
    addresses: BTreeMap<NodeId, SocketAddr>,
}

#[async_trait]
impl Harness for Quic {
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport> {
        let mut config = config(node);
        config.listen = self.addresses.get(&node).copied().unwrap_or_else(loopback);
        let transport = bind(&config).await;
        self.addresses.insert(node, transport.local_addr());
        Arc::new(transport)
    }

    fn address(&self, node: NodeId) -> String {
        self.addresses[&node].to_string()
    }

    fn max_frame(&self) -> usize {
        config(NodeId(1)).limits.max_frame
    }

    fn flood_frames(&self) -> usize {
        // Twice the capacity of both queues, of the flow control windows and of a write.
        let config = config(NodeId(1));
        (4 * config.limits.queue_bytes + 8 * config.lane_window as usize) / FLOOD_FRAME_BYTES
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quic_transport_passes_the_conformance_suite() {
    conformance::run(&mut Quic::default()).await;
}
