//! Who finds out: the learner (PMS 2.3).

use crate::message::CHOSEN;
use alloc::vec::Vec;
use core::time::Duration;
use synod_consensus::{Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot};

/// Knows what is chosen: everything up to a slot, in order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learner {
    commit: Slot,
    /// What somebody knew to be chosen at the heartbeat before: by now it should be known here.
    overdue: Slot,
    /// Who was asked last and has not answered, and when.
    asked: Option<(NodeId, Instant)>,
}

impl Learner {
    /// A learner that knows everything up to `commit` to be chosen.
    #[must_use]
    pub fn new(commit: Slot) -> Self {
        Self { commit, overdue: Slot::ZERO, asked: None }
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
    /// an earlier heartbeat said as much already, so that it is not just under way, and nobody was
    /// asked a moment ago. Who was asked last and gave no answer may not even hear us: for a while
    /// anyone else is asked first.
    pub(crate) fn should_ask(
        &mut self,
        now: Instant,
        (node, theirs): (NodeId, Slot),
        patience: Duration,
    ) -> bool {
        let late = self.commit < self.overdue && self.commit < theirs;
        self.overdue = theirs;
        late && self.asked.is_none_or(|(silent, asked)| {
            let patience = if silent == node { patience * 4 } else { patience };
            now.since(asked) >= patience
        })
    }

    /// A node is asked.
    pub(crate) fn asks(&mut self, now: Instant, node: NodeId) {
        self.asked = Some((node, now));
    }

    /// An answer came: the next question need not wait.
    pub(crate) fn answered(&mut self) {
        self.asked = None;
    }
}
