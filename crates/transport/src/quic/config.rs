//! Settings of the QUIC transport, checked once.

use super::congestion::LossTolerant;
use super::tls::ResetKey;
use super::{LANES, TransportError};
use crate::Limits;
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use synod_types::{ClusterId, NodeId};

/// The largest UDP payload that may be asked for. Datagrams are sent ten at a time in one call of
/// at most 64 KiB; with more bytes each, that stops working and connections fall back to 1200.
pub const MAX_MTU: u16 = 6000;

const MIN_MTU: u16 = 1200;

/// Before a round trip was measured, lost packets of a handshake are sent again after three times
/// this. It is short because a peer that restarts should not be waited for: the cost on a path
/// that is slower is one packet sent twice.
const INITIAL_RTT: Duration = Duration::from_millis(50);

/// What a node proves itself with, and knows its peers by. All PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The authority that signed every node of the cluster; several of them while one replaces
    /// another.
    pub ca: String,
    /// This node's certificate, then any between it and the authority.
    pub certificate: String,
    /// The certificate's private key.
    pub key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// How to bind a [`QuicTransport`](super::QuicTransport).
#[derive(Clone, Debug)]
pub struct QuicConfig {
    /// The cluster; must be the certificate's.
    pub cluster: ClusterId,
    /// This node; must be the certificate's.
    pub node: NodeId,
    /// Where to listen (UDP), and where connections to peers come from. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Certificates and key.
    pub credentials: Credentials,
    /// What is carried and kept at most.
    pub limits: Limits,
    /// After how long without a sign of life a connection is given up. Default: 2 seconds.
    pub idle_timeout: Duration,
    /// After how long without traffic a sign of life is sent; at most half of `idle_timeout`.
    /// Default: 400 milliseconds.
    pub keep_alive: Duration,
    /// How long resolving and dialling a peer, or the handshake of whoever dials us, may take.
    /// Default: 2 seconds.
    pub handshake_timeout: Duration,
    /// How many incoming handshakes may run at once. From half of it on, whoever dials must first
    /// prove that its address is its own. Default: 64.
    pub max_handshakes: usize,
    /// The least time from one attempt to dial a peer to the next; it doubles each time. Default:
    /// 20 milliseconds.
    pub min_backoff: Duration,
    /// How far it doubles. Of each pause, a random part of the second half is left out. Default:
    /// 1 second.
    pub max_backoff: Duration,
    /// How many bytes of each lane a peer may send ahead of what was read, which bounds the memory
    /// that a connection holds to three times this in each direction. Default: 4 MiB.
    pub lane_window: u32,
    /// The UDP payload to start with, from 1200 to [`MAX_MTU`] bytes: only for paths that are
    /// known to carry it. By default 1200 is used until up to 1452 was found to pass.
    pub mtu: Option<u16>,
}

impl QuicConfig {
    /// The defaults, as they stand at each field.
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
            limits: Limits::default(),
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

    /// Checks what could not work.
    pub(super) fn check(&self) -> Result<(), TransportError> {
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

    /// The limits of one connection.
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
            // The lanes' own windows bind first, so that a lane that nobody reads takes nothing
            // from the others: neither of what the peer may send, nor of what we may keep until
            // it is acknowledged.
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

    /// The limits of the UDP socket, and what makes a restart quick to notice (see [`ResetKey`]).
    pub(super) fn endpoint(&self, reset: &ResetKey) -> quinn::EndpointConfig {
        let mut endpoint = quinn::EndpointConfig::new(reset.signer());
        let ids = reset.clone();
        endpoint.cid_generator(move || Box::new(ids.connection_ids()));
        if let Some(mtu) = self.mtu {
            let ethernet = quinn::EndpointConfig::default().get_max_udp_payload_size();
            let payload = mtu.max(u16::try_from(ethernet).unwrap_or(MIN_MTU));
            // Always within the bounds: `check` has seen to it.
            let _ = endpoint.max_udp_payload_size(payload);
        }
        endpoint
    }

    /// The limits on whoever dials.
    pub(super) fn server(
        &self,
        crypto: Arc<dyn quinn::crypto::ServerConfig>,
    ) -> quinn::ServerConfig {
        let mut server = quinn::ServerConfig::with_crypto(crypto);
        server
            .max_incoming(self.max_handshakes)
            .incoming_buffer_size(64 << 10)
            .incoming_buffer_size_total(4 << 20)
            // A peer that moves is a peer that restarted: it dials again.
            .migration(false);
        server
    }
}
