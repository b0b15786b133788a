//! The replica as a backend of the etcd API.

use crate::settings::NodeSettings;
use async_trait::async_trait;
use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use synod_consensus::{Role, StateReader};
use synod_etcd_api::{
    Backend, BackendError, Consistency, MemberInfo, NodeStatus, QueryReply, ReplyGuard,
};
use synod_kv::{Command, KvStore, Query, QueryCursor, Reply};
use synod_runtime::{ReadError, Readers, Replica, ReplicaError};
use synod_types::{ClusterId, NodeId, Term};

/// The server version in replies to clients.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Backend of the etcd API: a running replica and its reader threads.
pub struct NodeBackend {
    replica: Replica,
    node: NodeId,
    cluster: ClusterId,
    members: Vec<MemberInfo>,
    disk_bytes: Arc<AtomicU64>,
    readers: Readers<QueryCursor>,
    /// Maximum size of a query's reply, in bytes.
    max_reply: usize,
}

impl NodeBackend {
    /// Starts the reader threads of a running replica of a [`KvStore`]. The caller keeps
    /// `disk_bytes` up to date.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn new(
        replica: Replica,
        settings: &NodeSettings,
        disk_bytes: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let members = settings.members.iter().map(|member| MemberInfo {
            id: NodeId(member.id),
            name: format!("node-{}", member.id),
            peer_urls: vec![format!("quic://{}", member.peer)],
            client_urls: vec![member.client.clone()],
            is_learner: false,
        });
        let readers = Readers::start(settings.read_budget.bytes(), &replica.fatal_error_sender())?;
        Ok(Self {
            replica,
            node: settings.node,
            cluster: settings.cluster,
            members: members.collect(),
            disk_bytes,
            readers,
            max_reply: settings.max_reply.bytes(),
        })
    }

    /// Returns a backend without reader threads, on which a read of more than one piece never completes.
    #[cfg(test)]
    fn without_reader_threads(replica: Replica) -> Self {
        Self {
            replica,
            node: NodeId(1),
            cluster: ClusterId(7),
            members: Vec::new(),
            disk_bytes: Arc::default(),
            readers: Readers::without_threads(usize::MAX),
            max_reply: usize::MAX,
        }
    }
}

#[async_trait]
impl Backend for NodeBackend {
    async fn propose(&self, command: Command) -> Result<Reply, BackendError> {
        decode(&self.replica.execute_bytes(command.encode()).await.map_err(replica_error)?)
    }

    async fn query(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<QueryReply, BackendError> {
        if consistency == Consistency::Linearizable {
            self.replica.read_barrier().await.map_err(replica_error)?;
        }
        // The reader is taken after the barrier, so it contains every write that was acknowledged before the
        // read began.
        let store = store(self.replica.reader().await.map_err(replica_error)?)?;
        let reading = store.read(query, self.max_reply);
        drop(store);
        let (reply, room) = self.readers.read(reading).await.map_err(read_error)?;
        Ok(QueryReply { reply, guard: ReplyGuard::new(room) })
    }

    fn status(&self) -> NodeStatus {
        let status = self.replica.status();
        NodeStatus {
            cluster_id: self.cluster,
            member_id: self.node,
            leader: status.leader,
            term: Term(status.ballot.round),
            committed: status.commit,
            applied: status.applied,
            db_size: self.disk_bytes.load(Ordering::Relaxed),
            is_learner: status.role == Role::Learner,
            version: VERSION,
            errors: Vec::new(),
        }
    }

    fn members(&self) -> Vec<MemberInfo> {
        self.members.clone()
    }
}

/// Returns the key-value store of a reader.
fn store(reader: Box<dyn StateReader>) -> Result<Box<KvStore>, BackendError> {
    let reader: Box<dyn Any> = reader;
    let other = |_| BackendError::Internal("the state machine is not a key-value store".into());
    reader.downcast().map_err(other)
}

fn decode(reply: &[u8]) -> Result<Reply, BackendError> {
    Reply::decode(reply)
        .map_err(|_| BackendError::Internal("cannot decode the state machine's reply".into()))
}

fn read_error(error: ReadError) -> BackendError {
    match error {
        ReadError::Budget => BackendError::ReadBudget,
        _ => BackendError::Stopped,
    }
}

/// Converts a replica's error to the API's.
fn replica_error(error: ReplicaError) -> BackendError {
    match error {
        ReplicaError::NotLeader { .. } => BackendError::NoLeader,
        ReplicaError::Busy => BackendError::Busy,
        ReplicaError::MembersChanged => BackendError::LeaderChanged,
        ReplicaError::TooLarge { .. } => BackendError::TooLarge,
        ReplicaError::Unsupported => {
            BackendError::Internal("the protocol does not support this request".into())
        }
        ReplicaError::OutcomeUnknown { .. } | ReplicaError::ReadTimedOut => BackendError::TimedOut,
        ReplicaError::Stopped { .. } => BackendError::Stopped,
        other => BackendError::Internal(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Duration;
    use synod_kv::{KeyRange, Put, Range};
    use synod_raft::Raft;
    use synod_transport::MemoryNetwork;

    #[test]
    fn rejections_and_unknown_outcomes_map_to_different_errors() {
        assert_eq!(replica_error(ReplicaError::NotLeader { hint: None }), BackendError::NoLeader);
        assert_eq!(replica_error(ReplicaError::Busy), BackendError::Busy);
        assert_eq!(replica_error(ReplicaError::TooLarge { limit: 9 }), BackendError::TooLarge);
        let unknown = ReplicaError::OutcomeUnknown { cause: None };
        assert_eq!(replica_error(unknown), BackendError::TimedOut);
    }

    /// The apply thread executes its tasks in order, and the task of the read is before that of the put. If
    /// the apply thread did the whole read, the read would complete before the put.
    #[tokio::test]
    async fn put_is_applied_while_a_long_read_waits_for_a_reader_thread() {
        let network = MemoryNetwork::default();
        let replica = Replica::builder::<Raft>(ClusterId(7), NodeId(1))
            .members([(NodeId(1), "1")])
            .in_memory()
            .transport(Arc::new(network.join(NodeId(1))))
            .start_untyped(KvStore::new())
            .await
            .unwrap();
        let put = |key: String| {
            let (replica, command) = (replica.clone(), Command::Put(Put::new(key, "value")));
            tokio::spawn(async move { replica.execute_bytes(command.encode()).await })
        };
        let puts: Vec<_> = (0..2000).map(|key| put(key.to_string())).collect();
        for put in puts {
            assert!(put.await.unwrap().is_ok(), "the store holds more keys than one piece");
        }
        let backend = NodeBackend::without_reader_threads(replica.clone());
        let query = Query::Range(Range::new(KeyRange::all()));
        let mut read = pin!(backend.query(query, Consistency::Serializable));
        let mut no_wake = Context::from_waker(Waker::noop());
        assert!(read.as_mut().poll(&mut no_wake).is_pending(), "the reader is requested");
        let put = tokio::time::timeout(Duration::from_secs(20), put("during".into())).await;
        assert!(matches!(put, Ok(Ok(Ok(_)))), "the put waited for the read");
        let is_pending = read.as_mut().poll(&mut no_wake).is_pending();
        assert!(is_pending, "the apply thread did the whole read");
        replica.stop().await.unwrap();
    }
}
