//! Phase 1: what was accepted before, and what follows from it (PMS 2.2, 3).

use crate::acceptor::part;
use crate::config::MOST_WINDOW;
use crate::message::{LAST, Report};
use crate::span::{Span, spans};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::max;
use synod_consensus::{Quorum, Run, RunLog};
use synod_types::{Ballot, Instant, NodeId, Slot, Values, ValuesBuilder};

/// A proposer in phase 1: collects what acceptors report until a quorum has reported everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    ballot: Ballot,
    from: Slot,
    /// For every slot the value of the highest ballot that anyone reported.
    best: RunLog<Ballot>,
    reports: BTreeMap<NodeId, Progress>,
    /// Everything up to here is chosen, as leaders or acceptors say. Any quorum holds a value for it.
    pub(crate) told: Slot,
    /// When an answer brought anything new last, and when it was asked last.
    pub(crate) heard: Instant,
    pub(crate) asked: Instant,
}

/// How far one acceptor has reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    next: Slot,
    is_done: bool,
    /// Everything up to here is chosen, and this acceptor reports nothing of it. Its report counts
    /// once the candidate has learnt as much, or chosen slots would pass for empty ones.
    commit: Slot,
}

impl Progress {
    fn counts(&self, commit: Slot) -> bool {
        self.is_done && self.commit <= commit
    }
}

/// What a part of a report means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Nothing new: it came twice, or too late.
    Stale,
    /// Ask this acceptor for the slots from here on.
    More(Slot),
    /// This acceptor has reported everything.
    Done,
}

/// Proposals with which phase 2 begins, handed out in batches: the values found, no-ops in the
/// holes, and a no-op after them all, the barrier.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    next: Slot,
    barrier: Slot,
    found: RunLog<Ballot>,
}

impl Outcome {
    /// The first slot that is still to be proposed.
    #[must_use]
    pub fn first(&self) -> Slot {
        self.next
    }

    /// The last slot to propose for, that of the barrier.
    #[must_use]
    pub fn barrier(&self) -> Slot {
        self.barrier
    }

    /// Removes the next batch and stamps it with `ballot`: at most `bytes` bytes, but at least one
    /// value. `None` once the barrier was handed out.
    pub fn next_batch(&mut self, ballot: Ballot, bytes: usize) -> Option<Run<Ballot>> {
        if self.next > self.barrier {
            return None;
        }
        let (first, mut values) = (self.next, ValuesBuilder::new());
        let noop = Values::noop();
        let fits = |values: &ValuesBuilder, more: usize| {
            values.is_empty() || values.byte_len() + more <= bytes
        };
        for run in self.found.runs_from(first) {
            while self.next < run.first && fits(&values, noop.byte_len()) {
                values.extend(&noop);
                self.next = self.next.next();
            }
            if self.next < run.first {
                break;
            }
            let count = run.values.fitting(bytes.saturating_sub(values.byte_len()));
            let front = run.values.slice(0, count);
            if !fits(&values, front.byte_len()) {
                break;
            }
            values.extend(&front);
            self.next = self.next.plus(count);
            if count < run.values.len() {
                break;
            }
        }
        if self.next == self.barrier && fits(&values, noop.byte_len()) {
            values.extend(&noop);
            self.next = self.next.next();
        }
        debug_assert!(!values.is_empty(), "a batch makes progress");
        Some(Run { first, stamp: ballot, values: values.finish() })
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
        let (reports, told) = (BTreeMap::new(), Slot::ZERO);
        Self { ballot, from, best, reports, told, heard: now, asked: now }
    }

    /// The ballot that it campaigns under.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns what to ask `node` for: the first slot that it has not reported, and the stamps
    /// already found from there on; `None` if it has reported everything. A report that names more
    /// chosen slots than this node has learnt, `commit`, is asked for again, because its sender may
    /// have crashed and no longer know them to be chosen.
    #[must_use]
    pub fn lacks(&self, node: NodeId, commit: Slot) -> Option<(Slot, Vec<Span>)> {
        let from = match self.reports.get(&node) {
            Some(progress) if progress.counts(commit) => return None,
            Some(progress) if !progress.is_done => progress.next,
            Some(_) | None => self.from,
        };
        Some((from, spans(&self.best, from, LAST)))
    }

    /// The node's own promise is durable. Its log was looked at when the campaign began.
    pub fn own_promise(&mut self, node: NodeId) {
        let done = Progress { next: self.from, is_done: true, commit: Slot::ZERO };
        self.reports.insert(node, done);
    }

    /// Takes a part of a report that came with exactly this ballot. `commit` is what this node
    /// knows to be chosen itself.
    pub fn hear(&mut self, from: NodeId, report: &Report, commit: Slot) -> Heard {
        let fresh = Progress { next: self.from, is_done: false, commit: Slot::ZERO };
        let progress = self.reports.entry(from).or_insert(fresh);
        if progress.is_done && !progress.counts(commit) && report.from == self.from {
            *progress = fresh;
        }
        if progress.is_done || report.from != progress.next {
            return Heard::Stale;
        }
        progress.next = report.through.next();
        progress.is_done = report.is_last;
        progress.commit = max(progress.commit, report.commit);
        self.told = max(self.told, max(report.commit, report.told));
        let next = progress.next;
        report.runs.iter().for_each(|run| self.merge(run));
        if report.is_last { Heard::Done } else { Heard::More(next) }
    }

    /// Returns whether a quorum has reported everything that is not known to be chosen up to
    /// `commit`.
    #[must_use]
    pub fn is_complete(&self, quorum: &Quorum, commit: Slot) -> bool {
        quorum.is_first(|node| self.reports.get(&node).is_some_and(|it| it.counts(commit)))
    }

    /// Returns what follows from the reports, after what is known to be chosen up to `commit`;
    /// `None` if they leave more holes than any leader makes, or a hole where a value is chosen: then
    /// a quorum has lost its disks.
    #[must_use]
    pub fn outcome(&self, commit: Slot) -> Option<Outcome> {
        let first = max(commit, self.from.prev()).next();
        let (mut next, mut holes) = (first, 0_u64);
        for run in self.best.runs_from(first) {
            if next < run.first && next <= self.told {
                return None;
            }
            holes += run.first.0 - next.0;
            next = run.last().next();
        }
        if next <= self.told {
            return None;
        }
        // The slot after everything found is the barrier's.
        let found = self.best.clone();
        (holes <= MOST_WINDOW as u64).then_some(Outcome { next: first, barrier: next, found })
    }

    /// Keeps, slot by slot, the value of the higher ballot: not the larger value, nor the first.
    fn merge(&mut self, run: &Run<Ballot>) {
        let mut next = max(run.first, self.from);
        let held = self.best.runs_from(next).take_while(|held| held.first <= run.last());
        let held: Vec<_> = held.map(|held| (held.first, held.last(), held.stamp)).collect();
        for (first, last, stamp) in held {
            if stamp >= run.stamp {
                if next < first {
                    self.best.put(part(run, next, first.prev()));
                }
                next = last.next();
            }
        }
        if next <= run.last() {
            self.best.put(part(run, next, run.last()));
        }
    }
}
