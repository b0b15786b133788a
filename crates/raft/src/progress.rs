//! How far a leader has brought one peer.

use core::cmp::max;
use core::time::Duration;
use synod_consensus::{Run, SendWindow, WindowLimits};
use synod_types::{Instant, Slot, Term};

/// Replication state of one peer.
///
/// Invariants: `matched < next`, and in Probe at most one append with entries is in flight.
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
    heard: Instant,
    /// Number of the latest search for the place where the logs meet. Appends carry it and
    /// answers return it, so that an answer to an append of an earlier search ends none.
    pub probe: u64,
    flow: Flow,
    window: SendWindow,
}

/// How the peer is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Flow {
    /// Where the logs meet is not known: one append, until it is answered.
    Probe,
    /// The logs meet: appends follow one another unasked.
    Replicate,
    /// What the peer needs is compacted away.
    Snapshot,
}

/// What a conflict means to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The logs part below `at`: try further back.
    Back,
    /// The answer to a question that is settled.
    Stale,
    /// The peer does not hold what it acknowledged.
    Lost,
}

impl Progress {
    /// A peer of a new leader whose log ends before `next`.
    pub fn new(voter: bool, next: Slot, window: WindowLimits, now: Instant) -> Self {
        let (matched, told) = (Slot::ZERO, Slot::ZERO);
        let (flow, window) = (Flow::Probe, SendWindow::new(window));
        Self { voter, matched, next, told, heard: now, probe: 0, flow, window }
    }

    /// Returns whether another append may be sent.
    pub fn may_send(&self) -> bool {
        match self.flow {
            Flow::Probe => self.window.is_empty(),
            Flow::Replicate => self.window.has_room(),
            Flow::Snapshot => false,
        }
    }

    /// Largest append that the path should be given, in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.window.batch_bytes()
    }

    /// Returns whether the peer answered within `patience`.
    pub fn is_heard(&self, now: Instant, patience: Duration) -> bool {
        now.since(self.heard) <= patience
    }

    /// Returns whether appends follow one another unasked.
    pub fn is_replicating(&self) -> bool {
        self.flow == Flow::Replicate
    }

    /// Returns whether the peer needs what is compacted away.
    pub fn needs_snapshot(&self) -> bool {
        self.flow == Flow::Snapshot
    }

    /// Records that what the peer needs is compacted away.
    pub fn await_snapshot(&mut self) {
        self.window.clear();
        self.search(Flow::Snapshot);
    }

    /// Records an append with entries that carries the commit index.
    pub fn sent(&mut self, now: Instant, run: &Run<Term>, commit: Slot) {
        self.told = max(self.told, commit);
        self.window.sent(now, run.last(), SendWindow::frame_bytes(&run.values));
        if self.flow == Flow::Replicate {
            self.next = run.last().next();
        }
    }

    /// Records a sign of life. After a silence of more than one lost heartbeat the peer was away,
    /// and is to be probed again soon.
    pub fn hear(&mut self, now: Instant, heartbeat: Duration) {
        if now.since(self.heard) > 2 * heartbeat {
            self.window.peer_returned();
        }
        self.heard = now;
    }

    /// Returns whether an answer is overdue, so that it is time to probe. An installed snapshot
    /// may be found at any heartbeat.
    pub fn is_overdue(&self, now: Instant) -> bool {
        self.flow == Flow::Snapshot || self.window.is_overdue(now)
    }

    /// Records an append without entries that carries the commit index.
    pub fn probed(&mut self, now: Instant, commit: Slot) {
        self.told = max(self.told, commit);
        self.window.probed(now);
    }

    /// Records that the peer holds everything up to `matched`. Acknowledgements arrive late, twice
    /// and out of order; each is true, so the highest counts. But only the answer to the latest
    /// probe ends it: what an older one acknowledges tells nothing of what was sent since. `base`
    /// is where our own log begins.
    pub fn acked(&mut self, now: Instant, (probe, matched): (u64, Slot), base: Slot) {
        let answers = probe == self.probe;
        self.matched = max(self.matched, matched);
        self.next = max(self.next, self.matched.next());
        match self.flow {
            Flow::Replicate if answers => self.window.acked(now, matched),
            Flow::Replicate => self.window.settle(now, matched),
            Flow::Probe if answers => {
                self.window.acked(now, matched);
                self.resume();
            }
            Flow::Snapshot if self.matched >= base => self.resume(),
            Flow::Probe | Flow::Snapshot => {}
        }
    }

    /// Classifies a conflict at `at`. Only an append of the latest search can open another one: a
    /// hole makes all appends after it conflict, and the first answer has been acted upon.
    pub fn judge(&self, probe: u64, at: Slot) -> Verdict {
        if probe != self.probe || self.flow == Flow::Snapshot || at >= self.next {
            Verdict::Stale
        } else if at <= self.matched {
            Verdict::Lost
        } else {
            Verdict::Back
        }
    }

    /// Searches again from `next`, but never from what is known to be equal.
    pub fn back_to(&mut self, now: Instant, next: Slot) {
        match self.flow {
            // Frames before the one that conflicts were dropped.
            Flow::Replicate => self.window.lost(now),
            Flow::Probe | Flow::Snapshot => self.window.clear(),
        }
        self.next = max(next, self.matched.next());
        self.search(Flow::Probe);
    }

    /// Leaves Replicate: answers to what was sent so far are no answers any more.
    fn search(&mut self, flow: Flow) {
        self.flow = flow;
        self.probe += 1;
    }

    fn resume(&mut self) {
        self.window.clear();
        self.next = self.matched.next();
        self.flow = Flow::Replicate;
    }
}
