//! How far a leader has brought one peer.

use crate::config::Limits;
use crate::message::Position;
use alloc::collections::VecDeque;
use core::cmp::max;
use synod_consensus::RunLog;
use synod_types::{Instant, Slot, Term};

/// What a leader knows of one peer's log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Whether the peer counts.
    pub voter: bool,
    /// The peer's log is durable and equal to ours up to here.
    pub matched: Slot,
    /// The first slot to send.
    pub next: Slot,
    /// The commit index that the peer was told last.
    pub told: Slot,
    /// When the peer last answered in this term.
    pub heard: Instant,
    /// The last slot that had been sent when the last heartbeat went out.
    tail: Slot,
    flow: Flow,
}

/// How the peer is fed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Flow {
    /// Where the logs meet is not known: one append at a time, until one is answered.
    Probe { waiting: bool },
    /// The logs meet: appends follow one another unasked.
    Replicate(Window),
    /// What the peer needs is compacted away.
    Snapshot,
}

/// Appends that are under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Window {
    appends: VecDeque<(Slot, usize)>,
    bytes: usize,
}

impl Window {
    fn push(&mut self, last: Slot, bytes: usize) {
        self.appends.push_back((last, bytes));
        self.bytes += bytes;
    }

    fn acked(&mut self, matched: Slot) {
        while let Some((last, bytes)) = self.appends.front().copied()
            && last <= matched
        {
            self.appends.pop_front();
            self.bytes -= bytes;
        }
    }

    fn has_room(&self, limits: &Limits) -> bool {
        self.appends.len() < limits.inflight_messages && self.bytes < limits.inflight_bytes
    }
}

/// What a conflict means to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The logs part below `at`: try further back.
    Back,
    /// The answer to a question that is settled.
    Stale,
}

impl Progress {
    /// A peer of a new leader whose log ends before `next`.
    pub fn new(voter: bool, next: Slot, now: Instant) -> Self {
        let flow = Flow::Probe { waiting: false };
        let (matched, told, tail) = (Slot::ZERO, Slot::ZERO, Slot::ZERO);
        Self { voter, matched, next, told, heard: now, tail, flow }
    }

    /// Whether another append may be sent.
    pub fn may_send(&self, limits: &Limits) -> bool {
        match &self.flow {
            Flow::Probe { waiting } => !waiting,
            Flow::Replicate(window) => window.has_room(limits),
            Flow::Snapshot => false,
        }
    }

    /// Whether appends follow one another unasked.
    pub fn is_replicating(&self) -> bool {
        matches!(self.flow, Flow::Replicate(_))
    }

    /// Whether the peer needs what is compacted away.
    pub fn needs_snapshot(&self) -> bool {
        self.flow == Flow::Snapshot
    }

    /// What the peer needs is compacted away.
    pub fn await_snapshot(&mut self) {
        self.flow = Flow::Snapshot;
    }

    /// An append was sent that ends at `last`, with the commit index.
    pub fn sent(&mut self, last: Slot, bytes: usize, commit: Slot) {
        self.told = max(self.told, commit);
        match &mut self.flow {
            Flow::Probe { waiting } => *waiting = true,
            Flow::Replicate(window) => {
                window.push(last, bytes);
                self.next = last.next();
            }
            Flow::Snapshot => {}
        }
    }

    /// The peer holds everything up to `matched`. Acknowledgements arrive late, twice and out of
    /// order; each is true, so the highest counts. `base` is where our own log begins.
    pub fn acked(&mut self, matched: Slot, base: Slot) {
        if matched < self.matched {
            return;
        }
        self.matched = matched;
        match &mut self.flow {
            Flow::Replicate(window) => {
                window.acked(matched);
                self.next = max(self.next, matched.next());
            }
            Flow::Probe { .. } => self.resume(),
            Flow::Snapshot if matched >= base => self.resume(),
            Flow::Snapshot => {}
        }
    }

    /// Whether a conflict at `at` is news. A peer in Probe answers one question at a time; in
    /// Replicate only what was sent and is not acknowledged can be in doubt.
    pub fn judge(&self, at: Slot) -> Verdict {
        let news = match &self.flow {
            Flow::Probe { .. } => at == self.next.prev() && at > self.matched,
            Flow::Replicate(_) => at > self.matched && at < self.next,
            Flow::Snapshot => false,
        };
        if news { Verdict::Back } else { Verdict::Stale }
    }

    /// Tries again from `next`, but never from what is known to be equal.
    pub fn back_to(&mut self, next: Slot) {
        self.next = max(next, self.matched.next());
        self.flow = Flow::Probe { waiting: false };
    }

    /// The entry that a heartbeat should name, and whether to ask for an acknowledgement. In
    /// Replicate that is not the last one sent: heartbeats overtake appends, and what was sent
    /// just now is not lost. What was under way at the last heartbeat already is overdue.
    pub fn probe(&mut self, log: &RunLog<Term>) -> (Position, bool) {
        let base = log.base();
        let sent = self.next.prev();
        if sent < base {
            self.flow = Flow::Snapshot;
        }
        let (slot, ask) = match &self.flow {
            Flow::Probe { .. } => (sent, true),
            Flow::Snapshot => (base, true),
            Flow::Replicate(_) => {
                let overdue = max(max(self.matched, self.tail), base);
                (overdue, overdue > self.matched)
            }
        };
        self.tail = sent;
        let term = log.stamp_at(slot).expect("what was sent and not compacted is held");
        (Position { term, slot }, ask)
    }

    fn resume(&mut self) {
        self.next = self.matched.next();
        self.tail = self.matched;
        self.flow = Flow::Replicate(Window::default());
    }
}
