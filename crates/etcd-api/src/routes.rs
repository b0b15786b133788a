//! The services as routes of one HTTP server.

use crate::backend::{Backend, BackendError};
use crate::error::{backend_status, not_supported};
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::service::{Api, MAX_REQUEST_BYTES};
use crate::stream::replace_body;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::Uri;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::any;
use std::sync::Arc;

/// Maximum size of a gRPC message in bytes. As in etcd, it is larger than the maximum request, so that a
/// request that is slightly too large is rejected with a specific error.
const MAX_MESSAGE_BYTES: usize = MAX_REQUEST_BYTES + 512 * 1024;

const KV: [&str; 4] = ["Range", "Put", "DeleteRange", "Txn"];
const CLUSTER: [&str; 1] = ["MemberList"];
const MAINTENANCE: [&str; 2] = ["Alarm", "Status"];

/// Services of etcd v3. Their unsupported methods return an error with their name at once.
const SERVICES: [&str; 8] = [
    "etcdserverpb.KV",
    "etcdserverpb.Cluster",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Watch",
    "etcdserverpb.Lease",
    "etcdserverpb.Auth",
    "v3lockpb.Lock",
    "v3electionpb.Election",
];

/// Returns the routes of the API. They can be merged with other HTTP routes and served on one port. The
/// server must support HTTP/2, without TLS also with prior knowledge (h2c), as `axum::serve` does.
pub fn router(backend: Arc<dyn Backend>) -> Router {
    let api = Api::new(Arc::clone(&backend));
    let kv = KvServer::new(api.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let cluster = ClusterServer::new(api.clone());
    let maintenance = MaintenanceServer::new(api);

    let mut router = Router::new();
    for method in KV {
        router = router.route_service(&format!("/etcdserverpb.KV/{method}"), kv.clone());
    }
    for method in CLUSTER {
        let path = format!("/etcdserverpb.Cluster/{method}");
        router = router.route_service(&path, cluster.clone());
    }
    for method in MAINTENANCE {
        let path = format!("/etcdserverpb.Maintenance/{method}");
        router = router.route_service(&path, maintenance.clone());
    }
    for service in SERVICES {
        router = router.route(&format!("/{service}/{{*method}}"), any(unsupported));
    }
    // The first layer is the innermost, so bodies are replaced directly after the services.
    let router = router.route_layer(middleware::map_response(replace_body));
    router.route_layer(middleware::from_fn_with_state(backend, require_leader))
}

/// Returns the error of an unsupported method.
async fn unsupported(uri: Uri) -> Response {
    let method = uri.path().rsplit('/').next().unwrap_or_default();
    not_supported(method).into_http()
}

/// Rejects requests with the header `hasleader: true` if the node knows no leader.
async fn require_leader(
    State(backend): State<Arc<dyn Backend>>,
    request: Request,
    next: Next,
) -> Response {
    let required = request.headers().get("hasleader").is_some_and(|value| value == "true");
    if required && backend.status().leader.is_none() {
        return backend_status(&BackendError::NoLeader).into_http();
    }
    next.run(request).await
}
