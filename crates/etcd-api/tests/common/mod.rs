//! Backend in memory, served on a TCP port of its own.

use axum::Router;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use synod_consensus::{Output, StateMachine};
use synod_etcd_api::{Backend, BackendError, Consistency, MemberInfo, NodeStatus, QueryReply};
use synod_kv::{Command, KvStore, Query, Reply};
use synod_types::{ClusterId, NodeId, Slot, Term};
use tokio::net::TcpListener;

/// Backend without a log: a key-value store behind a lock. Tests can remove its leader and make its requests
/// fail.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    store: KvStore,
    applied: Slot,
    leaderless: bool,
    fault: Option<BackendError>,
    consistencies: Vec<Consistency>,
}

#[allow(dead_code, reason = "not every test needs everything")]
impl Memory {
    /// Sets whether there is a leader.
    pub fn set_leader(&self, has_leader: bool) {
        self.state.lock().unwrap().leaderless = !has_leader;
    }

    /// Fails all requests with this error from now on.
    pub fn fail_with(&self, error: BackendError) {
        self.state.lock().unwrap().fault = Some(error);
    }

    /// Returns the consistencies of the queries since the last call.
    pub fn take_consistencies(&self) -> Vec<Consistency> {
        std::mem::take(&mut self.state.lock().unwrap().consistencies)
    }
}

#[tonic::async_trait]
impl Backend for Memory {
    async fn propose(&self, command: Command) -> Result<Reply, BackendError> {
        let mut state = self.state.lock().unwrap();
        if let Some(error) = &state.fault {
            return Err(error.clone());
        }
        state.applied = state.applied.next();
        let slot = state.applied;
        let reply =
            state.store.apply(slot, &command.encode(), &BTreeMap::new(), &mut Output::new());
        let reply = reply.map_err(|error| BackendError::Internal(error.to_string()))?;
        Reply::decode(&reply).map_err(|error| BackendError::Internal(error.to_string()))
    }

    async fn query(
        &self,
        query: Query,
        consistency: Consistency,
    ) -> Result<QueryReply, BackendError> {
        let mut state = self.state.lock().unwrap();
        state.consistencies.push(consistency);
        if let Some(error) = &state.fault {
            return Err(error.clone());
        }
        Ok(state.store.execute_query(query).into())
    }

    fn status(&self) -> NodeStatus {
        let state = self.state.lock().unwrap();
        NodeStatus {
            cluster_id: ClusterId(0xc1),
            member_id: NodeId(2),
            leader: (!state.leaderless).then_some(NodeId(2)),
            term: Term(7),
            committed: state.applied,
            applied: state.applied,
            db_size: 4096,
            is_learner: false,
            version: "3.4.0",
            errors: Vec::new(),
        }
    }

    fn members(&self) -> Vec<MemberInfo> {
        let member = |id: u64, is_learner| MemberInfo {
            id: NodeId(id),
            name: format!("node{id}"),
            peer_urls: vec![format!("quic://10.0.0.{id}:2380")],
            client_urls: vec![format!("http://10.0.0.{id}:2379")],
            is_learner,
        };
        vec![member(1, false), member(2, false), member(3, true)]
    }
}

/// Serves a new backend as a node does: its routes are merged with another route, on one port. Stops when
/// the runtime ends.
#[allow(dead_code, reason = "not every test needs a connection")]
pub async fn serve() -> (Arc<Memory>, SocketAddr) {
    let backend = Arc::new(Memory::default());
    let other = Router::new().route("/livez", axum::routing::get(|| async { "ok" }));
    let app = other.merge(synod_etcd_api::router(Arc::clone(&backend) as Arc<dyn Backend>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (backend, address)
}
