//! The dialling side: one task for each peer with a larger id, for as long as it is a peer.

use super::link::Link;
use super::peer_verifier::PeerVerifier;
use super::{HandshakeFailure, Shared};
use crate::certificates::Identity;
use quinn::{Connection, ConnectionError, RecvStream};
use ring::rand::{SecureRandom, SystemRandom};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// After a connection of this duration the backoff is reset.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// Dials the peer, carries frames while the connection lasts, and dials again.
pub(super) async fn keep_connected(shared: Arc<Shared>, link: Arc<Link>) {
    let mut backoff = Backoff::new(shared.min_backoff, shared.max_backoff);
    let mut attempt = 0;
    loop {
        let started = Instant::now();
        match dial(&shared, &link, attempt).await {
            Ok((connection, first)) => {
                link.attach(connection).run(&shared, Some(first)).await;
                if started.elapsed() >= STABLE_AFTER {
                    backoff.reset();
                }
                attempt = 0;
            }
            Err(error) => {
                report(&shared, &link, error);
                attempt += 1;
            }
        }
        // The pause is measured from the start of the attempt: one that timed out has used it up, and the
        // next one starts at once, because the peer may have restarted meanwhile.
        sleep(backoff.next(random_u16()).saturating_sub(started.elapsed())).await;
    }
}

/// Reason why an attempt to dial failed.
enum DialError {
    /// The peer did not reply, or its name was not resolved.
    Unreachable(String),
    /// The handshake failed.
    Handshake { address: SocketAddr, error: ConnectionError, failure: HandshakeFailure },
}

/// Dials once. The connection counts as established when the peer's first stream arrives: with TLS 1.3
/// the client's certificate is verified last, after the client has completed its handshake.
async fn dial(
    shared: &Arc<Shared>,
    link: &Arc<Link>,
    attempt: usize,
) -> Result<(Connection, RecvStream), DialError> {
    let limit = shared.handshake_timeout;
    let unreachable = |reason: &str| DialError::Unreachable(reason.to_owned());
    let found = timeout(limit, resolve(&link.address, shared.address)).await;
    let found = found.map_err(|_| unreachable("name resolution timed out"))?;
    let addresses = found.map_err(|error| DialError::Unreachable(error.to_string()))?;
    if addresses.is_empty() {
        return Err(unreachable(
            "the name has no IPv4 address, and this node listens on IPv4: listen on [::]",
        ));
    }
    let address = addresses[attempt % addresses.len()];

    let (verifier, verdict) = PeerVerifier::new(&shared.trust, Some(link.node));
    let config = shared.client_config(verifier);
    let config = config.map_err(|error| DialError::Unreachable(error.to_string()))?;
    let endpoint = shared.endpoint().ok_or_else(|| unreachable("the transport is closed"))?;
    let name = Identity::Node { cluster: shared.trust.cluster, node: link.node }.dns_name();
    let connecting = endpoint.connect_with(config, address, &name);
    let connecting = connecting.map_err(|error| DialError::Unreachable(error.to_string()))?;
    let dialled = timeout(limit, async {
        let connection = connecting.await?;
        let first = connection.accept_uni().await?;
        Ok((connection, first))
    });
    match dialled.await {
        Ok(Ok(dialled)) => Ok(dialled),
        Ok(Err(error)) => {
            let failure = HandshakeFailure::of(&verdict, &error, true);
            Err(DialError::Handshake { address, error, failure })
        }
        Err(_) => Err(DialError::Unreachable(format!("{address} did not reply within {limit:?}"))),
    }
}

/// Resolves `host:port` to the addresses that a socket bound to `own` can send to.
async fn resolve(host: &str, own: SocketAddr) -> std::io::Result<Vec<SocketAddr>> {
    let found = tokio::net::lookup_host(host).await?;
    Ok(found.filter(|address| address.is_ipv4() || own.is_ipv6()).collect())
}

fn report(shared: &Shared, link: &Link, error: DialError) {
    match error {
        DialError::Handshake { address, error, failure } => {
            shared.report(&failure, Some(link.node), address, &error);
        }
        DialError::Unreachable(reason) => {
            let (local, peer) = (shared.trust.own(), link.node);
            tracing::debug!(%local, %peer, address = link.address, %reason, "cannot connect to peer");
        }
    }
}

/// Exponential backoff with jitter, so that the nodes of a cluster do not all dial at the same time after
/// a failure of their network.
struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, next: first }
    }

    fn reset(&mut self) {
        self.next = self.first;
    }

    /// Returns the next pause, shortened by jitter: half of the pause for a jitter of 0, the whole pause for
    /// the maximum.
    fn next(&mut self, jitter: u16) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.max);
        let half = pause / 2;
        half + half * u32::from(jitter) / u32::from(u16::MAX)
    }
}

/// Returns a random number. If the system has no randomness, returns 0, which affects the jitter only.
fn random_u16() -> u16 {
    let mut bytes = [0; 2];
    let _ = SystemRandom::new().fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_bound_and_can_be_reset() {
        let (first, max) = (Duration::from_millis(20), Duration::from_millis(100));
        let mut backoff = Backoff::new(first, max);
        let pauses: Vec<_> = (0..5).map(|_| backoff.next(u16::MAX).as_millis()).collect();
        assert_eq!(pauses, [20, 40, 80, 100, 100]);
        assert_eq!(backoff.next(0), max / 2);
        backoff.reset();
        assert_eq!(backoff.next(0), first / 2);
    }

    #[tokio::test]
    async fn only_addresses_of_a_reachable_family_are_dialled() {
        let (four, six) = ("127.0.0.1:1", "[::1]:1");
        let count = async |host, own: &str| {
            resolve(host, own.parse().expect("is an address")).await.map(|found| found.len()).ok()
        };
        assert_eq!(count(four, "0.0.0.0:2").await, Some(1));
        assert_eq!(count(six, "0.0.0.0:2").await, Some(0));
        assert_eq!(count(four, "[::]:2").await, Some(1), "as an IPv4-mapped address");
        assert_eq!(count(six, "[::]:2").await, Some(1));
        assert_eq!(count("not an address", "[::]:2").await, None);
    }
}
