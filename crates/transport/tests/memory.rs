//! The conformance suite over the network in memory.

use async_trait::async_trait;
use std::sync::Arc;
use synod_transport::conformance::{self, FLOOD_FRAME_BYTES, Harness};
use synod_transport::{MemoryNetwork, Transport, TransportLimits};
use synod_types::NodeId;

struct Memory {
    network: MemoryNetwork,
    limits: TransportLimits,
}

#[async_trait]
impl Harness for Memory {
    async fn start(&mut self, node: NodeId) -> Arc<dyn Transport> {
        Arc::new(self.network.join(node))
    }

    fn address(&self, node: NodeId) -> String {
        format!("memory-{node}")
    }

    fn max_frame(&self) -> usize {
        self.limits.max_frame
    }

    fn flood_frames(&self) -> usize {
        self.limits.queue_bytes / FLOOD_FRAME_BYTES + 2
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_network_passes_the_conformance_suite() {
    let limits = TransportLimits { max_frame: 200_000, queue_frames: 1000, queue_bytes: 500_000 };
    conformance::run(&mut Memory { network: MemoryNetwork::new(limits), limits }).await;
}
