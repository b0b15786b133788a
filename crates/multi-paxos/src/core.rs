//! Core of Multi-Paxos: its state, and the dispatch of inputs and messages to the roles.

use crate::acceptor::Acceptor;
use crate::candidate::Candidate;
use crate::config::Config;
use crate::election::Election;
use crate::history::Agreement;
use crate::leader::Leader;
use crate::learner::Learner;
use crate::message::Message;
use crate::recovery::{self, Repair};
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use synod_consensus::{
    Base, Bounds, ClusterTiming, ConfigError, Effects, IgnoreReason, Input, Protocol,
    ProtocolEvent, Quorum, ReadRelay, RecoveryError, Refusal, Saved, Stall, Status, Timing,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Ticket};

pub(crate) type Fx<'a> = Effects<'a, MultiPaxos>;

/// One node's Multi-Paxos core: a pure function of its state and one input. Drive it through [`Protocol`].
///
/// # Invariants
/// Each is asserted where it is established, or by `check_invariants` if that takes a pass over the log:
/// - The promise only rises, and each rise is written. A slot holds a value at or below the promise, or
///   under [`CHOSEN`](crate::CHOSEN) (PMS 2.2, P1a).
/// - The commit index only rises, and is within the log. Through it the log has no gap. Chosen slots are
///   reported in order, each once, and are never overwritten with another value.
/// - The base only moves forward, is that of the log, and is at or below the commit index.
/// - The accepted range has no gap, and no slot of it is held below the promise.
/// - A candidate or leader has promised its own ballot, which names it and is above every ballot that it
///   promised before. It follows no node and has no reply to another proposer pending.
/// - The ballot of the followed leader is at or below the promise, and so is that of the leader with
///   whose history the node agrees.
/// - Phase 1 begins at or before the slot after the commit index. Its values are proposed before any
///   new one, and the barrier comes after all of them.
/// - A leader's proposals have no gap and only its ballot; it has accepted them itself. Its window holds
///   exactly the bytes of those that are not chosen, with one ticket a command.
/// - A leader serves only after its barrier is chosen.
/// - An acceptor's acknowledged slots end before the next one to send, and that is at most the slot
///   after the last proposal.
/// - Messages to the node itself count only once their claims are durable, like those to others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MultiPaxos {
    pub(crate) config: Config,
    pub(crate) members: Membership,
    pub(crate) base: Base<Ballot>,
    pub(crate) acceptor: Acceptor,
    pub(crate) learner: Learner,
    pub(crate) election: Election,
    pub(crate) role: Role,
    /// True if the next flush sends an Accepted to the leader of the promised ballot.
    pub(crate) must_ack: bool,
    /// Number of the last probe of that leader.
    pub(crate) last_probe: u64,
    /// True if the last heartbeat timer fired late and did not check for a quorum. The next one does.
    pub(crate) skipped_quorum_check: bool,
    pub(crate) stall: Stall,
    pub(crate) agreement: Agreement,
    /// Highest commit index received from a leader whose values were accepted.
    pub(crate) leader_commit: Slot,
    /// Peers whose chosen values differ from this node's.
    pub(crate) contradicting: BTreeSet<NodeId>,
    /// Reads that wait for a reply of the followed leader.
    pub(crate) reads: ReadRelay,
    pub(crate) repair: Repair,
}

/// Role of a node as a proposer. Every node is also an acceptor and a learner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Role {
    Follower,
    Candidate(Box<Candidate>),
    Leader(Box<Leader>),
}

impl Role {
    /// Returns the ballot under which the node campaigns or leads.
    pub(crate) fn ballot(&self) -> Option<Ballot> {
        match self {
            Self::Follower => None,
            Self::Candidate(candidate) => Some(candidate.ballot()),
            Self::Leader(leader) => Some(leader.ballot()),
        }
    }
}

/// Parts of a node that its candidate or leader uses.
pub(crate) struct Context<'a> {
    pub config: &'a Config,
    pub members: &'a Membership,
    pub acceptor: &'a mut Acceptor,
    pub learner: &'a mut Learner,
}

/// Persistent state of an acceptor beside its log: one promise for all slots (PMS 3). It has a key of its
/// own, so that no write to a slot can lower it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// Highest ballot promised.
    pub promised: Ballot,
}

impl synod_consensus::HardState for HardState {
    fn may_follow(&self, older: &Self) -> bool {
        // P1a: a promise is never withdrawn.
        self.promised >= older.promised
    }
}

/// Timers of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Election timeout: without messages of a leader the node begins a pre-campaign.
    Election,
    /// Next round of heartbeats of a node that leads, campaigns or pre-campaigns.
    Heartbeat,
}

impl Protocol for MultiPaxos {
    type Config = Config;
    type Message = Message;
    type HardState = HardState;
    type Stamp = Ballot;
    type Timer = Timer;

    const NAME: &'static str = "multi-paxos";

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
            Input::Start => self.on_start(now, fx),
            Input::Message { from, message } => self.on_message(now, from, message, fx),
            Input::Timeout(Timer::Election) => self.on_election_timeout(now, fx),
            Input::Timeout(Timer::Heartbeat) => self.on_heartbeat_timeout(now, fx),
            Input::Stalled => self.on_stalled(now, fx),
            Input::Lagging => self.on_lagging(fx),
            Input::Propose { ticket, command } => self.on_propose(ticket, &command, fx),
            Input::Read(id) => self.on_read(id, fx),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(base, fx),
        }
    }

    fn flush(&mut self, now: Instant, fx: &mut Fx<'_>) {
        match self.parts() {
            (Role::Leader(leader), mut ctx) => leader.flush(&mut ctx, now, fx),
            (Role::Follower | Role::Candidate(_), _) => self.flush_acceptor(fx),
        }
        self.flush_reads(fx);
    }

    fn base_at(&self, through: Slot) -> Option<Base<Ballot>> {
        self.chosen_base(through)
    }

    fn quorum(config: &Config, _: &Membership) -> Quorum {
        config.quorum().clone()
    }

    fn bounded(config: Config, bounds: &Bounds) -> Option<Config> {
        let mut limits = config.limits().clone();
        // The names differ: `window_bytes` of the bounds limits the Accepts in flight to one peer.
        limits.window_slots = bounds.open_slots;
        limits.window_bytes = bounds.open_bytes;
        limits.inflight_bytes = bounds.window_bytes;
        limits.accept_bytes = bounds.message_bytes;
        limits.chunk_bytes = bounds.message_bytes;
        limits.command_bytes = bounds.command_bytes(limits.command_bytes);
        let config = config.with_limits(limits).ok()?;
        match bounds.quorums {
            None => Some(config),
            Some((first, second)) => config.with_quorums(first, second).ok(),
        }
    }

    fn status(&self) -> Status {
        let me = self.config.id();
        let (role, leader, progress) = match &self.role {
            Role::Leader(leader) if leader.is_serving() => {
                (synod_consensus::Role::Leader, Some(me), leader.progress())
            }
            // Before its barrier is chosen a leader serves no client, so it is not reported as leader.
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
    /// Validates a message and dispatches it.
    fn on_message(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        if let Err(reason) = self.validate(from, &message) {
            return ignore(from, reason, fx);
        }
        // Messages to itself arrive once their claims are durable, so the disk works.
        if from == self.config.id() {
            self.stall.on_disk_progress();
        }
        // Before any handler: a peer with another history must not move this node's commit index.
        if !self.compare_history(from, &message, fx) {
            return;
        }
        let (role, mut ctx) = self.parts();
        match (message, role) {
            (Message::Prepare(prepare), _) => self.on_prepare(now, from, prepare, fx),
            (Message::Promise(promise), Role::Candidate(candidate)) => {
                let theirs = promise.report.commit;
                if candidate.on_promise(&mut ctx, now, from, promise, fx) {
                    self.after_report(now, from, theirs, fx);
                }
            }
            (Message::Nack(nack), _) => self.on_nack(nack, fx),
            (Message::Accept(accept), _) => self.on_accept(now, from, accept, fx),
            (Message::Accepted(accepted), Role::Leader(leader)) => {
                leader.on_accepted(&mut ctx, now, from, &accepted, fx);
            }
            // Late replies to a campaign or a ballot that has ended.
            (Message::Promise(_) | Message::Accepted(_), _) => {}
            (Message::Probe(probe), _) => self.on_probe(from, probe, fx),
            (Message::Commit(commit), _) => self.on_commit(now, from, commit, fx),
            (Message::Heartbeat(heartbeat), _) => self.on_heartbeat(now, from, heartbeat, fx),
            (Message::HeartbeatReply(reply), _) => self.on_heartbeat_reply(now, from, reply, fx),
            (Message::Learn(learn), _) => self.on_learn(from, learn, fx),
            (Message::Learned(learned), _) => self.on_learned(now, from, learned, fx),
            (Message::Known(known), _) => self.on_known(now, from, known, fx),
            (Message::ReadRound(round), _) => self.on_read_round(from, round, fx),
            (Message::ReadRoundAck(ack), Role::Leader(leader)) => {
                leader.on_read_round_ack(&ctx, from, ack, fx);
            }
            (Message::ReadRequest(request), Role::Leader(leader)) => {
                leader.on_read(&ctx, from, request.id, fx);
            }
            // For a leader that has stepped down: followers send their reads to the next one.
            (Message::ReadRoundAck(_) | Message::ReadRequest(_), _) => {}
            (Message::ReadReply(reply), _) => self.on_read_reply(reply, fx),
        }
    }

    /// Passes a command to the leader, or refuses it.
    fn on_propose(&mut self, ticket: Ticket, command: &[u8], fx: &mut Fx<'_>) {
        match self.parts() {
            (Role::Leader(leader), mut ctx) => leader.on_propose(&mut ctx, ticket, command, fx),
            (Role::Candidate(_), _) => fx.refuse(ticket, Refusal::NotLeader { hint: None }),
            (Role::Follower, _) => {
                let hint = self.election.leader().map(|ballot| ballot.node);
                fx.refuse(ticket, Refusal::NotLeader { hint });
            }
        }
    }

    /// Splits the core into the role and the parts that the role uses.
    pub(crate) fn parts(&mut self) -> (&mut Role, Context<'_>) {
        let Self { role, config, members, acceptor, learner, .. } = self;
        (role, Context { config, members, acceptor, learner })
    }

    /// Checks that a message may come from this sender.
    fn validate(&self, from: NodeId, message: &Message) -> Result<(), IgnoreReason> {
        let me = self.config.id();
        // To itself a node sends only claims that its disk must back first.
        let is_claim = matches!(message, Message::Promise(_) | Message::Accepted(_));
        // Learners neither propose nor vote; their Accepted is in no quorum.
        let voters_only = matches!(message, Message::Promise(_) | Message::Prepare(_));
        if !self.members.contains(from) {
            Err(IgnoreReason::NotAMember)
        } else if from == me && !is_claim {
            Err(IgnoreReason::FromSelf)
        } else if voters_only && !self.members.is_voter(from) {
            Err(IgnoreReason::NotAVoter)
        } else {
            message.validate(from, me)
        }
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.members.is_voter(self.config.id())
    }
}

/// Ignores a message, and notes the reason.
pub(crate) fn ignore(from: NodeId, reason: IgnoreReason, fx: &mut Fx<'_>) {
    fx.note(ProtocolEvent::Ignored { from, reason });
}
