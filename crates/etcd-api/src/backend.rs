//! Interface of the API to the node that serves it.

use async_trait::async_trait;
use std::any::Any;
use std::fmt;
use synod_consensus::Consistency;
use synod_kv::{Command, Query, Reply};
use synod_types::{ClusterId, NodeId, Slot, Term};

/// Node that serves the API.
///
/// If a client disconnects, the future of its call is dropped. A command that was proposed may still take
/// effect.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Proposes a command, and returns the state machine's reply once the command is applied.
    ///
    /// # Errors
    /// If there is no reply. After [`BackendError::TimedOut`] and other errors with an unknown outcome, the
    /// command may have taken effect, or may take effect later.
    async fn propose(&self, command: Command) -> Result<Reply, BackendError>;

    /// Executes a query with the given consistency.
    ///
    /// # Errors
    /// If there is no reply.
    async fn query(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<QueryReply, BackendError>;

    /// Returns the node's status. Called for every request, so it must be fast and must not block.
    fn status(&self) -> NodeStatus;

    /// Returns the members of the cluster.
    fn members(&self) -> Vec<MemberInfo>;
}

/// Reply to a query, with a guard that is kept until the reply has been sent.
#[derive(Debug)]
pub struct QueryReply {
    /// Reply of the state machine.
    pub reply: Reply,
    /// Guard that is dropped once the reply has been sent, or its client has disconnected.
    pub guard: ReplyGuard,
}

impl From<Reply> for QueryReply {
    fn from(reply: Reply) -> Self {
        Self { reply, guard: ReplyGuard::default() }
    }
}

/// Value that is kept until a reply has been sent or its client has disconnected, for example a
/// permit of a memory budget.
#[derive(Default)]
pub struct ReplyGuard(Option<Box<dyn Any + Send>>);

impl ReplyGuard {
    /// Creates a guard that keeps `value`.
    #[must_use]
    pub fn new(value: impl Any + Send) -> Self {
        Self(Some(Box::new(value)))
    }
}

impl fmt::Debug for ReplyGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReplyGuard").field(&self.0.is_some()).finish()
    }
}

/// Status of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Cluster of the node.
    pub cluster_id: ClusterId,
    /// Id of the node.
    pub member_id: NodeId,
    /// Leader that the node follows, if any.
    pub leader: Option<NodeId>,
    /// Current term. For Paxos, the round of the ballot.
    pub term: Term,
    /// Last committed slot.
    pub committed: Slot,
    /// Last applied slot.
    pub applied: Slot,
    /// Size of the node's data on disk in bytes.
    pub db_size: u64,
    /// True if the node is a learner, without a vote.
    pub is_learner: bool,
    /// Version reported to clients.
    pub version: &'static str,
    /// Errors of the node, for clients. The API adds "no leader" itself.
    pub errors: Vec<String>,
}

/// Member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Id of the node.
    pub id: NodeId,
    /// Name of the node.
    pub name: String,
    /// URLs for other members.
    pub peer_urls: Vec<String>,
    /// URLs for clients.
    pub client_urls: Vec<String>,
    /// True if the node is a learner, without a vote.
    pub is_learner: bool,
}

/// Reason why a node returned no reply. Clients compare texts, so an error that etcd has too has exactly
/// etcd's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// There is no known leader. The request took no effect.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The leader changed while a read waited. The request took no effect.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The outcome is unknown: there was no reply within the timeout.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// The outcome is unknown: the leader that had the command failed.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderFailed,
    /// The outcome is unknown: the member that had the command cannot be reached.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    ConnectionLost,
    /// Too many requests are pending. The request took no effect.
    #[error("etcdserver: too many requests")]
    Busy,
    /// The memory budget for replies is exhausted. The request took no effect.
    #[error("synod: too many bytes of replies are in memory: retry, or read in pages with a limit")]
    ReadBudget,
    /// The request exceeds the node's limit. It took no effect.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The node is a learner, and the request needs a voter. It took no effect.
    #[error("etcdserver: rpc not supported for learner")]
    Learner,
    /// The node is stopping or has stopped.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The node's data is corrupted.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// Internal error of the node.
    #[error("synod: {0}")]
    Internal(String),
}
