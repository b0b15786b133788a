//! Shared by the tests: one CA, nodes on loopback, waits for conditions.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use synod_transport::certificates::{CertificateAuthority, IssuedCertificate};
use synod_transport::{Credentials, Peer, QuicConfig, QuicTransport, TransportLimits};
use synod_types::{ClusterId, NodeId};

pub const CLUSTER: ClusterId = ClusterId(7);
pub const ONE: NodeId = NodeId(1);
pub const TWO: NodeId = NodeId(2);

/// Timeout of a condition that must become true.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Returns the cluster's authority.
pub fn authority() -> &'static CertificateAuthority {
    static AUTHORITY: OnceLock<CertificateAuthority> = OnceLock::new();
    AUTHORITY.get_or_init(|| CertificateAuthority::new(CLUSTER).expect("issues"))
}

/// Returns the configuration of a node on a free port of loopback, with limits small enough to
/// reach.
pub fn config(node: NodeId) -> QuicConfig {
    let issued = authority().issue_node(CLUSTER, node).expect("issues");
    let mut config = QuicConfig::new(CLUSTER, node, loopback(), credentials(issued));
    config.limits =
        TransportLimits { max_frame: 300_000, queue_frames: 1000, queue_bytes: 500_000 };
    config.lane_window = 256 << 10;
    config
}

pub fn credentials(issued: IssuedCertificate) -> Credentials {
    let ca = authority().certificate_pem().to_owned();
    Credentials { ca, certificate: issued.certificate, key: issued.key }
}

pub fn loopback() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

pub fn peer(node: NodeId, address: SocketAddr) -> Peer {
    Peer { node, address: address.to_string() }
}

/// Binds a restarted node, whose socket may still be in use.
pub async fn bind(config: &QuicConfig) -> QuicTransport {
    let start = Instant::now();
    loop {
        match QuicTransport::bind(config.clone()) {
            Ok(transport) => return transport,
            Err(error) if start.elapsed() > TIMEOUT => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Waits until a condition holds.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < TIMEOUT, "{what}: not reached within {TIMEOUT:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
