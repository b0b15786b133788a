//! Data folders: a start on a folder of another node, cluster, protocol, list of members or log fails.

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

/// Returns the data folder of a single-node cluster that has applied one command.
async fn used_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let replica = start(alone(), folder.path()).await.unwrap();
    replica.execute("kept".to_owned()).await.unwrap();
    replica.shutdown().await.unwrap();
    folder
}

#[tokio::test]
async fn acknowledged_command_survives_a_restart() {
    let folder = used_folder().await;
    let replica = start(alone(), folder.path()).await.unwrap();
    let kept = Ok(Some("kept".to_owned()));
    assert_eq!(replica.read(0, Consistency::Linearizable).await, kept);
    replica.shutdown().await.unwrap();
}

#[tokio::test]
async fn folder_of_another_protocol_is_rejected() {
    let folder = used_folder().await;
    let builder = Replica::builder::<MultiPaxos>(CLUSTER, ME).members([(ME, "1")]);
    let error = start(builder, folder.path()).await.unwrap_err();
    let expected = "the data is of the protocol \"raft\", not \"multi-paxos\": \
                    start the protocol that wrote it, or use another folder";
    assert!(error.ends_with(expected), "{error}");
}

#[tokio::test]
async fn folder_of_other_members_is_rejected() {
    let folder = used_folder().await;
    let builder = alone().members([(ME, "1"), (NodeId(2), "2")]);
    let error = start(builder, folder.path()).await.unwrap_err();
    let expected = "a cluster of the nodes 1, not 1 2: the members of a cluster cannot be changed: \
                    start with the original members, or use another folder";
    assert!(error.ends_with(expected), "{error}");
}

#[tokio::test]
async fn folder_of_another_cluster_or_node_is_rejected() {
    let folder = used_folder().await;
    for (cluster, node) in [(ClusterId(8), ME), (CLUSTER, NodeId(2))] {
        let builder = Replica::builder::<Raft>(cluster, node).members([(node, "1")]);
        let error = start(builder, folder.path()).await.unwrap_err();
        assert!(error.contains("belongs to node 1 of cluster 7, not to node"), "{error}");
        assert!(error.ends_with(": use this node's own folder"), "{error}");
    }
}

#[tokio::test]
async fn folder_without_its_log_is_rejected() {
    let folder = used_folder().await;
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.ends_with("restore the folder or replace the node"), "{error}");
}

#[tokio::test]
async fn folder_with_the_log_of_another_incarnation_is_rejected() {
    let (folder, other) = (used_folder().await, tempfile::tempdir().unwrap());
    start(alone(), other.path()).await.unwrap().stop().await.unwrap();
    std::fs::remove_dir_all(folder.path().join("log")).unwrap();
    std::fs::rename(other.path().join("log"), folder.path().join("log")).unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.contains("the log was rolled back or replaced; do not start"), "{error}");
}

#[tokio::test]
async fn folder_with_other_files_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let error = start(alone(), folder.path()).await.unwrap_err();
    assert!(error.ends_with("the folder holds other files: use an empty folder"), "{error}");
}

#[tokio::test]
async fn folder_in_use_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(alone(), folder.path()).await.unwrap();
    assert!(start(alone(), folder.path()).await.is_err());
    running.shutdown().await.unwrap();
}

#[tokio::test]
async fn folder_that_cannot_be_created_is_rejected() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(alone(), file.path()).await.unwrap_err();
    assert!(error.starts_with("cannot create the data folder "), "{error}");
    assert!(error.ends_with(": repair the folder or its permissions, or use another folder"));
}
