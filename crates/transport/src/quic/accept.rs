//! Incoming connections: handshakes, and their assignment to links.

use super::link::CloseCode;
use super::peer_verifier::{PeerVerifier, RejectReason, Rejection};
use super::{HandshakeFailure, Shared};
use crate::queue::lock;
use quinn::{Connection, Endpoint, Incoming};
use std::sync::Arc;
use synod_types::NodeId;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept_all(shared: Arc<Shared>, endpoint: Endpoint) {
    // Dropping the set ends the handshakes.
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => start_handshake(&shared, &mut handshakes, incoming),
                None => return,
            },
            Some(_) = handshakes.join_next() => {}
        }
    }
}

/// Starts a handshake, unless too many are in progress. Once half of the limit is used, a caller must
/// first validate its address (QUIC Retry), so that forged addresses cannot use up the other half.
fn start_handshake(shared: &Arc<Shared>, handshakes: &mut JoinSet<()>, incoming: Incoming) {
    if handshakes.len() >= shared.max_handshakes {
        shared.count_rejection(RejectReason::Overload);
        incoming.ignore();
    } else if handshakes.len() >= shared.max_handshakes / 2 && !incoming.remote_address_validated()
    {
        // Fails only after an earlier Retry, but then the address would be validated.
        let _ = incoming.retry();
    } else {
        handshakes.spawn(handshake(Arc::clone(shared), incoming));
    }
}

async fn handshake(shared: Arc<Shared>, incoming: Incoming) {
    let address = incoming.remote_address();
    let (verifier, verdict) = PeerVerifier::new(&shared.trust, None);
    let config = match shared.server_config(verifier) {
        Ok(config) => config,
        Err(error) => {
            let local = shared.trust.own();
            tracing::error!(%local, %address, %error, "cannot accept a peer connection: TLS setup failed");
            return incoming.refuse();
        }
    };
    let accepted = async { incoming.accept_with(config)?.await };
    let connection = match timeout(shared.handshake_timeout, accepted).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let failure = HandshakeFailure::of(&verdict, &error, false);
            return shared.report(&failure, None, address, &error);
        }
        Err(_) => {
            let (local, timeout) = (shared.trust.own(), shared.handshake_timeout);
            tracing::debug!(%local, %address, ?timeout, "handshake of an incoming connection timed out");
            return;
        }
    };
    // After a completed handshake, the verifier has accepted the certificate.
    let Some(Ok(node)) = verdict.get() else {
        return connection.close(CloseCode::Rejected.into(), b"certificate not verified");
    };
    if let Err(reason) = admit(&shared, *node, &connection) {
        let claim = format!("node {node} of cluster {}", shared.trust.cluster);
        let text = reason.to_string();
        connection.close(CloseCode::Rejected.into(), text.as_bytes());
        let rejection = Rejection { reason, claim, node: Some(*node) };
        shared.report(&HandshakeFailure::Rejected(rejection), Some(*node), address, &text);
    }
}

/// Assigns an authenticated connection to its link.
///
/// If the link has a live connection from the same address, the new one replaces it: only one process
/// can own that socket, so the old connection belongs to a process that has ended. A connection from
/// another address is rejected until the live one is closed or times out. Otherwise two processes with
/// one identity would keep replacing each other's connection.
fn admit(shared: &Arc<Shared>, node: NodeId, connection: &Connection) -> Result<(), RejectReason> {
    let links = lock(&shared.links);
    // The peer may have been removed during its handshake.
    let link = links.get(&node).ok_or(RejectReason::UnknownNode)?;
    if link.live_address().is_some_and(|live| live != connection.remote_address()) {
        return Err(RejectReason::AlreadyConnected);
    }
    let attached = link.attach(connection.clone());
    let shared = Arc::clone(shared);
    let runtime = shared.runtime.clone();
    let session = runtime.spawn(async move {
        attached.run(&shared, None).await;
    });
    link.set_task(session.abort_handle());
    Ok(())
}
