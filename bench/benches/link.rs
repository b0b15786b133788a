//! Throughput of a link between two nodes. One node sends a batch of frames of 256 bytes; the other replies
//! with one frame after it has received the batch. A batch of 1 measures the round trip.

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::Arc;
use synod_transport::certificates::CertificateAuthority;
use synod_transport::quic::{Credentials, QuicConfig, QuicTransport};
use synod_transport::{MemoryNetwork, Peer, Transport};
use synod_types::{ClusterId, Lane, NodeId};
use tokio::runtime::Runtime;

const FRAME: usize = 256;
const CLUSTER: ClusterId = ClusterId(1);
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

/// The two ends of a link.
type Pair = [Arc<dyn Transport>; 2];

fn link(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    let memory = runtime.block_on(async { memory() });
    measure(criterion, &runtime, "memory", &memory);
    let quic = runtime.block_on(async { quic() });
    measure(criterion, &runtime, "quic", &quic);
}

fn memory() -> Pair {
    let network = MemoryNetwork::default();
    let pair: Pair = NODES.map(|node| Arc::new(network.join(node)) as Arc<dyn Transport>);
    set_peers(&pair, ["memory", "memory"].map(String::from));
    pair
}

fn quic() -> Pair {
    let authority = CertificateAuthority::new(CLUSTER).expect("a new authority");
    let ends = NODES.map(|node| {
        let issued = authority.issue_node(CLUSTER, node).expect("a new certificate");
        let credentials = Credentials {
            ca: authority.certificate_pem().to_owned(),
            certificate: issued.certificate,
            key: issued.key,
        };
        let listen = ([127, 0, 0, 1], 0).into();
        let config = QuicConfig::new(CLUSTER, node, listen, credentials);
        QuicTransport::bind(config).expect("a free port")
    });
    let addresses = [0, 1].map(|end: usize| ends[end].local_addr().to_string());
    let pair = ends.map(|end| Arc::new(end) as Arc<dyn Transport>);
    set_peers(&pair, addresses);
    pair
}

fn set_peers(pair: &Pair, addresses: [String; 2]) {
    let [first, second] = addresses;
    pair[0].set_peers(&[Peer { node: NODES[1], address: second }]);
    pair[1].set_peers(&[Peer { node: NODES[0], address: first }]);
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, name: &str, [here, there]: &Pair) {
    let frame = Bytes::from(vec![7; FRAME]);
    runtime.block_on(connect(here, there, &frame));
    let mut group = criterion.benchmark_group("link");
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(BenchmarkId::new(name, batch), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let echo = async {
                        for _ in 0..batch {
                            there.recv().await.expect("the link is open");
                        }
                        there.send(NODES[0], Lane::Log, frame.clone());
                    };
                    let send = async {
                        for _ in 0..batch {
                            here.send(NODES[1], Lane::Log, frame.clone());
                        }
                        here.recv().await.expect("the link is open");
                    };
                    tokio::join!(send, echo);
                });
            });
        });
    }
}

/// Sends frames in each direction until one arrives, then receives the remaining ones.
async fn connect(here: &Arc<dyn Transport>, there: &Arc<dyn Transport>, frame: &Bytes) {
    let limit = std::time::Duration::from_millis(200);
    for (from, to, target) in [(here, there, NODES[1]), (there, here, NODES[0])] {
        loop {
            from.send(target, Lane::Log, frame.clone());
            if tokio::time::timeout(limit, to.recv()).await.is_ok() {
                break;
            }
        }
        while tokio::time::timeout(limit, to.recv()).await.is_ok() {}
    }
}

criterion_group!(benches, link);
criterion_main!(benches);
