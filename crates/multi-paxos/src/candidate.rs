//! Candidate: a proposer in phase 1 (PMS 2.2, 3).

use crate::acceptor::part;
use crate::config::MAX_WINDOW_SLOTS;
use crate::core::{Context, Fx, ignore};
use crate::leader::Leader;
use crate::message::{HORIZON, LAST_SLOT, Message, Prepare, Promise, Report};
use crate::span::{Span, prefix, spans};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::max;
use synod_consensus::{IgnoreReason, Quorum, Run, RunLog, StepDownReason};
use synod_types::{Ballot, Instant, NodeId, Slot, Values, ValuesBuilder};

/// Longest time without progress in a campaign, in longest election timeouts.
const CAMPAIGN_TIMEOUT_FACTOR: u32 = 8;

/// Proposer in phase 1: collects the reports of acceptors until a quorum has reported everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    ballot: Ballot,
    from: Slot,
    /// Value of the highest ballot in any report, for each slot (PMS 2.2, P2c).
    best: RunLog<Ballot>,
    reports: BTreeMap<NodeId, Progress>,
    /// Highest commit index in any report. Every quorum holds values through this slot.
    pub(crate) chosen_through: Slot,
    /// Time of the last report with progress.
    pub(crate) last_progress: Instant,
    /// Time of the last Prepares.
    last_prepare: Instant,
}

/// Progress of one acceptor's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Progress {
    next: Slot,
    is_done: bool,
    /// Commit index of the acceptor, which reports no values through this slot. The report counts once the
    /// candidate has learnt these slots; otherwise chosen slots would be taken for empty ones.
    commit: Slot,
}

impl Progress {
    fn counts(&self, commit: Slot) -> bool {
        self.is_done && self.commit <= commit
    }
}

/// Effect of one part of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportProgress {
    /// No progress: a duplicate, or out of order.
    Stale,
    /// The acceptor must report the slots from here on.
    More(Slot),
    /// The acceptor has reported everything.
    Done,
}

/// Proposals with which phase 2 begins, in batches: the values that phase 1 found, no-ops in the holes,
/// and a final no-op, the barrier (PMS 3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Phase1Result {
    next: Slot,
    barrier: Slot,
    found: RunLog<Ballot>,
}

impl Phase1Result {
    /// Returns the first slot that is still to be proposed.
    #[must_use]
    pub fn first(&self) -> Slot {
        self.next
    }

    /// Returns the last slot to be proposed, which is that of the barrier.
    #[must_use]
    pub fn barrier(&self) -> Slot {
        self.barrier
    }

    /// Removes the next batch and stamps it with `ballot`: at most `bytes` bytes, but at least one
    /// value. `None` after the barrier.
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
            // A hole: no ballot below this one can have chosen a value there, so a no-op is safe (PMS 3).
            while self.next < run.first && fits(&values, noop.byte_len()) {
                values.extend(&noop);
                self.next = self.next.next();
            }
            if self.next < run.first {
                break;
            }
            let count = run.values.fitting(bytes.saturating_sub(values.byte_len()));
            let prefix = run.values.slice(0, count);
            if !fits(&values, prefix.byte_len()) {
                break;
            }
            values.extend(&prefix);
            self.next = self.next.plus(count);
            if count < run.values.len() {
                break;
            }
        }
        if self.next == self.barrier && fits(&values, noop.byte_len()) {
            values.extend(&noop);
            self.next = self.next.next();
        }
        assert!(!values.is_empty(), "a batch makes progress");
        debug_assert_eq!(first.plus(values.len()), self.next, "one value a slot");
        Some(Run { first, stamp: ballot, values: values.finish() })
    }
}

impl Candidate {
    /// Begins a campaign under `ballot` for all slots from `from` on, with the own log as a first report.
    #[must_use]
    pub fn new(now: Instant, ballot: Ballot, from: Slot, own: &RunLog<Ballot>) -> Self {
        let mut best = RunLog::new(from.prev(), Ballot::ZERO);
        // Also if a quorum reports without this node: values that only this node holds would otherwise
        // become holes in its own log.
        own.runs_from(from).for_each(|run| best.put(run));
        let (reports, chosen_through) = (BTreeMap::new(), Slot::ZERO);
        Self { ballot, from, best, reports, chosen_through, last_progress: now, last_prepare: now }
    }

    /// Returns the ballot of the campaign.
    #[must_use]
    pub fn ballot(&self) -> Ballot {
        self.ballot
    }

    /// Returns the content of the next Prepare to `node`: the first slot that it has not reported, and
    /// the stamps already found from there on; `None` if it has reported everything. A report whose
    /// commit index is above this node's own, `commit`, is requested again: its sender may have crashed
    /// since, with a lower commit index.
    #[must_use]
    pub fn next_request(&self, node: NodeId, commit: Slot) -> Option<(Slot, Vec<Span>)> {
        let from = match self.reports.get(&node) {
            Some(progress) if progress.counts(commit) => return None,
            Some(progress) if !progress.is_done => progress.next,
            // A complete report that does not count yet is requested again from the first slot.
            Some(_) | None => self.from,
        };
        // With the stamps found so far, so that acceptors send no value twice.
        Some((from, spans(&self.best, from, LAST_SLOT)))
    }

    /// Counts the node's own promise, which is durable. Its log was read when the campaign began.
    pub fn on_own_promise(&mut self, node: NodeId) {
        let done = Progress { next: self.from, is_done: true, commit: Slot::ZERO };
        self.reports.insert(node, done);
    }

    /// Merges a part of a report that came with exactly this ballot. `commit` is this node's own commit
    /// index.
    pub fn on_report(&mut self, from: NodeId, report: &Report, commit: Slot) -> ReportProgress {
        let fresh = Progress { next: self.from, is_done: false, commit: Slot::ZERO };
        let progress = self.reports.entry(from).or_insert(fresh);
        // A report that was requested again starts over: the acceptor may have crashed since.
        if progress.is_done && !progress.counts(commit) && report.from == self.from {
            *progress = fresh;
        }
        // Parts count in order, each once: a skipped slot would be taken for empty.
        if progress.is_done || report.from != progress.next {
            return ReportProgress::Stale;
        }
        debug_assert!(report.through.next() >= progress.next, "a report does not go back");
        progress.next = report.through.next();
        progress.is_done = report.is_last;
        // Slots may be chosen between two parts, and are then missing in the later one.
        progress.commit = max(progress.commit, report.commit);
        self.chosen_through = max(self.chosen_through, max(report.commit, report.leader_commit));
        let next = progress.next;
        report.runs.iter().for_each(|run| self.merge(run));
        if report.is_last { ReportProgress::Done } else { ReportProgress::More(next) }
    }

    /// Returns whether a quorum has reported everything that is not known to be chosen up to
    /// `commit`.
    #[must_use]
    pub fn is_complete(&self, quorum: &Quorum, commit: Slot) -> bool {
        // Any two quorums of phase 1 and phase 2 intersect: some reporter has accepted each chosen value.
        quorum.is_first(|node| self.reports.get(&node).is_some_and(|it| it.counts(commit)))
    }

    /// Returns the proposals that follow from the reports, for the slots after `commit`. `None` if a
    /// quorum has lost its disks: there are more holes than any leader makes, or a hole in a chosen slot.
    #[must_use]
    pub fn result(&self, commit: Slot) -> Option<Phase1Result> {
        let first = max(commit, self.from.prev()).next();
        let (mut next, mut holes) = (first, 0_u64);
        // The number of holes is bounded, because a leader proposes within a window.
        for run in self.best.runs_from(first) {
            // A chosen value is missing in a whole quorum: its disks were lost.
            if next < run.first && next <= self.chosen_through {
                return None;
            }
            holes += run.first.0 - next.0;
            next = run.last().next();
        }
        if next <= self.chosen_through {
            return None;
        }
        // All values chosen at lower ballots are learnt or found, so the barrier comes after them.
        assert!(next >= first && next > self.chosen_through, "the barrier follows chosen slots");
        let found = self.best.clone();
        (holes <= MAX_WINDOW_SLOTS as u64).then_some(Phase1Result {
            next: first,
            barrier: next,
            found,
        })
    }

    /// Handles phase 1b. Only promises of exactly this ballot count, each acceptor once (PMS 2.2).
    /// Returns whether there was progress.
    pub(crate) fn on_promise(
        &mut self,
        ctx: &mut Context<'_>,
        now: Instant,
        from: NodeId,
        promise: Promise,
        fx: &mut Fx<'_>,
    ) -> bool {
        let Promise { ballot, report } = promise;
        if self.ballot != ballot {
            ignore(from, IgnoreReason::OtherBallot, fx);
            return false;
        }
        if from == ctx.config.id() {
            self.on_own_promise(from);
            return true;
        }
        // Values held here that the acceptor knows to be chosen need no phase 2.
        let confirmed = prefix(&report.held, report.from, report.confirmed);
        let chosen = ctx.learner.confirm(ctx.acceptor.log(), report.from, &confirmed);
        chosen.into_iter().for_each(|run| fx.chosen(run));
        match self.on_report(from, &report, ctx.learner.commit()) {
            ReportProgress::Stale => return false,
            ReportProgress::Done => {}
            // A long report comes in parts: the next Prepare requests the next one.
            ReportProgress::More(_) => self.send_prepare(ctx, from, fx),
        }
        self.last_progress = now;
        true
    }

    /// Sends Prepare to each voter that has not reported everything.
    pub(crate) fn send_prepares(&mut self, ctx: &Context<'_>, now: Instant, fx: &mut Fx<'_>) {
        // The same ballot: a higher one would invalidate the promises that this one has.
        self.last_prepare = now;
        let me = ctx.config.id();
        for voter in ctx.members.voters().iter().copied().filter(|voter| *voter != me) {
            self.send_prepare(ctx, voter, fx);
        }
    }

    /// Sends Prepare again if the last ones may be lost.
    pub(crate) fn retry_prepares(&mut self, ctx: &Context<'_>, now: Instant, fx: &mut Fx<'_>) {
        if now.since(self.last_prepare) >= ctx.config.timing().election.start {
            self.send_prepares(ctx, now, fx);
        }
    }

    fn send_prepare(&self, ctx: &Context<'_>, to: NodeId, fx: &mut Fx<'_>) {
        if let Some((from, held)) = self.next_request(to, ctx.learner.commit()) {
            fx.send(to, Message::Prepare(Prepare { ballot: self.ballot, from, held }));
        }
    }

    /// Returns whether the campaign has made no progress for too long.
    pub(crate) fn has_timed_out(&self, ctx: &Context<'_>, now: Instant) -> bool {
        let timeout = ctx.config.timing().election.end * CAMPAIGN_TIMEOUT_FACTOR;
        now.since(self.last_progress) > timeout
    }

    /// Returns, once a quorum has reported everything, the leader that this candidate becomes, or the
    /// reason to step down.
    pub(crate) fn conclude(&self, ctx: &Context<'_>) -> Option<Result<Leader, StepDownReason>> {
        let commit = ctx.learner.commit();
        if !self.is_complete(ctx.config.quorum(), commit) {
            return None;
        }
        let Some(found) = self.result(commit) else {
            return Some(Err(StepDownReason::UnfillableHoles));
        };
        let (first, barrier) = (found.first(), found.barrier());
        if barrier.0 >= HORIZON {
            return Some(Err(StepDownReason::LogFull));
        }
        // P1b: the quorum's promises are to this very ballot, and so is the own one.
        assert_eq!(self.ballot, ctx.acceptor.promised(), "a proposer has promised its own ballot");
        let others = ctx.members.others(ctx.config.id());
        let mut leader = Leader::new(self.ballot, first, barrier, ctx.config.limits(), others);
        leader.found = Some(found);
        Some(Ok(leader))
    }

    pub(crate) fn check_invariants(&self, commit: Slot) {
        assert!(self.from <= commit.next(), "phase 1 covers every slot that is not chosen");
        assert_eq!(self.best.base(), self.from.prev(), "values before the first slot");
        for progress in self.reports.values() {
            assert!(progress.next >= self.from, "a report covers slots from the first on");
        }
    }

    /// Merges a run into the values found: keeps the value of the higher ballot, slot by slot.
    fn merge(&mut self, run: &Run<Ballot>) {
        let mut next = max(run.first, self.from);
        let held = self.best.runs_from(next).take_while(|held| held.first <= run.last());
        let held: Vec<_> = held.map(|held| (held.first, held.last(), held.stamp)).collect();
        // P2c: the highest ballot decides, not the largest value, nor the first one reported.
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
