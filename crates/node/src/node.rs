//! Assembly of one node: stores, replica, transport, client server.

use crate::backend::NodeBackend;
use crate::server::{self, HttpState};
use crate::settings::{MemberAddress, NodeSettings, StoreKind};
use crate::{registry, stores};
use anyhow::Context;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synod_etcd_api::Backend;
use synod_runtime::{Replica, Stores, folder_bytes};
use synod_transport::quic::{Credentials, QuicConfig, QuicTransport, TransportError};
use synod_transport::{Peer, Transport};
use synod_types::NodeId;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Interval between two measurements of the data folder's size.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// Time that clients have to close their connections when the node stops.
const CLIENT_CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a node until `stop` completes, then drains its pending requests.
///
/// # Errors
/// If the node cannot start, or a failure stops it. The message is one line.
pub async fn serve(settings: NodeSettings, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    serve_with(settings, |stores| stores, stop).await
}

/// Runs a node as [`serve`] does, on the stores that `wrap` returns. For example, a benchmark simulates a
/// slow disk, and a test a failing one.
///
/// # Errors
/// If the node cannot start, or a failure stops it. The message is one line.
pub async fn serve_with(
    settings: NodeSettings,
    wrap: impl FnOnce(Stores) -> Stores,
    stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    // Bind the ports before the stores are opened: if a port is in use, nothing is written.
    let listener = TcpListener::bind(settings.listen_clients).await.with_context(|| {
        format!("cannot listen for clients on {} (TCP)", settings.listen_clients)
    })?;
    let transport = bind_transport(&settings)?;
    let stores = wrap(stores::open(&settings)?);
    let replica = registry::start(&settings, stores, transport.clone()).await?;

    let disk_bytes = Arc::new(AtomicU64::new(0));
    if settings.store == StoreKind::Rocksdb {
        tokio::spawn(measure(settings.data.clone(), Arc::clone(&disk_bytes)));
    }
    let backend = NodeBackend::new(replica.clone(), &settings, disk_bytes);
    let backend: Arc<dyn Backend> = Arc::new(backend.context("cannot start the reader threads")?);
    let network = Arc::clone(&transport);
    let traffic = Box::new(move || network.stats());
    let state = Arc::new(HttpState::new(backend, replica.clone(), traffic, &settings));
    let (stop_server, server_stop) = watch::channel(false);
    let server = server::spawn(listener, state, server_stop)?;
    tracing::info!(
        node = settings.node.0,
        cluster = settings.cluster.0,
        clients = %settings.listen_clients,
        peers = %settings.listen_peers,
        protocol = settings.protocol.name(),
        store = %settings.store,
        "node started: serving clients and peers"
    );
    let node = Node { settings, transport, replica, server, stop_server };
    node.run(stop).await
}

struct Node {
    settings: NodeSettings,
    transport: Arc<dyn Transport>,
    replica: Replica,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
    stop_server: watch::Sender<bool>,
}

impl Node {
    async fn run(mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        let result = self.serve_until(stop).await;
        if let Err(error) = &result {
            tracing::error!("stopping because of a failure: {error:#}");
        }
        let replica = self.replica.clone();
        self.end().await;
        // Report the first failure. Without one, the shutdown itself may have failed.
        result.and_then(|()| Ok(replica.failure().map_or(Ok(()), Err)?))
    }

    /// Serves until `stop` completes or something fails. After `stop`, rejects new requests and lets
    /// pending ones finish within the drain timeout.
    async fn serve_until(&mut self, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            error = self.replica.failed() => return Err(error.into()),
            ended = &mut self.server => {
                let ended = ended.context("the server of the client API panicked")?;
                ended.context("the server of the client API failed")?;
                anyhow::bail!("the server of the client API stopped unexpectedly");
            }
            () = stop => {}
        }
        let drain_timeout = self.settings.drain_timeout;
        tracing::info!(?drain_timeout, "stopping: rejecting new requests, draining pending ones");
        self.replica.refuse_new();
        tokio::select! {
            error = self.replica.failed() => Err(error.into()),
            _ = timeout(drain_timeout, self.replica.drain()) => Ok(()),
        }
    }

    /// Stops the replica's threads, the server and the transport. Waits for the threads even after a
    /// failure: if the process exited while a thread closes its database, it might crash in the database.
    async fn end(self) {
        self.replica.refuse_new();
        // Sending fails if the server has ended.
        let _ = self.stop_server.send(true);
        let drain_timeout = self.settings.drain_timeout;
        if timeout(drain_timeout, self.replica.stop()).await.is_err() {
            tracing::warn!(
                ?drain_timeout,
                "the replica's threads did not end within the drain timeout: exiting without them"
            );
        }
        // The replica has replied to all requests, so the remaining client connections are idle.
        if !self.server.is_finished() && timeout(CLIENT_CLOSE_TIMEOUT, self.server).await.is_err() {
            tracing::debug!("clients keep connections open: closing them");
        }
        self.transport.close().await;
        tracing::info!("node stopped");
    }
}

fn bind_transport(settings: &NodeSettings) -> anyhow::Result<Arc<QuicTransport>> {
    let files = &settings.certificates;
    let credentials = Credentials {
        ca: read(&files.ca, "certificate authority")?,
        certificate: read(&files.cert, "certificate")?,
        key: read(&files.key, "private key")?,
    };
    let (cluster, node) = (settings.cluster, settings.node);
    let config = QuicConfig::new(cluster, node, settings.listen_peers, credentials);
    let transport = QuicTransport::bind(config).map_err(|error| match error {
        TransportError::Bind { .. } => anyhow::Error::new(error),
        _ => anyhow::Error::new(error).context(format!(
            "cannot use the certificates (ca {}, cert {}, key {})",
            files.ca.display(),
            files.cert.display(),
            files.key.display()
        )),
    })?;
    // Set before the stores are opened, which takes time: a peer that connects meanwhile must not be
    // rejected as unknown.
    let others = settings.members.iter().filter(|member| member.id != node.0);
    let peer =
        |member: &MemberAddress| Peer { node: NodeId(member.id), address: member.peer.clone() };
    transport.set_peers(&others.map(peer).collect::<Vec<_>>());
    Ok(Arc::new(transport))
}

fn read(file: &Path, what: &str) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read the {what} {}", file.display()))
}

/// Measures the size of the data folder periodically, and stores it in `bytes`.
async fn measure(data: std::path::PathBuf, bytes: Arc<AtomicU64>) {
    loop {
        let data = data.clone();
        let walk = tokio::task::spawn_blocking(move || folder_bytes(&data));
        if let Ok(size) = walk.await {
            bytes.store(size, Ordering::Relaxed);
        }
        sleep(MEASURE_EVERY).await;
    }
}
