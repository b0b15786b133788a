//! The accepting side: whoever dials is judged, and then gets its place or none.

use super::identity::{PeerVerifier, Refusal, Refused};
use super::link::CloseCode;
use super::{Report, Shared};
use crate::queue::lock;
use quinn::{Connection, Endpoint, Incoming};
use std::sync::Arc;
use synod_types::NodeId;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Answers whoever dials, until the endpoint is closed.
pub(super) async fn accept_all(shared: Arc<Shared>, endpoint: Endpoint) {
    // Dropping the set ends the handshakes.
    let mut handshakes = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => consider(&shared, &mut handshakes, incoming),
                None => return,
            },
            Some(_) = handshakes.join_next() => {}
        }
    }
}

/// Starts a handshake, unless too many are under way. When half of them are, the caller has to
/// show first that it receives at its address, so that forged addresses cannot take the rest.
fn consider(shared: &Arc<Shared>, handshakes: &mut JoinSet<()>, incoming: Incoming) {
    if handshakes.len() >= shared.max_handshakes {
        shared.count_refusal(Refusal::Overload);
        incoming.ignore();
    } else if handshakes.len() >= shared.max_handshakes / 2 && !incoming.remote_address_validated()
    {
        // Fails only for a caller that answered a retry before, and would be validated then.
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
            tracing::error!(local = %shared.trust.own(), %error, "cannot accept connections");
            return incoming.refuse();
        }
    };
    let made = async { incoming.accept_with(config)?.await };
    let connection = match timeout(shared.handshake_timeout, made).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            let report = Report::of(&verdict, &error, false);
            return shared.report(&report, None, address, &error);
        }
        Err(_) => {
            tracing::debug!(local = %shared.trust.own(), %address, "a handshake takes too long");
            return;
        }
    };
    // A handshake that is complete was judged, and well.
    let Some(Ok(node)) = verdict.get() else {
        return connection.close(CloseCode::Refused.into(), b"no certificate");
    };
    if let Err(why) = admit(&shared, *node, &connection) {
        let claim = format!("node {node} of cluster {}", shared.trust.cluster);
        let reason = why.to_string();
        connection.close(CloseCode::Refused.into(), reason.as_bytes());
        let refused = Refused { why, claim, node: Some(*node) };
        shared.report(&Report::Refused(refused), Some(*node), address, &reason);
    }
}

/// Gives an authenticated connection its link.
///
/// A connection from where the earlier one came from replaces it: only one process can have that
/// socket, so the earlier one belongs to a process that is gone. From elsewhere it has to wait
/// until the earlier one is closed or timed out, or two processes with one identity would take
/// the link from each other for ever.
fn admit(shared: &Arc<Shared>, node: NodeId, connection: &Connection) -> Result<(), Refusal> {
    let links = lock(&shared.links);
    // Removed during its handshake.
    let link = links.get(&node).ok_or(Refusal::UnknownNode)?;
    if link.live_from().is_some_and(|live| live != connection.remote_address()) {
        return Err(Refusal::AlreadyConnected);
    }
    let attached = link.attach(connection.clone());
    let shared = Arc::clone(shared);
    let runtime = shared.runtime.clone();
    let session = runtime.spawn(async move {
        attached.run(&shared, None).await;
    });
    link.keep(session.abort_handle());
    Ok(())
}
