//! Learner: what is chosen, in order (PMS 2.3).

use crate::message::CHOSEN;
use crate::span::Span;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use synod_consensus::{Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot};

/// Maximum time to wait for an answer after several were missing.
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
/// // Slot 1 is chosen and not held here: the second heartbeat that names it triggers a request.
/// assert!(learner.learn(mine.log(), ballot, Slot(1)).is_empty());
/// assert!(!learner.should_request(now, peer, Slot(1)), "it may be in flight");
/// assert!(learner.should_request(now, peer, Slot(1)));
/// learner.record_request(now, peer, Duration::from_millis(100));
/// let answer = theirs.chosen(learner.commit().next(), Slot(1), 1 << 20).expect("it is held");
/// let write = mine.learn(&answer, learner.commit()).expect("it contradicts nothing");
/// learner.on_answer(now);
/// let newly_chosen = learner.learn(mine.log(), answer.stamp, answer.last());
/// assert_eq!((write.len(), newly_chosen.len(), learner.commit()), (1, 1, Slot(1)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    commit: Slot,
    /// Every node that sent a heartbeat. Kept apart, because a node that lags itself must not hide that
    /// this one does.
    peers: BTreeMap<NodeId, Peer>,
    /// Last request, if it was not answered.
    pending: Option<PendingRequest>,
    /// Recent maximum of the time that an answer took: values queue on the way.
    response_time: Duration,
}

/// State of a node that can be asked for values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// Commit index of its last heartbeat: by the next one it should be known here.
    commit: Slot,
    /// Time of that heartbeat.
    last_heartbeat: Instant,
    /// Time of the last request to it, if no node has answered one since.
    last_request: Option<Instant>,
    /// Number of requests to it since the last answer.
    unanswered: u32,
}

/// Request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PendingRequest {
    at: Instant,
    /// Time that its answer may take.
    timeout: Duration,
}

impl Learner {
    /// Returns a learner with this commit index.
    #[must_use]
    pub fn new(commit: Slot) -> Self {
        Self { commit, peers: BTreeMap::new(), pending: None, response_time: Duration::ZERO }
    }

    /// Returns the commit index: everything up to here is chosen.
    #[must_use]
    pub fn commit(&self) -> Slot {
        self.commit
    }

    /// Learns that everything up to `through` is chosen, from the leader of `ballot`, and returns what
    /// is newly chosen. A slot counts only if the log holds it under that very ballot, or as
    /// [`CHOSEN`]: a value of an older ballot may differ from the chosen one.
    pub fn learn(
        &mut self,
        log: &RunLog<Ballot>,
        ballot: Ballot,
        through: Slot,
    ) -> Vec<Run<Ballot>> {
        let mut newly_chosen = Vec::new();
        // The common case of a heartbeat: nothing new is held.
        if self.commit >= log.last() {
            return newly_chosen;
        }
        for run in log.runs_from(self.commit.next()) {
            // A value of an older ballot may differ from the one chosen here (PMS 2.3).
            let named = run.stamp == ballot && run.first <= through;
            if run.first != self.commit.next() || !(named || run.stamp == CHOSEN) {
                break;
            }
            // Slots are learnt in order: a later one is evidence of nothing in between.
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

    /// Learns that the slots from `first` on are chosen with the values that a peer holds there under
    /// these stamps, and returns what is newly chosen. Only what is held here under the very stamp
    /// counts: one ballot proposes one value per slot, so the values are equal, although they may have
    /// been chosen at a higher ballot.
    pub fn confirm(
        &mut self,
        log: &RunLog<Ballot>,
        first: Slot,
        spans: &[Span],
    ) -> Vec<Run<Ballot>> {
        let (mut newly_chosen, mut first) = (Vec::new(), first);
        for span in spans {
            // A slot before this span may be held here under the stamp of this one and there under
            // another: nothing is known of it.
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
        // A snapshot may be older than what is known by now: the commit index never goes back.
        self.commit = self.commit.max(through);
    }

    /// Takes the commit index `theirs` of a heartbeat. Returns whether to request values from `node`:
    /// its heartbeat before named more than is known here as well, so that they are not just in flight,
    /// the last request has timed out, and no other node has waited longer to be asked. A node that did
    /// not answer may not even receive this node's messages, however often it sends its own.
    #[must_use]
    pub fn should_request(&mut self, now: Instant, node: NodeId, theirs: Slot) -> bool {
        let peer = self.peers.entry(node).or_default();
        // Two heartbeats in a row: what only the last one names may be in flight.
        let late = self.commit < peer.commit && self.commit < theirs;
        let last_request = peer.last_request;
        *peer = Peer { commit: theirs, last_heartbeat: now, ..*peer };
        let Some(PendingRequest { at, timeout }) = self.pending else { return late };
        // How long the answer of `node` itself would take does not matter here: a quick node that
        // never answers would be asked again and again before a slow one had waited long enough.
        let comes_first = |other: &Peer| {
            let is_heard = now.since(other.last_heartbeat) < timeout;
            is_heard && self.commit < other.commit && other.last_request < last_request
        };
        late && now.since(at) >= timeout && !self.peers.values().any(comes_first)
    }

    /// Returns whether no answer is outstanding that may still be on its way.
    #[must_use]
    pub fn may_request(&self, now: Instant) -> bool {
        self.pending.is_none_or(|pending| now.since(pending.at) >= pending.timeout)
    }

    /// Records a request to a node whose answer may take as long as `timeout`, or twice the recent
    /// response time. Each request to it without an answer doubles the wait: on a slow link the answer
    /// may only be queued, and a second copy would queue after it.
    pub fn record_request(&mut self, now: Instant, node: NodeId, timeout: Duration) {
        let peer = self.peers.entry(node).or_default();
        // Bounded back-off: a lost answer must not stop catch-up.
        let once = timeout.max((self.response_time * 2).min(MAX_REQUEST_TIMEOUT));
        let timeout = once.max((once * (1 << peer.unanswered)).min(MAX_REQUEST_TIMEOUT));
        peer.unanswered = (peer.unanswered + 1).min(4);
        peer.last_request = Some(now);
        self.pending = Some(PendingRequest { at: now, timeout });
    }

    /// Records an answer: the next request need not wait.
    pub fn on_answer(&mut self, now: Instant) {
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
    fn silent_peer_is_asked_again_only_after_all_others() {
        let (silent, other) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        assert!(!learner.should_request(at(0), silent, THEIRS), "it may be in flight");
        assert!(learner.should_request(at(50), silent, THEIRS));
        learner.record_request(at(50), silent, TIMEOUT);
        assert!(!learner.should_request(at(100), other, THEIRS), "asked just now");
        // Its heartbeats arrive first every time, and it receives nothing.
        assert!(!learner.should_request(at(150), silent, THEIRS));
        assert!(learner.should_request(at(151), other, THEIRS));
        learner.record_request(at(151), other, TIMEOUT);
        learner.on_answer(at(152));
        assert!(learner.should_request(at(152), silent, THEIRS), "all are equal again");
    }

    /// Found by a search: a follower asked only a node outside its quorum, which did not receive its
    /// messages, because the leader's answers had once been slow.
    #[test]
    fn slow_peer_is_asked_although_a_fast_one_never_answers() {
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

    /// Found by a search: the leader's answer was lost, a node that received nothing was asked next, and
    /// only after twelve seconds the leader again.
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
            // It has more, and sends one heartbeat, after the request to the other.
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
