//! Spans: log contents by stamp alone, so that no value is sent twice.
//!
//! One ballot proposes one value per slot (P2c in PMS 2.2). Two acceptors that hold a slot under the same
//! ballot therefore hold the same value, so comparing ballots is as good as comparing values. Phase 1 and
//! catch-up use this: a node describes its log by a few spans, and only values that may differ are sent.

use crate::message::{CHOSEN, HORIZON, is_ballot};
use alloc::vec::Vec;
use core::cmp::min;
use serde::{Deserialize, Serialize};
use synod_consensus::RunLog;
use synod_types::{Ballot, Slot};

/// Maximum of spans in one message. A log of more ballots is compared in several messages.
pub(crate) const MAX_SPANS: usize = 64;

/// Maximum of runs that one comparison reads, so that no step grows with the length of the log.
pub(crate) const MAX_RUNS: usize = 1 << 16;

/// Consecutive slots held under one stamp. Each span begins after the end of the one before; the message
/// states the first slot of the first span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Last slot.
    pub through: Slot,
    /// Ballot of the values, or [`CHOSEN`].
    pub stamp: Ballot,
}

/// Returns the spans that `log` holds without a gap from slot `from`, through `last` at most.
#[must_use]
pub fn spans(log: &RunLog<Ballot>, from: Slot, last: Slot) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = from;
    for run in log.runs_from(from).take(MAX_RUNS) {
        if run.first != next || next > last {
            break;
        }
        let through = min(run.last(), last);
        // Equal neighbours join, so a long term of one leader is one span.
        let is_full = spans.len() == MAX_SPANS;
        match spans.last_mut() {
            Some(span) if span.stamp == run.stamp => span.through = through,
            _ if is_full => break,
            _ => spans.push(Span { through, stamp: run.stamp }),
        }
        next = through.next();
    }
    spans
}

/// Returns the first of `spans`, which begin at `from`, through slot `last` at most.
#[must_use]
pub(crate) fn prefix(spans: &[Span], from: Slot, last: Slot) -> Vec<Span> {
    let (mut prefix, mut first) = (Vec::new(), from);
    for span in spans {
        if first > last {
            break;
        }
        prefix.push(Span { through: min(span.through, last), ..*span });
        first = span.through.next();
    }
    prefix
}

/// Returns the span that covers `slot`; the spans begin at `from`.
#[must_use]
pub(crate) fn span_at(spans: &[Span], from: Slot, slot: Slot) -> Option<Span> {
    // Validated spans are in order (see `are_valid`), so a binary search finds it.
    let at = spans.partition_point(|span| span.through < slot);
    spans.get(at).filter(|_| from <= slot).copied()
}

/// Returns whether a correct node may send these spans, from slot `from` on.
#[must_use]
pub(crate) fn are_valid(spans: &[Span], from: Slot) -> bool {
    let mut next = from;
    spans.len() <= MAX_SPANS
        && spans.iter().all(|span| {
            let first = core::mem::replace(&mut next, Slot(span.through.0.saturating_add(1)));
            first <= span.through
                && span.through.0 < HORIZON
                && (span.stamp == CHOSEN || is_ballot(span.stamp))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use synod_consensus::Run;
    use synod_types::{NodeId, Values};

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    fn log(stamps: &[(u64, u64)]) -> RunLog<Ballot> {
        let mut log = RunLog::default();
        for (slot, round) in stamps {
            let values = Values::command_only(b"x");
            log.put(Run { first: Slot(*slot), stamp: ballot(*round), values });
        }
        log
    }

    fn span(through: u64, round: u64) -> Span {
        Span { through: Slot(through), stamp: ballot(round) }
    }

    #[test]
    fn spans_join_equal_neighbours_and_end_at_a_gap() {
        let log = log(&[(1, 1), (2, 1), (3, 2), (4, 2), (6, 2)]);
        assert_eq!(spans(&log, Slot(1), Slot(9)), [span(2, 1), span(4, 2)]);
        assert_eq!(spans(&log, Slot(2), Slot(3)), [span(2, 1), span(3, 2)]);
        assert_eq!(spans(&log, Slot(5), Slot(9)), [], "nothing is held at slot 5");
        assert_eq!(spans(&log, Slot(7), Slot(9)), []);
    }

    #[test]
    fn spans_of_many_ballots_fit_one_message() {
        let stamps: Vec<_> = (1..=200).map(|slot| (slot, slot)).collect();
        let spans = spans(&log(&stamps), Slot(1), Slot(200));
        assert_eq!(spans.len(), MAX_SPANS);
        assert!(are_valid(&spans, Slot(1)));
    }

    #[test]
    fn spans_that_go_back_or_too_far_are_rejected() {
        let zero = Span { through: Slot(3), stamp: Ballot::ZERO };
        for spans in
            [vec![span(0, 1)], vec![span(2, 1), span(2, 2)], vec![span(HORIZON, 1)], vec![zero]]
        {
            assert!(!are_valid(&spans, Slot(1)), "{spans:?}");
        }
        assert!(are_valid(&[span(1, 9), span(2, 1)], Slot(1)));
    }

    #[test]
    fn slot_is_covered_by_the_span_that_holds_it() {
        let all = [span(2, 1), span(4, 2)];
        let found = |slot| span_at(&all, Slot(2), Slot(slot)).map(|span| span.stamp.round);
        assert_eq!([1, 2, 3, 4, 5].map(found), [None, Some(1), Some(2), Some(2), None]);
        assert_eq!(prefix(&all, Slot(1), Slot(3)), [span(2, 1), span(3, 2)]);
        assert_eq!(prefix(&all, Slot(1), Slot(2)), [span(2, 1)]);
    }
}
