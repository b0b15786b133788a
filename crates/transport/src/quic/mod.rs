//! QUIC between the nodes, with mutual TLS 1.3.
//!
//! **Who is let in.** Both sides show a certificate of the cluster's CA that names a node and a
//! cluster (see [`certs`]). It is judged inside the handshake, before a byte of a
//! frame: whoever dials must be one of the peers, whoever is dialled must be the node that was
//! meant. Anybody else is refused, counted by [`Refusal`], and logged with the reason and both
//! names; repeated lines are held back for ten seconds.
//!
//! **One connection a pair of peers.** The node with the smaller id dials, the other accepts. So
//! no two connections ever race for the same pair, and no tie has to be broken; what it costs is
//! that only one of the two can mend the connection, which is why it is quick about it.
//!
//! **Lanes.** Each direction has one stream for each [`Lane`], opened once: a byte that names the
//! lane, then frames, each after its length. Control goes before log, log before bulk, and
//! each has its own flow control. All that waits in a lane goes out in one write.
//!
//! **After `kill -9`.** A process that is killed says nothing. When it is back, what its peers
//! still send to its former life is answered with a stateless reset, whose token is derived from
//! the node's private key and so the same in every life: they notice with the next packet, at the
//! latest with the next keep-alive (400 milliseconds), and the one that dials does so at once. If
//! the restarted node is the one that dials, the newer connection replaces the older. A peer that
//! stays away is noticed by the idle time-out (2 seconds), and then dialled all the time, with
//! packets less than a second apart.
//!
//! Left out on purpose: 0-RTT and resumption (they skip the certificate), migration (a peer that
//! moves dials again), revocation lists (see [`certs`]).

mod accept;
mod config;
mod congestion;
mod dial;
mod frame;
mod identity;
mod link;
mod report;
mod session;
mod tls;

pub use config::{Credentials, MAX_MTU, QuicConfig};
pub use identity::Refusal;

use crate::certs::{self, Identity};
use crate::queue::{Inbox, lock};
use crate::{Limits, Peer, PeerStats, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use identity::{PeerVerifier, Trust};
use link::{CloseCode, Link};
use quinn::{AsyncUdpSocket, Endpoint, Runtime, TokioRuntime, TransportConfig};
use report::{Report, Reports};
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

/// Bytes that the system may keep for the socket until they are read. Usual defaults hold a
/// hundred packets, and a peer may send thousands in one round trip of a long path.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How long `close` waits for peers to hear of it and for the socket to be free.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a transport cannot be bound. Each is final: settings, files or the machine must change.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// The address is in use, or not this machine's.
    #[error("cannot listen for peers on {address} (UDP): {source}")]
    Bind {
        /// Where it was to listen.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use the {what}: {reason}")]
    Credentials {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is another node's, or of another cluster, or a client's.
    #[error("the certificate is that of {found}, but this is {expected}")]
    WrongIdentity {
        /// Who this node is.
        expected: String,
        /// Whom the certificate names.
        found: String,
    },
    /// A setting cannot work.
    #[error("{name} {rule}")]
    Setting {
        /// The field of [`QuicConfig`].
        name: &'static str,
        /// What it must be.
        rule: &'static str,
    },
    /// There is no tokio runtime with its I/O driver around the call.
    #[error("needs a tokio runtime: {0}")]
    NoRuntime(String),
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// What passed, and who was refused; for metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuicStats {
    /// For each peer.
    pub peers: BTreeMap<NodeId, PeerStats>,
    /// How many connections this side refused, by reason.
    pub refused: BTreeMap<Refusal, u64>,
}

/// [`Transport`] over QUIC. Dropping it closes it, without waiting for peers to hear of it.
pub struct QuicTransport {
    shared: Arc<Shared>,
    socket: Weak<dyn AsyncUdpSocket>,
}

/// What the tasks of one transport share.
struct Shared {
    limits: Limits,
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
    reports: Reports,
}

impl QuicTransport {
    /// Listens, and knows no peers yet: [`Transport::set_peers`] is what makes it dial and accept.
    /// Must be called within a tokio runtime, where its tasks then run.
    ///
    /// # Errors
    /// When the address cannot be bound, the credentials cannot be used or are not this node's, or
    /// a setting cannot work.
    pub fn bind(config: QuicConfig) -> Result<Self, TransportError> {
        config.check()?;
        let runtime =
            Handle::try_current().map_err(|error| TransportError::NoRuntime(error.to_string()))?;
        let (tls, reset) = Tls::new(&config.credentials)?;
        let own = Identity::Node { cluster: config.cluster, node: config.node };
        check_identity(&own, &tls.certificate)?;
        let unusable = |what, reason| TransportError::Credentials { what, reason };
        let trust = Trust::new(config.cluster, config.node, &tls);
        let trust = Arc::new(trust.map_err(|reason| unusable("CA certificate", reason))?);

        let transport = Arc::new(config.transport()?);
        // Only whoever accepts a connection says who judges it; this one is never asked.
        let (nobody, _) = PeerVerifier::new(&trust, None);
        let crypto = tls.server(nobody);
        let crypto = crypto.map_err(|error| unusable("node's certificate", error.to_string()))?;
        let mut server = config.server(crypto);
        server.transport_config(Arc::clone(&transport));

        let refused = |source| TransportError::Bind { address: config.listen, source };
        let socket = UdpSocket::bind(config.listen).map_err(refused)?;
        // The system grants what it allows. A smaller buffer loses packets under load, no more.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let address = socket.local_addr().map_err(refused)?;
        let socket = TokioRuntime.wrap_udp_socket(socket).map_err(refused)?;
        let watched = Arc::downgrade(&socket);
        let endpoint = config.endpoint(&reset);
        let endpoint = Endpoint::new_with_abstract_socket(
            endpoint,
            Some(server.clone()),
            socket,
            Arc::new(TokioRuntime),
        );
        let endpoint = endpoint.map_err(refused)?;
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
            reports: Reports::default(),
        });
        runtime.spawn(accept::accept_all(Arc::clone(&shared), endpoint));
        Ok(Self { shared, socket: watched })
    }

    /// Where it listens; the port is the real one if port 0 was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// The counters as they are now.
    #[must_use]
    pub fn stats(&self) -> QuicStats {
        let links = lock(&self.shared.links);
        let peers = links.iter().map(|(node, link)| (*node, link.stats())).collect();
        QuicStats { peers, refused: self.shared.reports.refused() }
    }
}

/// Starts as who we are, or not at all: with another's certificate every peer would refuse us.
fn check_identity(own: &Identity, certificate: &[u8]) -> Result<(), TransportError> {
    let found = certs::identify(certificate).map_err(|error| TransportError::Credentials {
        what: "node's certificate",
        reason: error.to_string(),
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
            link.dropped(1);
            return self.shared.report_oversize(to, frame.len());
        }
        link.send(lane, frame);
    }

    async fn recv(&self) -> Option<(NodeId, Bytes)> {
        self.shared.inbox.take().await
    }

    fn set_peers(&self, peers: &[Peer]) {
        self.shared.set_peers(peers);
    }

    async fn close(&self) {
        let Some(endpoint) = self.shared.shut_down() else { return };
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
        drop(endpoint);
        // The socket is given back by tasks that end by themselves. Whoever starts again on the
        // same address should find it free.
        let free = async {
            while self.socket.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = timeout(FAREWELL, free).await;
    }
}

impl Drop for QuicTransport {
    fn drop(&mut self) {
        drop(self.shared.shut_down());
    }
}

impl Shared {
    fn set_peers(self: &Arc<Self>, peers: &[Peer]) {
        // The list of those who may connect changes under the lock of the links, so that nobody
        // is let in by an old list for a link of the new one.
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
            // A peer that is somewhere else now is another link.
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

    /// A new link, with a task that dials if it is ours to dial.
    fn link(self: &Arc<Self>, peer: &Peer) -> Arc<Link> {
        let link = Arc::new(Link::new(peer.node, peer.address.clone(), self.limits));
        if self.trust.node < peer.node {
            let dialling = dial::keep_connected(Arc::clone(self), Arc::clone(&link));
            link.keep(self.runtime.spawn(dialling).abort_handle());
        }
        link
    }

    /// Ends everything; the endpoint is returned the first time.
    fn shut_down(&self) -> Option<Endpoint> {
        let mut links = lock(&self.links);
        let endpoint = lock(&self.endpoint).take()?;
        self.inbox.close();
        lock(&self.trust.peers).clear();
        for link in std::mem::take(&mut *links).into_values() {
            link.close(CloseCode::Closing, b"closing");
        }
        endpoint.close(CloseCode::Closing.into(), b"closing");
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
