//! Errors that a user meets: each names the remedy.

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

async fn refusal(started: impl Future<Output = Result<Replica<Words>, StartError>>) -> String {
    started.await.expect_err("it does not start").to_string()
}

#[tokio::test]
async fn builder_names_what_is_missing_or_wrong() {
    let bare = || Replica::builder::<Raft>(CLUSTER, ME);
    let transport = || Arc::new(MemoryNetwork::default().join(ME));
    let words = Words::default;
    let missing = |part| format!("the replica has no {part}: give it one with `Builder::{part}`");
    assert_eq!(refusal(bare().start(words())).await, missing("members"));
    let without = bare().members([(ME, "1")]).in_memory();
    assert_eq!(refusal(without.start(words())).await, missing("transport"));
    assert_eq!(refusal(alone().start(words())).await, missing("stores"));
    let twice = alone().members([(ME, "1"), (ME, "2")]).in_memory();
    let error = refusal(twice.start(words())).await;
    assert!(error.contains("node 1 is listed twice"), "{error}");
    let stranger = bare().members([(NodeId(2), "2")]).in_memory().transport(transport());
    let error = refusal(stranger.start(words())).await;
    assert!(error.starts_with("the settings cannot be used: "), "{error}");
}

#[tokio::test]
async fn state_without_its_log_is_refused() {
    let disk = synod_runtime::storage::MemoryDisk::new(synod_runtime::types::Incarnation(1));
    let stores = || (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let (log, state) = stores();
    let replica = alone().stores(log, state).start(Words::default()).await.unwrap();
    replica.execute("kept".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    let (_, state) = stores();
    let error = refusal(alone().stores(Stores::in_memory().log, state).start(Words::default()));
    let error = error.await;
    assert!(error.contains("the log was rolled back or replaced; do not start"), "{error}");
}

#[tokio::test]
async fn state_of_another_machine_is_refused() {
    let disk = synod_runtime::storage::MemoryDisk::new(synod_runtime::types::Incarnation(1));
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let replica = alone().stores(log, state).start(Words::default()).await.unwrap();
    replica.execute("a word".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let error = alone().stores(log, state).start(Asymmetric).await.unwrap_err().to_string();
    assert_eq!(error, "the stored state cannot be loaded: not mine");
}

/// A command that can be encoded and not decoded.
#[derive(Debug, Serialize)]
struct WriteOnly(u8);

impl<'de> Deserialize<'de> for WriteOnly {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("never"))
    }
}

#[derive(Clone)]
struct Asymmetric;

impl TypedMachine for Asymmetric {
    type Command = WriteOnly;
    type Query = ();
    type Reply = ();

    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        let foreign = |_| Err(StateError::Malformed("not mine".into()));
        state.range(&[], None).next().map_or(Ok(()), foreign)
    }

    fn apply(&mut self, _: Slot, _: WriteOnly, _: &mut Output) {}

    fn query(&self, (): ()) {}
}

#[tokio::test]
async fn command_that_no_node_can_decode_is_a_codec_error() {
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
    assert!(error.is_retryable(), "it never left the queue");
}

#[tokio::test]
async fn command_beyond_the_limits_is_too_large() {
    let replica = alone().in_memory().start(Words::default()).await.unwrap();
    for bytes in [16 << 20, 65 << 20] {
        let error = replica.execute("w".repeat(bytes)).await.unwrap_err();
        assert!(matches!(error, ReplicaError::TooLarge { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
}
