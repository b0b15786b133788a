//! Who finds out: the learner (PMS 2.3).

use crate::message::CHOSEN;
use crate::span::Span;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use synod_consensus::{Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot};

/// Longest wait for an answer after several were missing.
const LONGEST_PATIENCE: Duration = Duration::from_secs(4);

/// Knows what is chosen: everything up to a slot, in order.
///
/// Its two halves: [`learn`](Self::learn) takes the leader's word for what its node has accepted,
/// and [`should_ask`](Self::should_ask) says when to pull the rest, from any node.
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
/// // The leader says that slot 1 is chosen. Nothing is held there: twice heard, it is asked.
/// assert!(learner.learn(mine.log(), ballot, Slot(1)).is_empty());
/// assert!(!learner.should_ask(now, peer, Slot(1)), "it may be under way");
/// assert!(learner.should_ask(now, peer, Slot(1)));
/// learner.asks(now, peer, Duration::from_millis(100));
/// let answer = theirs.chosen(learner.commit().next(), Slot(1), 1 << 20).expect("it is held");
/// let write = mine.learn(&answer, learner.commit()).expect("it contradicts nothing");
/// learner.answered(now);
/// let news = learner.learn(mine.log(), answer.stamp, answer.last());
/// assert_eq!((write.len(), news.len(), learner.commit()), (1, 1, Slot(1)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    commit: Slot,
    /// Every node that was heard. Kept apart, because a node that lags itself must not hide that we
    /// do.
    peers: BTreeMap<NodeId, Peer>,
    /// The last question, if it was not answered.
    question: Option<Question>,
    /// How long an answer took, the longest of late: values queue on the way.
    answer_time: Duration,
}

/// State of a peer that can be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Peer {
    /// Commit index of its last heartbeat: by the next one it should be known here.
    commit: Slot,
    /// When that came.
    heard: Instant,
    /// When it was last asked, if no answer came since, from anyone.
    asked: Option<Instant>,
    /// How often it was asked since the last answer.
    unanswered: u32,
}

/// Somebody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Question {
    at: Instant,
    /// How long its answer may take.
    patience: Duration,
}

impl Learner {
    /// A learner that knows everything up to `commit` to be chosen.
    #[must_use]
    pub fn new(commit: Slot) -> Self {
        Self { commit, peers: BTreeMap::new(), question: None, answer_time: Duration::ZERO }
    }

    /// Everything up to here is chosen.
    #[must_use]
    pub fn commit(&self) -> Slot {
        self.commit
    }

    /// Learns that everything up to `through` is chosen, from the leader of `ballot`, and returns
    /// what is newly known. A slot counts only if what the log holds there was accepted at that
    /// very ballot, or is known to be chosen: what an older ballot left there may differ from
    /// what was chosen (a log with holes and mixed ballots matches nothing by itself).
    pub fn learn(
        &mut self,
        log: &RunLog<Ballot>,
        ballot: Ballot,
        through: Slot,
    ) -> Vec<Run<Ballot>> {
        let mut news = Vec::new();
        if self.commit >= log.last() {
            return news;
        }
        for run in log.runs_from(self.commit.next()) {
            let named = run.stamp == ballot && run.first <= through;
            if run.first != self.commit.next() || !(named || run.stamp == CHOSEN) {
                break;
            }
            let whole = run.stamp == CHOSEN || run.last() <= through;
            let run = match whole {
                true => run,
                false => run.prefix((through.0 - run.first.0 + 1) as usize),
            };
            self.commit = run.last();
            news.push(run);
            if !whole {
                break;
            }
        }
        news
    }

    /// Learns that the slots from `first` on are chosen with the values that a peer holds there
    /// under these stamps, and returns what is newly known. Only what is held here under the very
    /// stamp counts: one ballot proposes one value per slot, so the values are equal, although they
    /// may have been chosen at a higher ballot.
    pub fn confirm(
        &mut self,
        log: &RunLog<Ballot>,
        first: Slot,
        spans: &[Span],
    ) -> Vec<Run<Ballot>> {
        let (mut news, mut first) = (Vec::new(), first);
        for span in spans {
            // A slot before this span may be held here under the stamp of this one and there under
            // another: nothing is known of it.
            if self.commit.next() < first {
                break;
            }
            news.extend(self.learn(log, span.stamp, span.through));
            first = span.through.next();
        }
        news
    }

    /// A snapshot stands for everything up to here.
    pub fn skip_to(&mut self, through: Slot) {
        self.commit = self.commit.max(through);
    }

    /// `node` says in a heartbeat that everything up to `theirs` is chosen. Returns whether to ask it:
    /// when its heartbeat before said as much already, so that it is not just under way, the last
    /// question had its time, and no other node has waited longer to be asked. Who was asked and gave
    /// no answer may not even hear this node, however often this node hears it.
    #[must_use]
    pub fn should_ask(&mut self, now: Instant, node: NodeId, theirs: Slot) -> bool {
        let peer = self.peers.entry(node).or_default();
        let late = self.commit < peer.commit && self.commit < theirs;
        let asked = peer.asked;
        *peer = Peer { commit: theirs, heard: now, ..*peer };
        let Some(Question { at, patience }) = self.question else { return late };
        // How long the answer of `node` itself would take does not matter here: a quick node that
        // never answers would be asked again and again before a slow one had waited long enough.
        let comes_first = |other: &Peer| {
            let is_heard = now.since(other.heard) < patience;
            is_heard && self.commit < other.commit && other.asked < asked
        };
        late && now.since(at) >= patience && !self.peers.values().any(comes_first)
    }

    /// Returns whether no answer is outstanding that may still be on its way.
    #[must_use]
    pub fn is_free(&self, now: Instant) -> bool {
        self.question.is_none_or(|question| now.since(question.at) >= question.patience)
    }

    /// Records a question to a node whose answer may take as long as `patience`, or twice as long
    /// as answers took of late. Each question to it without an answer doubles the wait: on a slow link
    /// the answer may only be queued, and a second copy would queue after it.
    pub fn asks(&mut self, now: Instant, node: NodeId, patience: Duration) {
        let peer = self.peers.entry(node).or_default();
        let once = patience.max((self.answer_time * 2).min(LONGEST_PATIENCE));
        let patience = once.max((once * (1 << peer.unanswered)).min(LONGEST_PATIENCE));
        peer.unanswered = (peer.unanswered + 1).min(4);
        peer.asked = Some(now);
        self.question = Some(Question { at: now, patience });
    }

    /// An answer came: the next question need not wait.
    pub fn answered(&mut self, now: Instant) {
        if let Some(question) = self.question.take() {
            let took = now.since(question.at);
            self.answer_time = took.max(self.answer_time - self.answer_time / 8);
        }
        for peer in self.peers.values_mut() {
            (peer.asked, peer.unanswered) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(100);
    const THEIRS: Slot = Slot(9);

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn who_never_answers_is_not_asked_again_before_everyone_else() {
        let (deaf, other) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        assert!(!learner.should_ask(at(0), deaf, THEIRS), "it may be under way");
        assert!(learner.should_ask(at(50), deaf, THEIRS));
        learner.asks(at(50), deaf, PATIENCE);
        assert!(!learner.should_ask(at(100), other, THEIRS), "asked just now");
        // Its heartbeats come first every time, and it cannot hear us.
        assert!(!learner.should_ask(at(150), deaf, THEIRS));
        assert!(learner.should_ask(at(151), other, THEIRS));
        learner.asks(at(151), other, PATIENCE);
        learner.answered(at(152));
        assert!(learner.should_ask(at(152), deaf, THEIRS), "all are equal again");
    }

    /// Found by a search: a follower asked nobody but a node outside its quorum, which could not
    /// hear it, because the leader's answers had once been slow.
    #[test]
    fn a_slow_node_is_asked_although_a_quick_one_never_answers() {
        let (deaf, slow) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut asked = Vec::new();
        for beat in 0..40 {
            for node in [deaf, slow] {
                let now = at(beat * 50);
                if learner.should_ask(now, node, THEIRS) {
                    learner.asks(now, node, PATIENCE * if node == slow { 12 } else { 1 });
                    asked.push(node);
                }
            }
        }
        assert_eq!(asked[..2], [deaf, slow]);
    }

    #[test]
    fn a_node_that_lags_itself_does_not_hide_that_we_do() {
        let (leader, laggard) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot(1));
        assert!(!learner.should_ask(at(0), leader, THEIRS));
        assert!(!learner.should_ask(at(1), laggard, Slot(1)));
        assert!(learner.should_ask(at(50), leader, THEIRS));
    }

    /// Found by a search: the leader's answer was lost, a node that heard nobody was asked next, and
    /// only after twelve seconds the leader again.
    #[test]
    fn when_nobody_answers_the_one_asked_first_is_asked_again_first() {
        let (leader, deaf) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut asked = Vec::new();
        for beat in 0..40 {
            for node in [deaf, leader] {
                let now = at(beat * 50);
                if learner.should_ask(now, node, THEIRS) {
                    learner.asks(now, node, PATIENCE);
                    asked.push((node.0, beat * 50));
                }
            }
        }
        assert_eq!(asked, [(3, 50), (2, 150), (3, 250), (2, 450), (3, 650), (2, 1050), (3, 1450)]);
    }

    #[test]
    fn who_is_heard_no_more_keeps_nobody_waiting() {
        let (gone, other) = (NodeId(2), NodeId(3));
        let mut learner = Learner::new(Slot::ZERO);
        let mut asked = Vec::new();
        for beat in 0..10 {
            // It knows more, and is heard once, after the question to the other.
            if beat == 2 {
                learner
                    .peers
                    .insert(gone, Peer { commit: THEIRS, heard: at(75), ..Peer::default() });
            }
            let now = at(beat * 50);
            if learner.should_ask(now, other, THEIRS) {
                learner.asks(now, other, PATIENCE);
                asked.push(beat * 50);
            }
        }
        assert_eq!(asked, [50, 200, 400]);
    }
}
