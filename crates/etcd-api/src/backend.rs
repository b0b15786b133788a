//! What the API asks of the node that serves it.

use async_trait::async_trait;
use std::any::Any;
use std::fmt;
use synod_consensus::Consistency;
use synod_kv::{Command, Query, Reply};
use synod_types::{ClusterId, NodeId, Slot, Term};

/// The node behind the API.
///
/// A client that goes away drops the future it waited on. What was proposed may be done all the
/// same.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Carries a command through the log and gives the reply of the store that applied it.
    ///
    /// # Errors
    /// Why there is no reply. After [`BackendError::TimedOut`] and its like the command may have
    /// been done, or may yet be.
    async fn propose(&self, command: Command) -> Result<Reply, BackendError>;

    /// Answers a question as fresh as `consistency` asks.
    ///
    /// # Errors
    /// Why there is no reply.
    async fn query(&self, query: Query, consistency: Consistency)
    -> Result<Answered, BackendError>;

    /// How the node does. Asked for with every request, so it must be cheap and must not block.
    fn status(&self) -> NodeStatus;

    /// Every member of the cluster, as the node knows them.
    fn members(&self) -> Vec<Member>;
}

/// The reply to a query.
#[derive(Debug)]
pub struct Answered {
    /// The reply.
    pub reply: Reply,
    /// What the reply needs while it is in memory.
    pub held: Held,
}

impl From<Reply> for Answered {
    fn from(reply: Reply) -> Self {
        Self { reply, held: Held::default() }
    }
}

/// Something that is kept until a reply has been sent, or its client is gone: the reply's room in a
/// budget, for example.
#[derive(Default)]
pub struct Held(Option<Box<dyn Any + Send>>);

impl Held {
    /// Keeps `room`.
    #[must_use]
    pub fn new(room: impl Any + Send) -> Self {
        Self(Some(Box::new(room)))
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.0.is_some()).finish()
    }
}

/// How a node does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its cluster.
    pub cluster_id: ClusterId,
    /// The node itself.
    pub member_id: NodeId,
    /// Who it believes leads.
    pub leader: Option<NodeId>,
    /// The term it is in; a Paxos node tells its ballot's round.
    pub term: Term,
    /// The last slot that it knows to be committed.
    pub committed: Slot,
    /// The last slot that it has applied.
    pub applied: Slot,
    /// The size of its data on disk, in bytes.
    pub db_size: u64,
    /// Whether it only learns and has no vote.
    pub is_learner: bool,
    /// The version that it tells clients.
    pub version: &'static str,
    /// What is wrong with it. The API itself adds the missing leader.
    pub errors: Vec<String>,
}

/// One member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who it is.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where the other members reach it, as URLs.
    pub peer_urls: Vec<String>,
    /// Where clients reach it, as URLs.
    pub client_urls: Vec<String>,
    /// Whether it only learns and has no vote.
    pub is_learner: bool,
}

/// Why the node gave no reply. The text is what clients compare, so it is etcd's to the letter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Nobody leads, as far as the node knows. Nothing was done.
    #[error("etcdserver: no leader")]
    NoLeader,
    /// The leader changed while a read waited. Nothing was done.
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    /// The outcome is unknown: no reply in time.
    #[error("etcdserver: request timed out")]
    TimedOut,
    /// The outcome is unknown: the leader that had the command went away.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    LeaderFailed,
    /// The outcome is unknown: the member that had the command cannot be reached.
    #[error("etcdserver: request timed out, possibly due to connection lost")]
    ConnectionLost,
    /// Too much is waiting already. Nothing was done.
    #[error("etcdserver: too many requests")]
    Busy,
    /// The replies in memory leave no room for this one. Nothing was done.
    #[error("synod: too many bytes of replies are in memory: retry, or read in pages with a limit")]
    ReadBudget,
    /// The request is larger than the node takes. Nothing was done.
    #[error("etcdserver: request is too large")]
    TooLarge,
    /// The node only learns, and the request needs a voter. Nothing was done.
    #[error("etcdserver: rpc not supported for learner")]
    Learner,
    /// The node is stopping or has stopped.
    #[error("etcdserver: server stopped")]
    Stopped,
    /// The node's data is damaged.
    #[error("etcdserver: corrupt cluster")]
    Corrupt,
    /// Something that no client can do anything about.
    #[error("synod: {0}")]
    Internal(String),
}
