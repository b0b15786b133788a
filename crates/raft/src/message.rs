//! Messages between nodes, and the claims that they make.

use crate::Raft;
use alloc::format;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, HistoryDigest, IgnoreReason, Run, Saved};
use synod_types::{Lane, NodeId, ReadId, Slot, Term};

/// Bound of slots and terms. No correct log or term reaches it: at a million a second it takes 146,000
/// years. A number beyond it is damaged or forged. Rejecting it keeps every sum in this crate from overflow.
pub(crate) const HORIZON: u64 = 1 << 62;

/// Term and slot of an entry. The order is the one of Raft §5.4.1: of two logs, the one
/// whose last entry has the later TERM is more up to date; only within one term the length decides.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// Term under which the entry was proposed.
    pub term: Term,
    /// Slot in the log.
    pub slot: Slot,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.slot, self.term)
    }
}

/// Message between two nodes. A `term` is always the sender's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Request for a pre-vote.
    PreVote(PreVote),
    /// Reply to a request for a pre-vote.
    PreVoteReply(PreVoteReply),
    /// Request for a vote.
    RequestVote(RequestVote),
    /// Reply to a request for a vote.
    Vote(Vote),
    /// Entries of the leader's log, or a probe.
    Append(Append),
    /// Acknowledgement of appends.
    AppendAck(AppendAck),
    /// Rejection of an append.
    AppendConflict(AppendConflict),
    /// Heartbeat of a leader.
    Heartbeat(Heartbeat),
    /// Reply to a heartbeat, or to a leader of an earlier term.
    HeartbeatAck(HeartbeatAck),
    /// New commit index.
    Commit(Commit),
    /// Request to the leader for a slot from which reads may be served.
    ReadRequest(ReadRequest),
    /// Reply to a request for reads.
    ReadReply(ReadReply),
}

/// Request for a pre-vote, before a campaign: the receiver replies as it would to a request for its vote.
/// It changes neither term nor vote (thesis §9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreVote {
    /// Term that the sender would campaign in.
    pub next_term: Term,
    /// Last entry of the sender's log.
    pub last: Position,
}

/// Reply to a [`PreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PreVoteReply {
    /// The sender's term.
    pub term: Term,
    /// Term of the pre-vote.
    pub next_term: Term,
    /// True if the voter would vote for the receiver of this reply.
    pub granted: bool,
}

/// Request for a vote (Raft §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestVote {
    /// Term that the sender campaigns in.
    pub term: Term,
    /// Last entry of the sender's log.
    pub last: Position,
}

/// Reply to a [`RequestVote`]. A candidate's own vote is this message to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The voter's term.
    pub term: Term,
    /// True if the vote is granted.
    pub granted: bool,
}

/// Entries after `prev`, all of one term (Raft §5.3, AppendEntries). Without entries it is a probe: a
/// request to acknowledge `prev`, on the lane of the entries, so that the reply covers everything that
/// was sent before it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// Number of the search that this append belongs to. The leader counts, for each peer and term, its
    /// searches for the last entry that both logs hold.
    pub probe: u64,
    /// The entry before the first of `run`.
    pub prev: Position,
    /// The entries, perhaps none.
    pub run: Run<Term>,
    /// The leader's commit index.
    pub commit: Slot,
    /// Digest of the leader's log through `prev`; unknown once the receiver has acknowledged an entry in
    /// this term.
    pub digest: HistoryDigest,
}

/// Acknowledgement: the sender's log is durable, and equal to the leader's, through `matched`. A leader
/// counts its own copy by this message to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendAck {
    /// The sender's term.
    pub term: Term,
    /// Search of the latest append that this acknowledges.
    pub probe: u64,
    /// Last slot that is known to be equal.
    pub matched: Slot,
}

/// Rejection of an append: the sender's log does not hold the entry before it (Raft §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AppendConflict {
    /// The sender's term.
    pub term: Term,
    /// Search of the rejected append.
    pub probe: u64,
    /// Slot of the missing entry.
    pub at: Slot,
    /// The sender's last entry at or before `at` whose term is not above the term that the append
    /// named there. No entry between the two can be equal, so the leader skips them all.
    pub hint: Position,
}

/// Heartbeat of a leader (Raft §5.2). It overtakes appends, so it names acknowledged entries only: those in
/// flight may arrive later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The leader's term.
    pub term: Term,
    /// Last entry that the receiver has acknowledged.
    pub prev: Position,
    /// The leader's commit index, at most `prev`.
    pub commit: Slot,
    /// Latest round of reads that a quorum has not confirmed yet; 0 if there is none.
    pub round: u64,
}

/// Reply to a [`Heartbeat`], and to any message of a leader of an earlier term, which then steps down. It
/// never waits for the sender's disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The sender's term.
    pub term: Term,
    /// Round of reads of the heartbeat; 0 if this is no reply to a heartbeat.
    pub round: u64,
}

/// New commit index, sent if no append carries it. It has no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Commit {
    /// The leader's term.
    pub term: Term,
    /// The leader's commit index.
    pub commit: Slot,
}

/// Request of a follower for a slot from which its reads may be served (thesis §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadRequest {
    /// The sender's term.
    pub term: Term,
    /// Latest pending read of the sender. The reply is valid for the earlier ones, too.
    pub id: ReadId,
}

/// Reply to a [`ReadRequest`], after a quorum has confirmed that its sender led when it received the
/// request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ReadReply {
    /// The leader's term.
    pub term: Term,
    /// Read that the request named.
    pub id: ReadId,
    /// Slot from which the reads may be served. It may be after the commit index.
    pub index: Slot,
}

impl Message {
    /// Returns the sender's term if the rules of terms apply to the message (Raft §5.1). They do not
    /// apply to pre-votes.
    pub(crate) fn term(&self) -> Option<Term> {
        match self {
            Self::PreVote(_) | Self::PreVoteReply(_) => None,
            Self::RequestVote(RequestVote { term, .. })
            | Self::Vote(Vote { term, .. })
            | Self::Append(Append { term, .. })
            | Self::AppendAck(AppendAck { term, .. })
            | Self::AppendConflict(AppendConflict { term, .. })
            | Self::Heartbeat(Heartbeat { term, .. })
            | Self::HeartbeatAck(HeartbeatAck { term, .. })
            | Self::Commit(Commit { term, .. })
            | Self::ReadRequest(ReadRequest { term, .. })
            | Self::ReadReply(ReadReply { term, .. }) => Some(*term),
        }
    }

    /// Returns whether only leaders send this.
    pub(crate) fn is_from_leader(&self) -> bool {
        match self {
            Self::Append(_) | Self::Heartbeat(_) | Self::Commit(_) | Self::ReadReply(_) => true,
            Self::PreVote(_)
            | Self::PreVoteReply(_)
            | Self::RequestVote(_)
            | Self::Vote(_)
            | Self::AppendAck(_)
            | Self::AppendConflict(_)
            | Self::HeartbeatAck(_)
            | Self::ReadRequest(_) => false,
        }
    }

    /// Checks that the message can come from a correct node. Byzantine faults are not tolerated, but damage
    /// must not make this node panic or break its own invariants.
    pub(crate) fn validate(&self) -> Result<(), IgnoreReason> {
        let in_range = |term: Term, slot: Slot| term.0 < HORIZON && slot.0 < HORIZON;
        let is_valid = match self {
            Self::PreVote(PreVote { next_term: term, last })
            // A candidate's log ends in an earlier term than the one it campaigns in.
            | Self::RequestVote(RequestVote { term, last }) => {
                in_range(*term, last.slot) && last.term < *term
            }
            Self::PreVoteReply(PreVoteReply { term, next_term, .. }) => {
                in_range(*term, Slot::ZERO) && in_range(*next_term, Slot::ZERO)
            }
            Self::Vote(Vote { term, .. })
            | Self::HeartbeatAck(HeartbeatAck { term, .. })
            | Self::ReadRequest(ReadRequest { term, .. }) => in_range(*term, Slot::ZERO),
            Self::AppendAck(AppendAck { term, matched: slot, .. })
            | Self::Commit(Commit { term, commit: slot })
            | Self::ReadReply(ReadReply { term, index: slot, .. }) => in_range(*term, *slot),
            // The hint is an entry of the follower's log, which ends in no later term than the follower's.
            Self::AppendConflict(AppendConflict { term, at, hint, .. }) => {
                in_range(*term, *at) && hint.slot <= *at && hint.term <= *term
            }
            Self::Heartbeat(Heartbeat { term, prev, commit, .. }) => {
                in_range(*term, prev.slot) && prev.term <= *term && commit.0 < HORIZON
            }
            Self::Append(append) => append.is_valid(),
        };
        if is_valid { Ok(()) } else { Err(IgnoreReason::OutOfRange) }
    }
}

impl Append {
    /// Returns whether a leader can have sent this append.
    fn is_valid(&self) -> bool {
        let Self { term, prev, run, commit, .. } = self;
        let in_range = |slot: Slot| slot.0 < HORIZON;
        term.0 < HORIZON
            && in_range(*commit)
            && in_range(prev.slot)
            // `last` could overflow in a run that is not sound.
            && run.is_sound()
            && in_range(run.last())
            && run.first == prev.slot.next()
            // Terms count from 1 and never decrease along a log.
            && run.stamp > Term(0)
            && prev.term <= run.stamp
            && run.stamp <= *term
    }
}

impl synod_consensus::Message<Raft> for Message {
    fn gate(&self) -> Gate {
        match self {
            // Claims that a crash must not undo: "updated on stable storage before responding to RPCs"
            // (fig. 2). A request for votes is one, too: its sender has voted for itself.
            Self::RequestVote(_) | Self::Vote(_) | Self::AppendAck(_) | Self::AppendConflict(_) => {
                Gate::Durable
            }
            // These depend on no write of their sender: an append is a proposal, and the loss of a term
            // without a vote in a crash breaks no promise. Reads depend on heartbeats and their replies: a
            // node that has voted for a successor replies under the later term, durable or not, and a vote
            // that a crash undoes has never left.
            Self::PreVote(_)
            | Self::PreVoteReply(_)
            | Self::Append(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatAck(_)
            | Self::Commit(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => Gate::Immediate,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::PreVote(_)
            | Self::PreVoteReply(_)
            | Self::RequestVote(_)
            | Self::Vote(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatAck(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_)
            // Replies must not queue after the appends of a node that has just stepped down.
            | Self::AppendAck(_)
            | Self::AppendConflict(_) => Lane::Control,
            // A commit index has no effect before the entries arrive, which take this lane.
            Self::Append(_) | Self::Commit(_) => Lane::Log,
        }
    }

    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<Raft>) -> bool {
        let on_disk = disk.hard_state.term;
        if self.term().is_some_and(|term| term < on_disk) {
            // Receivers in the later term ignore the claim.
            return true;
        }
        match self {
            // A voter that loses its vote could vote twice in the term (Raft §5.2).
            Self::Vote(Vote { term, granted: true }) => {
                *term == on_disk && disk.hard_state.vote == Some(to)
            }
            Self::RequestVote(RequestVote { term, .. }) => {
                *term == on_disk && disk.hard_state.vote == Some(from)
            }
            // A commit counts durable copies. The term is claimed, too: a node that goes back to an earlier
            // one could accept entries of a deposed leader.
            Self::AppendAck(AppendAck { term, matched, .. }) => {
                *term == on_disk && disk.log.last() >= *matched
            }
            Self::Vote(Vote { term, granted: false })
            | Self::AppendConflict(AppendConflict { term, .. }) => *term == on_disk,
            Self::PreVote(_)
            | Self::PreVoteReply(_)
            | Self::Append(_)
            | Self::Heartbeat(_)
            | Self::HeartbeatAck(_)
            | Self::Commit(_)
            | Self::ReadRequest(_)
            | Self::ReadReply(_) => true,
        }
    }

    fn describe(&self) -> String {
        let yes_or_no = |granted: &bool| if *granted { "yes" } else { "no" };
        match self {
            Self::PreVote(PreVote { next_term, last }) => {
                format!("PreVote({next_term:?}, last {last})")
            }
            Self::PreVoteReply(PreVoteReply { term, next_term, granted }) => {
                format!("PreVoteReply({term:?}, {} to {next_term:?})", yes_or_no(granted))
            }
            Self::RequestVote(RequestVote { term, last }) => {
                format!("RequestVote({term:?}, last {last})")
            }
            Self::Vote(Vote { term, granted }) => format!("Vote({term:?}, {})", yes_or_no(granted)),
            Self::Append(append) => append.describe(),
            Self::AppendAck(AppendAck { term, probe, matched }) => {
                format!("AppendAck({term:?}{}, {matched})", number("probe", *probe))
            }
            Self::AppendConflict(AppendConflict { term, probe, at, hint }) => {
                let probe = number("probe", *probe);
                format!("AppendConflict({term:?}{probe}, at {at}, hint {hint})")
            }
            Self::Heartbeat(Heartbeat { term, prev, commit, round }) => {
                let round = number("round", *round);
                format!("Heartbeat({term:?}, prev {prev}, commit {commit}{round})")
            }
            Self::HeartbeatAck(HeartbeatAck { term, round }) => {
                format!("HeartbeatAck({term:?}{})", number("round", *round))
            }
            Self::Commit(Commit { term, commit }) => format!("Commit({term:?}, {commit})"),
            // The ids of reads are arbitrary, so they are left out.
            Self::ReadRequest(ReadRequest { term, .. }) => format!("ReadRequest({term:?})"),
            Self::ReadReply(ReadReply { term, index, .. }) => {
                format!("ReadReply({term:?}, from {index})")
            }
        }
    }
}

impl Append {
    fn describe(&self) -> String {
        let Self { term, probe, prev, run, commit, .. } = self;
        let probe = number("probe", *probe);
        // The question mark stands for a probe.
        if run.values.is_empty() {
            return format!("Append({term:?}{probe}, prev {prev}?, commit {commit})");
        }
        let (first, last, stamp) = (run.first, run.last(), run.stamp);
        format!("Append({term:?}{probe}, prev {prev}, {first}..{last}@{stamp:?}, commit {commit})")
    }
}

/// Returns the number of a search or of a round of reads, as transcripts show it; 0 is left out.
fn number(name: &str, number: u64) -> String {
    if number > 0 { format!(", {name} {number}") } else { String::new() }
}
