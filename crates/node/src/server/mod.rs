//! The client port: the etcd API over gRPC, and a few pages over HTTP, on one TCP listener.
//!
//! | path | answers |
//! |---|---|
//! | `/livez` | 200 while the process serves |
//! | `/readyz` | 200 while this node has caught up and a quorum answers it; else 503 and why |
//! | `/health` | etcd's JSON: 200 and `"true"` if a linearizable read succeeds, else 503 |
//! | `/status` | what this node knows of itself, as JSON |
//! | `/metrics` | OpenMetrics text |

mod metrics;
mod status;

pub use metrics::TransportStats;
pub use status::NodeReport;

use crate::protocol::ProtocolKind;
use crate::settings::NodeSettings;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use synod_etcd_api::{Backend, Consistency};
use synod_kv::Query;
use synod_runtime::Replica;
use synod_types::{ClusterId, NodeId};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long a health check waits for the linearizable read.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the check whether a node is ready waits for it: those who probe are impatient.
const READY_TIMEOUT: Duration = Duration::from_millis(900);
/// A node this many slots behind what it knows to be chosen is not ready.
const READY_LAG: u64 = 10_000;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the pages are made from.
pub struct HttpState {
    backend: Arc<dyn Backend>,
    replica: Replica,
    node: NodeId,
    cluster: ClusterId,
    protocol: ProtocolKind,
    registry: Registry,
}

impl HttpState {
    /// The pages of a running replica.
    #[must_use]
    pub fn new(
        backend: Arc<dyn Backend>,
        replica: Replica,
        traffic: TransportStats,
        settings: &NodeSettings,
    ) -> Self {
        Self {
            registry: metrics::registry(&replica, traffic),
            backend,
            replica,
            node: settings.node,
            cluster: settings.cluster,
            protocol: settings.protocol,
        }
    }

    /// What this node knows of itself.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        NodeReport::new(self.node, self.cluster, self.protocol.name(), &self.replica.metrics())
    }

    /// Why the node is not ready to serve; `None` if it is.
    async fn unready(&self) -> Option<String> {
        let report = self.report();
        if report.leader.is_none() {
            return Some("no leader is known".to_owned());
        }
        if report.applied + READY_LAG < report.commit {
            return Some("applying what others have chosen".to_owned());
        }
        // A node whose peers do not listen to it may still hear of a leader, and a peer among
        // peers needs none: only a quorum's answer tells that requests get anywhere.
        self.unreadable(READY_TIMEOUT).await
    }

    /// Why a linearizable read does not succeed within this time; `None` if it does.
    async fn unreadable(&self, patience: Duration) -> Option<String> {
        let read = self.backend.query(Query::Revision, Consistency::Linearizable);
        match tokio::time::timeout(patience, read).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("a read did not succeed in time".to_owned()),
        }
    }
}

/// Starts [`serve`] on a runtime of its own, with as many threads as half of the cores: however
/// much clients ask for, the threads that carry the peers' frames are others.
///
/// # Errors
/// If the system refuses the runtime, or the listener cannot move to it.
pub fn spawn(
    listener: TcpListener,
    state: Arc<HttpState>,
    stop: watch::Receiver<bool>,
) -> std::io::Result<JoinHandle<std::io::Result<()>>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.thread_name("synod-clients").worker_threads((cores / 2).max(1)).enable_all();
    let runtime = runtime.build()?;
    let listener = listener.into_std()?;
    Ok(tokio::task::spawn_blocking(move || {
        let served = runtime.block_on(async {
            // On a worker, as every connection: this thread would only be woken in between.
            let served = tokio::spawn(serve(TcpListener::from_std(listener)?, state, stop));
            served.await.map_err(std::io::Error::other)?
        });
        runtime.shutdown_background();
        served
    }))
}

/// Serves until `stop` says so; then lets connections finish what they have begun.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: Arc<HttpState>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let pages = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/health", get(health))
        .route("/status", get(status))
        .route("/metrics", get(metrics_page))
        .with_state(Arc::clone(&state));
    let app = synod_etcd_api::router(Arc::clone(&state.backend)).merge(pages);
    // Small replies must not wait for the acknowledgement of the one before.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY");
        }
    });
    let stopped = async move {
        // An error means that nobody can say so any more: stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

async fn readyz(State(state): State<Arc<HttpState>>) -> Response {
    match state.unready().await {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn health(State(state): State<Arc<HttpState>>) -> Response {
    let reason = state.unreadable(HEALTH_TIMEOUT).await;
    let (code, health) = match reason {
        None => (StatusCode::OK, "true"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "false"),
    };
    let body = serde_json::json!({ "health": health, "reason": reason.unwrap_or_default() });
    (code, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

async fn status(State(state): State<Arc<HttpState>>) -> Response {
    let body = serde_json::to_string(&state.report()).expect("plain data always encodes");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn metrics_page(State(state): State<Arc<HttpState>>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &state.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
