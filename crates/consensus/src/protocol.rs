//! The traits that a protocol implements, and what passes through them.

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

/// What can be written to disk and compared: all that a model checker and a codec need.
pub trait Durable:
    Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
}

impl<T> Durable for T where
    T: Clone + Debug + Eq + Hash + Serialize + DeserializeOwned + Send + 'static
{
}

/// The small record that a protocol rewrites whole: term and vote, or the promised ballot.
pub trait HardState: Durable + Default {
    /// Whether a node that once wrote `older` may write `self` later. Terms, votes and promises
    /// never go back; a simulator checks every write with this.
    fn may_follow(&self, older: &Self) -> bool;
}

/// A consensus protocol as a pure function of its state and one input.
///
/// A step never fails: a message that makes no sense is ignored and
/// [noted](crate::Effects::note); a broken invariant of the core's own panics, because going on
/// would be worse.
pub trait Protocol: Clone + Debug + Eq + Hash + Sized + Send + 'static {
    /// Validated settings.
    type Config: Clone + Debug + Send;
    /// What nodes send each other.
    type Message: Message<Self>;
    /// Rewritten whole with [`Write::HardState`].
    type HardState: HardState;
    /// What a log slot is stamped with.
    type Stamp: Stamp;
    /// The timers that the protocol sets.
    type Timer: Copy + Ord + Debug + Hash + Send;

    /// The protocol's name on the command line.
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

    /// Rebuilds a core from what the disk holds; a new node's disk holds `Saved::default()`. Pure:
    /// repairs are written when [`Input::Start`] comes.
    ///
    /// # Errors
    /// If the settings and the disk cannot belong together.
    fn recover(config: Self::Config, saved: Saved<Self>) -> Result<Self, RecoveryError>;

    /// Takes one input. `now` never goes back.
    fn step(&mut self, now: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>);

    /// Turns everything offered since the last flush into one write and at most one message a
    /// peer. Idempotent, and cheap when there is nothing to do.
    fn flush(&mut self, now: Instant, fx: &mut Effects<'_, Self>);

    /// What a snapshot at `through` must carry; `None` if the core does not know that slot to be
    /// chosen, or has compacted past it.
    fn base_at(&self, through: Slot) -> Option<Base<Self::Stamp>>;

    /// Which sets of nodes choose a value, under these settings: a majority of the voters, unless
    /// the protocol can be told otherwise. For checkers.
    #[must_use]
    fn quorum(_: &Self::Config, members: &Membership) -> Quorum {
        Quorum::majority(members)
    }

    /// Returns the same settings within these bounds, for simulators, which draw them small enough
    /// to be reached. A bound that the protocol has no setting for is left out. `None` if the
    /// protocol refuses such settings.
    #[must_use]
    fn bounded(config: Self::Config, _: &Bounds) -> Option<Self::Config> {
        Some(config)
    }

    /// What the node may tell about itself.
    fn status(&self) -> Status;
}

/// Whether a message may leave before the sender's disk has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// The message claims something about its sender's disk: it waits for every write so far.
    Durable,
    /// The message claims nothing that a crash could undo.
    Immediate,
}

/// One message of a protocol.
pub trait Message<P: Protocol>: Durable {
    /// Whether it must wait for the disk. Write it as a `match` without a `_` arm, so that a new
    /// message does not compile until it was judged.
    fn gate(&self) -> Gate;

    /// Which lane of the network it takes.
    fn lane(&self) -> Lane;

    /// Whether the claim that this message makes is on its sender's disk. A claim that was made
    /// under an older term or ballot than the disk's holds: everyone ignores it. Messages that
    /// claim nothing always hold. Called by checkers only, never on a live node.
    fn holds(&self, from: NodeId, to: NodeId, disk: &Saved<P>) -> bool;

    /// The message in one short line, as the papers write it: `RequestVote(t2, last 3@t1)`.
    fn describe(&self) -> String;
}

/// Consecutive slots under one stamp: the unit of messages, writes, recovery and learning.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run<S> {
    /// The slot of the first value.
    pub first: Slot,
    /// The term or ballot of every slot in the run.
    pub stamp: S,
    /// The values, one a slot.
    pub values: Values,
}

impl<S: Copy> Run<S> {
    /// A run of one value.
    #[must_use]
    pub fn single(first: Slot, stamp: S, value: Value) -> Self {
        Self { first, stamp, values: core::iter::once(value).collect() }
    }

    /// The slot of the last value; the slot before `first` if the run is empty.
    #[must_use]
    pub fn last(&self) -> Slot {
        Slot((self.first.0 + self.values.len() as u64).saturating_sub(1))
    }

    /// Whether `first` counts from 1 and `last` can be counted: a run from outside that fails
    /// this is damaged or forged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.first > Slot::ZERO && self.first.0.checked_add(self.values.len() as u64).is_some()
    }

    /// The part of the run from `slot` on; shares the buffer.
    ///
    /// # Panics
    /// If `slot` is not within the run or right behind it.
    #[must_use]
    pub fn from(&self, slot: Slot) -> Self {
        let skip = usize::try_from(slot.0 - self.first.0).expect("the slot lies within the run");
        let values = self.values.slice(skip, self.values.len());
        Self { first: slot, stamp: self.stamp, values }
    }

    /// The first `count` slots of the run; shares the buffer.
    ///
    /// # Panics
    /// If the run is shorter.
    #[must_use]
    pub fn prefix(&self, count: usize) -> Self {
        Self { first: self.first, stamp: self.stamp, values: self.values.slice(0, count) }
    }
}

/// Where a compacted log begins: everything up to and including `through` is chosen, applied and
/// part of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Base<S> {
    /// The last slot that the log no longer holds.
    pub through: Slot,
    /// The stamp of that slot.
    pub stamp: S,
    /// The members as of that slot; `None` while they are the founding ones.
    pub members: Option<Membership>,
}

impl<S: Default> Default for Base<S> {
    fn default() -> Self {
        Self { through: Slot::ZERO, stamp: S::default(), members: None }
    }
}

/// What a node's disk holds: what a core is recovered from, and what its vows are checked
/// against.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Saved<P: Protocol> {
    /// The latest hard state written.
    pub hard_state: P::HardState,
    /// Where the log begins, and everything since.
    pub base: Base<P::Stamp>,
    /// The log behind the base.
    pub log: RunLog<P::Stamp>,
    /// Last slot whose effects the state machine holds; at most the end of the log. Everything up
    /// to here is chosen: a recovered core never proposes, overwrites or reports these slots
    /// again, and its commit index starts here. Slots at or below the base count as applied.
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
    /// Slot from which a recovered core starts: everything up to here is chosen and applied.
    ///
    /// # Errors
    /// If the state is applied past the end of the log, or the log begins after the end of the
    /// state: one of the two was rolled back or replaced.
    pub fn floor(&self) -> Result<Slot, RecoveryError> {
        let last = self.log.last().max(self.base.through);
        if self.applied > last {
            return Err(RecoveryError::AppliedBeyondLog { applied: self.applied, last });
        }
        if self.base.through < self.log.base() {
            let (after, until) = (self.base.through, self.log.base());
            return Err(RecoveryError::MissingPrefix { after, until });
        }
        Ok(self.applied.max(self.base.through))
    }

    /// Does to this copy of the disk what `write` does to the real one.
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

/// What a core asks its disk to do. The writes of one step become durable together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Write<P: Protocol> {
    /// Replaces the hard state.
    HardState(P::HardState),
    /// Writes slots, over whatever they held.
    Put(Run<P::Stamp>),
    /// Removes this slot and all behind it.
    TruncateFrom(Slot),
    /// Removes everything up to and including `through`, and keeps the slots after it. Stores do not
    /// compare stamps: if the slots after a new base continue another history, the core emits
    /// [`TruncateFrom`](Self::TruncateFrom) in the same batch.
    Compact(Base<P::Stamp>),
}

/// What happens to a core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input<P: Protocol> {
    /// The first input after recovery.
    Start,
    /// A message arrived, perhaps late, twice or out of order.
    Message {
        /// Who sent it: authenticated by the transport.
        from: NodeId,
        /// What it says: not to be trusted.
        message: P::Message,
    },
    /// A timer that the core set has run out.
    Timeout(P::Timer),
    /// This node's own disk or apply side does not answer: a leader must let go.
    Stalled,
    /// A timer has run out, but this node has not applied all that it knows to be chosen: it must
    /// not campaign now. A leader carries on. Comes before the timer, again and again while it is
    /// so; a node that does not lead starts its wait for a leader again.
    Lagging,
    /// A client's command. Answered by `placed` or `refuse`.
    Propose {
        /// Names the proposal in the answer.
        ticket: Ticket,
        /// Opaque to the protocol.
        command: Bytes,
    },
    /// Fix a slot at which a linearizable read may be served. Answered by `read_ready` or
    /// `refuse_read`.
    Read(ReadId),
    /// An operator's request. Answered by `placed` or `refuse`.
    Admin {
        /// Names the request in the answer.
        ticket: Ticket,
        /// What is asked for.
        admin: Admin,
    },
    /// A snapshot through this slot is durable: the log up to it may go.
    Compact {
        /// The snapshot's last slot.
        through: Slot,
    },
    /// A snapshot from a peer was installed and is durable.
    Installed {
        /// What the snapshot carried.
        base: Base<P::Stamp>,
    },
}

/// An operator's request to a protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Admin {
    /// Hand leadership over to this node.
    TransferLeader {
        /// Who shall lead.
        to: NodeId,
    },
    /// Replace the members.
    ChangeMembers {
        /// The configuration that is replaced: refused if another one is in force.
        from: Epoch,
        /// The new members.
        members: Membership,
    },
}
