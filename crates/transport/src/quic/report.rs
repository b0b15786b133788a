//! What is said about connections that were not made: counted always, logged now and then.

use super::Shared;
use super::identity::{Refusal, Refused, Verdict};
use crate::queue::lock;
use quinn::ConnectionError;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synod_types::NodeId;

/// For so long a line that says the same again is held back.
const QUIET: Duration = Duration::from_secs(10);

/// More different lines than this are not remembered; there are few reasons and few nodes.
const REMEMBERED: usize = 1024;

/// Counters and memory of what was said.
#[derive(Default)]
pub(super) struct Reports {
    refused: Mutex<BTreeMap<Refusal, u64>>,
    said: Mutex<BTreeMap<(Topic, Option<NodeId>), Said>>,
}

/// What a line is about; with the node, if it is known, lines of one topic say the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Refused(Refusal),
    RefusedByPeer,
    Oversize,
}

struct Said {
    at: Instant,
    held_back: u64,
}

impl Reports {
    pub(super) fn refused(&self) -> BTreeMap<Refusal, u64> {
        lock(&self.refused).clone()
    }

    /// Whether a line may be said now, and if so how many like it were held back.
    fn pass(&self, topic: Topic, node: Option<NodeId>, now: Instant) -> Option<u64> {
        let mut said = lock(&self.said);
        if said.len() >= REMEMBERED {
            said.retain(|_, said| now.duration_since(said.at) < QUIET);
        }
        if said.len() >= REMEMBERED && !said.contains_key(&(topic, node)) {
            return None;
        }
        match said.get_mut(&(topic, node)) {
            Some(said) if now.duration_since(said.at) < QUIET => {
                said.held_back += 1;
                None
            }
            earlier => {
                let held_back = earlier.map_or(0, |said| said.held_back);
                said.insert((topic, node), Said { at: now, held_back: 0 });
                Some(held_back)
            }
        }
    }
}

/// What became of a handshake that failed.
pub(super) enum Report {
    /// We refused the other side.
    Refused(Refused),
    /// The other side refused us, in its own words.
    RefusedByPeer,
    /// Nobody refused anybody: it broke off.
    Broken,
}

impl Report {
    /// From the judgement of the certificate, if it got so far, and the connection's end.
    pub(super) fn of(verdict: &Verdict, error: &ConnectionError, dialled: bool) -> Self {
        if let Some(Err(refused)) = verdict.get() {
            return Self::Refused(refused.clone());
        }
        match error {
            ConnectionError::ConnectionClosed(_) if !dialled => Self::Broken,
            ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => {
                Self::RefusedByPeer
            }
            ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
                let claim = "somebody".to_owned();
                Self::Refused(Refused { why: Refusal::Handshake, claim, node: None })
            }
            _ => Self::Broken,
        }
    }
}

impl Shared {
    pub(super) fn count_refusal(&self, why: Refusal) {
        *lock(&self.reports.refused).entry(why).or_default() += 1;
    }

    /// Counts and logs why a connection was not made. `peer` is who was dialled or has proven who
    /// it is.
    pub(super) fn report(
        &self,
        report: &Report,
        peer: Option<NodeId>,
        address: SocketAddr,
        error: &dyn fmt::Display,
    ) {
        let (local, now) = (self.trust.own(), Instant::now());
        match report {
            Report::Refused(Refused { why, claim, node }) => {
                self.count_refusal(*why);
                let topic = Topic::Refused(*why);
                if let Some(held_back) = self.reports.pass(topic, node.or(peer), now) {
                    let dialled = peer.map(tracing::field::display);
                    tracing::warn!(
                        %local, remote = claim, %address, dialled, reason = %why, %error, held_back,
                        "refused a connection"
                    );
                }
            }
            Report::RefusedByPeer => {
                if let Some(held_back) = self.reports.pass(Topic::RefusedByPeer, peer, now) {
                    let peer = peer.map(tracing::field::display);
                    tracing::warn!(%local, peer, %address, %error, held_back, "was refused");
                }
            }
            Report::Broken => {
                let peer = peer.map(tracing::field::display);
                tracing::debug!(%local, peer, %address, %error, "no connection");
            }
        }
    }

    /// Logs that a frame was too large to send.
    pub(super) fn report_oversize(&self, peer: NodeId, size: usize) {
        let (local, limit) = (self.trust.own(), self.limits.max_frame);
        if let Some(held_back) = self.reports.pass(Topic::Oversize, Some(peer), Instant::now()) {
            tracing::warn!(%local, %peer, size, limit, held_back, "dropped an oversize frame");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_held_back_for_a_while() {
        let (reports, start) = (Reports::default(), Instant::now());
        let (topic, node) = (Topic::Refused(Refusal::ForeignCa), Some(NodeId(1)));
        assert_eq!(reports.pass(topic, node, start), Some(0));
        assert_eq!(reports.pass(topic, node, start + QUIET / 2), None);
        assert_eq!(reports.pass(topic, None, start), Some(0), "another node, another line");
        assert_eq!(reports.pass(Topic::Oversize, node, start), Some(0));
        assert_eq!(reports.pass(topic, node, start + QUIET), Some(1));
        assert_eq!(reports.pass(topic, node, start + QUIET * 2), Some(0));
    }

    #[test]
    fn memory_of_what_was_said_is_bounded() {
        let (reports, start) = (Reports::default(), Instant::now());
        for node in 0..2 * REMEMBERED as u64 {
            reports.pass(Topic::RefusedByPeer, Some(NodeId(node)), start);
        }
        assert_eq!(lock(&reports.said).len(), REMEMBERED);
        let late = Some(NodeId(u64::MAX));
        assert_eq!(reports.pass(Topic::RefusedByPeer, late, start + QUIET), Some(0));
    }
}
