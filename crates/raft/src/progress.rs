//! Progress of the replication to one peer.

use crate::{AppendAck, AppendConflict};
use core::cmp::max;
use core::time::Duration;
use synod_consensus::{Run, SendWindow, WindowLimits};
use synod_types::{Instant, Slot, Term};

/// Replication state of one peer: the leader's `nextIndex` and `matchIndex` (Raft fig. 2), with flow
/// control.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Last slot through which the peer's log is known to be durable and equal to the leader's.
    pub matched: Slot,
    /// First slot to send.
    pub next: Slot,
    /// Latest commit index that was sent to the peer.
    pub commit_sent: Slot,
    /// Time of the peer's latest reply in this term.
    last_contact: Instant,
    /// Number of the latest search for the last entry that both logs hold. Appends carry it and
    /// replies return it, so that a reply to an append of an earlier search does not end this one.
    pub probe: u64,
    mode: Mode,
    window: SendWindow,
}

/// Mode of replication to a peer, as in etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    /// Search for the last entry that both logs hold: one append in flight.
    Probe,
    /// Pipelining: the logs match, so appends are sent without waiting for replies.
    Replicate,
    /// No appends: the peer needs entries that are compacted away.
    Snapshot,
}

/// Reaction of a leader to a conflict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConflictAction {
    /// Search further back: the logs differ at the slot or before it.
    SearchBack,
    /// None: the conflict is of an earlier search.
    Ignore,
    /// Report that the peer no longer holds entries that it acknowledged.
    ReportLoss,
}

impl Progress {
    /// Returns the progress of a peer of a new leader whose log ends before `next`.
    pub fn new(next: Slot, window: WindowLimits, now: Instant) -> Self {
        // `last_contact` is now: a new leader has one election timeout to reach a quorum. A vote does not
        // count as an acknowledgement: "matchIndex: initialized to 0" (fig. 2).
        let (matched, commit_sent, last_contact) = (Slot::ZERO, Slot::ZERO, now);
        let (mode, window) = (Mode::Probe, SendWindow::new(window));
        Self { matched, next, commit_sent, last_contact, probe: 0, mode, window }
    }

    /// Returns whether another append may be sent.
    pub fn may_send(&self) -> bool {
        match self.mode {
            // The first append may conflict, and everything sent after it would, too.
            Mode::Probe => self.window.is_empty(),
            Mode::Replicate => self.window.has_room(),
            Mode::Snapshot => false,
        }
    }

    /// Returns the largest append that the path can take, in bytes.
    pub fn batch_bytes(&self) -> usize {
        self.window.batch_bytes()
    }

    /// Returns whether the peer replied within `timeout`.
    pub fn is_active(&self, now: Instant, timeout: Duration) -> bool {
        now.since(self.last_contact) <= timeout
    }

    /// Returns whether appends are pipelined.
    pub fn is_replicating(&self) -> bool {
        self.mode == Mode::Replicate
    }

    /// Returns whether the peer needs entries that are compacted away.
    pub fn needs_snapshot(&self) -> bool {
        self.mode == Mode::Snapshot
    }

    /// Records that the peer needs entries that are compacted away.
    pub fn await_snapshot(&mut self) {
        // Flow control starts again after the snapshot.
        self.window.clear();
        self.search(Mode::Snapshot);
    }

    /// Records an append with entries that carries the commit index.
    pub fn on_sent(&mut self, now: Instant, run: &Run<Term>, commit: Slot) {
        self.commit_sent = max(self.commit_sent, commit);
        self.window.sent(now, run.last(), SendWindow::frame_bytes(&run.values));
        // Pipelining: optimistically as if it had arrived (thesis §10.2.2). A search waits for the reply.
        if self.mode == Mode::Replicate {
            self.next = run.last().next();
        }
    }

    /// Records a reply of the peer.
    pub fn on_contact(&mut self, now: Instant, heartbeat: Duration) {
        // More than one heartbeat got no reply: the peer was away, so the next probe is due at once.
        if now.since(self.last_contact) > 2 * heartbeat {
            self.window.peer_returned();
        }
        self.last_contact = now;
    }

    /// Returns whether an acknowledgement is overdue, so that a probe is due.
    pub fn is_overdue(&self, now: Instant) -> bool {
        // The acknowledgement of an installed snapshot may be lost, and only a probe gets it again.
        self.mode == Mode::Snapshot || self.window.is_overdue(now)
    }

    /// Records an append without entries that carries the commit index.
    pub fn on_probe_sent(&mut self, now: Instant, commit: Slot) {
        self.commit_sent = max(self.commit_sent, commit);
        self.window.probed(now);
    }

    /// Handles an acknowledgement. `base` is the base of the leader's log.
    pub fn on_ack(&mut self, now: Instant, ack: AppendAck, base: Slot) {
        let AppendAck { probe, matched, .. } = ack;
        // A reply to an earlier search does not show that the append of this one has arrived.
        let is_latest = probe == self.probe;
        // Acknowledgements arrive late, twice and out of order. Each remains true for this term, so the
        // highest counts.
        self.matched = max(self.matched, matched);
        self.next = max(self.next, self.matched.next());
        debug_assert!(self.matched < self.next);
        match self.mode {
            Mode::Replicate if is_latest => self.window.acked(now, matched),
            Mode::Replicate => self.window.settle(now, matched),
            Mode::Probe if is_latest => {
                self.window.acked(now, matched);
                self.resume();
            }
            // Entries after the base are at hand again, so appends can continue.
            Mode::Snapshot if self.matched >= base => self.resume(),
            Mode::Probe | Mode::Snapshot => {}
        }
    }

    /// Returns the reaction to a conflict.
    pub fn classify_conflict(&self, conflict: &AppendConflict) -> ConflictAction {
        let AppendConflict { probe, at, .. } = *conflict;
        // After a lost append all later ones conflict. The first of these replies starts a search, and
        // the others are of an earlier one.
        if probe != self.probe || self.mode == Mode::Snapshot || at >= self.next {
            ConflictAction::Ignore
        } else if at <= self.matched {
            // A follower keeps acknowledged entries until a leader of a later term cuts them.
            ConflictAction::ReportLoss
        } else {
            ConflictAction::SearchBack
        }
    }

    /// Searches again from `next`, but not before the end of what is known to be equal.
    pub fn search_from(&mut self, now: Instant, next: Slot) {
        match self.mode {
            // Appends before the one that conflicts were lost.
            Mode::Replicate => self.window.lost(now),
            Mode::Probe | Mode::Snapshot => self.window.clear(),
        }
        self.next = max(next, self.matched.next());
        self.search(Mode::Probe);
    }

    /// Starts a search. Replies to earlier appends no longer count as replies to the latest one.
    fn search(&mut self, mode: Mode) {
        self.mode = mode;
        self.probe += 1;
    }

    /// Ends a search: the logs match through `matched`.
    fn resume(&mut self) {
        // An append that is still in flight counts as lost: its entries are sent again after `matched`.
        self.window.clear();
        self.next = self.matched.next();
        self.mode = Mode::Replicate;
    }

    /// Asserts the invariants of a peer of a leader whose log ends at `last`.
    pub fn check_invariants(&self, last: Slot) {
        assert!(self.matched < self.next && self.next <= last.next(), "{self:?} of {last:?}");
        let nothing_in_flight = self.window.is_empty();
        assert!(self.mode != Mode::Snapshot || nothing_in_flight, "{self:?}");
    }
}
