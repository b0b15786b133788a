//! Phase 1: what was accepted before, and what follows from it (PMS 2.2, 3).

use crate::acceptor::part;
use crate::config::MOST_WINDOW;
use crate::message::{CHOSEN, Report};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use synod_consensus::{Quorum, Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot, Value, Values, ValuesBuilder};

/// A proposer in phase 1: collects what acceptors report until a quorum has reported everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    ballot: Ballot,
    from: Slot,
    /// For every slot the value of the highest ballot that anyone reported.
    best: RunLog<Ballot>,
    reports: BTreeMap<NodeId, Progress>,
    /// When an answer brought anything new last, and when it was asked last.
    pub(crate) heard: Instant,
    pub(crate) asked: Instant,
}

/// How far one acceptor has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    next: Slot,
    compacted_to: Slot,
    is_done: bool,
}

/// What a part of a report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new: it came twice, or too late.
    Stale,
    /// Ask this acceptor for the slots from here on.
    More(Slot),
    /// The acceptor holds no more what this candidate must know first: everything up to here is
    /// chosen, and must be learnt, from a snapshot at the worst.
    Behind(Slot),
    /// This acceptor has reported everything.
    Done,
}

/// What phase 2 begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is known to be chosen.
    pub learnt: Vec<Run<Ballot>>,
    /// The first slot to propose for.
    pub first: Slot,
    /// What to propose from there on without a gap: the values found, no-ops in the holes, and a
    /// no-op behind them all, the barrier.
    pub batches: Vec<Values>,
}

impl Outcome {
    /// The last slot to propose for, that of the barrier.
    #[must_use]
    pub fn barrier(&self) -> Slot {
        let count: usize = self.batches.iter().map(Values::len).sum();
        self.first.plus(count).prev()
    }
}

impl Candidate {
    /// A campaign under `ballot` for all slots from `from` on. What the own log holds there counts
    /// like a report, no matter which quorum answers: or what only this node holds would turn
    /// into a hole in its own log.
    #[must_use]
    pub fn new(now: Instant, ballot: Ballot, from: Slot, own: &RunLog<Ballot>) -> Self {
        let mut best = RunLog::new(from.prev(), Ballot::ZERO);
        own.runs_from(from).for_each(|run| best.put(run));
        Self { ballot, from, best, reports: BTreeMap::new(), heard: now, asked: now }
    }

    /// The ballot that it campaigns under.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// The slot from which on `node` has not reported; `None` if it has reported everything.
    #[must_use]
    pub fn lacks(&self, node: NodeId) -> Option<Slot> {
        match self.reports.get(&node) {
            None => Some(self.from),
            Some(progress) => (!progress.is_done).then_some(progress.next),
        }
    }

    /// The node's own promise is durable. Its log was looked at when the campaign began.
    pub fn own_promise(&mut self, node: NodeId) {
        let done = Progress { next: self.from, compacted_to: Slot::ZERO, is_done: true };
        self.reports.insert(node, done);
    }

    /// Takes a part of a report that came with exactly this ballot. `commit` is what this node
    /// knows to be chosen itself.
    pub fn hear(&mut self, from: NodeId, report: &Report, commit: Slot) -> Heard {
        let compacted_to = report.compacted_to;
        let fresh = Progress { next: self.from, compacted_to, is_done: false };
        let progress = self.reports.entry(from).or_insert(fresh);
        if progress.is_done || report.from != progress.next {
            return Heard::Stale;
        }
        if compacted_to > commit && compacted_to >= self.from {
            // What it does not hold any more is not empty.
            return Heard::Behind(compacted_to);
        }
        if progress.compacted_to != compacted_to {
            // It has trimmed its log between two parts: start over.
            let again = Progress { next: self.from, compacted_to, is_done: false };
            let next = again.next;
            let restarted = report.from != next;
            *progress = again;
            if restarted {
                return Heard::More(next);
            }
        }
        progress.next = report.through.next();
        progress.is_done = report.is_last;
        let next = progress.next;
        report.runs.iter().for_each(|run| self.merge(run));
        if report.is_last { Heard::Done } else { Heard::More(next) }
    }

    /// Whether a quorum has reported everything.
    #[must_use]
    pub fn is_complete(&self, quorum: &Quorum) -> bool {
        quorum.is_first(|node| self.reports.get(&node).is_some_and(|it| it.is_done))
    }

    /// What follows from the reports, behind what is known to be chosen up to `commit`; `None` if
    /// they leave more holes than any leader makes.
    #[must_use]
    pub fn outcome(&self, commit: Slot, batch_bytes: usize) -> Option<Outcome> {
        let mut next = commit.max(self.from.prev()).next();
        let mut learnt = Vec::new();
        for run in self.best.runs_from(next) {
            if run.first != next || run.stamp != CHOSEN {
                break;
            }
            next = run.last().next();
            learnt.push(run);
        }
        let (first, mut holes) = (next, 0_u64);
        for run in self.best.runs_from(next) {
            holes += run.first.0 - next.0;
            next = run.last().next();
        }
        if holes > MOST_WINDOW as u64 {
            return None;
        }
        let mut batches = Batches { done: Vec::new(), open: ValuesBuilder::new(), batch_bytes };
        let mut next = first;
        for run in self.best.runs_from(first) {
            for _ in next.0..run.first.0 {
                batches.push(&Values::noop());
            }
            for index in 0..run.values.len() {
                batches.push(&run.values.slice(index, index + 1));
            }
            next = run.last().next();
        }
        batches.push(&core::iter::once(Value::Noop).collect());
        batches.seal();
        Some(Outcome { learnt, first, batches: batches.done })
    }

    /// Keeps, slot by slot, the value of the higher ballot: not the larger value, nor the first.
    fn merge(&mut self, run: &Run<Ballot>) {
        let mut first = run.first.max(self.from);
        while first <= run.last() {
            let is_better = |slot: Slot| self.best.stamp_at(slot).is_none_or(|it| it < run.stamp);
            let better = is_better(first);
            let mut last = first;
            while last < run.last() && is_better(last.next()) == better {
                last = last.next();
            }
            if better {
                self.best.put(part(run, first, last));
            }
            first = last.next();
        }
    }
}

/// Values in batches of bounded bytes.
struct Batches {
    done: Vec<Values>,
    open: ValuesBuilder,
    batch_bytes: usize,
}

impl Batches {
    fn push(&mut self, value: &Values) {
        if !self.open.is_empty() && self.open.byte_len() + value.byte_len() > self.batch_bytes {
            self.seal();
        }
        self.open.extend(value);
    }

    fn seal(&mut self) {
        self.done.push(self.open.finish());
    }
}
