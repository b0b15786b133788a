//! Learner: chosen slots in order, and catch-up (PMS 2.3).

use crate::message::CHOSEN;
use crate::span::Span;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use synod_consensus::{Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot};

/// Longest timeout of a request, after several requests without a reply.
const MAX_REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// Commit index of a node, and catch-up.
///
/// [`learn`](Self::learn) advances over slots whose values the node has accepted from the leader;
/// [`should_request`](Self::should_request) decides when to pull missing values, from any node.
///
/// ```
/// use std::time::Duration;
/// use synod_multi_paxos::consensus::{Run, RunLog};
/// use synod_multi_paxos::types::{Ballot, Instant, NodeId, Slot, Values};
/// use synod_multi_paxos::{Acceptor, HardState, Learner};
///
/// let (now, peer) = (Instant::ZERO, NodeId(2));
/// let ballot = Ballot { round: 1, node: peer };
/// let empty = || Acceptor::new(HardState::default(), RunLog::default());
/// let (mut mine, mut theirs, mut learner) = (empty(), empty(), Learner::new(Slot::ZERO));
/// let run = Run { first: Slot(1), stamp: ballot, values: Values::command_only(b"x") };
/// let _ = theirs.accept(&run, Slot::ZERO);
/// // Slot 1 is chosen and missing here: the second heartbeat that names it triggers a request.
/// assert!(learner.learn(mine.log(), ballot, Slot(1)).is_empty());
/// assert!(!learner.should_request(now, peer, Slot(1)), "it may be in flight");
/// assert!(learner.should_request(now, peer, Slot(1)));
/// learner.record_request(now, peer, Duration::from_millis(100));
/// let reply = theirs.chosen(learner.commit().next(), Slot(1), 1 << 20).expect("it is held");
/// let write = mine.learn(&reply, learner.commit()).expect("it contradicts nothing");
/// learner.on_reply(now);
/// let newly_chosen = learner.learn(mine.log(), reply.stamp, reply.last());
/// assert_eq!((write.len(), newly_chosen.len(), learner.commit()), (1, 1, Slot(1)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    commit: Slot,
    /// State of each node that sent a heartbeat. Separate, because the commit index of a lagging peer must
    /// not hide this node's lag.
    peers: BTreeMap<NodeId, Peer>,
    /// Last request, if there was no reply.
    pending: Option<PendingRequest>,
    /// Recent maximum of the response time, with values queueing on the way.
    response_time: Duration,
}

/// State of a node that may receive requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// Commit index of its last heartbeat.
    commit: Slot,
    /// Time of that heartbeat.
    last_heartbeat: Instant,
    /// Time of the last request to it, if no node has replied to one since.
    last_request: Option<Instant>,
    /// Number of requests to it since the last reply of any node.
    unanswered: u32,
}

/// Request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingRequest {
    at: Instant,
    /// Longest time until its reply.
    timeout: Duration,
}

impl Learner {
    /// Creates a learner with this commit index.
    #[must_use]
    pub fn new(commit: Slot) -> Self {
        Self { commit, peers: BTreeMap::new(), pending: None, response_time: Duration::ZERO }
    }

    /// Returns the commit index: everything up to here is chosen.
    #[must_use]
    pub fn commit(&self) -> Slot {
        self.commit
    }

    /// Learns from the leader of `ballot` that all slots through `through` are chosen. Returns the newly
    /// chosen runs: slots that the log holds under that ballot, or as [`CHOSEN`].
    pub fn learn(
        &mut self,
        log: &RunLog<Ballot>,
        ballot: Ballot,
        through: Slot,
    ) -> Vec<Run<Ballot>> {
        let mut newly_chosen = Vec::new();
        // The common case of a heartbeat: the log has no further slots.
        if self.commit >= log.last() {
            return newly_chosen;
        }
        for run in log.runs_from(self.commit.next()) {
            // A value of an older ballot may differ from the chosen one (PMS 2.3).
            let named = run.stamp == ballot && run.first <= through;
            if run.first != self.commit.next() || !(named || run.stamp == CHOSEN) {
                break;
            }
            // Slots are learnt in order: a chosen slot is no evidence for those before it.
            let whole = run.stamp == CHOSEN || run.last() <= through;
            let run = match whole {
                true => run,
                false => run.prefix((through.0 - run.first.0 + 1) as usize),
            };
            debug_assert!(run.last() > self.commit, "the commit index only rises");
            self.commit = run.last();
            newly_chosen.push(run);
            if !whole {
                break;
            }
        }
        newly_chosen
    }

    /// Learns that the slots from `first` on are chosen with the values that a peer holds under these
    /// stamps. Returns the newly chosen runs: slots that are held here under the same stamps. One ballot
    /// proposes one value a slot, so the values are equal, although they may have been chosen at a higher
    /// ballot.
    pub fn confirm(
        &mut self,
        log: &RunLog<Ballot>,
        first: Slot,
        spans: &[Span],
    ) -> Vec<Run<Ballot>> {
        let (mut newly_chosen, mut first) = (Vec::new(), first);
        for span in spans {
            // Slots before this span may be held here under its stamp, and at the peer under another one:
            // they are not confirmed.
            if self.commit.next() < first {
                break;
            }
            newly_chosen.extend(self.learn(log, span.stamp, span.through));
            first = span.through.next();
        }
        newly_chosen
    }

    /// Moves the commit index to the end of a snapshot.
    pub fn skip_to(&mut self, through: Slot) {
        // A snapshot may be older than the commit index, which never goes back.
        self.commit = self.commit.max(through);
    }

    /// Records the commit index `theirs` of a heartbeat. Returns whether to request values from `node`: its
    /// heartbeat before was ahead as well, so the values are not merely in flight; the last request has
    /// timed out; and no other node has had no request for longer. A node without a reply may not receive
    /// this node's messages, although its own arrive.
    #[must_use]
    pub fn should_request(&mut self, now: Instant, node: NodeId, theirs: Slot) -> bool {
        let peer = self.peers.entry(node).or_default();
        // Two heartbeats in a row: slots that only the last one names may be in flight.
        let late = self.commit < peer.commit && self.commit < theirs;
        let last_request = peer.last_request;
        *peer = Peer { commit: theirs, last_heartbeat: now, ..*peer };
        let Some(PendingRequest { at, timeout }) = self.pending else { return late };
        // Independent of the response time of `node`: otherwise a fast node that never replies would
        // receive request after request before a slow one has waited long enough.
        let comes_first = |other: &Peer| {
            let is_recent = now.since(other.last_heartbeat) < timeout;
            is_recent && self.commit < other.commit && other.last_request < last_request
        };
        late && now.since(at) >= timeout && !self.peers.values().any(comes_first)
    }

    /// Returns whether no reply may be in flight.
    #[must_use]
    pub fn may_request(&self, now: Instant) -> bool {
        self.pending.is_none_or(|pending| now.since(pending.at) >= pending.timeout)
    }

    /// Records a request to a node. It times out after `timeout` or twice the recent response time, the
    /// longer of both, doubled for each request to that node without a reply.
    pub fn record_request(&mut self, now: Instant, node: NodeId, timeout: Duration) {
        let peer = self.peers.entry(node).or_default();
        // On a slow link the reply may be queued, and a second copy would queue after it. Bounded, because
        // a lost reply must not stop catch-up.
        let once = timeout.max((self.response_time * 2).min(MAX_REQUEST_TIMEOUT));
        let timeout = once.max((once * (1 << peer.unanswered)).min(MAX_REQUEST_TIMEOUT));
        peer.unanswered = (peer.unanswered + 1).min(4);
        peer.last_request = Some(now);
        self.pending = Some(PendingRequest { at: now, timeout });
    }

    /// Records a reply: the next request need not wait.
    pub fn on_reply(&mut self, now: Instant) {
        if let Some(pending) = self.pending.take() {
            let took = now.since(pending.at);
            self.response_time = took.max(self.response_time - self.response_time / 8);
        }
        for peer in self.peers.values_mut() {
            (peer.last_request, peer.unanswered) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);
    const THEIRS: Slot = Slot(9);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn silent_peer_receives_the_next_request_after_all_others() {
        let (silent, other) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        assert!(!learner.should_request(at(0), silent, THEIRS), "it may be in flight");
        assert!(learner.should_request(at(50), silent, THEIRS));
        learner.record_request(at(50), silent, TIMEOUT);
        assert!(!learner.should_request(at(100), other, THEIRS), "a request is pending");
        // Its heartbeats arrive first every time, and it receives no messages.
        assert!(!learner.should_request(at(150), silent, THEIRS));
        assert!(learner.should_request(at(151), other, THEIRS));
        learner.record_request(at(151), other, TIMEOUT);
        learner.on_reply(at(152));
        assert!(learner.should_request(at(152), silent, THEIRS), "all are equal again");
    }

    /// Found by a search: a follower sent requests only to a node outside its quorum, which did not receive
    /// them, because the leader's replies had once been slow.
    #[test]
    fn slow_peer_receives_requests_although_a_fast_one_never_replies() {
        let (silent, slow) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut last_request = Vec::new();
        for beat in 0..40 {
            for node in [silent, slow] {
                let now = at(beat * 50);
                if learner.should_request(now, node, THEIRS) {
                    learner.record_request(now, node, TIMEOUT * if node == slow { 12 } else { 1 });
                    last_request.push(node);
                }
            }
        }
        assert_eq!(last_request[..2], [silent, slow]);
    }

    #[test]
    fn lagging_peer_does_not_hide_the_own_lag() {
        let (leader, laggard) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot(1));
        assert!(!learner.should_request(at(0), leader, THEIRS));
        assert!(!learner.should_request(at(1), laggard, Slot(1)));
        assert!(learner.should_request(at(50), leader, THEIRS));
    }

    /// Found by a search: the leader's reply was lost, the next request went to a node that received
    /// nothing, and only after twelve seconds another one to the leader.
    #[test]
    fn unanswered_requests_rotate_over_all_peers() {
        let (leader, silent) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut last_request = Vec::new();
        for beat in 0..40 {
            for node in [silent, leader] {
                let now = at(beat * 50);
                if learner.should_request(now, node, THEIRS) {
                    learner.record_request(now, node, TIMEOUT);
                    last_request.push((node.0, beat * 50));
                }
            }
        }
        assert_eq!(
            last_request,
            [(3, 50), (2, 150), (3, 250), (2, 450), (3, 650), (2, 1050), (3, 1450)]
        );
    }

    #[test]
    fn unreachable_peer_delays_no_request() {
        let (gone, other) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut last_request = Vec::new();
        for beat in 0..10 {
            // The unreachable peer is ahead and sends one heartbeat, after the request to the other.
            if beat == 2 {
                learner.peers.insert(
                    gone,
                    Peer { commit: THEIRS, last_heartbeat: at(75), ..Peer::default() },
                );
            }
            let now = at(beat * 50);
            if learner.should_request(now, other, THEIRS) {
                learner.record_request(now, other, TIMEOUT);
                last_request.push(beat * 50);
            }
        }
        assert_eq!(last_request, [50, 200, 400]);
    }
}
