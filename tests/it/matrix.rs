//! Every protocol on every log store over every transport: the layers can be swapped one by one.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_kv::{Answer, Command, KeyRange, KvStore, OpAnswer, Put, Query, Range, Reply};
use synod_multi_paxos::MultiPaxos;
use synod_node::alarm::Alarm;
use synod_node::run::{Clock, Handle, Parts, Running, launch};
use synod_raft::Raft;
use synod_replica::{Applier, Driver, Outcome, Replica, Settings};
use synod_storage::{Identity, LogStore, MemoryDisk, MemoryLog, RocksLog};
use synod_transport::certs::CertificateAuthority;
use synod_transport::quic::{Credentials, QuicConfig, QuicTransport};
use synod_transport::{MemoryNetwork, Transport};
use synod_types::{ClusterId, GroupId, Incarnation, Instant, Membership, NodeId, Slot};

const CLUSTER: ClusterId = ClusterId(7);
const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const WRITES: usize = 60;
/// Far beyond what any of this takes: only a cluster that does not serve waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Recovers one node's replica of a protocol.
type Open = fn(Instant, Settings, &synod_storage::Saved, Membership) -> Box<dyn Driver>;

fn raft(
    now: Instant,
    settings: Settings,
    saved: &synod_storage::Saved,
    members: Membership,
) -> Box<dyn Driver> {
    let config = synod_raft::Config::new(settings.node, members).expect("it is a member");
    let replica = Replica::<Raft>::open(now, settings, config, saved, Slot::ZERO);
    Box::new(replica.expect("an empty store opens"))
}

fn multi_paxos(
    now: Instant,
    settings: Settings,
    saved: &synod_storage::Saved,
    members: Membership,
) -> Box<dyn Driver> {
    let config = synod_multi_paxos::Config::new(settings.node, members).expect("it is a member");
    let replica = Replica::<MultiPaxos>::open(now, settings, config, saved, Slot::ZERO);
    Box::new(replica.expect("an empty store opens"))
}

fn basic_paxos(
    now: Instant,
    settings: Settings,
    saved: &synod_storage::Saved,
    members: Membership,
) -> Box<dyn Driver> {
    let config = synod_basic_paxos::Config::new(settings.node, members).expect("it is a member");
    let replica = Replica::<BasicPaxos>::open(now, settings, config, saved, Slot::ZERO);
    Box::new(replica.expect("an empty store opens"))
}

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
            let identity = Identity { cluster: CLUSTER, node };
            Box::new(RocksLog::open(path, identity, fresh).expect("a new store opens"))
        }
    }
}

/// The transports of all nodes, and where each listens.
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

fn start(
    open: Open,
    mut log: Box<dyn LogStore>,
    node: NodeId,
    transport: Arc<dyn Transport>,
    addresses: BTreeMap<NodeId, String>,
) -> (Handle, Running) {
    let members = Membership::new(NODES, []).expect("a group");
    let clock = Clock::start();
    let saved = log.load(GroupId(0)).expect("a new store loads");
    let settings = Settings::new(CLUSTER, node, log.life(), node.0);
    let state = Box::new(MemoryDisk::new(Incarnation(1)).open_state());
    let applier = Applier::open(Box::new(KvStore::new()), state, settings.session());
    let driver = open(clock.now(), settings, &saved, members);
    let parts = Parts {
        driver,
        log,
        applier: applier.expect("an empty state opens"),
        transport,
        addresses,
        request_timeout: PATIENCE,
        clock,
    };
    let (alarm, _alarms) = Alarm::new();
    launch(parts, &alarm).expect("threads start")
}

async fn put(node: &Handle, number: usize) {
    let key = Bytes::from(format!("key {number}"));
    let put = Command::Put(Put::new(key.clone(), key));
    let outcome = node.request(put.encode()).await.expect("it is taken");
    let Outcome::Done(_, reply) = outcome else { panic!("write {number}: {outcome:?}") };
    Reply::decode(&reply).expect("a reply").answer.expect("a put works");
}

async fn count(node: &Handle) -> u64 {
    assert_eq!(node.read_barrier().await, Ok(Outcome::Readable));
    let query = Query::Range(Range::new(KeyRange::all()));
    let reply = node.view().await.expect("it is taken").query(&query.encode());
    match Reply::decode(&reply).expect("a reply").answer {
        Ok(Answer::Op(OpAnswer::Range(found))) => found.count,
        other => panic!("{other:?}"),
    }
}

/// Writes through every node at once, then reads through every node.
fn serves(open: Open, store: Store, net: Net) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime starts");
    runtime.block_on(async {
        let (ends, addresses) = open_net(net);
        let nodes: Vec<_> = NODES
            .into_iter()
            .zip(ends)
            .map(|(node, end)| {
                let log = open_log(store, folder.path(), node);
                start(open, log, node, end, addresses.clone())
            })
            .collect();
        let mut writes = tokio::task::JoinSet::new();
        for number in 0..WRITES {
            let node = nodes[number % nodes.len()].0.clone();
            writes.spawn(async move { put(&node, number).await });
        }
        while let Some(write) = writes.join_next().await {
            write.expect("every write is acknowledged");
        }
        for (node, _) in &nodes {
            assert_eq!(count(node).await, WRITES as u64);
        }
        for (_, running) in nodes {
            tokio::task::spawn_blocking(|| running.stop()).await.expect("it stops");
        }
    });
}

macro_rules! matrix {
    ($($protocol:ident: $($name:ident($store:ident, $net:ident)),*;)*) => {$(
        mod $protocol {
            use super::{Net, Store};
            $(
                #[test]
                fn $name() {
                    super::serves(super::$protocol, Store::$store, Net::$net);
                }
            )*
        }
    )*};
}

matrix! {
    raft:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
    multi_paxos:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
    basic_paxos:
        on_memory_over_memory(Memory, Memory),
        on_rocksdb_over_memory(Rocks, Memory),
        on_memory_over_quic(Memory, Quic),
        on_rocksdb_over_quic(Rocks, Quic);
}
