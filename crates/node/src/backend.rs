//! The replica as the etcd API sees it.

use crate::alarm::Alarm;
use crate::readers::{ReadError, Readers};
use crate::run::{Handle, Overload, View};
use crate::settings::Settings;
use async_trait::async_trait;
use std::any::Any;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use synod_consensus::{Refusal, Role, StateView};
use synod_etcd_api::{Answered, Backend, BackendError, Consistency, Held, Member, NodeStatus};
use synod_kv::{Command, KvStore, Query, Reply};
use synod_replica::Outcome;
use synod_types::{ClusterId, NodeId, Term};

/// What clients are told as the server's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A running node behind the API.
pub struct NodeBackend {
    handle: Handle,
    node: NodeId,
    cluster: ClusterId,
    members: Vec<Member>,
    disk_bytes: Arc<AtomicU64>,
    readers: Readers,
    /// The most bytes of the reply to a query.
    max_reply: usize,
}

impl NodeBackend {
    /// The API's view of a running replica of a [`KvStore`], with its reader threads. The caller
    /// keeps `disk_bytes` up to date.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn new(
        handle: Handle,
        settings: &Settings,
        disk_bytes: Arc<AtomicU64>,
        alarm: &Alarm,
    ) -> io::Result<Self> {
        let members = settings.members.iter().map(|member| Member {
            id: NodeId(member.id),
            name: format!("node-{}", member.id),
            peer_urls: vec![format!("quic://{}", member.peer)],
            client_urls: vec![member.client.clone()],
            is_learner: false,
        });
        Ok(Self {
            handle,
            node: settings.node,
            cluster: settings.cluster,
            members: members.collect(),
            disk_bytes,
            readers: Readers::start(settings.read_budget.bytes(), alarm)?,
            max_reply: settings.max_reply.bytes(),
        })
    }

    /// The API's view of a replica whose long reads never end: no thread does their later pieces.
    #[cfg(test)]
    pub(crate) fn without_reader_threads(handle: Handle) -> Self {
        Self {
            handle,
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
        match self.handle.request(command.encode()).await.map_err(overload)? {
            Outcome::Done(_, reply) => decode(&reply),
            other => Err(failure(other)),
        }
    }

    async fn query(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<Answered, BackendError> {
        if consistency == Consistency::Linearizable {
            match self.handle.read_barrier().await.map_err(overload)? {
                Outcome::Readable => {}
                other => return Err(failure(other)),
            }
        }
        // Taken after the barrier is applied, so it holds all that was acknowledged before.
        let store = store(self.handle.view().await.map_err(overload)?)?;
        let reading = store.read(query, self.max_reply);
        drop(store);
        let (reply, room) = self.readers.read(reading).await.map_err(unread)?;
        Ok(Answered { reply, held: Held::new(room) })
    }

    fn status(&self) -> NodeStatus {
        let View { status, .. } = self.handle.meters().view();
        NodeStatus {
            cluster_id: self.cluster,
            member_id: self.node,
            leader: status.leader,
            term: Term(status.ballot.round),
            committed: status.commit,
            applied: self.handle.meters().applying().applied,
            db_size: self.disk_bytes.load(Ordering::Relaxed),
            is_learner: status.role == Role::Learner,
            version: VERSION,
            errors: Vec::new(),
        }
    }

    fn members(&self) -> Vec<Member> {
        self.members.clone()
    }
}

/// The store that a view shows.
fn store(view: Box<dyn StateView>) -> Result<Box<KvStore>, BackendError> {
    let view: Box<dyn Any> = view;
    let other = |_| BackendError::Internal("the state machine is no key-value store".into());
    view.downcast().map_err(other)
}

fn decode(reply: &[u8]) -> Result<Reply, BackendError> {
    Reply::decode(reply).map_err(|_| BackendError::Internal("the store's reply is damaged".into()))
}

fn overload(overload: Overload) -> BackendError {
    match overload {
        Overload::Busy => BackendError::Busy,
        Overload::Stopping => BackendError::Stopped,
    }
}

fn unread(error: ReadError) -> BackendError {
    match error {
        ReadError::Budget => BackendError::ReadBudget,
        ReadError::Stopping => BackendError::Stopped,
    }
}

/// What an outcome without a reply means to a client.
fn failure(outcome: Outcome) -> BackendError {
    match outcome {
        Outcome::Refused(Refusal::NotLeader { .. }) => BackendError::NoLeader,
        Outcome::Refused(Refusal::Busy) => BackendError::Busy,
        Outcome::Refused(Refusal::WrongEpoch { .. }) => BackendError::LeaderChanged,
        Outcome::Refused(Refusal::TooLarge { .. }) => BackendError::TooLarge,
        Outcome::Refused(Refusal::Unsupported) => {
            BackendError::Internal("the protocol does not do that".into())
        }
        Outcome::Refused(why) => BackendError::Internal(format!("the protocol refuses: {why:?}")),
        Outcome::Unknown => BackendError::TimedOut,
        Outcome::Done(..) | Outcome::Readable => {
            BackendError::Internal("an answer to another question".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_that_nothing_happened_and_a_timeout_does_not() {
        let refused = |why| failure(Outcome::Refused(why));
        assert_eq!(refused(Refusal::NotLeader { hint: None }), BackendError::NoLeader);
        assert_eq!(refused(Refusal::Busy), BackendError::Busy);
        assert_eq!(refused(Refusal::TooLarge { limit: 9 }), BackendError::TooLarge);
        assert_eq!(failure(Outcome::Unknown), BackendError::TimedOut);
    }
}
