//! What nodes say to each other, and what each saying claims.

use crate::Raft;
use alloc::format;
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};
use synod_consensus::{Gate, HistoryDigest, Run, Saved};
use synod_types::{Lane, NodeId, Slot, Term};

/// No honest log or term ever gets here: at a million a second it takes 146,000 years. A number
/// beyond is damage or malice, and refusing it keeps every sum in this crate from overflowing.
pub(crate) const HORIZON: u64 = 1 << 62;

/// An entry, named by its term and slot. The order is the one of Raft §5.4.1: of two logs, the one
/// whose last entry has the later TERM is more up to date, no matter how long the other is; only
/// within one term does the length decide.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Position {
    /// The term under which the entry was proposed.
    pub term: Term,
    /// Where it stands.
    pub slot: Slot,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.slot, self.term)
    }
}

/// What nodes say to each other. `term` is always the sender's own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Would you vote for me? Asked before a campaign; changes nobody's term or vote
    /// (thesis §9.6).
    PreVote {
        /// The term that the sender would campaign in.
        asked: Term,
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer to [`Message::PreVote`].
    PreVoteReply {
        /// The answerer's own term.
        term: Term,
        /// The term that was asked about.
        asked: Term,
        /// Whether it would.
        granted: bool,
    },
    /// Vote for me (Raft §5.2).
    RequestVote {
        /// The term the sender campaigns in.
        term: Term,
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer to [`Message::RequestVote`]. A candidate's own vote comes as this, too.
    Vote {
        /// The voter's term.
        term: Term,
        /// Whether the vote is given.
        granted: bool,
    },
    /// Entries right behind `prev`, all of one term (Raft §5.3). Without entries it asks only
    /// whether the receiver holds `prev`; it takes the lane of the entries, so that the answer
    /// covers everything that was sent before it.
    Append {
        /// The leader's term.
        term: Term,
        /// The number of the probe that this append is, or that it follows: how often the leader
        /// has searched, for this peer and in this term, where the logs meet.
        probe: u64,
        /// The entry before the first of `run`.
        prev: Position,
        /// The entries, perhaps none.
        run: Run<Term>,
        /// The leader's commit index.
        commit: Slot,
        /// What the leader's log holds through `prev`; not stated once the receiver has
        /// acknowledged anything in this term.
        digest: HistoryDigest,
    },
    /// The sender's log is durable and equal to the leader's up to here. A leader's own copy
    /// counts by this message to itself.
    AppendAck {
        /// The sender's term.
        term: Term,
        /// The probe of the latest append that this answers.
        probe: u64,
        /// The last slot that is known to be equal.
        matched: Slot,
    },
    /// The sender's log does not hold the entry that an append was to follow.
    AppendConflict {
        /// The sender's term.
        term: Term,
        /// The probe of that append.
        probe: u64,
        /// The slot of that entry.
        at: Slot,
        /// The sender's last entry at or before `at` whose term is not above the term named
        /// there: no entry between can be equal, so the leader skips them all.
        hint: Position,
    },
    /// The leader is alive. A heartbeat overtakes appends, so it names acknowledged entries only:
    /// about what is in flight it could not be right.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// The last entry that the receiver has acknowledged.
        prev: Position,
        /// The leader's commit index, at most `prev`.
        commit: Slot,
    },
    /// Heard. A message of its own, so that it never waits for the sender's disk. With a later
    /// term it tells a leader of the past that its time is over.
    HeartbeatAck {
        /// The sender's term.
        term: Term,
    },
    /// The commit index moved and there is nothing else to say. Not answered.
    Commit {
        /// The leader's term.
        term: Term,
        /// The leader's commit index.
        commit: Slot,
    },
}

impl Message {
    /// The sender's term where it obliges the receiver (Raft §5.1); pre-votes oblige nobody.
    pub(crate) fn term(&self) -> Option<Term> {
        match self {
            Self::PreVote { .. } | Self::PreVoteReply { .. } => None,
            Self::RequestVote { term, .. }
            | Self::Vote { term, .. }
            | Self::Append { term, .. }
            | Self::AppendAck { term, .. }
            | Self::AppendConflict { term, .. }
            | Self::Heartbeat { term, .. }
            | Self::HeartbeatAck { term }
            | Self::Commit { term, .. } => Some(*term),
        }
    }

    /// Whether only a leader says this.
    pub(crate) fn is_from_leader(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Heartbeat { .. } | Self::Commit { .. } => true,
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::RequestVote { .. }
            | Self::Vote { .. }
            | Self::AppendAck { .. }
            | Self::AppendConflict { .. }
            | Self::HeartbeatAck { .. } => false,
        }
    }

    /// Whether the numbers can come from a working node at all.
    pub(crate) fn is_sound(&self) -> bool {
        let sane = |term: Term, slot: Slot| term.0 < HORIZON && slot.0 < HORIZON;
        match self {
            Self::PreVote { asked, last } => sane(*asked, last.slot) && last.term < *asked,
            Self::PreVoteReply { term, asked, .. } => {
                sane(*term, Slot::ZERO) && sane(*asked, Slot::ZERO)
            }
            Self::RequestVote { term, last } => sane(*term, last.slot) && last.term < *term,
            Self::Vote { term, .. } | Self::HeartbeatAck { term } => sane(*term, Slot::ZERO),
            Self::AppendAck { term, matched, .. } => sane(*term, *matched),
            Self::Commit { term, commit } => sane(*term, *commit),
            Self::AppendConflict { term, at, hint, .. } => {
                sane(*term, *at) && hint.slot <= *at && hint.term <= *term
            }
            Self::Heartbeat { term, prev, commit, .. } => {
                sane(*term, prev.slot) && prev.term <= *term && commit.0 < HORIZON
            }
            Self::Append { term, prev, run, commit, .. } => {
                sane(*term, *commit)
                    && prev.slot.0 < HORIZON
                    && run.is_sound()
                    && run.first == prev.slot.next()
                    && run.last().0 < HORIZON
                    && run.stamp > Term(0)
                    && prev.term <= run.stamp
                    && run.stamp <= *term
            }
        }
    }
}

impl synod_consensus::Message<Raft> for Message {
    fn gate(&self) -> Gate {
        match self {
            // Vows: a crash must not undo them. A request for votes is one, too: it says that the
            // sender voted for itself.
            Self::RequestVote { .. }
            | Self::Vote { .. }
            | Self::AppendAck { .. }
            | Self::AppendConflict { .. } => Gate::Durable,
            // Nothing here rests on the sender's disk: an append is a proposal, and a term that
            // is named and then forgotten binds nobody.
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatAck { .. }
            | Self::Commit { .. } => Gate::Immediate,
        }
    }

    fn lane(&self) -> Lane {
        match self {
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::RequestVote { .. }
            | Self::Vote { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatAck { .. }
            // Answers do not wait behind the entries of a node that led a moment ago.
            | Self::AppendAck { .. }
            | Self::AppendConflict { .. } => Lane::Control,
            // A commit notice is worth nothing before the entries, which take this lane.
            Self::Append { .. } | Self::Commit { .. } => Lane::Log,
        }
    }

    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<Raft>) -> bool {
        let on_disk = disk.hard_state.term;
        if self.term().is_some_and(|term| term < on_disk) {
            return true;
        }
        match self {
            Self::Vote { term, granted: true } => {
                *term == on_disk && disk.hard_state.vote == Some(to)
            }
            Self::RequestVote { term, .. } => {
                *term == on_disk && disk.hard_state.vote == Some(from)
            }
            Self::AppendAck { term, matched, .. } => {
                *term == on_disk && disk.log.last() >= *matched
            }
            Self::Vote { term, granted: false } | Self::AppendConflict { term, .. } => {
                *term == on_disk
            }
            Self::PreVote { .. }
            | Self::PreVoteReply { .. }
            | Self::Append { .. }
            | Self::Heartbeat { .. }
            | Self::HeartbeatAck { .. }
            | Self::Commit { .. } => true,
        }
    }

    fn describe(&self) -> String {
        let answer = |granted: &bool| if *granted { "yes" } else { "no" };
        let number = |probe| if probe > 0 { format!(", probe {probe}") } else { String::new() };
        match self {
            Self::PreVote { asked, last } => format!("PreVote({asked:?}, last {last})"),
            Self::PreVoteReply { term, asked, granted } => {
                format!("PreVoteReply({term:?}, {} to {asked:?})", answer(granted))
            }
            Self::RequestVote { term, last } => format!("RequestVote({term:?}, last {last})"),
            Self::Vote { term, granted } => format!("Vote({term:?}, {})", answer(granted)),
            Self::Append { term, probe, prev, run, commit, .. } if run.values.is_empty() => {
                format!("Append({term:?}{}, prev {prev}?, commit {commit})", number(*probe))
            }
            Self::Append { term, probe, prev, run, commit, .. } => format!(
                "Append({term:?}{}, prev {prev}, {}..{}@{:?}, commit {commit})",
                number(*probe),
                run.first,
                run.last(),
                run.stamp
            ),
            Self::AppendAck { term, probe, matched } => {
                format!("AppendAck({term:?}{}, {matched})", number(*probe))
            }
            Self::AppendConflict { term, probe, at, hint } => {
                format!("AppendConflict({term:?}{}, at {at}, hint {hint})", number(*probe))
            }
            Self::Heartbeat { term, prev, commit } => {
                format!("Heartbeat({term:?}, prev {prev}, commit {commit})")
            }
            Self::HeartbeatAck { term } => format!("HeartbeatAck({term:?})"),
            Self::Commit { term, commit } => format!("Commit({term:?}, {commit})"),
        }
    }
}
