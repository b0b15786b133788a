//! Acceptor: promises and accepted values (PMS 2.2, 3).

use crate::HardState;
use crate::message::{CHOSEN, Report};
use crate::span::{MAX_RUNS, Span, prefix, span_at};
use alloc::vec::Vec;
use core::cmp::{max, min};
use synod_consensus::{HistoryDigest, Run, RunLog};
use synod_types::{Ballot, Slot, ValuesBuilder};

/// Acceptor of all slots. One promise covers all of them (PMS 3); each slot holds the last accepted value
/// and its ballot, or [`CHOSEN`].
///
/// It does no I/O: it returns the parts that must be written before the reply is sent.
///
/// ```
/// use synod_multi_paxos::consensus::{Run, RunLog};
/// use synod_multi_paxos::types::{Ballot, NodeId, Slot, Values};
/// use synod_multi_paxos::{Acceptor, HardState, AcceptResult};
///
/// let ballot = |round, node| Ballot { round, node: NodeId(node) };
/// let accept = |first, stamp, value: &[u8]| {
///     Run { first: Slot(first), stamp, values: Values::command_only(value) }
/// };
/// let mut acceptor = Acceptor::new(HardState::default(), RunLog::default());
/// let run = accept(1, ballot(1, 1), b"x");
/// assert_eq!(acceptor.accept(&run, Slot::ZERO), AcceptResult::Accepted(vec![run.clone()]));
/// assert!(acceptor.promise(ballot(2, 2)), "more than 1.1, which came with the value");
/// assert_eq!(acceptor.report(Slot(1), &[], Slot::ZERO, 1 << 20).runs, [run]);
/// // The first proposer is overtaken in all slots.
/// let late = acceptor.accept(&accept(2, ballot(1, 1), b"y"), Slot::ZERO);
/// assert_eq!(late, AcceptResult::Rejected(ballot(2, 2)));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acceptor {
    hard_state: HardState,
    log: RunLog<Ballot>,
    /// Slots without a gap that are known to be accepted at the promised ballot.
    accepted_range: Option<AcceptedRange>,
}

/// Consecutive slots accepted at the promised ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AcceptedRange {
    /// First slot.
    pub first: Slot,
    /// Last slot.
    pub through: Slot,
}

/// Result of an Accept at an acceptor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AcceptResult {
    /// Rejected, because this higher ballot was promised.
    Rejected(Ballot),
    /// Rejected, because the same ballot proposed another value for a slot, or another value is chosen.
    Contradiction,
    /// Accepted. These parts are not held at this ballot yet, and must be written before the reply.
    Accepted(Vec<Run<Ballot>>),
}

impl Acceptor {
    /// Creates an acceptor with its promise and its accepted values.
    #[must_use]
    pub fn new(hard_state: HardState, log: RunLog<Ballot>) -> Self {
        Self { hard_state, log, accepted_range: None }
    }

    /// Returns the highest promised ballot: no value is accepted below it.
    #[must_use]
    pub fn promised(&self) -> Ballot {
        self.hard_state.promised
    }

    /// Returns its persistent state beside the log.
    #[must_use]
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Returns the accepted values, and those known to be chosen.
    #[must_use]
    pub fn log(&self) -> &RunLog<Ballot> {
        &self.log
    }

    /// Returns the slots accepted without a gap at the promised ballot.
    #[must_use]
    pub fn accepted_range(&self) -> Option<AcceptedRange> {
        self.accepted_range
    }

    /// Promises a ballot, for every slot at once. Returns whether the promise has risen and must be
    /// written; a lower ballot changes nothing.
    #[must_use]
    pub fn promise(&mut self, ballot: Ballot) -> bool {
        // Compared with the highest ballot promised, not with the highest accepted (PMS 2.2, P1a).
        let raised = ballot > self.hard_state.promised;
        if raised {
            self.hard_state.promised = ballot;
            // It was about the old ballot: an Accepted of the new one must not claim these slots.
            self.accepted_range = None;
        }
        raised
    }

    /// Returns the report of a Promise for the slots from `from` on: about `max_bytes` of values at most,
    /// and the part of the log that they cover.
    ///
    /// Slots through `commit` are chosen. They are learnt, not proposed again, so the report has no values
    /// for them. It has none either where the proposer named a stamp in `held` at or above the own one:
    /// the higher ballot wins in phase 1 (P2c), and equal ballots mean equal values.
    #[must_use]
    pub fn report(&self, from: Slot, held: &[Span], commit: Slot, max_bytes: usize) -> Report {
        let (mut runs, mut bytes, mut scanned) = (Vec::new(), 0, 0);
        // Chosen slots are learnt, not reported: the proposer must not propose for them.
        let mut next = max(from, max(commit, self.log.base()).next());
        let mut is_last = true;
        while let Some(run) = self.log.runs_from(next).next() {
            scanned += 1;
            let span = span_at(held, from, run.first);
            if let Some(span) = span.filter(|span| run.stamp <= span.stamp && scanned < MAX_RUNS) {
                next = min(run.last(), span.through).next();
                continue;
            }
            // The rest follows in the next part. A part is bounded in values and in work.
            if bytes >= max_bytes || scanned >= MAX_RUNS {
                is_last = false;
                break;
            }
            let end = span.map_or(self.log.last(), |span| span.through);
            let run = self.log.chunk(run.first, end, max_bytes - bytes);
            let run = run.expect("a run that is held has a chunk");
            bytes += run.values.byte_len() + 1;
            next = run.last().next();
            runs.push(run);
        }
        // Everything up to here was read, so a slot that is not in the report is empty.
        let through = max(next.prev(), from.prev());
        let held = prefix(held, from, through);
        let confirmed = self.confirmed(from, &held, commit);
        debug_assert!(confirmed < from || confirmed <= commit, "confirmed beyond what is chosen");
        let digest = HistoryDigest::of(&self.log, min(commit, from.prev()));
        Report {
            from,
            through,
            held,
            confirmed,
            runs,
            is_last,
            commit,
            leader_commit: commit,
            digest,
        }
    }

    /// Returns the last slot through which the spans `held`, which begin at `from`, are chosen: at or
    /// below `commit`, and held here under the same stamps. The slot before `from` if there is none.
    ///
    /// The stamp need not be the ballot at which the slot was chosen: the value here is the chosen one, and
    /// one ballot proposes one value a slot, so the peer holds it, too.
    #[must_use]
    pub fn confirmed(&self, from: Slot, held: &[Span], commit: Slot) -> Slot {
        let mut next = from;
        for run in self.log.runs_from(from).take(MAX_RUNS) {
            let span = span_at(held, from, next).filter(|span| span.stamp == run.stamp);
            let Some(span) = span.filter(|_| run.first == next && next <= commit) else { break };
            next = min(commit, min(run.last(), span.through)).next();
            if next <= run.last() {
                // The peer holds the rest of the run under another stamp.
                break;
            }
        }
        next.prev()
    }

    /// Returns chosen values for a learner, from `first` through `commit` at most, as one run of about
    /// `max_bytes` bytes. It joins values of different ballots: a log of many short terms of leaders would
    /// otherwise take a round trip for each. `None` if slot `first` is not held.
    #[must_use]
    pub fn chosen(&self, first: Slot, commit: Slot, max_bytes: usize) -> Option<Run<Ballot>> {
        let head = self.log.chunk(first, commit, max_bytes)?;
        let mut next = head.last().next();
        let mut values = ValuesBuilder::new();
        // Stamps may differ, the values are final: no later ballot chooses another one (PMS 2.2, P2).
        values.extend(&head.values);
        while let Some(run) = self.log.chunk(next, commit, max_bytes) {
            if values.byte_len() + run.values.byte_len() > max_bytes {
                break;
            }
            values.extend(&run.values);
            next = run.last().next();
        }
        Some(Run { first, stamp: CHOSEN, values: values.finish() })
    }

    /// Accepts values, unless a higher ballot was promised. The promise rises to the run's ballot, even
    /// without a Prepare. `commit` is the commit index. If [`promised`](Self::promised) has changed, the
    /// hard state must be written, too.
    #[must_use]
    pub fn accept(&mut self, run: &Run<Ballot>, commit: Slot) -> AcceptResult {
        // P1a: only ballots below the promise are rejected. An equal or a higher one is accepted.
        if run.stamp < self.hard_state.promised {
            return AcceptResult::Rejected(self.hard_state.promised);
        }
        // P2c: one ballot proposes one value per slot. Another one means a broken peer, or lost disks.
        let Some(parts) = self.missing_parts(run, commit) else {
            return AcceptResult::Contradiction;
        };
        // An Accept is a promise, too (PMS 2.2, P1a): the acceptor may have missed its Prepare.
        let _ = self.promise(run.stamp);
        debug_assert_eq!(run.stamp, self.hard_state.promised, "accepted at the promised ballot");
        for part in &parts {
            self.log.put(part.clone());
        }
        self.extend_accepted_range(run.first, run.last());
        AcceptResult::Accepted(parts)
    }

    /// Records chosen values. Returns the parts to write, or `None` if another value is known to be chosen.
    #[must_use]
    pub fn learn(&mut self, run: &Run<Ballot>, commit: Slot) -> Option<Vec<Run<Ballot>>> {
        // CHOSEN is no ballot, and learning is no vote: the promise stays.
        let run = Run { first: run.first, stamp: CHOSEN, values: run.values.clone() };
        let parts = self.missing_parts(&run, commit)?;
        for part in &parts {
            self.log.put(part.clone());
        }
        Some(parts)
    }

    /// Accepts values that this node proposes under its own ballot.
    pub(crate) fn propose(&mut self, run: Run<Ballot>) {
        debug_assert_eq!(run.stamp, self.hard_state.promised, "proposed at the promised ballot");
        self.extend_accepted_range(run.first, run.last());
        self.log.put(run);
    }

    /// Removes the slots through `through`, which must be chosen and in a durable snapshot. Values after
    /// them stay, for any stamp of the base.
    pub fn compact(&mut self, through: Slot, stamp: Ballot) {
        self.log.compact(through, stamp);
    }

    /// Returns the parts of a run that are not held at its stamp or above; `None` if it contradicts what
    /// is held there, or what is chosen up to `commit`.
    fn missing_parts(&self, run: &Run<Ballot>, commit: Slot) -> Option<Vec<Run<Ballot>>> {
        let (last, mut parts) = (run.last(), Vec::new());
        let mut next = max(run.first, self.log.base().next());
        if next > last {
            return Some(parts);
        }
        // The common case: the run continues the log.
        if self.log.last() < next {
            parts.push(run.from(next));
            return Some(parts);
        }
        for held in self.log.runs_from(next) {
            if held.first > last {
                break;
            }
            let held = if held.last() > last { part(&held, held.first, last) } else { held };
            // The same ballot again is a retransmission; a higher stamp makes this run obsolete.
            let is_held = held.stamp >= run.stamp;
            // Values that must be equal: those of the same ballot, and chosen ones.
            let settled = if is_held { held.last() } else { commit.min(held.last()) };
            if settled >= held.first {
                let (ours, theirs) =
                    (part(&held, held.first, settled), part(run, held.first, settled));
                if ours.values != theirs.values {
                    return None;
                }
            }
            if is_held {
                if held.first > next {
                    parts.push(part(run, next, held.first.prev()));
                }
                next = held.last().next();
            }
        }
        if next <= last {
            parts.push(part(run, next, last));
        }
        Some(parts)
    }

    /// Records that these slots are held at the promised ballot.
    fn extend_accepted_range(&mut self, first: Slot, through: Slot) {
        // Chosen values fill a gap, too, learnt or compacted: a leader that has compacted its log never
        // sends these slots again.
        if let Some(old) = self.accepted_range.filter(|old| first > old.through.next()) {
            let reached = self.end_of_accepted_range(max(old.through, self.log.base()).next());
            self.accepted_range = Some(AcceptedRange { through: reached, ..old });
        }
        // Slots after a gap do not replace the range: the Accept that fills the gap joins the two.
        let accepted_range = match self.accepted_range {
            Some(old) if first > old.through.next() => return,
            Some(old) if through >= old.first.prev() => {
                AcceptedRange { first: first.min(old.first), through: through.max(old.through) }
            }
            Some(_) | None => AcceptedRange { first, through },
        };
        self.accepted_range = Some(accepted_range);
        let end = self.end_of_accepted_range(accepted_range.through.next());
        self.accepted_range = Some(AcceptedRange { through: end, ..accepted_range });
    }

    /// Returns the slot before the first one from `next` on that is not held at the promised ballot.
    fn end_of_accepted_range(&self, next: Slot) -> Slot {
        let mut next = next;
        if next > self.log.last() {
            return next.prev();
        }
        for run in self.log.runs_from(next) {
            if run.first != next || run.stamp < self.hard_state.promised {
                break;
            }
            next = run.last().next();
        }
        next.prev()
    }
}

/// Returns the slots of a run from `first` through `last`.
pub(crate) fn part(run: &Run<Ballot>, first: Slot, last: Slot) -> Run<Ballot> {
    run.from(first).prefix((last.0 - first.0 + 1) as usize)
}
