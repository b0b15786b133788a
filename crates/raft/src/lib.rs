//! Raft as a pure state machine: pre-vote, check-quorum, pipelined replication.
//!
//! [`Raft`] implements [`Protocol`]: it takes one [`Input`] at a time and says what it wants done.
//! It does no I/O, reads no clock and rolls no dice, so the same core runs in a simulator, under a
//! model checker and in production. Below, the whole life of a cluster of one, in its
//! [`Host`](consensus::Host):
//!
//! ```
//! use synod_raft::consensus::{Host, Input, Outputs, Round, Saved};
//! use synod_raft::types::{Instant, Membership, NodeId, Slot, Ticket};
//! use synod_raft::{Config, Raft, Timer};
//!
//! let (me, now) = (NodeId(1), Instant::ZERO);
//! let config = Config::new(me, Membership::new([me], [])?)?;
//! let mut disk = Saved::default();
//! let mut host = Host::<Raft>::recover(me, config, disk.clone())?;
//!
//! let command = b"hello".to_vec().into();
//! let propose = Input::Propose { ticket: Ticket(7), command };
//! let (mut answers, mut applied) = (Vec::new(), Vec::new());
//! for input in [Input::Start, Input::Timeout(Timer::Election), propose] {
//!     let _ = host.input(now, input, &mut ()); // Timers: the only one that matters runs out above.
//!     loop {
//!         let Round { seq, writes, outputs: Outputs { placed, chosen, .. }, .. } =
//!             host.round(now, &mut ());
//!         writes.drain(..).for_each(|write| disk.apply(&write));
//!         answers.append(placed);
//!         applied.append(chosen);
//!         let Some(seq) = seq else { break };
//!         host.written(seq); // The node's vote and acknowledgement count from here on.
//!     }
//! }
//! assert_eq!(answers, [(Ticket(7), Slot(2))], "after the no-op that opens the term");
//! assert_eq!(applied.last().unwrap().values.command(0), Some(&b"hello"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How it works
//! The paper (Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm") with
//! extensions of Ongaro's thesis; comments cite the sections. [`questions`] answers what readers
//! ask most.
//! - **Roles own their state.** What only a leader may know lives in the leader and is dropped
//!   with it, so nothing of one term leaks into the next.
//! - **One batch a flush.** What was proposed since the last [`flush`](Protocol::flush) becomes one
//!   run of entries in one shared buffer: one write, one append to each follower, one
//!   acknowledgement. Every step on that way costs by the run, not by the entry.
//! - **Send first, count later.** Entries leave while the leader's own disk still writes. Its own
//!   copy and its own vote are messages to itself, and count like anyone's: once they are durable.
//! - **Probe, replicate, snapshot.** A follower whose log is not known yet gets one append at a
//!   time; from the answer to it on appends follow one another unasked, within a
//!   [window](synod_consensus::SendWindow) that adapts to what the path drains; one that needs
//!   what was compacted away gets a snapshot.
//! - **Heartbeats name acknowledged entries only.** They overtake appends, so they cannot be right
//!   about what is in flight. When an acknowledgement is overdue, the leader probes with an append
//!   without entries on the Log lane; only the answer to the latest probe has anything sent again.
//! - **What is applied stays.** A core recovers with the applied slot as its commit index, and
//!   ignores an append that contradicts its log at or below that.
//! - **Nothing that arrives can break it.** A message from outside the group, of a past term, or
//!   that no working node sends is ignored and [noted](ProtocolEvent::Ignored).
//!
//! # Often told differently
//! Simplified accounts of Raft get these wrong; here they are as the paper has them:
//! - A vote goes to a log that is at least as up to date, and the last entry's TERM decides that
//!   before the length does: a longer log is not enough (§5.4.1). Nor is it enough to be the first
//!   to ask.
//! - "On a majority" is not "committed". Only entries of the leader's own term commit by counting;
//!   older ones commit with them (§5.4.2, fig. 8).
//! - A follower compares the entry BEFORE the new ones, wherever that stands in its log, and not
//!   with its last one; it cuts only where an entry differs (§5.3).
//! - A follower commits up to the leader's commit index or to the last entry that it knows to be
//!   the leader's, whichever is lower: the end of its log may be an older leader's (fig. 2).
//! - New entries do not wait for the next heartbeat; heartbeats carry no entries (§5.3).
//! - A later term in an answer is no vote, and moving to it mends no log (§5.1, §5.4.1).
//!
//! # Left out
//! - Leadership transfer, membership change and reads that bypass the log: their inputs are refused
//!   as [`Unsupported`](Refusal::Unsupported) for the time being. Entries that name
//!   members are carried like any other and change nothing.
//! - Moving snapshots: the core says who needs one and is told when one is installed.
//! - Byzantine members: nothing a peer says can make a core panic, cut what is chosen or take back
//!   a vow, but a peer that lies about its own disk is believed.
//! - A store that was wiped or rolled back: the driver tells lives of a store apart.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod config;
mod election;
mod follower;
mod leader;
mod message;
mod progress;
pub mod questions;
mod recovery;
mod role;

pub use config::{Config, Limits};
pub use message::{Message, Position};
pub use synod_consensus as consensus;
pub use synod_consensus::{ConfigError, Timing};
pub use synod_types as types;

use crate::recovery::Repair;
use crate::role::Role;
use alloc::vec::Vec;
use core::cmp::Ordering;
use serde::{Deserialize, Serialize};
use synod_consensus::{
    Base, Bounds, ClusterTiming, Effects, Input, Protocol, ProtocolEvent, RecoveryError, Refusal,
    RunLog, Saved, Stall, Status, Write,
};
use synod_consensus::{IgnoreReason, StepDownReason};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Term};

type Fx<'a> = Effects<'a, Raft>;

/// One node's Raft core: a pure function of its state and one input.
///
/// Drive it through [`Protocol`]. Equal cores behave equally, so that a model checker can tell
/// states apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    config: Config,
    members: Membership,
    hard_state: HardState,
    base: Base<Term>,
    log: RunLog<Term>,
    commit: Slot,
    role: Role,
    stall: Stall,
    repair: Repair,
}

/// What a node must remember of its vows (Raft §5.1, fig. 2): written before any message that
/// rests on it leaves the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The latest term that the node has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<NodeId>,
}

impl synod_consensus::HardState for HardState {
    fn may_follow(&self, older: &Self) -> bool {
        match self.term.cmp(&older.term) {
            Ordering::Less => false,
            Ordering::Equal => older.vote.is_none() || self.vote == older.vote,
            Ordering::Greater => true,
        }
    }
}

/// What a core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// A follower or candidate: for a leader.
    Election,
    /// A leader: for the next heartbeat.
    Heartbeat,
}

impl Protocol for Raft {
    type Config = Config;
    type Message = Message;
    type HardState = HardState;
    type Stamp = Term;
    type Timer = Timer;

    const NAME: &'static str = "raft";

    fn config(id: NodeId, members: &Membership) -> Result<Config, ConfigError> {
        Config::new(id, members.clone())
    }

    fn with_cluster_timing(config: Config, timing: &ClusterTiming) -> Result<Config, ConfigError> {
        let (election, heartbeat) = (timing.election.clone(), timing.heartbeat);
        config.with_timing(Timing { election, heartbeat })
    }

    fn recover(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        recovery::recover(config, saved)
    }

    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Fx<'_>) {
        match input {
            Input::Start => self.on_start(fx),
            Input::Message { from, message } => self.on_message(now, from, message, fx),
            Input::Timeout(Timer::Election) => self.on_election_timeout(now, fx),
            Input::Timeout(Timer::Heartbeat) => self.on_heartbeat_timeout(now, fx),
            Input::Stalled => self.on_stalled(now, fx),
            Input::Lagging => self.on_lagging(fx),
            Input::Propose { ticket, command } => self.on_propose(ticket, &command, fx),
            Input::Read(id) => fx.refuse_read(id, Refusal::Unsupported),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(base, fx),
        }
    }

    fn flush(&mut self, now: Instant, fx: &mut Fx<'_>) {
        match &self.role {
            Role::Follower(_) => self.flush_follower(fx),
            Role::Canvass(_) | Role::Candidate(_) => {}
            Role::Leader(_) => self.flush_leader(now, fx),
        }
    }

    fn bounded(config: Config, bounds: &Bounds) -> Option<Config> {
        let mut limits = config.limits().clone();
        limits.inflight_messages = bounds.window_messages;
        limits.inflight_bytes = bounds.window_bytes;
        limits.append_bytes = bounds.message_bytes;
        limits.uncommitted_bytes = bounds.open_bytes;
        limits.command_bytes = bounds.command_bytes(limits.command_bytes);
        config.with_limits(limits).ok()
    }

    fn base_at(&self, through: Slot) -> Option<Base<Term>> {
        self.chosen_base(through)
    }

    fn status(&self) -> Status {
        let leader = self.leader_id();
        let node = leader.unwrap_or(NodeId(0));
        let (role, progress) = match &self.role {
            Role::Leader(leader) => {
                (synod_consensus::Role::Leader, leader.matches(self.config.id()))
            }
            Role::Canvass(_) | Role::Candidate(_) => (synod_consensus::Role::Candidate, Vec::new()),
            Role::Follower(_) if self.is_voter() => (synod_consensus::Role::Follower, Vec::new()),
            Role::Follower(_) => (synod_consensus::Role::Learner, Vec::new()),
        };
        Status {
            role,
            ballot: Ballot { round: self.hard_state.term.0, node },
            leader,
            commit: self.commit,
            last: self.log.last(),
            base: self.log.base(),
            progress,
        }
    }
}

impl Raft {
    /// Screens a message, then applies the rules of terms (Raft §5.1), then hands it on.
    fn on_message(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        if let Some(reason) = self.distrust(from, &message) {
            return self.ignore(from, reason, fx);
        }
        if from == self.config.id() {
            self.stall.on_disk_answer();
        }
        if let Some(term) = message.term() {
            if term > self.hard_state.term {
                if self.is_disturbance(now, from, &message) {
                    return self.ignore(from, IgnoreReason::LiveLeader, fx);
                }
                let hint = message.is_from_leader().then_some(from);
                self.adopt(term, hint, StepDownReason::HigherTerm, fx);
            } else if term < self.hard_state.term {
                return self.on_stale(from, &message, fx);
            }
        }
        self.dispatch(now, from, message, fx);
    }

    /// A message without an obligation, or of this very term.
    fn dispatch(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        match message {
            Message::PreVote { asked, last } => self.on_pre_vote(now, from, asked, last, fx),
            Message::PreVoteReply { term, asked, granted } => {
                self.on_pre_vote_reply(now, from, (term, asked, granted), fx);
            }
            Message::RequestVote { last, .. } => self.on_request_vote(from, last, fx),
            Message::Vote { granted, .. } => self.on_vote(now, from, granted, fx),
            Message::Append { probe, prev, run, commit, digest, .. } => {
                self.on_append(now, from, (probe, prev, run, commit), digest, fx);
            }
            Message::AppendAck { probe, matched, .. } => {
                self.on_append_ack(now, from, (probe, matched), fx);
            }
            Message::AppendConflict { probe, at, hint, .. } => {
                self.on_append_conflict(now, from, (probe, at, hint), fx);
            }
            Message::Heartbeat { prev, commit, .. } => {
                self.on_heartbeat(now, from, prev, commit, fx);
            }
            Message::HeartbeatAck { .. } => self.on_heartbeat_ack(now, from),
            Message::Commit { commit, .. } => self.on_commit(now, from, commit, fx),
        }
    }

    /// Why a message is not even looked at.
    fn distrust(&self, from: NodeId, message: &Message) -> Option<IgnoreReason> {
        let vow = matches!(message, Message::Vote { .. } | Message::AppendAck { .. });
        if !self.knows(from) {
            Some(IgnoreReason::NotAMember)
        } else if from == self.config.id() && !vow {
            Some(IgnoreReason::FromSelf)
        } else if !message.is_sound() {
            Some(IgnoreReason::OutOfRange)
        } else {
            None
        }
    }

    /// Whether a request for votes comes while a leader is at work: it changes nothing then, not
    /// even the term (thesis §4.2.3).
    fn is_disturbance(&self, now: Instant, from: NodeId, message: &Message) -> bool {
        self.config.check_quorum()
            && matches!(message, Message::RequestVote { .. })
            && self.stands_by_leader(now, from)
    }

    /// A message of a past term is refused with the present one (Raft §5.1). The answers that a
    /// past term brings are for nobody any more.
    fn on_stale(&self, from: NodeId, message: &Message, fx: &mut Fx<'_>) {
        let term = self.hard_state.term;
        match message {
            Message::Append { .. } | Message::Heartbeat { .. } | Message::Commit { .. } => {
                fx.send(from, Message::HeartbeatAck { term });
            }
            Message::RequestVote { .. } => fx.send(from, Message::Vote { term, granted: false }),
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::AppendAck { .. }
            | Message::AppendConflict { .. }
            | Message::HeartbeatAck { .. } => {}
        }
    }

    /// Everything up to `to` is chosen.
    fn advance(&mut self, to: Slot, fx: &mut Fx<'_>) {
        let last = self.log.last();
        assert!(
            to > self.commit && to <= last,
            "chosen from {:?} to {to:?} of {last:?}",
            self.commit
        );
        let mut bytes = 0;
        for run in self.log.runs_from(self.commit.next()) {
            if run.first > to {
                break;
            }
            let count = to.0 - run.first.0 + 1;
            let whole = count >= run.values.len() as u64;
            let run = if whole { run } else { run.prefix(count as usize) };
            bytes += run.values.byte_len();
            fx.chosen(run);
        }
        self.commit = to;
        if let Role::Leader(leader) = &mut self.role {
            leader.committed(bytes);
        }
    }

    fn write_hard_state(&self, fx: &mut Fx<'_>) {
        fx.write(Write::HardState(self.hard_state));
    }

    fn last_position(&self) -> Position {
        Position { term: self.log.last_stamp(), slot: self.log.last() }
    }

    fn ignore(&self, from: NodeId, reason: IgnoreReason, fx: &mut Fx<'_>) {
        fx.note(ProtocolEvent::Ignored { from, reason });
    }
}
