//! Counter replicated by three Raft nodes in one process, without a disk and without a network.
//!
//! `cargo run -p synod-runtime --no-default-features --example in_memory_counter`

use std::sync::Arc;
use synod_raft::Raft;
use synod_runtime::{
    ClusterId, Consistency, MemoryNetwork, NodeId, Output, Replica, Slot, StateError, StateView,
    TypedMachine, decode, encode,
};

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
        output.changes.put("count", encode(&self.0));
        self.0
    }

    fn query(&self, (): ()) -> u64 {
        self.0
    }
}

/// Starts three nodes, and executes a command on each.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (network, mut replicas) = (MemoryNetwork::default(), Vec::new());
    let members = [1, 2, 3].map(|id| (NodeId(id), id.to_string()));
    for (me, _) in &members {
        let builder = Replica::builder::<Raft>(ClusterId(7), *me).members(members.clone());
        let builder = builder.in_memory().transport(Arc::new(network.join(*me)));
        replicas.push(builder.start(Counter::default()).await?);
    }
    for replica in &replicas {
        println!("count: {}", replica.execute(14).await?);
    }
    assert_eq!(replicas[0].read((), Consistency::Linearizable).await?, 42);
    Ok(())
}
