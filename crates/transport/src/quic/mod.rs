//! QUIC between the nodes, with mutual TLS 1.3.
//!
//! **Authentication.** Both nodes present a certificate of the cluster's CA that names a node and a
//! cluster (see [`certificates`]). It is verified inside the handshake, before any frame is accepted:
//! the dialling node must be one of the peers, the dialled node must be the expected one. Any other
//! connection is rejected, counted by [`RejectReason`], and logged with the reason and both identities.
//! Repetitions of a log line are suppressed for ten seconds, and the next line states their number.
//!
//! **One connection for each pair of nodes.** The node with the smaller id dials, the other accepts. So
//! two nodes never dial each other at the same time, and no connection must be chosen over another. The
//! cost is that only one of the two nodes can restore the connection, so it retries quickly.
//!
//! **Lanes.** Each direction has one stream for each [`Lane`], opened once: a byte that names the
//! lane, then frames, each preceded by its length. Control has priority over log, log over forward, and
//! forward over bulk. Each lane has its own flow control. Queued frames of a lane are written together, up
//! to 256 KiB at a time.
//!
//! **After `kill -9`.** A killed process sends no close notice. After its restart, it replies to packets on
//! old connections with a stateless reset. The token of the reset is derived from the node's private key,
//! so it is the same after every restart. Peers detect the restart with their next packet, at the latest
//! with the next keep-alive (400 milliseconds), and the dialling node dials at once. If the
//! restarted node is the one that dials, the newer connection replaces the older. A peer that stays
//! down is detected by the idle timeout (2 seconds), and then dialled repeatedly, with packets less
//! than a second apart.
//!
//! Out of scope: 0-RTT and resumption (they skip the verification of the certificate), connection
//! migration (a peer whose address changes must connect again), revocation lists (see [`certificates`]).

mod accept;
mod config;
mod congestion;
mod dial;
mod frame;
mod link;
mod peer_verifier;
mod rejection_log;
mod session;
mod tls;

pub use config::{Credentials, MAX_MTU, QuicConfig};
pub use peer_verifier::RejectReason;

use crate::certificates::{self, Identity};
use crate::queue::{Inbox, lock};
use crate::{Peer, PeerStats, Transport, TransportLimits};
use async_trait::async_trait;
use bytes::Bytes;
use link::{CloseCode, Link};
use peer_verifier::{PeerVerifier, Trust};
use quinn::{AsyncUdpSocket, Endpoint, Runtime, TokioRuntime, TransportConfig};
use rejection_log::{HandshakeFailure, RejectionLog};
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use synod_types::{Lane, NodeId};
use tls::Tls;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

const LANES: usize = Lane::ALL.len();

/// Receive buffer of the socket in bytes. The usual default of a system holds about a hundred packets, but
/// on a long path a peer may send thousands within a round trip.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Time that `close` waits for the close notices to be sent, and then for the socket to be released.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Error of binding a transport. A retry with the same configuration fails again, unless the address was
/// in use by a process that has ended since.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is in use, or does not belong to this machine.
    #[error("cannot listen for peers on {address} (UDP): {source}")]
    Bind {
        /// Address to listen on.
        address: SocketAddr,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A certificate or key is not usable.
    #[error("cannot use the {what}: {reason}")]
    Credentials {
        /// Kind of certificate or key.
        what: &'static str,
        /// Reason of the rejection.
        reason: String,
    },
    /// The certificate belongs to another node or cluster, or to a client.
    #[error("the certificate belongs to {found}, but this node is {expected}")]
    WrongIdentity {
        /// Identity of this node.
        expected: String,
        /// Identity in the certificate.
        found: String,
    },
    /// A setting is invalid.
    #[error("{name} {rule}")]
    Setting {
        /// Field of [`QuicConfig`].
        name: &'static str,
        /// Rule that the value breaks.
        rule: &'static str,
    },
    /// The call is outside a tokio runtime with an I/O driver.
    #[error("no tokio runtime: {0}")]
    NoRuntime(String),
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes")]
    NoRandomness,
}

/// Counters of a [`QuicTransport`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuicStats {
    /// Counters of each peer.
    pub peers: BTreeMap<NodeId, PeerStats>,
    /// Number of connections that this node rejected, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
}

/// [`Transport`] over QUIC. Dropping it closes it, without waiting until the close notices are sent.
pub struct QuicTransport {
    shared: Arc<Shared>,
    socket: Weak<dyn AsyncUdpSocket>,
}

/// The state that the tasks of one transport share.
struct Shared {
    limits: TransportLimits,
    handshake_timeout: Duration,
    max_handshakes: usize,
    min_backoff: Duration,
    max_backoff: Duration,
    address: SocketAddr,
    runtime: Handle,
    inbox: Inbox,
    links: Mutex<BTreeMap<NodeId, Arc<Link>>>,
    /// `None` once closed.
    endpoint: Mutex<Option<Endpoint>>,
    tls: Tls,
    trust: Arc<Trust>,
    transport: Arc<TransportConfig>,
    server: quinn::ServerConfig,
    rejections: RejectionLog,
}

impl QuicTransport {
    /// Binds the socket and starts without peers: it dials and accepts after [`Transport::set_peers`].
    /// Must be called within a tokio runtime, which then runs its tasks.
    ///
    /// # Errors
    /// If the address cannot be bound, the credentials are not usable or not this node's, or a setting is
    /// invalid.
    pub fn bind(config: QuicConfig) -> Result<Self, TransportError> {
        config.validate()?;
        let runtime =
            Handle::try_current().map_err(|error| TransportError::NoRuntime(error.to_string()))?;
        let (tls, reset) = Tls::new(&config.credentials)?;
        let own = Identity::Node { cluster: config.cluster, node: config.node };
        check_own_identity(&own, &tls.certificate)?;
        let unusable = |what, reason| TransportError::Credentials { what, reason };
        let trust = Trust::new(config.cluster, config.node, &tls);
        let trust = Arc::new(trust.map_err(|reason| unusable("CA certificate", reason))?);

        let transport = Arc::new(config.transport()?);
        // Never used: the module `accept` sets a verifier for each connection.
        let (placeholder, _) = PeerVerifier::new(&trust, None);
        let crypto = tls.server(placeholder);
        let crypto = crypto.map_err(|error| unusable("node's certificate", error.to_string()))?;
        let mut server = config.server(crypto);
        server.transport_config(Arc::clone(&transport));

        let bind_error = |source| TransportError::Bind { address: config.listen, source };
        let socket = UdpSocket::bind(config.listen).map_err(bind_error)?;
        // The system may grant a smaller buffer, which loses more packets under load.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let address = socket.local_addr().map_err(bind_error)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(bind_error)?;
        let weak_socket = Arc::downgrade(&socket);
        let endpoint = config.endpoint(&reset);
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint,
            Some(server.clone()),
            socket,
            Arc::new(TokioRuntime),
        );
        let endpoint = endpoint.map_err(bind_error)?;
        let shared = Arc::new(Shared {
            limits: config.limits,
            handshake_timeout: config.handshake_timeout,
            max_handshakes: config.max_handshakes,
            min_backoff: config.min_backoff,
            max_backoff: config.max_backoff,
            address,
            runtime: runtime.clone(),
            inbox: Inbox::new(config.limits),
            links: Mutex::default(),
            endpoint: Mutex::new(Some(endpoint.clone())),
            tls,
            trust,
            transport,
            server,
            rejections: RejectionLog::default(),
        });
        runtime.spawn(accept::accept_all(Arc::clone(&shared), endpoint));
        Ok(Self { shared, socket: weak_socket })
    }

    /// Returns the bound address, with the actual port if port 0 was requested.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Returns the current counters.
    #[must_use]
    pub fn stats(&self) -> QuicStats {
        let links = lock(&self.shared.links);
        let peers = links.iter().map(|(node, link)| (*node, link.stats())).collect();
        QuicStats { peers, rejected: self.shared.rejections.counts() }
    }
}

/// Checks that the certificate is this node's: peers would reject any other.
fn check_own_identity(own: &Identity, certificate: &[u8]) -> Result<(), TransportError> {
    let found = certificates::identify(certificate).map_err(|error| {
        TransportError::Credentials { what: "node's certificate", reason: error.to_string() }
    })?;
    if found != *own {
        let (expected, found) = (own.to_string(), found.to_string());
        return Err(TransportError::WrongIdentity { expected, found });
    }
    Ok(())
}

#[async_trait]
impl Transport for QuicTransport {
    fn send(&self, to: NodeId, lane: Lane, frame: Bytes) {
        let link = lock(&self.shared.links).get(&to).map(Arc::clone);
        let Some(link) = link else { return };
        if frame.len() > self.shared.limits.max_frame {
            link.count_dropped(1);
            return self.shared.report_oversize(to, frame.len());
        }
        link.send(lane, frame);
    }

    async fn recv(&self) -> Option<(NodeId, Bytes)> {
        self.shared.inbox.recv().await
    }

    fn set_peers(&self, peers: &[Peer]) {
        self.shared.set_peers(peers);
    }

    async fn close(&self) {
        let Some(endpoint) = self.shared.shut_down() else { return };
        let _ = timeout(CLOSE_TIMEOUT, endpoint.wait_idle()).await;
        drop(endpoint);
        // The endpoint's tasks release the socket when they end. A restart on the same address needs the
        // socket to be free.
        let free = async {
            while self.socket.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, free).await;
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        drop(self.shared.shut_down());
    }
}

impl Shared {
    fn set_peers(self: &Arc<Self>, peers: &[Peer]) {
        // Holds the lock of the links while the permitted peers change, so that no connection that was
        // permitted by the old list is assigned to a link of the new list.
        let mut links = lock(&self.links);
        if lock(&self.endpoint).is_none() {
            return;
        }
        let wanted: BTreeMap<NodeId, &Peer> = peers
            .iter()
            .filter(|peer| peer.node != self.trust.node)
            .map(|peer| (peer.node, peer))
            .collect();
        *lock(&self.trust.peers) = wanted.keys().copied().collect();
        links.retain(|node, link| {
            // A peer with another address gets a new link.
            let kept = wanted.get(node).is_some_and(|peer| peer.address == link.address);
            if !kept {
                link.close(CloseCode::Removed, b"no longer a peer at this address");
            }
            kept
        });
        for (node, peer) in wanted {
            links.entry(node).or_insert_with(|| self.link(peer));
        }
    }

    /// Creates a link, with a dialling task if this node dials the peer.
    fn link(self: &Arc<Self>, peer: &Peer) -> Arc<Link> {
        let link = Arc::new(Link::new(peer.node, peer.address.clone(), self.limits));
        if self.trust.node < peer.node {
            let dialling = dial::keep_connected(Arc::clone(self), Arc::clone(&link));
            link.set_task(self.runtime.spawn(dialling).abort_handle());
        }
        link
    }

    /// Closes all links and the endpoint, and returns the endpoint. Returns `None` if they are closed already.
    fn shut_down(&self) -> Option<Endpoint> {
        let mut links = lock(&self.links);
        let endpoint = lock(&self.endpoint).take()?;
        self.inbox.close();
        lock(&self.trust.peers).clear();
        for link in std::mem::take(&mut *links).into_values() {
            link.close(CloseCode::Closing, b"transport closed");
        }
        endpoint.close(CloseCode::Closing.into(), b"transport closed");
        Some(endpoint)
    }

    fn endpoint(&self) -> Option<Endpoint> {
        lock(&self.endpoint).clone()
    }

    fn server_config(
        &self,
        verifier: Arc<PeerVerifier>,
    ) -> Result<Arc<quinn::ServerConfig>, rustls::Error> {
        let mut config = self.server.clone();
        config.crypto = self.tls.server(verifier)?;
        Ok(Arc::new(config))
    }

    fn client_config(
        &self,
        verifier: Arc<PeerVerifier>,
    ) -> Result<quinn::ClientConfig, rustls::Error> {
        let mut config = quinn::ClientConfig::new(self.tls.client(verifier)?);
        config.transport_config(Arc::clone(&self.transport));
        Ok(config)
    }
}
