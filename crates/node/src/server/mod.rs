//! The client port: the etcd API over gRPC, and a few pages over HTTP, on one TCP listener.
//!
//! | path | reply |
//! |---|---|
//! | `/livez` | 200 while the process replies to requests |
//! | `/readyz` | 200 if this node has caught up and a linearizable read succeeds; else 503 and the reason |
//! | `/health` | etcd's JSON: 200 and `"true"` if a linearizable read succeeds, else 503 |
//! | `/status` | this node's status report ([`NodeReport`]), as JSON |
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

/// Timeout of the linearizable read in a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout of the linearizable read in a readiness check. It is below 1 s, the usual timeout of a probe.
const READY_TIMEOUT: Duration = Duration::from_millis(900);
/// Maximum lag of a ready node: number of slots that are known to be committed but not yet applied.
const READY_LAG: u64 = 10_000;
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// State of the HTTP handlers.
pub struct HttpState {
    backend: Arc<dyn Backend>,
    replica: Replica,
    node: NodeId,
    cluster: ClusterId,
    protocol: ProtocolKind,
    registry: Registry,
}

impl HttpState {
    /// Returns the state for a running replica.
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

    /// Returns this node's status report.
    #[must_use]
    pub fn report(&self) -> NodeReport {
        NodeReport::new(self.node, self.cluster, self.protocol.name(), &self.replica.metrics())
    }

    /// Returns the reason that the node is not ready to serve, or `None` if it is ready.
    async fn not_ready_reason(&self) -> Option<String> {
        let report = self.report();
        if report.leader.is_none() {
            return Some("no known leader".to_owned());
        }
        if report.applied + READY_LAG < report.commit {
            let (applied, commit) = (report.applied, report.commit);
            return Some(format!("catching up: applied slot {applied}, committed slot {commit}"));
        }
        // A known leader is not enough: peers may drop this node's frames, and in Basic Paxos every node
        // reports itself as the leader. Only a read that needs a quorum shows that requests succeed.
        self.failed_read_reason(READY_TIMEOUT).await
    }

    /// Reads linearizably. Returns the reason that this failed or took longer than `limit`, or `None` if it
    /// succeeded.
    async fn failed_read_reason(&self, limit: Duration) -> Option<String> {
        let read = self.backend.query(Query::Revision, Consistency::Linearizable);
        match tokio::time::timeout(limit, read).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("a linearizable read did not complete within {limit:?}")),
        }
    }
}

/// Starts [`serve`] on a runtime of its own, with half as many threads as the machine has cores: client
/// load must not delay the threads that transfer the peers' frames.
///
/// # Errors
/// If the runtime cannot start, or the listener cannot move to it.
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
            // Spawned, so that a worker accepts connections without waking this thread for each.
            let served = tokio::spawn(serve(TcpListener::from_std(listener)?, state, stop));
            served.await.map_err(std::io::Error::other)?
        });
        runtime.shutdown_background();
        served
    }))
}

/// Serves until `stop` is true; then lets connections finish their pending requests.
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
    // Nagle's algorithm would delay a small reply until the previous one is acknowledged.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY: replies to this client may be delayed");
        }
    });
    let stopped = async move {
        // An error means that the sender is gone: stop as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, app).with_graceful_shutdown(stopped).await
}

async fn readyz(State(state): State<Arc<HttpState>>) -> Response {
    match state.not_ready_reason().await {
        None => "ok\n".into_response(),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response(),
    }
}

async fn health(State(state): State<Arc<HttpState>>) -> Response {
    let reason = state.failed_read_reason(HEALTH_TIMEOUT).await;
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
