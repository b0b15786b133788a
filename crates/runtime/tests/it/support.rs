//! Typed state machine, and clusters of it in one process.

use std::sync::Arc;
use std::time::Duration;
use synod_raft::Raft;
use synod_runtime::{
    Builder, ClusterId, MemoryNetwork, NodeId, Output, Replica, Role, Slot, StateError, StateView,
    TypedMachine, decode, encode,
};

pub const CLUSTER: ClusterId = ClusterId(7);
pub const ME: NodeId = NodeId(1);
/// Time limit of one wait in a test, far above its usual duration.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// State machine that appends words to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words(pub Vec<String>);

impl TypedMachine for Words {
    type Command = String;
    type Query = usize;
    type Reply = Option<String>;

    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        self.0 = state.range(&[], None).map(|word| decode(&word?.1)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn apply(&mut self, slot: Slot, word: String, output: &mut Output) -> Option<String> {
        output.changes.put(slot.0.to_be_bytes().to_vec(), encode(&word));
        output.emit(word.clone());
        self.0.push(word);
        self.0.last().cloned()
    }

    fn query(&self, index: usize) -> Option<String> {
        self.0.get(index).cloned()
    }
}

/// Returns a builder of a single-node cluster, without stores.
pub fn alone() -> Builder<Raft> {
    Replica::builder::<Raft>(CLUSTER, ME)
        .members([(ME, "1")])
        .transport(Arc::new(MemoryNetwork::default().join(ME)))
        .request_timeout(TEST_TIMEOUT)
}

/// Starts three nodes in one process; returns their network and their handles.
pub async fn three() -> (MemoryNetwork, Vec<Replica<Words>>) {
    let (network, mut replicas) = (MemoryNetwork::default(), Vec::new());
    for me in [1, 2, 3].map(NodeId) {
        let builder = Replica::builder::<Raft>(CLUSTER, me)
            .members([1, 2, 3].map(|id| (NodeId(id), id.to_string())))
            .in_memory()
            .transport(Arc::new(network.join(me)))
            .request_timeout(TEST_TIMEOUT);
        replicas.push(builder.start(Words::default()).await.unwrap());
    }
    (network, replicas)
}

/// Waits until one of the replicas leads, and returns its index.
pub async fn leader(replicas: &[Replica<Words>]) -> usize {
    let search = async {
        loop {
            let leads = |replica: &Replica<Words>| replica.status().role == Role::Leader;
            match replicas.iter().position(leads) {
                Some(leader) => return leader,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, search).await.expect("a leader is elected")
}
