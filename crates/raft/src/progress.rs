//! Progress of the replication to one peer.

use crate::{AppendAck, AppendConflict};
use core::cmp::max;
use core::time::Duration;
use synod_consensus::{Run, SendWindow, WindowLimits};
use synod_types::{Instant, Slot, Term};

/// Replication state of one peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// The peer's log is durable and equal to the leader's up to here.
    pub matched: Slot,
    /// First slot to send.
    pub next: Slot,
    /// Latest commit index that was sent to the peer.
    pub commit_sent: Slot,
    /// Time of the peer's latest answer in this term.
    last_contact: Instant,
    /// Number of the latest search for the last entry that both logs hold. Appends carry it and
    /// answers return it, so that an answer to an append of an earlier search ends none.
    pub probe: u64,
    mode: Mode,
    window: SendWindow,
}

/// Mode of replication to a peer, as in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    /// The last entry that both logs hold is searched for: one append, until it is answered.
    Probe,
    /// The logs meet: appends follow one another without answers.
    Replicate,
    /// The peer needs entries that are compacted away.
    Snapshot,
}

/// Reaction of a leader to a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictAction {
    /// Search further back: the logs differ at the slot or before it.
    SearchBack,
    /// None: an earlier answer has settled the question.
    Ignore,
    /// Report that the peer does not hold what it acknowledged.
    ReportLoss,
}

impl Progress {
    /// Progress of a peer of a new leader whose log ends before `next`.
    pub fn new(next: Slot, window: WindowLimits, now: Instant) -> Self {
        // As if it had just answered: a new leader has one election timeout to reach a quorum.
        let (matched, commit_sent, last_contact) = (Slot::ZERO, Slot::ZERO, now);
        let (mode, window) = (Mode::Probe, SendWindow::new(window));
        Self { matched, next, commit_sent, last_contact, probe: 0, mode, window }
    }

    /// Returns whether another append may be sent.
    pub fn may_send(&self) -> bool {
        match self.mode {
            Mode::Probe => self.window.is_empty(),
            Mode::Replicate => self.window.has_room(),
            Mode::Snapshot => false,
        }
    }

    /// Largest append that the path should be given, in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.window.batch_bytes()
    }

    /// Returns whether the peer answered within `timeout`.
    pub fn is_active(&self, now: Instant, timeout: Duration) -> bool {
        now.since(self.last_contact) <= timeout
    }

    /// Returns whether appends follow one another without answers.
    pub fn is_replicating(&self) -> bool {
        self.mode == Mode::Replicate
    }

    /// Returns whether the peer needs entries that are compacted away.
    pub fn needs_snapshot(&self) -> bool {
        self.mode == Mode::Snapshot
    }

    /// Records that the peer needs entries that are compacted away.
    pub fn await_snapshot(&mut self) {
        self.window.clear();
        self.search(Mode::Snapshot);
    }

    /// Records an append with entries that carries the commit index.
    pub fn on_sent(&mut self, now: Instant, run: &Run<Term>, commit: Slot) {
        self.commit_sent = max(self.commit_sent, commit);
        self.window.sent(now, run.last(), SendWindow::frame_bytes(&run.values));
        if self.mode == Mode::Replicate {
            self.next = run.last().next();
        }
    }

    /// Records that the peer is alive.
    pub fn on_contact(&mut self, now: Instant, heartbeat: Duration) {
        // More than one heartbeat was lost: the peer was away, and is to be probed again soon.
        if now.since(self.last_contact) > 2 * heartbeat {
            self.window.peer_returned();
        }
        self.last_contact = now;
    }

    /// Returns whether an answer is overdue, so that it is time to probe.
    pub fn is_overdue(&self, now: Instant) -> bool {
        // A snapshot may have been installed at any time, and only a probe finds out.
        self.mode == Mode::Snapshot || self.window.is_overdue(now)
    }

    /// Records an append without entries that carries the commit index.
    pub fn on_probe_sent(&mut self, now: Instant, commit: Slot) {
        self.commit_sent = max(self.commit_sent, commit);
        self.window.probed(now);
    }

    /// Handles an acknowledgement. `base` is where the leader's log begins.
    pub fn on_ack(&mut self, now: Instant, ack: AppendAck, base: Slot) {
        let AppendAck { probe, matched, .. } = ack;
        // Only the answer to the latest search ends it: an older one says nothing of what was sent
        // since.
        let answers = probe == self.probe;
        // Acknowledgements arrive late, twice and out of order; each is true, so the highest counts.
        self.matched = max(self.matched, matched);
        self.next = max(self.next, self.matched.next());
        debug_assert!(self.matched < self.next);
        match self.mode {
            Mode::Replicate if answers => self.window.acked(now, matched),
            Mode::Replicate => self.window.settle(now, matched),
            Mode::Probe if answers => {
                self.window.acked(now, matched);
                self.resume();
            }
            Mode::Snapshot if self.matched >= base => self.resume(),
            Mode::Probe | Mode::Snapshot => {}
        }
    }

    /// Returns what to do about a conflict.
    pub fn classify_conflict(&self, conflict: &AppendConflict) -> ConflictAction {
        let AppendConflict { probe, at, .. } = *conflict;
        // Only an append of the latest search can open another one: a hole makes all appends after it
        // conflict, and the first answer has been acted upon.
        if probe != self.probe || self.mode == Mode::Snapshot || at >= self.next {
            ConflictAction::Ignore
        } else if at <= self.matched {
            ConflictAction::ReportLoss
        } else {
            ConflictAction::SearchBack
        }
    }

    /// Searches again from `next`, but never from what is known to be equal.
    pub fn search_from(&mut self, now: Instant, next: Slot) {
        match self.mode {
            // Frames before the one that conflicts were dropped.
            Mode::Replicate => self.window.lost(now),
            Mode::Probe | Mode::Snapshot => self.window.clear(),
        }
        self.next = max(next, self.matched.next());
        self.search(Mode::Probe);
    }

    /// Leaves Replicate. Answers to what was sent so far no longer count as such.
    fn search(&mut self, mode: Mode) {
        self.mode = mode;
        self.probe += 1;
    }

    fn resume(&mut self) {
        self.window.clear();
        self.next = self.matched.next();
        self.mode = Mode::Replicate;
    }

    /// Asserts what holds for a peer of a leader whose log ends at `last`.
    pub fn check_invariants(&self, last: Slot) {
        assert!(self.matched < self.next && self.next <= last.next(), "{self:?} of {last:?}");
        let nothing_in_flight = self.window.is_empty();
        assert!(self.mode != Mode::Snapshot || nothing_in_flight, "{self:?}");
    }
}
