//! Messages, their validation on arrival, and their claims about disks.

use crate::MultiPaxos;
use crate::describe;
use crate::span::{Span, are_valid, span_at};
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::min;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, HistoryDigest, IgnoreReason, Run, RunLog, Saved};
use synod_types::{Ballot, Lane, NodeId, ReadId, Slot};

/// Bound of valid slots and rounds: at a million a second they reach it in 146,000 years. Rejecting higher
/// numbers, which are damaged or malicious, keeps all sums in this crate from overflowing.
pub(crate) const HORIZON: u64 = 1 << 62;

/// Last slot that a log may have.
pub(crate) const LAST_SLOT: Slot = Slot(HORIZON - 1);

/// Stamp of a value that is known to be chosen. It is above every ballot, so no value is accepted over it,
/// and it wins in phase 1. It is no ballot: it is never promised, and no promise is compared with it.
pub const CHOSEN: Ballot = Ballot::CHOSEN;

/// Accepted slots of one part of an acceptor's log, above its commit index: the body of a Promise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// First slot that the report covers, as requested.
    pub from: Slot,
    /// Last slot that the report covers. A covered slot in no run is either chosen, at or below
    /// `commit`; or held at or below the stamp that `held` names; or empty.
    pub through: Slot,
    /// Stamps of the proposer that the report was compared with, from `from` on.
    pub held: Vec<Span>,
    /// Last slot through which all are chosen, with the values that the proposer holds under `held`.
    pub confirmed: Slot,
    /// Values with the ballot each was accepted at, or [`CHOSEN`], in order.
    pub runs: Vec<Run<Ballot>>,
    /// True if the acceptor holds nothing after `through`.
    pub is_last: bool,
    /// Commit index of the acceptor. The proposer must learn these slots: a report has no values for
    /// them.
    pub commit: Slot,
    /// Highest commit index that the acceptor received from a leader whose values it accepted.
    pub leader_commit: Slot,
    /// Digest of the acceptor's history through `commit`, or through the slot before `from` if that
    /// is earlier.
    pub digest: HistoryDigest,
}

/// State of a node in elections, as heartbeats carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ElectionState {
    /// Follows a leader, or waits for one.
    Following,
    /// Has timed out, and checks whether it should campaign.
    PreCampaigning,
    /// Is in phase 1, or proposes the values that it found: its barrier is not chosen yet.
    Campaigning,
    /// Leads and serves.
    Leading,
}

/// View that a node has of the cluster, carried by heartbeats. Only elections use it: a node campaigns only
/// if it reaches a quorum and no reachable node has a live leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Ballot that the sender has promised; its own if it campaigns or leads.
    pub ballot: Ballot,
    /// Ballot of the leader that the sender follows; its own if it leads. For readers of transcripts:
    /// the promised ballot may be that of a rival that does not lead yet.
    pub leader: Option<Ballot>,
    /// State of the sender.
    pub state: ElectionState,
    /// True if enough voters reply to the sender for it to lead. A follower measures this only in a
    /// pre-campaign and otherwise sends `false`; its `has_live_leader` implies that its leader has a quorum.
    pub has_quorum: bool,
    /// True if the sender leads, or receives messages of a leader directly, and that leader has its
    /// quorum.
    pub has_live_leader: bool,
    /// Commit index of the sender.
    pub commit: Slot,
    /// Digest of the sender's history through `commit`.
    pub digest: HistoryDigest,
    /// Priority of the sender in elections.
    pub priority: u8,
}

/// Messages between nodes. In Prepare, Accept, Probe, Commit, ReadRound and ReadReply the ballot is the
/// sender's own; in Promise, Accepted, Nack, ReadRoundAck and ReadRequest it is the receiver's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Phase 1a.
    Prepare(Prepare),
    /// Phase 1b.
    Promise(Promise),
    /// Rejection of phase 1 or 2.
    Nack(Nack),
    /// Phase 2a.
    Accept(Accept),
    /// Phase 2b.
    Accepted(Accepted),
    /// Request of a leader to acknowledge its Accepts.
    Probe(Probe),
    /// Commit index of a leader.
    Commit(Commit),
    /// Heartbeat of a round.
    Heartbeat(Heartbeat),
    /// Reply to a heartbeat. A separate message, so that it never waits for a disk.
    HeartbeatReply(HeartbeatReply),
    /// Request for chosen values.
    Learn(Learn),
    /// Reply to a learner, with values.
    Learned(Learned),
    /// Reply to a learner, without values.
    Known(Known),
    /// Request of a leader to confirm its ballot for a round of reads.
    ReadRound(ReadRound),
    /// Confirmation of a round of reads.
    ReadRoundAck(ReadRoundAck),
    /// Request of a follower for a read index.
    ReadRequest(ReadRequest),
    /// Reply to a follower with the read index.
    ReadReply(ReadReply),
}

/// Phase 1a for every slot from `from` on (PMS 3). Sent again with a later `from`, it requests the next
/// part of the report.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Prepare {
    /// Ballot of the proposer, which it has promised itself.
    pub ballot: Ballot,
    /// First slot to be reported.
    pub from: Slot,
    /// Stamps that the proposer has found from there on: values at or below them are not reported.
    pub held: Vec<Span>,
}

/// Phase 1b: the promise to accept no value below `ballot`, and a part of the accepted values.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Promise {
    /// Ballot that is promised.
    pub ballot: Ballot,
    /// Part of the accepted values.
    pub report: Report,
}

/// Rejection: a higher ballot was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nack {
    /// Ballot that is rejected.
    pub ballot: Ballot,
    /// Ballot that was promised.
    pub promised: Ballot,
}

/// Phase 2a for consecutive slots, at least one; their stamp is the ballot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accept {
    /// Values to accept.
    pub run: Run<Ballot>,
    /// Commit index of the leader.
    pub commit: Slot,
    /// Digest of the leader's history through the slot before the run, if these slots are known to be
    /// chosen: always in the first Accept of a ballot, rarely under load.
    pub digest: Option<HistoryDigest>,
}

/// Phase 2b: every slot from `first` through `through` is durably accepted at the ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Accepted {
    /// Ballot of the Accept.
    pub ballot: Ballot,
    /// First slot.
    pub first: Slot,
    /// Last slot; the slot before `first` if there is none.
    pub through: Slot,
    /// Number of the last received probe, or 0. Accepts that were sent before it and are not acknowledged
    /// here were lost.
    pub probe: u64,
}

/// Request of a leader whose Accepts are not acknowledged in time, sent after them on their lane.
/// The reply is an Accepted that carries its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Number of the probe, from 1 on.
    pub number: u64,
}

/// Commit index that no Accept carries. Not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Commit {
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Commit index: all slots through it are chosen.
    pub commit: Slot,
}

/// Heartbeat of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Round of the sender.
    pub round: u64,
    /// View that the sender has of the cluster.
    pub view: View,
}

/// Reply to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Round of the heartbeat.
    pub round: u64,
    /// View that the replying node has of the cluster.
    pub view: View,
}

/// Request of a learner for the chosen values from `from` on. Any node may reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learn {
    /// First slot that the learner lacks.
    pub from: Slot,
    /// Last requested slot: the leader sends the slots after it.
    pub through: Slot,
    /// Stamps of the values that the learner holds from `from` on without knowing them to be chosen.
    pub held: Vec<Span>,
}

/// Chosen values. Their stamp carries no information.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Learned {
    /// Chosen values.
    pub run: Run<Ballot>,
    /// Commit index of the sender: what can be requested.
    pub commit: Slot,
    /// Digest of the sender's history through the slot before the run.
    pub digest: HistoryDigest,
}

/// Reply to a learner without values: these slots are chosen, and the sender holds them under these
/// stamps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Known {
    /// First slot.
    pub first: Slot,
    /// Stamps from `first` on. At least one.
    pub spans: Vec<Span>,
    /// Commit index of the sender: what can be requested.
    pub commit: Slot,
    /// Digest of the sender's history through the slot before `first`.
    pub digest: HistoryDigest,
}

/// Request of a leader to confirm that the receiver has promised no higher ballot: one for all waiting
/// reads. Separate from heartbeats, because elections count each of their rounds and keep few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRound {
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Number of the round, from 1 on.
    pub round: u64,
}

/// Reply to a [`ReadRound`]: the sender has promised no higher ballot. Otherwise it replies with a [`Nack`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRoundAck {
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Number of the round.
    pub round: u64,
}

/// Request of a follower for a slot from which its reads may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRequest {
    /// Ballot of the leader that the sender follows.
    pub ballot: Ballot,
    /// Latest read that waits at the sender. The reply counts for those before it, too.
    pub id: ReadId,
}

/// Reply to a [`ReadRequest`], after a quorum has confirmed that its sender led when it received the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadReply {
    /// Ballot of the leader.
    pub ballot: Ballot,
    /// Read that the request named.
    pub id: ReadId,
    /// Slot from which the reads may be served. It may be after the commit index.
    pub index: Slot,
}

pub(crate) fn is_ballot(ballot: Ballot) -> bool {
    (1..HORIZON).contains(&ballot.round) && ballot.node != NodeId(0)
}

fn is_run(run: &Run<Ballot>) -> bool {
    run.is_sound() && !run.values.is_empty() && run.last().0 < HORIZON
}

impl View {
    fn is_valid(&self, from: NodeId) -> bool {
        let own = matches!(self.state, ElectionState::Campaigning | ElectionState::Leading);
        self.commit.0 < HORIZON
            && (is_ballot(self.ballot) || self.ballot == Ballot::ZERO)
            && (!own || (is_ballot(self.ballot) && self.ballot.node == from))
    }
}

impl Report {
    /// Returns the report of an acceptor that holds no value from slot `from` on.
    #[must_use]
    pub fn empty(from: Slot) -> Self {
        Self {
            from,
            through: from.prev(),
            held: Vec::new(),
            confirmed: from.prev(),
            runs: Vec::new(),
            is_last: true,
            commit: Slot::ZERO,
            leader_commit: Slot::ZERO,
            digest: HistoryDigest::UNKNOWN,
        }
    }

    fn is_valid(&self, ballot: Ballot) -> bool {
        let mut next = self.from;
        for run in &self.runs {
            // An acceptor that has promised exactly `ballot` has accepted no value above it (P1a).
            let is_stamp = run.stamp == CHOSEN || (is_ballot(run.stamp) && run.stamp <= ballot);
            if !is_run(run) || run.first < next || !is_stamp {
                return false;
            }
            next = run.last().next();
        }
        let is_confirmed = span_at(&self.held, self.from, self.confirmed).is_some();
        self.from > Slot::ZERO
            && self.from.prev() <= self.through
            && next.prev() <= self.through
            && self.through.0 < HORIZON
            && self.commit.0 < HORIZON
            && are_valid(&self.held, self.from)
            && (self.confirmed < self.from || (is_confirmed && self.confirmed <= self.commit))
            // An empty part would be requested again without end.
            && (self.is_last || self.from <= self.through)
    }

    /// Returns whether `disk` backs the report.
    fn holds(&self, ballot: Ballot, disk: &RunLog<Ballot>) -> bool {
        let is_there = |run: &Run<Ballot>| {
            (0..run.values.len()).all(|index| {
                let slot = run.first.plus(index);
                let held = disk.get(slot).filter(|(_, value)| *value == run.values.get(index));
                slot <= disk.base()
                    || held.is_some_and(|(stamp, _)| stamp >= run.stamp || run.stamp == CHOSEN)
                    || disk.stamp_at(slot).is_some_and(|stamp| stamp >= ballot)
            })
        };
        let reported =
            |slot: Slot| self.runs.iter().any(|run| (run.first..=run.last()).contains(&slot));
        let omitted = |slot: Slot, stamp: Ballot| {
            slot <= self.commit
                || (slot > self.through && !self.is_last)
                || span_at(&self.held, self.from, slot).is_some_and(|span| stamp <= span.stamp)
        };
        // Values accepted at this ballot or above came after the promise.
        let mut accepted = disk.runs_from(self.from).filter(|run| run.stamp < ballot);
        self.runs.iter().all(is_there)
            && accepted.all(|run| {
                (0..run.values.len())
                    .map(|index| run.first.plus(index))
                    .all(|slot| reported(slot) || omitted(slot, run.stamp))
            })
    }
}

impl Message {
    /// Returns the statement of its sender's history: the last slot and the digest.
    pub(crate) fn statement(&self) -> Option<(Slot, HistoryDigest)> {
        match self {
            Self::Accept(it) => it.digest.map(|digest| (it.run.first.prev(), digest)),
            Self::Promise(Promise { report, .. }) => {
                Some((min(report.commit, report.from.prev()), report.digest))
            }
            Self::Heartbeat(Heartbeat { view, .. })
            | Self::HeartbeatReply(HeartbeatReply { view, .. }) => Some((view.commit, view.digest)),
            Self::Learned(it) => Some((it.run.first.prev(), it.digest)),
            Self::Known(it) => Some((it.first.prev(), it.digest)),
            Self::Prepare(_)
            | Self::Nack(_)
            | Self::Accepted(_)
            | Self::Probe(_)
            | Self::Commit(_)
            | Self::Learn(_)
            | Self::ReadRound(_)
            | Self::ReadRoundAck(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => None,
        }
    }

    /// Checks that a correct node `from` may send this message to `to`.
    pub(crate) fn validate(&self, from: NodeId, to: NodeId) -> Result<(), IgnoreReason> {
        // Only the owner of a ballot proposes under it, and only the owner receives replies to it.
        let (own, addressed, is_valid) = match self {
            Self::Prepare(it) => {
                let is_slot = it.from.0 < HORIZON && it.from > Slot::ZERO;
                (Some(it.ballot), None, is_slot && are_valid(&it.held, it.from))
            }
            Self::Promise(it) => (None, Some(it.ballot), it.report.is_valid(it.ballot)),
            Self::Nack(it) => {
                (None, Some(it.ballot), is_ballot(it.promised) && it.promised > it.ballot)
            }
            Self::Accept(it) => {
                (Some(it.run.stamp), None, is_run(&it.run) && it.commit.0 < HORIZON)
            }
            Self::Accepted(it) => {
                let is_range = it.first.prev() <= it.through && it.through.0 < HORIZON;
                (None, Some(it.ballot), is_range && it.first > Slot::ZERO)
            }
            Self::Probe(it) => (Some(it.ballot), None, true),
            Self::Commit(it) => (Some(it.ballot), None, it.commit.0 < HORIZON),
            Self::Heartbeat(Heartbeat { view, .. })
            | Self::HeartbeatReply(HeartbeatReply { view, .. }) => {
                (None, None, view.is_valid(from))
            }
            Self::Learn(it) => {
                let is_range = (Slot(1)..=it.through).contains(&it.from) && it.through.0 < HORIZON;
                (None, None, is_range && are_valid(&it.held, it.from))
            }
            Self::Learned(it) => (None, None, is_run(&it.run) && it.run.last() <= it.commit),
            Self::Known(it) => {
                let last = it.spans.last().map_or(Slot(u64::MAX), |span| span.through);
                let is_range = it.first > Slot::ZERO && last <= it.commit;
                (None, None, is_range && are_valid(&it.spans, it.first))
            }
            Self::ReadRound(it) => (Some(it.ballot), None, true),
            Self::ReadRoundAck(it) => (None, Some(it.ballot), true),
            Self::ReadRequest(it) => (None, Some(it.ballot), true),
            Self::ReadReply(it) => (Some(it.ballot), None, it.index.0 < HORIZON),
        };
        if !is_valid || !own.into_iter().chain(addressed).all(is_ballot) {
            Err(IgnoreReason::OutOfRange)
        } else if own.is_some_and(|ballot| ballot.node != from) {
            Err(IgnoreReason::ForeignBallot)
        } else if addressed.is_some_and(|ballot| ballot.node != to) {
            Err(IgnoreReason::OtherAddressee)
        } else {
            Ok(())
        }
    }
}

impl synod_consensus::Message<MultiPaxos> for Message {
    fn gate(&self) -> Gate {
        match self {
            // A crash must not undo these (PMS 2.5: stable storage before the reply). Prepare: the own
            // promise records that its ballot is used, so no restart uses it again.
            Self::Prepare(_) | Self::Promise(_) | Self::Accepted(_) => Gate::Durable,
            // No claims about the sender's disk.
            Self::Nack(_)
            | Self::Accept(_)
            | Self::Probe(_)
            | Self::Commit(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatReply(_)
            | Self::Learn(_)
            | Self::Learned(_)
            | Self::Known(_)
            // A promise that is not durable yet makes an acceptor reject a round as well. One that a crash
            // undoes was never sent, so it let no rival lead.
            | Self::ReadRound(_)
            | Self::ReadRoundAck(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => Gate::Immediate,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            // Acknowledgements and requests are short and must not wait for values.
            Self::Prepare(_)
            | Self::Nack(_)
            | Self::Accepted(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatReply(_)
            | Self::Learn(_)
            | Self::Known(_)
            | Self::ReadRound(_)
            | Self::ReadRoundAck(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => Lane::Control,
            // Values; and Probe and Commit, which must not overtake the Accepts that they are about.
            Self::Promise(_)
            | Self::Accept(_)
            | Self::Probe(_)
            | Self::Commit(_)
            | Self::Learned(_) => Lane::Log,
        }
    }

    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<MultiPaxos>) -> bool {
        let promised = disk.hard_state.promised;
        match self {
            Self::Prepare(it) => it.ballot <= promised,
            // To itself a node only claims that its promise is durable: its log was read before.
            Self::Promise(it) if from == to => it.ballot <= promised,
            Self::Promise(it) => it.ballot <= promised && it.report.holds(it.ballot, &disk.log),
            // An empty range claims nothing.
            Self::Accepted(it) if it.first > it.through => true,
            Self::Accepted(it) => {
                // Compacted slots are chosen and covered by a durable snapshot.
                let mut next = it.first.max(disk.log.base().next());
                for run in disk.log.runs_from(next) {
                    if run.first != next || run.stamp < it.ballot {
                        break;
                    }
                    next = run.last().next();
                }
                it.ballot <= promised && next > it.through
            }
            Self::Nack(_)
            | Self::Accept(_)
            | Self::Probe(_)
            | Self::Commit(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatReply(_)
            | Self::Learn(_)
            | Self::Learned(_)
            | Self::Known(_)
            | Self::ReadRound(_)
            | Self::ReadRoundAck(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => true,
        }
    }

    fn describe(&self) -> String {
        describe::message(self)
    }
}
