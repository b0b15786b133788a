//! Durable counter: three Raft nodes in one process, each with RocksDB in a folder of its own, over QUIC
//! with mutual TLS. One node is killed, and the others continue.
//!
//! `cargo run --release -p synod-runtime --example replicated_counter`

use std::sync::Arc;
use synod_raft::Raft;
use synod_runtime::{
    ClusterId, Consistency, NodeId, Output, QuicConfig, QuicTransport, Replica, Slot, StateError,
    StateView, TypedMachine, decode, dev, encode,
};

const CLUSTER: ClusterId = ClusterId(7);

/// State machine: each command adds to the count, and every node reaches the same count.
#[derive(Clone, Default)]
struct Counter(u64);

impl TypedMachine for Counter {
    type Command = u64;
    type Query = ();
    type Reply = u64;

    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        self.0 = state.get(b"count")?.map_or(Ok(0), |count| decode(&count))?;
        Ok(())
    }

    fn apply(&mut self, _: Slot, step: u64, output: &mut Output) -> u64 {
        self.0 = self.0.wrapping_add(step);
        output.changes.put("count", encode(&self.0)); // Changes survive a restart.
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

/// Starts three nodes, executes commands, and kills one node in between.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (folder, mut ends) = (tempfile::tempdir()?, Vec::new());
    for (me, credentials) in dev::credentials(CLUSTER, [1, 2, 3].map(NodeId))? {
        // Port 0 lets the operating system choose a free port.
        let config = QuicConfig::new(CLUSTER, me, "127.0.0.1:0".parse()?, credentials);
        ends.push((me, Arc::new(QuicTransport::bind(config)?)));
    }
    let members: Vec<_> =
        ends.iter().map(|(node, end)| (*node, end.local_addr().to_string())).collect();
    let mut replicas = Vec::new();
    for (me, end) in ends {
        let builder = Replica::builder::<Raft>(CLUSTER, me).members(members.clone());
        let builder = builder.data_dir(folder.path().join(me.to_string())).transport(end);
        replicas.push(builder.start(Counter::default()).await?);
    }
    println!("three nodes: {}", replicas[0].execute(40).await?);
    drop(replicas.remove(0)); // Dropping the last handle kills the node without a clean stop.
    println!("two nodes: {}", replicas[0].execute(2).await?);
    assert_eq!(replicas[1].read((), Consistency::Linearizable).await?, 42);
    for replica in &replicas {
        replica.shutdown().await?;
    }
    Ok(())
}
