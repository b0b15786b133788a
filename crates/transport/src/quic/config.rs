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

/// Maximum value of [`QuicConfig::mtu`]. Datagrams are sent ten at a time in one system call of at
/// most 64 KiB; larger ones fail, and connections fall back to 1200.
pub const MAX_MTU: u16 = 6000;

const MIN_MTU: u16 = 1200;

/// Assumed round trip before one was measured. Lost packets of a handshake are retransmitted after
/// three times this. It is short so that a restarted peer is connected soon; on a slower path this
/// costs one packet sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// Certificates and key of a node, all in PEM.
#[derive(Clone)]
pub struct Credentials {
    /// Authority that signed every node of the cluster. There may be several while one replaces another.
    pub ca: String,
    /// Certificate of this node, then any intermediate ones.
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
    /// Cluster. It must be that of the certificate.
    pub cluster: ClusterId,
    /// Id of this node. It must be that of the certificate.
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
    /// Timeout of resolving and dialling a peer, and of incoming handshakes. Default: 2 seconds.
    pub handshake_timeout: Duration,
    /// Maximum number of concurrent incoming handshakes. From half of it on, callers must first prove
    /// their address. Default: 64.
    pub max_handshakes: usize,
    /// Minimum time between attempts to dial a peer. It doubles each time. Default: 20 milliseconds.
    pub min_backoff: Duration,
    /// Maximum time between attempts to dial a peer. A random part of the second half of each pause is
    /// skipped. Default: 1 second.
    pub max_backoff: Duration,
    /// Flow control window of each lane in bytes. It bounds the memory of a connection to five times this
    /// in each direction. Default: 4 MiB.
    pub lane_window: u32,
    /// Initial UDP payload, from 1200 to [`MAX_MTU`] bytes, for paths that are known to support it. By
    /// default it is 1200 until discovery finds up to 1452.
    pub mtu: Option<u16>,
}

impl QuicConfig {
    /// Creates a configuration with the defaults of each field.
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

    /// Returns the limits of one connection.
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
            // The lanes' own windows bind first, so that a lane that is not read does not reduce the others'
            // share of the receive window or of the send window.
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

    /// Returns the limits of the UDP socket, with the reset key (see [`ResetKey`]).
    pub(super) fn endpoint(&self, reset: &ResetKey) -> quinn::EndpointConfig {
        let mut endpoint = quinn::EndpointConfig::new(reset.signer());
        let ids = reset.clone();
        endpoint.cid_generator(move || Box::new(ids.connection_ids()));
        if let Some(mtu) = self.mtu {
            let ethernet = quinn::EndpointConfig::default().get_max_udp_payload_size();
            let payload = mtu.max(u16::try_from(ethernet).unwrap_or(MIN_MTU));
            // Always within the bounds: `validate` checks this.
            let _ = endpoint.max_udp_payload_size(payload);
        }
        endpoint
    }

    /// Returns the limits of incoming connections.
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
