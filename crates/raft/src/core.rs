//! Raft core: its inputs, and the dispatch of messages to the role that handles them.

use crate::recovery::Repair;
use crate::role::Role;
use crate::state::State;
use crate::{Config, HeartbeatAck, Message, Vote};
use alloc::vec::Vec;
use core::cmp::Ordering;
use serde::{Deserialize, Serialize};
use synod_consensus::{
    Base, Bounds, ClusterTiming, ConfigError, Effects, IgnoreReason, Input, Protocol,
    ProtocolEvent, ReadRelay, RecoveryError, Refusal, Saved, Status, StepDownReason, Timing,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Term};

pub(crate) type Fx<'a> = Effects<'a, Raft>;

/// One node's Raft core: a pure function of its state and one input.
///
/// A [`Host`](synod_consensus::Host) drives it through [`Protocol`]. Equal cores behave equally, so that a
/// model checker can compare states.
///
/// # Invariants
/// They hold before and after each input. Those that cost O(1) are asserted where they are
/// established, all others in builds with debug assertions and in this crate's tests.
///
/// Every node:
/// 1. The term never decreases, and a vote is never taken back within a term (§5.2).
/// 2. The log begins after the base, under the base's term.
/// 3. The commit index lies between the base and the end of the log, and never decreases.
/// 4. The log has no gaps.
/// 5. Terms never decrease along the log, and none is above the node's own.
/// 6. An entry that is committed is never cut (§5.4.3, State Machine Safety).
/// 7. Entries are reported as chosen once and in order.
/// 8. The quorum is the one of the members.
///
/// A follower that has a leader:
/// 9. It does not follow itself.
/// 10. Its log holds the slots that it verified and those of its pending acknowledgement.
/// 11. It has committed the entries that the leader committed, as far as it has verified them.
/// 12. It cuts no entry that it verified.
///
/// A pre-candidate, candidate or leader:
/// 13. It is a voter.
/// 14. It is not stalled.
/// 15. As pre-candidate or candidate it has no quorum yet.
/// 16. As candidate or leader it has voted for itself.
///
/// A leader:
/// 17. Its log ends with entries of its own term, which begin with the no-op (§8).
/// 18. It only appends to its log (§5.3, Leader Append-Only).
/// 19. Only entries of its own term commit by counting (§5.4.2).
/// 20. Its peers are the other members, each once.
/// 21. It has acknowledged to itself only slots that its log holds.
/// 22. Each pending proposal has one ticket, and each ticket one pending proposal.
/// 23. Its count of uncommitted bytes is exact.
///
/// A leader's progress of a peer:
/// 24. `matched` < `next`, and the leader's log holds all slots before `next`.
/// 25. Nothing is in flight to a peer that needs a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft {
    pub(crate) state: State,
    pub(crate) role: Role,
    /// Pending reads of a follower, for which it requests a slot from its leader.
    pub(crate) reads: ReadRelay,
    pub(crate) repair: Repair,
}

/// Persistent state beside the log (Raft §5.1, fig. 2). Durable before any message that depends on it
/// leaves the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term that the node has seen.
    pub term: Term,
    /// Candidate that it voted for in that term.
    pub vote: Option<NodeId>,
}

impl synod_consensus::HardState for HardState {
    fn may_follow(&self, older: &Self) -> bool {
        // The term of a server "increases monotonically" (fig. 2).
        match self.term.cmp(&older.term) {
            Ordering::Less => false,
            // One vote a term: it may be added, and never changed (Raft §5.2).
            Ordering::Equal => older.vote.is_none() || self.vote == older.vote,
            Ordering::Greater => true,
        }
    }
}

/// Timer of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Election timeout of a node that does not lead.
    Election,
    /// Heartbeat interval of a leader.
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
        crate::recovery::recover(config, saved)
    }

    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Fx<'_>) {
        match input {
            Input::Start => self.on_start(fx),
            Input::Message { from, message } => self.on_message(now, from, message, fx),
            Input::Timeout(Timer::Election) => self.on_election_timeout(now, fx),
            Input::Timeout(Timer::Heartbeat) => self.on_heartbeat_timeout(now, fx),
            Input::Stalled => self.on_stalled(now, fx),
            Input::Lagging => self.on_lagging(fx),
            Input::Propose { ticket, command } => match &mut self.role {
                Role::Leader(leader) => leader.on_propose(&mut self.state, ticket, &command, fx),
                _ => fx.refuse(ticket, Refusal::NotLeader { hint: self.leader_id() }),
            },
            Input::Read(id) => self.on_read(id, fx),
            // Not supported yet, see the crate's documentation.
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(base, fx),
        }
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    fn flush(&mut self, now: Instant, fx: &mut Fx<'_>) {
        match &mut self.role {
            Role::Follower(Some(leader)) => leader.flush(&self.state, fx),
            // Elections are not batched: their messages leave with the step that sends them.
            Role::Follower(None) | Role::PreCandidate(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => leader.flush(&mut self.state, now, fx),
        }
        self.flush_reads(now, fx);
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
        self.state.chosen_base(through)
    }

    fn status(&self) -> Status {
        use synod_consensus::Role as Reported;
        let state = &self.state;
        let leader = self.leader_id();
        let (role, progress) = match &self.role {
            Role::Leader(leader) => (Reported::Leader, leader.match_slots(state.config.id())),
            Role::PreCandidate(_) | Role::Candidate(_) => (Reported::Candidate, Vec::new()),
            Role::Follower(_) if state.is_voter() => (Reported::Follower, Vec::new()),
            Role::Follower(_) => (Reported::Learner, Vec::new()),
        };
        Status {
            role,
            // Node 0 stands for an unknown leader.
            ballot: Ballot { round: state.hard_state.term.0, node: leader.unwrap_or(NodeId(0)) },
            leader,
            commit: state.commit,
            last: state.log.last(),
            base: state.log.base(),
            progress,
        }
    }
}

impl Raft {
    /// Validates a message, applies the rules of terms (Raft §5.1), and dispatches it.
    fn on_message(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        if let Err(reason) = self.validate(from, &message) {
            return ignore(from, reason, fx);
        }
        if from == self.state.config.id() {
            // A node sends only durable messages to itself, so the disk has completed a write.
            self.state.stall.on_disk_progress();
        }
        if let Some(term) = message.term() {
            // Fig. 2, "Rules for Servers": any message of a later term moves this node there, before
            // it is handled; none of an earlier term is handled.
            if term > self.state.hard_state.term {
                if self.disrupts_leader(now, from, &message) {
                    return ignore(from, IgnoreReason::LiveLeader, fx);
                }
                // A leader that steps down redirects its clients to the new one.
                let hint = message.is_from_leader().then_some(from);
                self.advance_term(term, hint, StepDownReason::HigherTerm, fx);
            } else if term < self.state.hard_state.term {
                return self.reject_stale(from, &message, fx);
            }
        }
        self.dispatch(now, from, message, fx);
    }

    /// Dispatches a message to the role that handles it. Its term is this node's, or it has none.
    fn dispatch(&mut self, now: Instant, from: NodeId, message: Message, fx: &mut Fx<'_>) {
        // A candidate recognizes the leader of its term, too (Raft §5.2).
        if message.is_from_leader() && !self.follow(now, from, fx) {
            return;
        }
        let state = &mut self.state;
        match (&mut self.role, message) {
            (Role::Follower(Some(leader)), Message::Append(append)) => {
                leader.on_append(state, append, fx);
            }
            (Role::Follower(Some(leader)), Message::Heartbeat(heartbeat)) => {
                leader.on_heartbeat(state, heartbeat, fx);
            }
            (Role::Follower(Some(leader)), Message::Commit(commit)) => {
                leader.advance_commit(state, commit.commit, fx);
            }
            (Role::Leader(leader), Message::AppendAck(ack)) => {
                leader.on_append_ack(state, now, from, ack, fx);
            }
            (Role::Leader(leader), Message::AppendConflict(conflict)) => {
                leader.on_append_conflict(state, now, from, conflict, fx);
            }
            (Role::Leader(leader), Message::HeartbeatAck(ack)) => {
                leader.on_heartbeat_ack(state, now, from);
                leader.on_read_ack(state, from, ack, fx);
            }
            (Role::Leader(leader), Message::ReadRequest(request)) => {
                leader.on_read(state, from, request.id, fx);
            }
            (_, Message::ReadReply(reply)) => self.on_read_reply(reply, fx),
            (Role::Candidate(candidate), Message::Vote(vote)) => {
                // "If votes received from majority of servers: become leader" (fig. 2).
                if candidate.on_vote(state, from, vote) {
                    self.become_leader(now, fx);
                }
            }
            (Role::PreCandidate(candidate), Message::PreVoteReply(reply)) if reply.granted => {
                match candidate.on_reply(state, from, reply) {
                    Ok(true) => self.campaign(fx),
                    Ok(false) => {}
                    Err(reason) => ignore(from, reason, fx),
                }
            }
            (_, Message::PreVoteReply(reply)) if reply.granted => {
                ignore(from, IgnoreReason::PreVoteOver, fx);
            }
            (_, Message::PreVoteReply(reply)) => self.on_pre_vote_rejected(reply.term, fx),
            // Nodes in every role reply to requests for votes; a candidate or leader has voted for itself.
            (_, Message::PreVote(pre_vote)) => self.on_pre_vote(now, from, pre_vote, fx),
            (_, Message::RequestVote(request)) => state.on_request_vote(from, request, fx),
            // Replies to a role that this node no longer has. For the messages of a leader `follow` has
            // made this node a follower.
            (
                _,
                Message::Append(_)
                | Message::Heartbeat(_)
                | Message::Commit(_)
                | Message::AppendAck(_)
                | Message::AppendConflict(_)
                | Message::HeartbeatAck(_)
                | Message::ReadRequest(_)
                | Message::Vote(_),
            ) => {}
        }
    }

    /// Sends heartbeats, or steps down without a quorum.
    fn on_heartbeat_timeout(&mut self, now: Instant, fx: &mut Fx<'_>) {
        // The timer of a leader that stepped down may still run out.
        if let Role::Leader(leader) = &mut self.role
            && let Err(reason) = leader.on_heartbeat_timeout(&self.state, now, fx)
        {
            self.step_down(None, reason, fx);
        }
    }

    /// Checks that a message comes from a member and can come from a correct node.
    fn validate(&self, from: NodeId, message: &Message) -> Result<(), IgnoreReason> {
        let is_claim = matches!(message, Message::Vote(_) | Message::AppendAck(_));
        if !self.state.members.contains(from) {
            Err(IgnoreReason::NotAMember)
        } else if from == self.state.config.id() && !is_claim {
            // The transport authenticates senders, so this is a bug.
            Err(IgnoreReason::FromSelf)
        } else {
            message.validate()
        }
    }

    /// Returns whether a message requests a vote while a leader is alive. Such a request changes no
    /// state, not even the term (thesis §4.2.3).
    fn disrupts_leader(&self, now: Instant, from: NodeId, message: &Message) -> bool {
        // Without check-quorum a leader may be alive without a quorum, and must be deposed.
        self.state.config.check_quorum()
            && matches!(message, Message::RequestVote(_))
            && self.has_live_leader(now, from)
    }

    /// Rejects a request of a past term with the current one, so that its sender steps down (Raft §5.1).
    /// Drops replies of a past term.
    fn reject_stale(&self, from: NodeId, message: &Message, fx: &mut Fx<'_>) {
        let term = self.state.hard_state.term;
        match message {
            Message::Append(_) | Message::Heartbeat(_) | Message::Commit(_) => {
                fx.send(from, Message::HeartbeatAck(HeartbeatAck { term, round: 0 }));
            }
            Message::RequestVote(_) => fx.send(from, Message::Vote(Vote { term, granted: false })),
            Message::PreVote(_)
            | Message::PreVoteReply(_)
            | Message::Vote(_)
            | Message::AppendAck(_)
            | Message::AppendConflict(_)
            | Message::HeartbeatAck(_)
            | Message::ReadRequest(_)
            | Message::ReadReply(_) => {}
        }
    }

    /// Asserts the [invariants](Self#invariants), in O(runs of the log).
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        let state = &self.state;
        state.check_invariants();
        match &self.role {
            Role::Follower(None) => {}
            Role::Follower(Some(leader)) => leader.check_invariants(state),
            Role::PreCandidate(candidate) => candidate.check_invariants(state),
            Role::Candidate(candidate) => candidate.check_invariants(state),
            Role::Leader(leader) => leader.check_invariants(state),
        }
        if !matches!(self.role, Role::Follower(_)) {
            assert!(state.is_voter(), "a node without a vote campaigns or leads");
            assert_eq!(
                state.stall,
                synod_consensus::Stall::default(),
                "a stalled node campaigns or leads"
            );
        }
    }
}

/// Reports that a message or an input has no effect.
pub(crate) fn ignore(from: NodeId, reason: IgnoreReason, fx: &mut Fx<'_>) {
    fx.note(ProtocolEvent::Ignored { from, reason });
}
