//! Core of basic Paxos: one decree a slot, and no leader.

use crate::catch_up::CatchUp;
use crate::config::{Config, Timing};
use crate::context::Context;
use crate::hard_state::HardState;
use crate::history::Statement;
use crate::message::Message;
use crate::message_batch::MessageBatch;
use crate::node_proposer::Proposals;
use crate::outgoing::Outgoing;
use crate::protocol::{Arity, Timer};
use crate::round_trip::RoundTrip;
use crate::slots::Slots;
use alloc::string::String;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::time::Duration;
use synod_consensus::{
    Base, Bounds, ClusterTiming, ConfigError, Effects, Gate, IgnoreReason, Input, MAX_DURATION,
    Protocol, Quorum, RecoveryError, Refusal, Role, Saved, Status,
};
use synod_types::{Ballot, Instant, Lane, Membership, NodeId, Slot, Ticket};

/// One node's core: an acceptor for each open slot, and a proposer for each slot in which this node
/// proposes. It does no I/O; drive it through [`Protocol`].
///
/// # Invariants
/// Each is asserted where it is established, or checked by `check_invariants` after every step of this
/// crate's tests.
///
/// Slots:
/// 1. Every slot through the last chosen one is in the log or covered by its base, and the base is
///    chosen.
/// 2. The values of slots chosen after a hole are in the log.
/// 3. A chosen slot is not written again, so no value replaces it.
/// 4. No slot through the last chosen one has a promise or a time of progress.
/// 5. A promise is not lowered as long as its slot is open, and is never [`Ballot::CHOSEN`].
/// 6. The promise of an open slot is at least its vote's ballot, in memory and in each write (PMS §2.2).
/// 7. Only open slots are voted on, and only by voters.
/// 8. Each chosen slot is emitted once, in order and without a gap.
/// 9. Every slot with a promise, a vote or a value counts as used.
/// 10. The base only moves forward, and moves before the slots that it covers count as chosen.
/// 11. No slot is chosen after the last one.
///
/// Proposals:
/// 12. There is at most one proposal for a slot, its slot is open and counts as used.
/// 13. A ballot names this node, is above the ones before it, and is promised by this node's acceptor
///     before any other node receives it.
/// 14. A command is queued or in one proposal, never both, and keeps its place in the order of arrival.
/// 15. Only a proposal that was overtaken backs off.
/// 16. A learner proposes nothing.
/// 17. The congestion window and the estimate of a round trip are never zero.
///
/// Peers:
/// 18. Only chosen values are sent as chosen.
/// 19. A batch states as chosen only slots that were chosen before its round.
/// 20. Only histories of other members are compared.
/// 21. Clients are redirected to a voter: to this node if it is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PaxosLog<A> {
    pub(crate) config: Config,
    pub(crate) slots: Slots,
    pub(crate) proposals: Proposals,
    pub(crate) catch_up: CatchUp,
    pub(crate) round_trip: RoundTrip,
    /// Messages of this round.
    pub(crate) outgoing: Outgoing,
    /// Last slot that was applied before this start. Slots through it are not emitted again.
    pub(crate) applied: Slot,
    /// True if the log on disk lacks the base, after a crash between two writes.
    pub(crate) lacks_base: bool,
    pub(crate) arity: PhantomData<A>,
}

impl<A: Arity> Protocol for PaxosLog<A> {
    type Config = Config;
    type Message = MessageBatch;
    type HardState = HardState;
    type Stamp = Ballot;
    type Timer = Timer;

    const NAME: &'static str = A::NAME;

    fn config(id: NodeId, members: &Membership) -> Result<Config, ConfigError> {
        Config::new(id, members.clone())
    }

    /// Basic Paxos has no elections: `heartbeat` is the catch-up interval, `election.end` the cap of
    /// retransmission and backoff. Round trips are measured.
    fn with_cluster_timing(config: Config, timing: &ClusterTiming) -> Result<Config, ConfigError> {
        let timing = Timing {
            max_wait: timing.election.end.min(MAX_DURATION),
            catch_up: timing.heartbeat.min(MAX_DURATION),
            // A command that gets a slot has at least half of its time left for two phases.
            max_queue_time: (timing.request / 2).clamp(Duration::from_millis(1), MAX_DURATION),
            ..config.timing().clone()
        };
        config.with_timing(timing)
    }

    fn recover(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        Self::from_disk(config, saved)
    }

    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>) {
        let before = self.slots.chosen();
        match input {
            Input::Start => self.on_start(now, fx),
            Input::Message { from, message } => self.on_batch(now, from, message, fx),
            Input::Timeout(timer) => {
                let (mut cx, proposals, catch_up) = self.parts(now, fx);
                match timer {
                    Timer::Slot(slot) => proposals.on_timeout(&mut cx, slot),
                    Timer::CatchUp => catch_up.on_timeout(&mut cx, proposals),
                }
            }
            // There is no leadership to hand over: the other voters choose slots without this node.
            Input::Stalled | Input::Lagging => {}
            Input::Propose { ticket, command } => self.on_propose(now, ticket, &command, fx),
            Input::Read(id) => fx.refuse_read(id, Refusal::Unsupported),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(now, base, fx),
        }
        self.slots.note_advance(now, before);
    }

    fn flush(&mut self, now: Instant, fx: &mut Effects<'_, Self>) {
        let (mut cx, proposals, _) = self.parts(now, fx);
        proposals.flush(&mut cx);
        // Once a round, however many messages raised promises: the hard state is rewritten whole.
        self.slots.write_hard_state(fx);
        for (to, batch) in self.outgoing.take() {
            fx.send(to, batch);
        }
        // Only now, for the next round: a batch that reports newly chosen slots states the slots before
        // them, which its receiver can compare with its own log.
        if self.outgoing.statement.through() != self.slots.chosen() {
            self.outgoing.statement = self.statement();
        }
    }

    fn quorum(config: &Config, _: &Membership) -> Quorum {
        config.quorum().clone()
    }

    fn bounded(config: Config, bounds: &Bounds) -> Option<Config> {
        let mut limits = config.limits().clone();
        // The smaller one: the hard state holds a promise for each slot of the window.
        limits.window = bounds.open_slots.min(limits.window);
        limits.catch_up_bytes = bounds.message_bytes;
        limits.waiting_bytes = bounds.open_bytes;
        // Other protocols shrink their window before it fills a lane. `flight_bytes` is fixed, and
        // catch-up replies share its lane: so it gets a quarter, the ratio of the defaults.
        limits.flight_bytes = (bounds.window_bytes / 4).max(1);
        limits.command_bytes = bounds.command_bytes(limits.command_bytes);
        let config = config.with_limits(limits).ok()?;
        match bounds.quorums {
            None => Some(config),
            Some((first, second)) => config.with_quorums(first, second).ok(),
        }
    }

    fn base_at(&self, through: Slot) -> Option<Base<Ballot>> {
        self.slots.base_at(through)
    }

    fn status(&self) -> Status {
        let role = if self.config.is_voter() { Role::Peer } else { Role::Learner };
        Status {
            role,
            // Each slot has its own ballots, so there is none of the node.
            ballot: Ballot { round: 0, node: self.config.id() },
            leader: Some(self.catch_up.redirect_to()),
            commit: self.slots.chosen(),
            last: self.slots.log().last(),
            base: self.slots.base().through,
            progress: Vec::new(),
        }
    }
}

impl<A: Arity> synod_consensus::Message<PaxosLog<A>> for MessageBatch {
    fn gate(&self) -> Gate {
        // The strictest gate of its messages. `Outgoing` does not mix gates, but tests may.
        let is_durable = |message: &Message| message.gate() == Gate::Durable;
        if self.messages().iter().any(is_durable) { Gate::Durable } else { Gate::Immediate }
    }

    fn lane(&self) -> Lane {
        self.messages().first().map_or(Lane::Control, Message::lane)
    }

    fn holds(&self, _: NodeId, _: NodeId, disk: &Saved<PaxosLog<A>>) -> bool {
        self.messages().iter().all(|message| message.holds(disk))
    }

    fn describe(&self) -> String {
        let is_single = A::SLOTS == 1;
        let words: Vec<_> = self.messages().iter().map(|it| it.describe(is_single)).collect();
        words.join(" + ")
    }
}

impl<A: Arity> PaxosLog<A> {
    /// Splits the core into the parts that handle inputs and the context that they share.
    pub(crate) fn parts<'a, 'fx>(
        &'a mut self,
        now: Instant,
        fx: &'a mut Effects<'fx, Self>,
    ) -> (Context<'a, 'fx, Self>, &'a mut Proposals, &'a mut CatchUp) {
        let Self { config, slots, proposals, catch_up, round_trip, outgoing, .. } = self;
        (Context { now, config, slots, round_trip, outgoing, fx }, proposals, catch_up)
    }

    /// Compares histories, then handles the messages of a batch one by one.
    fn on_batch(
        &mut self,
        now: Instant,
        from: NodeId,
        batch: MessageBatch,
        fx: &mut Effects<'_, Self>,
    ) {
        let (mut cx, _, catch_up) = self.parts(now, fx);
        // Before any message is handled: one of them may append to a log that differs from the peer's.
        let (theirs, log, chosen) = (batch.statement(), cx.slots.log(), cx.slots.chosen());
        if let Some(differs) = catch_up.histories.compare(cx.config, from, theirs, log, chosen) {
            if catch_up.histories.contradicted(cx.config, from, theirs.through(), cx.fx) {
                // The peer detects the contradiction only with these values if its log is shorter.
                catch_up.send_chosen_from(&mut cx, from, differs);
            }
            return;
        }
        for message in batch.into_messages() {
            self.on_message(now, from, message, fx);
        }
    }

    /// Validates a message, then dispatches it.
    fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        fx: &mut Effects<'_, Self>,
    ) {
        let validity = self.validate(from, &message);
        let (mut cx, proposals, catch_up) = self.parts(now, fx);
        let cx = &mut cx;
        if let Err(reason) = validity {
            return cx.ignore(from, reason);
        }
        catch_up.on_message_from(now, from);
        proposals.on_message_from(now, from);
        match message {
            Message::Prepare(prepare) => {
                if catch_up.admit_request(cx, from, prepare.slot) {
                    cx.on_prepare(from, &prepare);
                }
            }
            Message::Promise(promise) => proposals.on_promise(cx, from, promise),
            Message::Accept(accept) => {
                if catch_up.admit_request(cx, from, accept.slot) {
                    cx.on_accept(from, accept);
                }
            }
            Message::Accepted(accepted) => {
                if let Some(value) = proposals.on_accepted(cx, from, &accepted) {
                    catch_up.on_quorum(cx, proposals, &accepted, from, &value);
                }
            }
            Message::Nack(nack) => proposals.on_nack(cx, from, &nack),
            Message::Learned(learned) => catch_up.on_learned(cx, proposals, from, &learned),
            Message::Learn(learn) => catch_up.on_learn(cx, from, &learn),
            Message::Chosen(chosen) => catch_up.on_chosen(cx, proposals, from, &chosen),
        }
    }

    /// Checks whether a message is valid at this node.
    fn validate(&self, from: NodeId, message: &Message) -> Result<(), IgnoreReason> {
        let (me, members) = (self.config.id(), self.config.members());
        let is_reply =
            matches!(message, Message::Promise(_) | Message::Accepted(_) | Message::Nack(_));
        let is_request = matches!(message, Message::Prepare(_) | Message::Accept(_));
        if !members.contains(from) {
            return Err(IgnoreReason::NotAMember);
        }
        // A node's acceptor replies to its proposer by message, because the reply waits for the disk.
        if from == me && !is_reply {
            return Err(IgnoreReason::FromSelf);
        }
        // Learners have no acceptor, and so no durable promise that keeps their ballots unique.
        if is_request && !(self.config.is_voter() && members.is_voter(from)) {
            return Err(IgnoreReason::NotAVoter);
        }
        message.validate(from, me)
    }

    fn on_propose(
        &mut self,
        now: Instant,
        ticket: Ticket,
        command: &[u8],
        fx: &mut Effects<'_, Self>,
    ) {
        let (mut cx, proposals, catch_up) = self.parts(now, fx);
        if !cx.config.is_voter() {
            let hint = Some(catch_up.redirect_to());
            return cx.fx.refuse(ticket, Refusal::NotLeader { hint });
        }
        proposals.on_propose(&mut cx, ticket, command);
    }

    /// Returns the statement for the batches of the next round.
    pub(crate) fn statement(&self) -> Statement {
        match A::SLOTS {
            // With one slot no later slots of another history can be mixed in.
            1 => Statement::default(),
            _ => Statement::of(self.slots.log(), self.slots.chosen()),
        }
    }

    /// Returns the estimate of a round trip, disks included: measured, or [`Timing::round_trip`] at first.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.round_trip.estimate()
    }

    /// Checks the invariants that take more than constant time.
    ///
    /// # Panics
    /// If one does not hold.
    #[doc(hidden)]
    pub fn check_invariants(&self) {
        self.slots.check_invariants();
        self.proposals.check_invariants(&self.slots, self.config.id());
        self.catch_up.check_invariants(&self.config, self.slots.chosen());
        assert!(self.config.is_voter() || self.proposals.is_empty(), "learners propose nothing");
        let stated = self.outgoing.statement.through();
        assert!(stated <= self.slots.chosen(), "only chosen slots are stated");
    }
}
