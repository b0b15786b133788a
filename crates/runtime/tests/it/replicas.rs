//! Several replicas in one process: agreement, loss of the leader, reads, status and shutdown.

use crate::support::{CLUSTER, ME, TEST_TIMEOUT, Words, alone, leader, three};
use std::sync::Arc;
use std::time::Duration;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_runtime::{
    Consistency, MemoryNetwork, NodeId, Protocol, Replica, ReplicaError, Role, Slot,
};

#[tokio::test]
async fn replicas_in_one_process_agree_and_survive_the_loss_of_the_leader() {
    let (_, mut replicas) = three().await;
    for (index, replica) in replicas.iter().enumerate() {
        let word = format!("word {index}");
        assert_eq!(replica.execute(word.clone()).await, Ok(Some(word)));
    }
    let dead = replicas.remove(leader(&replicas).await);
    drop(dead);
    let word = || "after".to_owned();
    assert_eq!(replicas[0].execute(word()).await, Ok(Some(word())));
    for replica in &replicas {
        assert_eq!(replica.read(3, Consistency::Linearizable).await, Ok(Some(word())));
    }
    let [one, two] = [&replicas[0], &replicas[1]].map(|replica| replica.status());
    assert_eq!((one.applied, one.digest), (two.applied, two.digest));
    for replica in replicas {
        replica.shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn serializable_read_needs_no_quorum_and_a_linearizable_one_does() {
    let (network, replicas) = three().await;
    let leader = leader(&replicas).await;
    let word = || Some("kept".to_owned());
    assert_eq!(replicas[leader].execute("kept".to_owned()).await, Ok(word()));
    for (from, to) in [(1, 2), (1, 3), (2, 3)].map(|(a, b)| (NodeId(a), NodeId(b))) {
        network.cut(from, to);
        network.cut(to, from);
    }
    assert_eq!(replicas[leader].read(0, Consistency::Serializable).await, Ok(word()));
    let read = replicas[leader].read(0, Consistency::Linearizable);
    assert!(tokio::time::timeout(Duration::from_millis(300), read).await.is_err());
}

#[tokio::test]
async fn watch_reports_the_leader_and_each_applied_slot() {
    let replica = alone().in_memory().start(Words::default()).await.unwrap();
    let mut status = replica.watch();
    let wait = status.wait_for(|status| status.role == Role::Leader);
    let leads = *tokio::time::timeout(TEST_TIMEOUT, wait).await.unwrap().unwrap();
    replica.execute("a".to_owned()).await.unwrap();
    let wait = status.wait_for(|status| status.applied > leads.applied);
    let applied = *tokio::time::timeout(TEST_TIMEOUT, wait).await.unwrap().unwrap();
    assert!(applied.commit >= applied.applied && applied.applied > Slot::ZERO);
    assert_eq!(replica.metrics().counters.requests, 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn names_of_threads_carry_the_node() {
    let (_, replicas) = three().await;
    let roles = ["core", "writer", "apply", "saver"];
    let expected = (1..=replicas.len()).flat_map(|node| roles.map(|role| (role, node)));
    let expected: Vec<_> = expected.map(|(role, node)| format!("synod-{role}-{node}\n")).collect();
    let all_found = async {
        loop {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let paths = tasks.map(|task| task.unwrap().path().join("comm"));
            // A thread that has just ended has no name; one that has just started may lack its own.
            let names: Vec<_> =
                paths.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
            if expected.iter().all(|name| names.contains(name)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, all_found).await.expect("a thread lacks its name");
}

#[tokio::test]
async fn stopped_replica_rejects_calls_and_names_the_action() {
    let replica = alone().in_memory().start(Words::default()).await.unwrap();
    let other = replica.clone();
    let (one, two) = tokio::join!(replica.shutdown(), other.shutdown());
    assert_eq!((one, two), (Ok(()), Ok(())));
    let error = other.execute("late".to_owned()).await.unwrap_err();
    assert_eq!(error, ReplicaError::Stopped { cause: None });
    assert_eq!(error.to_string(), "the replica is stopped: use another node");
    assert!(!error.is_retryable());
    assert_eq!(other.read(0, Consistency::Serializable).await, Err(error));
}

async fn start_protocol(protocol: &str) -> Replica<Words> {
    async fn start<P: Protocol>() -> Replica<Words> {
        let builder = Replica::builder::<P>(CLUSTER, ME).members([(ME, "1")]).in_memory();
        let transport = Arc::new(MemoryNetwork::default().join(ME));
        builder.transport(transport).start(Words::default()).await.unwrap()
    }
    match protocol {
        Raft::NAME => start::<Raft>().await,
        MultiPaxos::NAME => start::<MultiPaxos>().await,
        other => panic!("no protocol {other}"),
    }
}

#[tokio::test]
async fn protocol_can_be_chosen_at_run_time() {
    for protocol in ["raft", "multi-paxos"] {
        let replica = start_protocol(protocol).await;
        let word = || protocol.to_owned();
        assert_eq!(replica.execute(word()).await, Ok(Some(word())));
        replica.shutdown().await.unwrap();
    }
}
