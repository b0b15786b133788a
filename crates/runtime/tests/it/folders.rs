//! A data folder keeps to its node, cluster, protocol, members and log.

use crate::support::{CLUSTER, ME, Words, alone};
use std::path::Path;
use std::sync::Arc;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_runtime::{
    Builder, ClusterId, Consistency, MemoryNetwork, NodeId, Protocol, Replica, StartError,
};

async fn start<P: Protocol>(builder: Builder<P>, folder: &Path) -> Result<Replica<Words>, String> {
    let transport = Arc::new(MemoryNetwork::default().join(ME));
    let started = builder.transport(transport).data_dir(folder).start(Words::default()).await;
    started.map_err(|error: StartError| error.to_string())
}

/// A folder in which a node alone has written a word.
async fn used() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let replica = start(alone(), folder.path()).await.unwrap();
    replica.execute("kept".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    folder
}

#[tokio::test]
async fn restarted_node_has_what_was_acknowledged() {
    let folder = used().await;
    let replica = start(alone(), folder.path()).await.unwrap();
    let kept = Ok(Some("kept".to_owned()));
    assert_eq!(replica.read(0, Consistency::Linearizable).await, kept);
    replica.shutdown().await.unwrap();
}

#[tokio::test]
async fn folder_of_another_protocol_is_refused() {
    let folder = used().await;
    let builder = Replica::builder::<MultiPaxos>(CLUSTER, ME).members([(ME, "1")]);
    let error = start(builder, folder.path()).await.unwrap_err();
    let expected = "the data is of the protocol \"raft\", not \"multi-paxos\": \
                    start the protocol that wrote it, or name another folder";
    assert!(error.ends_with(expected), "{error}");
}

#[tokio::test]
async fn folder_of_other_members_is_refused() {
    let folder = used().await;
    let builder = alone().members([(ME, "1"), (NodeId(2), "2")]);
    let error = start(builder, folder.path()).await.unwrap_err();
    let expected = "a cluster of the nodes 1, not 1 2: the members of a cluster cannot be changed: \
                    give the founding members, or name another folder";
    assert!(error.ends_with(expected), "{error}");
}

#[tokio::test]
async fn folder_of_another_cluster_or_node_is_refused() {
    let folder = used().await;
    for (cluster, node) in [(ClusterId(8), ME), (CLUSTER, NodeId(2))] {
        let builder = Replica::builder::<Raft>(cluster, node).members([(node, "1")]);
        let error = start(builder, folder.path()).await.unwrap_err();
        assert!(error.contains("belongs to node 1 of cluster 7, not to node"), "{error}");
        assert!(error.ends_with(": name this node's own folder"), "{error}");
    }
}

#[tokio::test]
async fn folder_without_its_log_is_refused() {
    let folder = used().await;
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.ends_with("restore the folder or replace the node"), "{error}");
}

#[tokio::test]
async fn folder_with_the_log_of_another_life_is_refused() {
    let (folder, other) = (used().await, tempfile::tempdir().unwrap());
    start(alone(), other.path()).await.unwrap().stop().await.unwrap();
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    std::fs::rename(other.path().join("log"), folder.path().join("log")).unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.contains("the log was rolled back or replaced; do not start"), "{error}");
}

#[tokio::test]
async fn folder_with_other_things_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.ends_with("the folder holds something else: name an empty folder"), "{error}");
}

#[tokio::test]
async fn folder_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(alone(), folder.path()).await.unwrap();
    assert!(start(alone(), folder.path()).await.is_err());
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn folder_that_cannot_be_made_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(alone(), file.path()).await.unwrap_err();
    assert!(error.starts_with("cannot make the data folder "), "{error}");
    assert!(error.ends_with(": repair the folder or its permissions, or name another one"));
}
