//! Runs every protocol with every log store and every transport: each layer can be replaced independently.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_kv::{Command, KeyRange, KvStore, OpResult, Put, Query, Range, Reply, ReplyBody};
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_runtime::Replica;
use synod_storage::{LogStore, MemoryLog, MemoryState, RocksLog, StoreIdentity};
use synod_transport::certificates::CertificateAuthority;
use synod_transport::quic::{Credentials, QuicConfig, QuicTransport};
use synod_transport::{MemoryNetwork, Transport};
use synod_types::{ClusterId, Incarnation, NodeId};

const CLUSTER: ClusterId = ClusterId(7);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const WRITES: usize = 60;
/// Timeout of a request. It is so long that only a cluster that does not serve exceeds it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
enum Store {
    Memory,
    Rocks,
}

#[derive(Clone, Copy)]
enum Net {
    Memory,
    Quic,
}

fn open_log(store: Store, folder: &Path, node: NodeId) -> Box<dyn LogStore> {
    let fresh = Incarnation(100 + node.0);
    match store {
        Store::Memory => Box::new(MemoryLog::new(fresh)),
        Store::Rocks => {
            let path = folder.join(format!("log-{node}"));
            let identity = StoreIdentity { cluster: CLUSTER, node };
            Box::new(RocksLog::open(path, identity, fresh).expect("a new store opens"))
        }
    }
}

/// Returns the transports of all nodes, and their addresses.
fn open_net(net: Net) -> (Vec<Arc<dyn Transport>>, BTreeMap<NodeId, String>) {
    match net {
        Net::Memory => {
            let network = MemoryNetwork::default();
            let ends = NODES.map(|node| Arc::new(network.join(node)) as Arc<dyn Transport>);
            (ends.to_vec(), NODES.map(|node| (node, node.to_string())).into())
        }
        Net::Quic => {
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
                Arc::new(QuicTransport::bind(config).expect("a free port"))
            });
            let addresses = NODES.iter().zip(&ends);
            let addresses = addresses.map(|(node, end)| (*node, end.local_addr().to_string()));
            let addresses = addresses.collect();
            (ends.map(|end| end as Arc<dyn Transport>).to_vec(), addresses)
        }
    }
}

async fn start<P: Protocol>(
    log: Box<dyn LogStore>,
    node: NodeId,
    transport: Arc<dyn Transport>,
    addresses: BTreeMap<NodeId, String>,
) -> Replica {
    Replica::builder::<P>(CLUSTER, node)
        .members(addresses)
        .stores(log, Box::new(MemoryState::new()))
        .transport(transport)
        .request_timeout(REQUEST_TIMEOUT)
        .start_untyped(KvStore::new())
        .await
        .expect("new stores open")
}

async fn put(node: &Replica, number: usize) {
    let key = Bytes::from(format!("key {number}"));
    let put = Command::Put(Put::new(key.clone(), key));
    let reply = node.execute_bytes(put.encode()).await.expect("an acknowledged write");
    Reply::decode(&reply).expect("a reply").result.expect("a successful put");
}

async fn count(node: &Replica) -> u64 {
    assert_eq!(node.read_barrier().await, Ok(()));
    let query = Query::Range(Range::new(KeyRange::all()));
    let reader = node.reader().await.expect("a reader");
    let reply = reader.query(&query.encode()).expect("the state is in memory");
    match Reply::decode(&reply).expect("a reply").result {
        Ok(ReplyBody::Op(OpResult::Range(found))) => found.count,
        other => panic!("{other:?}"),
    }
}

/// Checks that a cluster serves: writes through all nodes concurrently, then reads through each node.
fn check_serves<P: Protocol>(store: Store, net: Net) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    runtime.block_on(async {
        let (ends, addresses) = open_net(net);
        let mut nodes = Vec::new();
        for (node, end) in NODES.into_iter().zip(ends) {
            let log = open_log(store, folder.path(), node);
            nodes.push(start::<P>(log, node, end, addresses.clone()).await);
        }
        let mut writes = tokio::task::JoinSet::new();
        for number in 0..WRITES {
            let node = nodes[number % nodes.len()].clone();
            writes.spawn(async move { put(&node, number).await });
        }
        while let Some(write) = writes.join_next().await {
            write.expect("every write is acknowledged");
        }
        for node in &nodes {
            assert_eq!(count(node).await, WRITES as u64);
        }
        for node in nodes {
            node.stop().await.expect("the replica stops");
        }
    });
}

macro_rules! matrix {
    ($($protocol:ident $type:ident: $($name:ident($store:ident, $net:ident)),*;)*) => {$(
        mod $protocol {
            use super::{Net, Store};
            $(
                #[test]
                fn $name() {
                    super::check_serves::<super::$type>(Store::$store, Net::$net);
                }
            )*
        }
    )*};
}

matrix! {
    raft Raft:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
    multi_paxos MultiPaxos:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
    basic_paxos BasicPaxos:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
}
