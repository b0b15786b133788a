//! Traits that a protocol implements, and the types that pass through them.

use crate::{
    Bounds, ClusterTiming, ConfigError, Effects, Quorum, RecoveryError, RunLog, Stamp, Status,
};
use alloc::string::String;
use bytes::Bytes;
use core::fmt::Debug;
use core::hash::Hash;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_types::{Epoch, Instant, Lane, Membership, NodeId, ReadId, Slot, Ticket, Value, Values};

/// Data that can be written to disk and compared, as codecs and model checkers need.
pub trait Durable:
    Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
}

impl<T> Durable for T where
    T: Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
}

/// Small record that a protocol rewrites whole: term and vote, or the promised ballot.
pub trait HardState: Durable + Default {
    /// Returns whether a node that wrote `older` may write `self` later. Terms, votes and promises never
    /// go back. Simulators check every write with this.
    fn may_follow(&self, older: &Self) -> bool;
}

/// Consensus protocol: a pure function of its state and one input.
///
/// A step never fails. A message that cannot be valid is ignored and [noted](crate::Effects::note). A
/// violated invariant of the core's own state panics: to go on could lose chosen values.
pub trait Protocol: Clone + Debug + Eq + Hash + Sized + Send + 'static {
    /// Validated settings.
    type Config: Clone + Debug + Send;
    /// Messages between nodes.
    type Message: Message<Self>;
    /// Record that [`Write::HardState`] rewrites whole.
    type HardState: HardState;
    /// Stamp of a log slot.
    type Stamp: Stamp;
    /// Timers that the protocol sets.
    type Timer: Copy + Ord + Debug + Hash + Send;

    /// Name of the protocol on the command line.
    const NAME: &'static str;

    /// Returns the default settings of node `id` of a group founded by `members`.
    ///
    /// # Errors
    /// If `id` is not a member.
    fn config(id: NodeId, members: &Membership) -> Result<Self::Config, ConfigError>;

    /// Returns the same settings with the times that an operator sets for a cluster, translated into
    /// the protocol's own. The default ignores them.
    ///
    /// # Errors
    /// If the protocol cannot work with these times.
    fn with_cluster_timing(
        config: Self::Config,
        _: &ClusterTiming,
    ) -> Result<Self::Config, ConfigError> {
        Ok(config)
    }

    /// Recovers a core from its disk; a new node's disk holds `Saved::default()`. Pure: repairs of the
    /// disk are written by [`Input::Start`].
    ///
    /// # Errors
    /// If the settings and the disk cannot belong together.
    fn recover(config: Self::Config, saved: Saved<Self>) -> Result<Self, RecoveryError>;

    /// Handles one input. `now` never goes back.
    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>);

    /// Turns all proposals since the last flush into one write and few messages to each peer. Idempotent,
    /// and cheap if there is nothing to do.
    fn flush(&mut self, now: Instant, fx: &mut Effects<'_, Self>);

    /// Returns the base of a snapshot at `through`; `None` if that slot is not known to be chosen, or
    /// compacted away.
    fn base_at(&self, through: Slot) -> Option<Base<Self::Stamp>>;

    /// Returns the quorum system under these settings: majorities of the voters, unless the protocol has
    /// a setting for it. Checkers must use it: assuming majorities misjudges flexible quorums.
    #[must_use]
    fn quorum(_: &Self::Config, members: &Membership) -> Quorum {
        Quorum::majority(members)
    }

    /// Returns the same settings within these bounds. Simulators draw them small enough to be reached. A
    /// bound that the protocol has no setting for is left out. `None` if the protocol rejects the
    /// settings.
    #[must_use]
    fn bounded(config: Self::Config, _: &Bounds) -> Option<Self::Config> {
        Some(config)
    }

    /// Returns the status of the node.
    fn status(&self) -> Status;
}

/// Condition under which a message may leave its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// All writes of the sender so far are durable: the message claims something about its disk.
    Durable,
    /// None: the message claims nothing that a crash could undo.
    Immediate,
}

/// Message of a protocol.
pub trait Message<P: Protocol>: Durable {
    /// Returns whether the message waits for the disk. Write it as a `match` without a `_` arm, so that a
    /// new message does not compile before it is classified.
    fn gate(&self) -> Gate;

    /// Returns the lane of the network that the message takes.
    fn lane(&self) -> Lane;

    /// Returns whether `disk`, the sender's, backs the claim of this message. Claims of an older term or
    /// ballot than the disk's count as backed, because receivers ignore them; so do messages that claim
    /// nothing. Called by checkers only, never on a live node.
    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<P>) -> bool;

    /// Returns the message in one short line, as the papers write it: `RequestVote(t2, last 3@t1)`.
    fn describe(&self) -> String;
}

/// Consecutive slots under one stamp: the unit of messages, writes, recovery and learning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run<S> {
    /// Slot of the first value.
    pub first: Slot,
    /// Term or ballot of every slot in the run.
    pub stamp: S,
    /// Values, one a slot.
    pub values: Values,
}

impl<S: Copy> Run<S> {
    /// Creates a run of one value.
    #[must_use]
    pub fn single(first: Slot, stamp: S, value: Value) -> Self {
        Self { first, stamp, values: core::iter::once(value).collect() }
    }

    /// Returns the slot of the last value; the slot before `first` if the run is empty.
    #[must_use]
    pub fn last(&self) -> Slot {
        // Saturates for an empty run before slot 1.
        Slot((self.first.0 + self.values.len() as u64).saturating_sub(1))
    }

    /// Returns whether the slots of the run exist: `first` counts from 1 and `last` does not overflow. A
    /// received run that fails this is damaged or forged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        // Slots count from 1, and receivers compute with the slot after the last one.
        self.first > Slot::ZERO && self.first.0.checked_add(self.values.len() as u64).is_some()
    }

    /// Returns the part of the run from `slot` on. It shares the buffer.
    ///
    /// # Panics
    /// If `slot` is neither in the run nor the next one after it.
    #[must_use]
    pub fn from(&self, slot: Slot) -> Self {
        let skip = usize::try_from(slot.0 - self.first.0).expect("the slot lies within the run");
        let values = self.values.slice(skip, self.values.len());
        Self { first: slot, stamp: self.stamp, values }
    }

    /// Returns the first `count` slots of the run. They share the buffer.
    ///
    /// # Panics
    /// If the run is shorter.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Self {
        Self { first: self.first, stamp: self.stamp, values: self.values.slice(0, count) }
    }
}

/// Base of a compacted log: everything up to and including `through` is chosen, applied and part of a
/// snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base<S> {
    /// Last slot that the log no longer holds.
    pub through: Slot,
    /// Stamp of that slot.
    pub stamp: S,
    /// Members as of that slot; `None` while they are the founding ones.
    pub members: Option<Membership>,
}

impl<S: Default> Default for Base<S> {
    fn default() -> Self {
        Self { through: Slot::ZERO, stamp: S::default(), members: None }
    }
}

/// Content of a node's disk. Cores are recovered from it, and checkers compare claims with it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Saved<P: Protocol> {
    /// Latest hard state written.
    pub hard_state: P::HardState,
    /// Base of the log.
    pub base: Base<P::Stamp>,
    /// Log after the base.
    pub log: RunLog<P::Stamp>,
    /// Last slot whose effects the state machine holds; at most the end of the log. Everything up to here
    /// is chosen: a recovered core never proposes, overwrites or reports these slots again, and its
    /// commit index starts here. Slots at or before the base count as applied.
    pub applied: Slot,
}

impl<P: Protocol> Default for Saved<P> {
    fn default() -> Self {
        let base = Base::default();
        let log = RunLog::new(base.through, base.stamp);
        Self { hard_state: P::HardState::default(), base, log, applied: Slot::ZERO }
    }
}

impl<P: Protocol> Saved<P> {
    /// Returns the slot from which a recovered core starts: everything up to here is chosen and applied.
    ///
    /// # Errors
    /// If the state is applied past the end of the log, or the log begins after the end of the
    /// state: one of the two was rolled back or replaced.
    pub fn floor(&self) -> Result<Slot, RecoveryError> {
        let last = self.log.last().max(self.base.through);
        // An applied slot was durable in the log, so entries are missing: do not reuse their slots.
        if self.applied > last {
            return Err(RecoveryError::AppliedBeyondLog { applied: self.applied, last });
        }
        // A log is compacted only after a snapshot through its base is durable.
        if self.base.through < self.log.base() {
            let (after, until) = (self.base.through, self.log.base());
            return Err(RecoveryError::MissingPrefix { after, until });
        }
        Ok(self.applied.max(self.base.through))
    }

    /// Applies `write` to this copy of the disk.
    pub fn apply(&mut self, write: &Write<P>) {
        match write {
            Write::HardState(hard_state) => self.hard_state = hard_state.clone(),
            Write::Put(run) => self.log.put(run.clone()),
            Write::TruncateFrom(slot) => self.log.truncate_from(*slot),
            Write::Compact(base) => {
                self.log.compact(base.through, base.stamp);
                self.base = base.clone();
            }
        }
    }
}

/// Write of a core to its disk. The writes of one round become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write<P: Protocol> {
    /// Replaces the hard state.
    HardState(P::HardState),
    /// Writes slots, and replaces what they held.
    Put(Run<P::Stamp>),
    /// Removes this slot and all after it.
    TruncateFrom(Slot),
    /// Removes everything up to and including `through`, and keeps the slots after it. Stores do not
    /// compare stamps: if the slots after a new base continue another history, the core emits
    /// [`TruncateFrom`](Self::TruncateFrom) in the same batch.
    Compact(Base<P::Stamp>),
}

/// Input of a core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P: Protocol> {
    /// First input after recovery.
    Start,
    /// Message that arrived, perhaps late, twice or out of order.
    Message {
        /// Sender, authenticated by the transport.
        from: NodeId,
        /// Content, which is not trusted.
        message: P::Message,
    },
    /// Timer of the core that has run out.
    Timeout(P::Timer),
    /// Stall of this node's own disk or state machine: a leader must step down.
    Stalled,
    /// Lag of the state machine: this node has not applied all slots through its commit index, so it must
    /// not campaign. Repeated while the lag lasts, in place of a timer that has run out. A node that does
    /// not lead starts its election timeout again; a leader continues.
    Lagging,
    /// Command of a client. The core replies with `placed` or `refuse`.
    Propose {
        /// Id of the proposal in the reply.
        ticket: Ticket,
        /// Command, opaque to the protocol.
        command: Bytes,
    },
    /// Request for a slot from which a linearizable read may be served. The core replies with `read_ready`
    /// or `refuse_read`, or not at all if a message is lost: then the driver retries under another id.
    ///
    /// A node never uses an id twice, not even after a restart. Otherwise a late reply to an earlier read
    /// could be mistaken for the reply to this one, with a slot that is too old.
    Read(ReadId),
    /// Request of an operator. The core replies with `placed` or `refuse`.
    Admin {
        /// Id of the request in the reply.
        ticket: Ticket,
        /// The request.
        admin: Admin,
    },
    /// Durable snapshot of this node: the log up to its slot may be removed.
    Compact {
        /// Last slot of the snapshot.
        through: Slot,
    },
    /// Snapshot of a peer that was installed and is durable.
    Installed {
        /// Base of the snapshot.
        base: Base<P::Stamp>,
    },
}

/// Request of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Transfers the leadership to a node.
    TransferLeader {
        /// The next leader.
        to: NodeId,
    },
    /// Replaces the members.
    ChangeMembers {
        /// Epoch of the configuration that is replaced: refused if another one is in force.
        from: Epoch,
        /// New members.
        members: Membership,
    },
}
