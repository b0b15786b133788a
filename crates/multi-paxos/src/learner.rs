//! Who finds out: the learner (PMS 2.3).

use crate::message::CHOSEN;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use synod_consensus::{Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot};

/// When nobody is left to ask, everyone is asked again after this many times the patience.
const SILENCE: u32 = 3;

/// Knows what is chosen: everything up to a slot, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    commit: Slot,
    /// What each node knew to be chosen at its heartbeat before: by now it should be known here.
    /// Kept apart, because a node that lags itself must not hide that we do.
    overdue: BTreeMap<NodeId, Slot>,
    /// When somebody was asked last, if that was not answered.
    asked: Option<Instant>,
    /// Who was asked since the last answer.
    silent: BTreeSet<NodeId>,
}

impl Learner {
    /// A learner that knows everything up to `commit` to be chosen.
    #[must_use]
    pub fn new(commit: Slot) -> Self {
        Self { commit, overdue: BTreeMap::new(), asked: None, silent: BTreeSet::new() }
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

    /// A snapshot stands for everything up to here.
    pub(crate) fn skip_to(&mut self, through: Slot) {
        self.commit = self.commit.max(through);
    }

    /// `node` says in a heartbeat that everything up to `theirs` is chosen. Whether to ask it: when
    /// its heartbeat before said as much already, so that it is not just under way, and nobody was
    /// asked a moment ago. Who was asked and gave no answer may not even hear us, however often we
    /// hear it: until anyone answers, everyone else comes first.
    pub(crate) fn should_ask(
        &mut self,
        now: Instant,
        (node, theirs): (NodeId, Slot),
        patience: Duration,
    ) -> bool {
        let before = self.overdue.insert(node, theirs).unwrap_or(Slot::ZERO);
        let late = self.commit < before && self.commit < theirs;
        let waited = self.asked.map_or(Duration::MAX, |asked| now.since(asked));
        if waited >= patience * SILENCE {
            self.silent.clear();
        }
        late && waited >= patience && !self.silent.contains(&node)
    }

    /// A node is asked.
    pub(crate) fn asks(&mut self, now: Instant, node: NodeId) {
        self.asked = Some(now);
        self.silent.insert(node);
    }

    /// An answer came: the next question need not wait.
    pub(crate) fn answered(&mut self) {
        self.asked = None;
        self.silent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_answers_is_not_asked_again_before_everyone_else() {
        let (patience, theirs) = (Duration::from_millis(100), Slot(9));
        let at = |ms: u64| Instant(ms * 1_000_000);
        let mut learner = Learner::new(Slot::ZERO);
        let deaf = (NodeId(2), theirs);
        assert!(!learner.should_ask(at(0), deaf, patience), "it may be under way");
        assert!(learner.should_ask(at(50), deaf, patience));
        learner.asks(at(50), NodeId(2));
        assert!(!learner.should_ask(at(100), (NodeId(3), theirs), patience), "asked just now");
        // Its heartbeats come first every time, and it cannot hear us.
        assert!(!learner.should_ask(at(150), deaf, patience));
        assert!(learner.should_ask(at(151), (NodeId(3), theirs), patience));
        learner.asks(at(151), NodeId(3));
        learner.answered();
        assert!(learner.should_ask(at(152), deaf, patience), "all are equal again");
    }

    #[test]
    fn a_node_that_lags_itself_does_not_hide_that_we_do() {
        let (patience, at) = (Duration::from_millis(100), |ms: u64| Instant(ms * 1_000_000));
        let (leader, laggard) = ((NodeId(2), Slot(9)), (NodeId(3), Slot(1)));
        let mut learner = Learner::new(Slot(1));
        assert!(!learner.should_ask(at(0), leader, patience));
        assert!(!learner.should_ask(at(1), laggard, patience));
        assert!(learner.should_ask(at(50), leader, patience));
    }

    #[test]
    fn when_nobody_answers_everyone_is_asked_again() {
        let (patience, theirs) = (Duration::from_millis(100), Slot(9));
        let at = |ms: u64| Instant(ms * 1_000_000);
        let mut learner = Learner::new(Slot::ZERO);
        learner.should_ask(at(0), (NodeId(2), theirs), patience);
        learner.asks(at(0), NodeId(2));
        assert!(!learner.should_ask(at(299), (NodeId(2), theirs), patience));
        assert!(learner.should_ask(at(300), (NodeId(2), theirs), patience));
    }
}
