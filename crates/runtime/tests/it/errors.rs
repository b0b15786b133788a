//! Errors of starts and calls: each text names the action for the user.

use crate::support::{CLUSTER, ME, Words, alone};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use std::time::Duration;
use synod_raft::Raft;
use synod_runtime::storage::MemoryState;
use synod_runtime::{
    MemoryNetwork, NodeId, Output, Replica, ReplicaError, Slot, StartError, StateError, StateView,
    Stores, TypedMachine,
};

async fn start_error(started: impl Future<Output = Result<Replica<Words>, StartError>>) -> String {
    started.await.expect_err("the replica started").to_string()
}

#[tokio::test]
async fn builder_names_missing_and_invalid_parts() {
    let bare = || Replica::builder::<Raft>(CLUSTER, ME);
    let transport = || Arc::new(MemoryNetwork::default().join(ME));
    let words = Words::default;
    let missing = |part| format!("the replica has no {part}: set it with `Builder::{part}`");
    assert_eq!(start_error(bare().start(words())).await, missing("members"));
    let without = bare().members([(ME, "1")]).in_memory();
    assert_eq!(start_error(without.start(words())).await, missing("transport"));
    assert_eq!(start_error(alone().start(words())).await, missing("stores"));
    let twice = alone().members([(ME, "1"), (ME, "2")]).in_memory();
    let error = start_error(twice.start(words())).await;
    assert!(error.contains("node 1 is listed twice"), "{error}");
    let other = bare().members([(NodeId(2), "2")]).in_memory().transport(transport());
    let error = start_error(other.start(words())).await;
    assert!(error.starts_with("invalid settings: "), "{error}");
}

#[tokio::test]
async fn state_without_its_log_is_rejected() {
    let disk = synod_runtime::storage::MemoryDisk::new(synod_runtime::types::Incarnation(1));
    let stores = || (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let (log, state) = stores();
    let replica = alone().stores(log, state).start(Words::default()).await.unwrap();
    replica.execute("kept".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    let (_, state) = stores();
    let error = start_error(alone().stores(Stores::in_memory().log, state).start(Words::default()));
    let error = error.await;
    assert!(error.contains("the log was rolled back or replaced; do not start"), "{error}");
}

#[tokio::test]
async fn state_of_another_state_machine_is_rejected() {
    let disk = synod_runtime::storage::MemoryDisk::new(synod_runtime::types::Incarnation(1));
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let replica = alone().stores(log, state).start(Words::default()).await.unwrap();
    replica.execute("a word".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let error = alone().stores(log, state).start(Asymmetric).await.unwrap_err().to_string();
    assert_eq!(error, "the stored state cannot be loaded: foreign entry");
}

/// Command that can be encoded but not decoded.
#[derive(Debug, Serialize)]
struct WriteOnly(u8);

impl<'de> Deserialize<'de> for WriteOnly {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("not decodable"))
    }
}

/// State machine that cannot decode its own commands, and rejects any stored entry.
#[derive(Clone)]
struct Asymmetric;

impl TypedMachine for Asymmetric {
    type Command = WriteOnly;
    type Query = ();
    type Reply = ();

    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        let foreign = |_| Err(StateError::Malformed("foreign entry".into()));
        state.range(&[], None).next().map_or(Ok(()), foreign)
    }

    fn apply(&mut self, _: Slot, _: WriteOnly, _: &mut Output) {}

    fn query(&self, (): ()) {}
}

#[tokio::test]
async fn command_that_no_node_can_decode_ends_with_a_codec_error() {
    let stores = Stores::in_memory();
    let builder = alone().stores(stores.log, Box::new(MemoryState::new()));
    let replica = builder.start(Asymmetric).await.unwrap();
    let error = replica.execute(WriteOnly(1)).await.unwrap_err();
    assert!(matches!(error, ReplicaError::Codec { .. }), "{error:?}");
    assert!(error.to_string().contains("all nodes must run the same state machine"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn command_without_a_leader_is_retryable() {
    let builder = Replica::builder::<Raft>(CLUSTER, ME)
        .members([1, 2, 3].map(|id| (NodeId(id), id.to_string())))
        .in_memory()
        .transport(Arc::new(MemoryNetwork::default().join(ME)))
        .request_timeout(Duration::from_millis(50));
    let replica = builder.start(Words::default()).await.unwrap();
    let error = replica.execute("lost".to_owned()).await.unwrap_err();
    assert!(matches!(error, ReplicaError::NotLeader { .. }), "{error:?}");
    assert!(error.is_retryable(), "the command was never proposed");
}

#[tokio::test]
async fn command_beyond_the_size_limits_is_rejected() {
    let replica = alone().in_memory().start(Words::default()).await.unwrap();
    for bytes in [16 << 20, 65 << 20] {
        let error = replica.execute("w".repeat(bytes)).await.unwrap_err();
        assert!(matches!(error, ReplicaError::TooLarge { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
}
