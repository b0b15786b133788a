//! Settings of the QUIC transport.

use super::congestion::LossTolerant;
use super::tls::ResetKey;
use super::{LANES, TransportError};
use crate::TransportLimits;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use synod_types::{ClusterId, NodeId};

/// Maximum value of [`QuicConfig::mtu`]. One system call sends ten datagrams, with at most 64 KiB in
/// total. Larger datagrams would fail, and connections would fall back to 1200 bytes.
pub const MAX_MTU: u16 = 6000;

const MIN_MTU: u16 = 1200;

/// Assumed round trip time before one has been measured. Lost packets of a handshake are retransmitted
/// after three times this. A short time connects a restarted peer soon. On a slower path it costs one
/// unnecessary retransmission.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Certificates and key of a node, all in PEM.
#[derive(Clone)]
pub struct Credentials {
    /// Certificates of the trusted authorities: one, or several while one replaces another.
    pub ca: String,
    /// Certificate of this node, followed by intermediate certificates if there are any.
    pub certificate: String,
    /// Private key of the certificate.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// Configuration of a [`QuicTransport`](super::QuicTransport).
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// Cluster of this node. Must equal the cluster in the certificate.
    pub cluster: ClusterId,
    /// Id of this node. Must equal the node in the certificate.
    pub node: NodeId,
    /// UDP address to listen on and to dial from. Port 0 selects a free one.
    pub listen: SocketAddr,
    /// Certificates and key.
    pub credentials: Credentials,
    /// Limits of frames and queues.
    pub limits: TransportLimits,
    /// Time without packets from the peer after which a connection is closed. Default: 2 seconds.
    pub idle_timeout: Duration,
    /// Time without traffic after which a keep-alive is sent, at most half of `idle_timeout`. Default:
    /// 400 milliseconds.
    pub keep_alive: Duration,
    /// Timeout of each name resolution, of each attempt to dial, and of each incoming handshake. Default:
    /// 2 seconds.
    pub handshake_timeout: Duration,
    /// Maximum number of concurrent incoming handshakes. Once half of it is used, callers must first
    /// validate their address (QUIC Retry). Default: 64.
    pub max_handshakes: usize,
    /// Pause between the first attempts to dial a peer. It doubles after each attempt. Default: 20
    /// milliseconds.
    pub min_backoff: Duration,
    /// Maximum pause between attempts to dial a peer. Each pause is shortened at random by up to a half
    /// (jitter). Default: 1 second.
    pub max_backoff: Duration,
    /// Flow control window of each lane in bytes. A connection buffers at most five times this in each
    /// direction: one window for each lane, and a spare one. Default: 4 MiB.
    pub lane_window: u32,
    /// Initial UDP payload, from 1200 to [`MAX_MTU`] bytes, for paths that are known to support it. With
    /// `None`, it is 1200 at first, and path MTU discovery may raise it to 1452.
    pub mtu: Option<u16>,
}

impl QuicConfig {
    /// Creates a configuration with the default of every other field.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        node: NodeId,
        listen: SocketAddr,
        credentials: Credentials,
    ) -> Self {
        Self {
            cluster,
            node,
            listen,
            credentials,
            limits: TransportLimits::default(),
            idle_timeout: Duration::from_secs(2),
            keep_alive: Duration::from_millis(400),
            handshake_timeout: Duration::from_secs(2),
            max_handshakes: 64,
            min_backoff: Duration::from_millis(20),
            max_backoff: Duration::from_secs(1),
            lane_window: 4 << 20,
            mtu: None,
        }
    }

    /// Checks the settings.
    pub(super) fn validate(&self) -> Result<(), TransportError> {
        let limits = &self.limits;
        let rules = [
            (limits.max_frame > 0, "limits.max_frame", "must not be zero"),
            (u32::try_from(limits.max_frame).is_ok(), "limits.max_frame", "must be below 4 GiB"),
            (limits.queue_frames > 0, "limits.queue_frames", "must not be zero"),
            (!self.keep_alive.is_zero(), "keep_alive", "must not be zero"),
            (
                self.keep_alive <= self.idle_timeout / 2,
                "keep_alive",
                "must be at most half of idle_timeout",
            ),
            (!self.handshake_timeout.is_zero(), "handshake_timeout", "must not be zero"),
            (self.max_handshakes > 0, "max_handshakes", "must not be zero"),
            (!self.min_backoff.is_zero(), "min_backoff", "must not be zero"),
            (self.min_backoff <= self.max_backoff, "max_backoff", "must not be below min_backoff"),
            (self.lane_window >= 64 << 10, "lane_window", "must be at least 64 KiB"),
            (self.lane_window <= 1 << 30, "lane_window", "must be at most 1 GiB"),
            (
                self.mtu.is_none_or(|mtu| (MIN_MTU..=MAX_MTU).contains(&mtu)),
                "mtu",
                "must be from 1200 to 6000",
            ),
        ];
        match rules.into_iter().find(|(holds, ..)| !holds) {
            Some((_, name, rule)) => Err(TransportError::Setting { name, rule }),
            None => Ok(()),
        }
    }

    /// Returns the QUIC parameters of a connection.
    pub(super) fn transport(&self) -> Result<TransportConfig, TransportError> {
        let too_long =
            |_| TransportError::Setting { name: "idle_timeout", rule: "must be below 2^62 ms" };
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(too_long)?;
        let window = u64::from(self.lane_window);
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(LANES as u32))
            .datagram_receive_buffer_size(None)
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(Some(self.keep_alive))
            .initial_rtt(INITIAL_RTT)
            .stream_receive_window(VarInt::from_u32(self.lane_window))
            // Larger than all lanes' windows together, so that a lane whose frames are not read cannot
            // exhaust the connection's window and block the other lanes.
            .receive_window(VarInt::try_from((LANES as u64 + 1) * window).unwrap_or(VarInt::MAX))
            .send_window((LANES as u64 + 1) * window)
            .congestion_controller_factory(Arc::new(LossTolerant::default()));
        if let Some(mtu) = self.mtu {
            let mut discovery = MtuDiscoveryConfig::default();
            discovery.upper_bound(mtu);
            transport.initial_mtu(mtu).mtu_discovery_config(Some(discovery));
        }
        Ok(transport)
    }

    /// Returns the parameters of the UDP endpoint, with the key of stateless resets (see [`ResetKey`]).
    pub(super) fn endpoint(&self, reset: &ResetKey) -> quinn::EndpointConfig {
        let mut endpoint = quinn::EndpointConfig::new(reset.signer());
        let ids = reset.clone();
        endpoint.cid_generator(move || Box::new(ids.connection_ids()));
        if let Some(mtu) = self.mtu {
            let ethernet = quinn::EndpointConfig::default().get_max_udp_payload_size();
            let payload = mtu.max(u16::try_from(ethernet).unwrap_or(MIN_MTU));
            // Cannot fail: `validate` has checked the bounds.
            let _ = endpoint.max_udp_payload_size(payload);
        }
        endpoint
    }

    /// Returns the parameters of incoming connections.
    pub(super) fn server(
        &self,
        crypto: Arc<dyn quinn::crypto::ServerConfig>,
    ) -> quinn::ServerConfig {
        let mut server = quinn::ServerConfig::with_crypto(crypto);
        server
            .max_incoming(self.max_handshakes)
            .incoming_buffer_size(64 << 10)
            .incoming_buffer_size_total(4 << 20)
            // A peer with a new address has restarted, and dials again.
            .migration(false);
        server
    }
}
