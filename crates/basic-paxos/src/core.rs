//! A log of decrees: one Paxos a slot, and nobody leads.

use crate::acceptor::Acceptor;
use crate::command_queue::CommandQueue;
use crate::congestion::CongestionWindow;
use crate::history::History;
use crate::message::{
    Accept, Accepted, Chosen, Learned, Message, MessageBatch, Nack, Prepare, Promise,
};
use crate::node_proposer::Proposal;
use crate::outgoing::Outgoing;
use crate::{Config, HardState, Timing, recovery};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;
use core::marker::PhantomData;
use core::mem;
use core::time::Duration;
use synod_consensus::{
    Base, Bounds, ClusterTiming, ConfigError, Effects, IgnoreReason, Input, MAX_DURATION, Protocol,
    ProtocolEvent, Quorum, RecoveryError, Refusal, Role, RunLog, Saved, Status, Write,
};
use synod_types::{Ballot, Instant, Membership, NodeId, Slot, Values};

/// What a slot is stamped with whose value was learnt as chosen, and not voted for here under
/// that value: above every ballot, because nothing can follow it.
pub(crate) const CHOSEN: Ballot = Ballot::CHOSEN;

pub(crate) type Fx<'a, K> = Effects<'a, PaxosLog<K>>;

/// How many decrees a core runs.
pub trait Arity: sealed::Sealed + Copy + Eq + Hash + Debug + Send + 'static {
    /// The protocol's name on the command line.
    const NAME: &'static str;
    /// The last slot there is.
    const SLOTS: u64;
}

/// One decree: see [`SingleDecree`](crate::SingleDecree).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Single {}

/// A decree for every slot of a log: see [`BasicPaxos`](crate::BasicPaxos).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Many {}

impl Arity for Single {
    const NAME: &'static str = "decree";
    const SLOTS: u64 = 1;
}

impl Arity for Many {
    const NAME: &'static str = "basic-paxos";
    const SLOTS: u64 = crate::message::HORIZON - 1;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Single {}
    impl Sealed for super::Many {}
}

/// One node's core: for every open slot an acceptor, and a proposer where this node has something
/// to propose. A pure function of its state and one input; drive it through [`Protocol`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PaxosLog<K> {
    pub(crate) config: Config,
    pub(crate) hard_state: HardState,
    pub(crate) base: Base<Ballot>,
    /// What was voted for, under its ballot, and what is chosen.
    pub(crate) log: RunLog<Ballot>,
    /// Chosen slots behind the first that is not known to be.
    pub(crate) decided: BTreeSet<Slot>,
    pub(crate) proposals: BTreeMap<Slot, Proposal>,
    pub(crate) waiting: CommandQueue,
    /// How many proposals may be open: see [`CongestionWindow`].
    pub(crate) width: CongestionWindow,
    /// What this round has to say.
    pub(crate) outgoing: Outgoing,
    /// The highest slot that anyone was heard to use.
    pub(crate) seen: Slot,
    /// The highest slot through which all is chosen, as others say.
    pub(crate) told: Slot,
    /// When this node last found more to be chosen.
    pub(crate) advanced: Instant,
    /// When an open slot last got on: this node promised or voted anew. Repetitions do not count,
    /// or a proposer that hears no answers could keep everyone else away for ever.
    pub(crate) got_on: BTreeMap<Slot, Instant>,
    /// When a message of each other node last came.
    pub(crate) active: BTreeMap<NodeId, Instant>,
    /// A round trip with both disks, once it was measured.
    pub(crate) measured: Option<Duration>,
    /// Whom to ask next.
    pub(crate) turn: usize,
    /// Whom clients of this node turn to: itself if it votes, else a voter that is heard of.
    pub(crate) guide: NodeId,
    /// When the guide was last heard of.
    pub(crate) guided: Instant,
    /// The last question: from where, and when.
    pub(crate) asked: Option<(Slot, Instant)>,
    /// Chosen slots when it was last time to ask.
    pub(crate) chosen_at_ask: Slot,
    /// The last answer to each node that asked what it had missed.
    pub(crate) answered: BTreeMap<NodeId, Answered>,
    /// Peers whose history was compared with this node's.
    pub(crate) histories: BTreeMap<NodeId, History>,
    /// What the disk lacks after recovery.
    pub(crate) repair: bool,
    /// Slots through here were applied before this start, and are not reported again.
    pub(crate) floor: Slot,
    /// Whether the hard state was changed since it was written.
    pub(crate) unsaved: bool,
    pub(crate) kind: PhantomData<K>,
}

/// An answer with chosen values to a node that asked for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answered {
    /// First and last slot.
    pub(crate) slots: (Slot, Slot),
    /// Until when it counts as in flight.
    pub(crate) until: Instant,
    /// How often these slots were sent.
    pub(crate) times: u32,
}

/// What a core waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Answers about this slot, or the end of standing back from it.
    Slot(Slot),
    /// The time to ask what was missed.
    CatchUp,
}

impl<K: Arity> Protocol for PaxosLog<K> {
    type Config = Config;
    type Message = MessageBatch;
    type HardState = HardState;
    type Stamp = Ballot;
    type Timer = Timer;

    const NAME: &'static str = K::NAME;

    /// There are no elections: `heartbeat` is the interval of catch-up requests, the longest `election`
    /// timeout the longest wait before a message is sent again. Round trips are measured.
    fn config(id: NodeId, members: &Membership) -> Result<Config, ConfigError> {
        Config::new(id, members.clone())
    }

    fn with_cluster_timing(config: Config, timing: &ClusterTiming) -> Result<Config, ConfigError> {
        let timing = Timing {
            cap: timing.election.end.min(MAX_DURATION),
            ask: timing.heartbeat.min(MAX_DURATION),
            // At least half of its time is left to a command that gets a slot.
            queue: (timing.request / 2).clamp(Duration::from_millis(1), MAX_DURATION),
            ..Timing::default()
        };
        config.with_timing(timing)
    }

    fn recover(config: Config, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        recovery::recover(config, saved)
    }

    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Fx<'_, K>) {
        let chosen = self.hard_state.chosen();
        match input {
            Input::Start => self.on_start(fx),
            Input::Message { from, message } => {
                self.on_batch(now, from, message, fx);
            }
            Input::Timeout(Timer::Slot(slot)) => self.on_slot_timeout(now, slot, fx),
            Input::Timeout(Timer::CatchUp) => self.on_ask_timeout(now, fx),
            // Nobody depends on this node: the others order their commands without it.
            Input::Stalled | Input::Lagging => {}
            Input::Propose { ticket, command } => self.on_propose(now, ticket, &command, fx),
            Input::Read(id) => fx.refuse_read(id, Refusal::Unsupported),
            Input::Admin { ticket, .. } => fx.refuse(ticket, Refusal::Unsupported),
            Input::Compact { through } => self.on_compact(through, fx),
            Input::Installed { base } => self.on_installed(base, fx),
        }
        if self.hard_state.chosen() > chosen {
            self.advanced = now;
        }
    }

    fn flush(&mut self, now: Instant, fx: &mut Fx<'_, K>) {
        if self.is_blocked(now) {
            self.unblock(now, fx);
        }
        self.open_waiting(now, fx);
        if mem::take(&mut self.unsaved) {
            fx.write(Write::HardState(self.hard_state.clone()));
        }
        for (to, batch) in self.outgoing.take() {
            fx.send(to, batch);
        }
        // What this round learnt is stated by the next: a batch that reports a choice states what
        // was known before it, which is what the receiver can compare.
        if self.outgoing.known.through() != self.hard_state.chosen() {
            self.outgoing.known = self.known();
        }
    }

    fn quorum(config: &Config, _: &Membership) -> Quorum {
        config.quorum().clone()
    }

    fn bounded(config: Config, bounds: &Bounds) -> Option<Config> {
        let mut limits = config.limits().clone();
        limits.window = bounds.open_slots.min(limits.window);
        limits.catch_up_bytes = bounds.message_bytes;
        limits.waiting_bytes = bounds.open_bytes;
        // A window of the other protocols shrinks before it fills a lane; this one is fixed, and the
        // answers to catch-up share its lane. A quarter is what the defaults of the two stand at.
        limits.flight_bytes = (bounds.window_bytes / 4).max(1);
        limits.command_bytes = bounds.command_bytes(limits.command_bytes);
        let config = config.with_limits(limits).ok()?;
        match bounds.quorums {
            None => Some(config),
            Some((first, second)) => config.with_quorums(first, second).ok(),
        }
    }

    fn base_at(&self, through: Slot) -> Option<Base<Ballot>> {
        if through > self.hard_state.chosen() {
            return None;
        }
        let stamp = self.log.stamp_at(through)?;
        Some(Base { through, stamp, members: self.base.members.clone() })
    }

    fn status(&self) -> Status {
        let me = self.config.id();
        let role = if self.is_voter() { Role::Peer } else { Role::Learner };
        // Ballots belong to slots here: the node as such stands in none.
        let ballot = Ballot { round: 0, node: me };
        Status {
            role,
            ballot,
            leader: Some(self.guide),
            commit: self.hard_state.chosen(),
            last: self.log.last(),
            base: self.log.base(),
            progress: Vec::new(),
        }
    }
}

/// Where a slot stands from this node's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlotState {
    /// Its value is known.
    Chosen,
    /// It may be voted about.
    Open,
    /// So far ahead that this node must have missed something.
    BeyondWindow,
}

impl<K: Arity> PaxosLog<K> {
    /// Screens a message, then hands it on.
    pub(crate) fn on_message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: Message,
        fx: &mut Fx<'_, K>,
    ) {
        if let Some(reason) = self.distrust(from, &message) {
            return self.ignore(from, reason, fx);
        }
        if from == self.guide {
            self.guided = now;
        }
        self.active.insert(from, now);
        if let Message::Learned(Learned { through, .. }) | Message::Chosen(Chosen { through, .. }) =
            &message
        {
            self.told = self.told.max(*through);
        }
        match message {
            Message::Prepare(prepare) => self.on_prepare(now, from, prepare, fx),
            Message::Promise(promise) => self.on_promise(now, from, promise, fx),
            Message::Accept(accept) => self.on_accept(now, from, accept, fx),
            Message::Accepted(accepted) => self.on_accepted(now, from, accepted, fx),
            Message::Nack(nack) => self.on_nack(from, nack, fx),
            Message::Learned(learned) => self.on_learned(now, from, &learned, fx),
            Message::Learn(learn) => self.on_learn(now, from, learn, fx),
            Message::Chosen(chosen) => self.on_chosen(now, from, chosen, fx),
        }
    }

    /// Why a message is not even looked at.
    fn distrust(&self, from: NodeId, message: &Message) -> Option<IgnoreReason> {
        let me = self.config.id();
        let answer =
            matches!(message, Message::Promise(_) | Message::Accepted(_) | Message::Nack(_));
        let request = matches!(message, Message::Prepare(_) | Message::Accept(_));
        if !self.config.members().contains(from) {
            Some(IgnoreReason::NotAMember)
        } else if from == me && !answer {
            Some(IgnoreReason::FromSelf)
        } else if request && !(self.is_voter() && self.config.members().is_voter(from)) {
            Some(IgnoreReason::NotAVoter)
        } else if !message.is_sound(from, me) {
            Some(IgnoreReason::OutOfRange)
        } else {
            None
        }
    }

    /// Phase 1b.
    pub(crate) fn on_prepare(
        &mut self,
        now: Instant,
        from: NodeId,
        Prepare { slot, ballot }: Prepare,
        fx: &mut Fx<'_, K>,
    ) {
        if !self.may_vote(now, from, slot, fx) {
            return;
        }
        let mut acceptor = self.acceptor(slot);
        match acceptor.prepare(ballot) {
            crate::Verdict::Granted { changed } => {
                if changed {
                    self.promise(now, slot, ballot);
                    fx.note(ProtocolEvent::Voted { to: from, ballot });
                }
                let accepted = acceptor.accepted().cloned();
                self.outgoing.push(from, Message::Promise(Promise { slot, ballot, accepted }));
            }
            crate::Verdict::Rejected { promised } => {
                self.outgoing.push(from, Message::Nack(Nack { slot, ballot, promised }));
            }
            crate::Verdict::Contradiction => {}
        }
    }

    /// Phase 2b.
    pub(crate) fn on_accept(
        &mut self,
        now: Instant,
        from: NodeId,
        Accept { slot, ballot, value }: Accept,
        fx: &mut Fx<'_, K>,
    ) {
        if !self.may_vote(now, from, slot, fx) {
            return;
        }
        match self.acceptor(slot).accept(ballot, value.clone()) {
            crate::Verdict::Granted { changed } => {
                if changed {
                    // Promise and vote in one batch: a crash finds both or neither.
                    self.promise(now, slot, ballot);
                    self.put(slot, ballot, value, fx);
                }
                self.outgoing.push(from, Message::Accepted(Accepted { slot, ballot }));
            }
            crate::Verdict::Rejected { promised } => {
                self.outgoing.push(from, Message::Nack(Nack { slot, ballot, promised }));
            }
            crate::Verdict::Contradiction => {
                self.ignore(from, IgnoreReason::TwoValues, fx);
            }
        }
    }

    /// Whether this acceptor has a say about the slot. If it is decided, the proposer is told what
    /// was; if it is beyond the window, this node has missed something, and asks.
    fn may_vote(&mut self, now: Instant, from: NodeId, slot: Slot, fx: &mut Fx<'_, K>) -> bool {
        match self.slot_state(slot) {
            SlotState::Chosen => self.tell(now, from, slot, fx),
            SlotState::BeyondWindow => self.ask(now, from),
            SlotState::Open => {
                self.seen = self.seen.max(slot);
                return true;
            }
        }
        false
    }

    pub(crate) fn slot_state(&self, slot: Slot) -> SlotState {
        if slot <= self.hard_state.chosen() || self.decided.contains(&slot) {
            SlotState::Chosen
        } else if slot <= self.horizon() {
            SlotState::Open
        } else {
            SlotState::BeyondWindow
        }
    }

    /// The last slot that may be open.
    pub(crate) fn horizon(&self) -> Slot {
        self.hard_state.chosen().plus(self.config.limits().window).min(Slot(K::SLOTS))
    }

    /// The acceptor of an open slot, as the memory of its vows makes it.
    pub(crate) fn acceptor(&self, slot: Slot) -> Acceptor<Values> {
        let stamp = self.log.stamp_at(slot);
        let accepted = stamp.and_then(|stamp| Some((stamp, self.value_at(slot)?)));
        Acceptor::restored(self.hard_state.promised(slot), accepted)
    }

    /// What the log holds at a slot: chosen, or only voted for.
    pub(crate) fn value_at(&self, slot: Slot) -> Option<Values> {
        let run = self.log.run_at(slot)?;
        let index = usize::try_from(slot.0 - run.first.0).ok()?;
        Some(run.values.slice(index, index + 1))
    }

    pub(crate) fn put(&mut self, first: Slot, stamp: Ballot, values: Values, fx: &mut Fx<'_, K>) {
        let run = synod_consensus::Run { first, stamp, values };
        fx.write(Write::Put(run.clone()));
        self.log.put(run);
    }

    /// A new promise or vote. Promises are written with the round's other writes, once for all.
    fn promise(&mut self, now: Instant, slot: Slot, ballot: Ballot) {
        self.got_on.insert(slot, now);
        if self.hard_state.promised(slot) < ballot {
            self.hard_state.promise(slot, ballot);
            self.unsaved = true;
        }
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.config.members().is_voter(self.config.id())
    }

    pub(crate) fn ignore(&self, from: NodeId, reason: IgnoreReason, fx: &mut Fx<'_, K>) {
        fx.note(ProtocolEvent::Ignored { from, reason });
    }
}
