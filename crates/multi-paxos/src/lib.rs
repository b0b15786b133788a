//! Multi-Paxos as a pure state machine: slots in parallel, one promise for all of them.
#![no_std]
#![forbid(unsafe_code)]
#![deny(missing_docs)]

extern crate alloc;

mod acceptor;
mod candidate;
mod config;
mod election;
mod follow;
mod lead;
mod leader;
mod learner;
mod message;
mod restart;

pub use acceptor::{Acceptor, Stretch, Verdict};
pub use candidate::{Candidate, Heard, Outcome};
pub use config::{Config, ConfigError, Limits, Timing};
pub use election::{Election, Prospect};
pub use leader::Leader;
pub use learner::Learner;
pub use message::{CHOSEN, Message, Report, Stance, View};
pub use synod_consensus as consensus;
pub use synod_types as types;

use crate::lead::Stall;
use crate::restart::Repair;
use alloc::boxed::Box;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use synod_consensus::{
    Base, Effects, Input, Protocol, ProtocolEvent, Quorum, RecoveryError, Refusal, Saved, Status,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot};

type Fx<'a> = Effects<'a, MultiPaxos>;

/// One node's Multi-Paxos core: a pure function of its state and one input.
///
/// Drive it through [`Protocol`]. Equal cores behave equally, so that a model checker can tell
/// states apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MultiPaxos {
    config: Config,
    members: Membership,
    base: Base<Ballot>,
    acceptor: Acceptor,
    learner: Learner,
    election: Election,
    role: Role,
    /// The leader of the promised ballot waits for an Accepted.
    must_answer: bool,
    stall: Option<Stall>,
    repair: Repair,
}

/// What a node proposes as; every node is an acceptor and a learner besides.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Role {
    Follower,
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
}

/// What an acceptor must remember beside its log: one promise for all slots, under a key of its
/// own, so that nothing that is written to a slot can ever lower it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// The highest ballot promised.
    pub promised: Ballot,
}

impl synod_consensus::HardState for HardState {
    fn may_follow(&self, older: &Self) -> bool {
        self.promised >= older.promised
    }
}

/// What a core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Whoever does not lead: for a leader.
    Election,
    /// Whoever leads, campaigns or canvasses: for the next round of heartbeats.
    Heartbeat,
}

impl Protocol for MultiPaxos {
    type Config = Config;
    type Message = Message;
    type HardState = HardState;
    type Stamp = Ballot;
    type Timer = Timer;

    const NAME: &'static str = "multi-paxos";

    fn recover(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        restart::recover(config, saved)
    }

    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Fx<'_>) {
        match input {
            Input::Start => self.on_start(now, fx),
            Input::Message { from, message } => self.on_message(now, from, message, fx),
            Input::Timeout(Timer::Election) => self.on_election_timeout(now, fx),
            Input::Timeout(Timer::Heartbeat) => self.on_heartbeat_timeout(now, fx),
            Input::Stalled => self.on_stalled(now, fx),
            Input::Propose { ticket, command } => self.on_propose(ticket, &command, fx),
            Input::Read(id) => fx.refuse_read(id, Refusal::Unsupported),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(base, fx),
        }
    }

    fn flush(&mut self, now: Instant, fx: &mut Fx<'_>) {
        match &self.role {
            Role::Leader(_) => self.flush_leader(now, fx),
            Role::Follower | Role::Candidate(_) => self.flush_acceptor(fx),
        }
    }

    fn base_at(&self, through: Slot) -> Option<Base<Ballot>> {
        self.chosen_base(through)
    }

    fn quorum(config: &Config, _: &Membership) -> Quorum {
        config.quorum().clone()
    }

    fn status(&self) -> Status {
        let me = self.config.id();
        let (role, leader, progress) = match &self.role {
            Role::Leader(leader) if leader.is_serving() => {
                (synod_consensus::Role::Leader, Some(me), leader.progress(me))
            }
            Role::Leader(_) | Role::Candidate(_) => {
                (synod_consensus::Role::Candidate, None, Vec::new())
            }
            Role::Follower => {
                let leader = self.election.leader().map(|ballot| ballot.node);
                let role = if self.is_voter() {
                    synod_consensus::Role::Follower
                } else {
                    synod_consensus::Role::Learner
                };
                (role, leader, Vec::new())
            }
        };
        let log = self.acceptor.log();
        Status {
            role,
            ballot: self.acceptor.promised(),
            leader,
            commit: self.learner.commit(),
            last: log.last(),
            base: log.base(),
            progress,
        }
    }
}

impl MultiPaxos {
    /// Screens a message and hands it on.
    fn on_message(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        if let Some(reason) = self.distrust(from, &message) {
            return self.ignore(from, reason, fx);
        }
        if from == self.config.id() {
            self.on_disk_answer();
        }
        match message {
            Message::Prepare { ballot, from: first } => {
                self.on_prepare(now, from, (ballot, first), fx);
            }
            Message::Promise { ballot, report } => self.on_promise(now, from, ballot, &report, fx),
            Message::Nack { ballot, promised } => self.on_nack(ballot, promised, fx),
            Message::Accept { run, commit } => self.on_accept(now, from, &run, commit, fx),
            Message::Accepted { ballot, first, through } => {
                self.on_accepted(now, from, ballot, (first, through), fx);
            }
            Message::Commit { ballot, commit } => self.on_commit(now, from, (ballot, commit), fx),
            Message::Heartbeat { round, view } => self.on_heartbeat(now, from, (round, view), fx),
            Message::HeartbeatReply { round, view } => {
                self.on_heartbeat_reply(now, from, (round, view), fx);
            }
            Message::Learn { from: first } => self.on_learn(from, first, fx),
            Message::Learned { run, commit } => self.on_learned(now, from, &run, commit, fx),
        }
    }

    /// Why a message is not even looked at.
    fn distrust(&self, from: NodeId, message: &Message) -> Option<&'static str> {
        let me = self.config.id();
        let vow = matches!(message, Message::Promise { .. } | Message::Accepted { .. });
        let voters_only = matches!(message, Message::Promise { .. } | Message::Prepare { .. });
        if !self.members.contains(from) {
            Some("its sender is not a member")
        } else if from == me && !vow {
            Some("nobody says that to itself")
        } else if voters_only && !self.members.is_voter(from) {
            Some("its sender is no voter")
        } else {
            message.flaw(from, me)
        }
    }

    fn is_voter(&self) -> bool {
        self.members.is_voter(self.config.id())
    }

    fn ignore(&self, from: NodeId, reason: &'static str, fx: &mut Fx<'_>) {
        fx.note(ProtocolEvent::Ignored { from, reason });
    }
}
