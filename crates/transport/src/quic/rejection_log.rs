//! Counters and log lines of failed handshakes. Every rejection is counted; repeated lines are suppressed.

use super::Shared;
use super::peer_verifier::{RejectReason, Rejection, Verdict};
use crate::queue::lock;
use quinn::ConnectionError;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synod_types::NodeId;

/// Time for which repetitions of a line are suppressed.
const SUPPRESSION: Duration = Duration::from_secs(10);

/// Maximum number of distinct lines to track. Fewer suffice: there are few topics and few nodes.
const MAX_ENTRIES: usize = 1024;

/// Counters of rejections, and the lines that were logged.
#[derive(Default)]
pub(super) struct RejectionLog {
    counts: Mutex<BTreeMap<RejectReason, u64>>,
    logged: Mutex<BTreeMap<(Topic, Option<NodeId>), Logged>>,
}

/// Topic of a line. Lines of the same topic and node are repetitions of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Rejected(RejectReason),
    RejectedByPeer,
    Oversize,
}

struct Logged {
    at: Instant,
    suppressed: u64,
}

impl RejectionLog {
    pub(super) fn counts(&self) -> BTreeMap<RejectReason, u64> {
        lock(&self.counts).clone()
    }

    /// Returns `None` if a line must be suppressed, or else the number of its repetitions that were
    /// suppressed before.
    fn permit(&self, topic: Topic, node: Option<NodeId>, now: Instant) -> Option<u64> {
        let mut logged = lock(&self.logged);
        if logged.len() >= MAX_ENTRIES {
            logged.retain(|_, logged| now.duration_since(logged.at) < SUPPRESSION);
        }
        if logged.len() >= MAX_ENTRIES && !logged.contains_key(&(topic, node)) {
            return None;
        }
        match logged.get_mut(&(topic, node)) {
            Some(logged) if now.duration_since(logged.at) < SUPPRESSION => {
                logged.suppressed += 1;
                None
            }
            earlier => {
                let suppressed = earlier.map_or(0, |logged| logged.suppressed);
                logged.insert((topic, node), Logged { at: now, suppressed: 0 });
                Some(suppressed)
            }
        }
    }
}

/// A failed handshake.
pub(super) enum HandshakeFailure {
    /// This node rejected the peer.
    Rejected(Rejection),
    /// The peer rejected this node. The connection's error has the peer's reason.
    RejectedByPeer,
    /// The handshake was interrupted.
    Broken,
}

impl HandshakeFailure {
    /// Classifies a failure by the verdict on the certificate, if there is one, and the connection's error.
    pub(super) fn of(verdict: &Verdict, error: &ConnectionError, dialled: bool) -> Self {
        if let Some(Err(rejection)) = verdict.get() {
            return Self::Rejected(rejection.clone());
        }
        match error {
            ConnectionError::ConnectionClosed(_) if !dialled => Self::Broken,
            ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => {
                Self::RejectedByPeer
            }
            ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
                let claim = "an unidentified peer".to_owned();
                Self::Rejected(Rejection { reason: RejectReason::Handshake, claim, node: None })
            }
            _ => Self::Broken,
        }
    }
}

impl Shared {
    pub(super) fn count_rejection(&self, reason: RejectReason) {
        *lock(&self.rejections.counts).entry(reason).or_default() += 1;
    }

    /// Counts and logs a failed handshake. `peer` is the dialled or authenticated node.
    pub(super) fn report(
        &self,
        failure: &HandshakeFailure,
        peer: Option<NodeId>,
        address: SocketAddr,
        error: &dyn fmt::Display,
    ) {
        let (local, now) = (self.trust.own(), Instant::now());
        match failure {
            HandshakeFailure::Rejected(Rejection { reason, claim, node }) => {
                self.count_rejection(*reason);
                let topic = Topic::Rejected(*reason);
                if let Some(suppressed) = self.rejections.permit(topic, node.or(peer), now) {
                    let dialled = peer.map(tracing::field::display);
                    tracing::warn!(
                        %local, remote = claim, %address, dialled, %reason, %error, suppressed,
                        "rejected a peer connection"
                    );
                }
            }
            HandshakeFailure::RejectedByPeer => {
                if let Some(suppressed) = self.rejections.permit(Topic::RejectedByPeer, peer, now) {
                    let peer = peer.map(tracing::field::display);
                    tracing::warn!(
                        %local, peer, %address, %error, suppressed,
                        "peer rejected this node's connection"
                    );
                }
            }
            HandshakeFailure::Broken => {
                let peer = peer.map(tracing::field::display);
                tracing::debug!(%local, peer, %address, %error, "handshake failed");
            }
        }
    }

    /// Logs a frame that is too large to send.
    pub(super) fn report_oversize(&self, peer: NodeId, size: usize) {
        let (local, limit) = (self.trust.own(), self.limits.max_frame);
        if let Some(suppressed) =
            self.rejections.permit(Topic::Oversize, Some(peer), Instant::now())
        {
            tracing::warn!(
                %local, %peer, size, limit, suppressed,
                "dropped a frame that exceeds the size limit (size and limit in bytes)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_line_is_suppressed_and_counted() {
        let (log, start) = (RejectionLog::default(), Instant::now());
        let (topic, node) = (Topic::Rejected(RejectReason::ForeignCa), Some(NodeId(1)));
        assert_eq!(log.permit(topic, node, start), Some(0));
        assert_eq!(log.permit(topic, node, start + SUPPRESSION / 2), None);
        assert_eq!(log.permit(topic, None, start), Some(0), "another node, another line");
        assert_eq!(log.permit(Topic::Oversize, node, start), Some(0));
        assert_eq!(log.permit(topic, node, start + SUPPRESSION), Some(1));
        assert_eq!(log.permit(topic, node, start + SUPPRESSION * 2), Some(0));
    }

    #[test]
    fn number_of_tracked_lines_is_bounded() {
        let (log, start) = (RejectionLog::default(), Instant::now());
        for node in 0..2 * MAX_ENTRIES as u64 {
            log.permit(Topic::RejectedByPeer, Some(NodeId(node)), start);
        }
        assert_eq!(lock(&log.logged).len(), MAX_ENTRIES);
        let late = Some(NodeId(u64::MAX));
        assert_eq!(log.permit(Topic::RejectedByPeer, late, start + SUPPRESSION), Some(0));
    }
}
