//! What a core wants done.

use crate::{FatalError, IgnoreReason, Protocol, Run, StepDownReason, Write};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use synod_types::{Ballot, Epoch, Membership, NodeId, ReadId, Slot, Ticket};

/// Collects what a core asks for. A [`Host`](crate::Host) owns one; the core sees it as
/// [`Effects`].
#[derive(Clone, Debug)]
pub struct Outbox<P: Protocol> {
    pub(crate) writes: Vec<Write<P>>,
    pub(crate) sends: Vec<(NodeId, P::Message)>,
    pub(crate) contradiction: Option<Contradiction>,
    pub(crate) outputs: Outputs<P>,
    /// Set by each effect, and reset when the host has sorted them. Most steps of a leader only take a
    /// command, and must cost next to nothing.
    pub(crate) is_touched: bool,
}

/// Outputs of a core beside writes and messages. Lent by its [`Host`](crate::Host): what is left
/// in it is discarded by the next call.
#[derive(Clone, Debug)]
pub struct Outputs<P: Protocol> {
    /// Timers set and cancelled, in order.
    pub timers: Vec<TimerChange<P::Timer>>,
    /// Newly chosen slots: contiguous and increasing over the core's life.
    pub chosen: Vec<Run<P::Stamp>>,
    /// Proposals that are in the log now, and their slots.
    pub placed: Vec<(Ticket, Slot)>,
    /// Proposals that are not, and the reason.
    pub refused: Vec<(Ticket, Refusal)>,
    /// Reads, and the slot from which they may be served.
    pub reads: Vec<(ReadId, Result<Slot, Refusal>)>,
    /// Peers that need a snapshot.
    pub snapshots: Vec<NodeId>,
    /// Events for logs, metrics and transcripts.
    pub notes: Vec<ProtocolEvent>,
    /// The members that the transport should connect to, if they changed.
    pub peers: Option<Membership>,
    /// The node must stop. All else is empty then.
    pub fatal: Option<FatalError>,
    /// Set when anything is added, and reset when the lists are cleared.
    is_asked: bool,
}

impl<P: Protocol> Default for Outbox<P> {
    fn default() -> Self {
        let (writes, sends) = (Vec::new(), Vec::new());
        Self { writes, sends, contradiction: None, outputs: Outputs::default(), is_touched: false }
    }
}

impl<P: Protocol> Outbox<P> {
    /// The core's side: it can add and never look.
    pub fn effects(&mut self) -> Effects<'_, P> {
        Effects(self)
    }
}

impl<P: Protocol> Default for Outputs<P> {
    fn default() -> Self {
        Self {
            timers: Vec::new(),
            chosen: Vec::new(),
            placed: Vec::new(),
            refused: Vec::new(),
            reads: Vec::new(),
            snapshots: Vec::new(),
            notes: Vec::new(),
            peers: None,
            fatal: None,
            is_asked: false,
        }
    }
}

impl<P: Protocol> Outputs<P> {
    /// Returns whether the core asked for nothing here since the host's latest call began, as after most
    /// inputs.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        !self.is_asked && self.fatal.is_none()
    }

    /// Empties the lists and keeps their memory.
    pub(crate) fn clear(&mut self) {
        self.timers.clear();
        self.chosen.clear();
        self.placed.clear();
        self.refused.clear();
        self.reads.clear();
        self.snapshots.clear();
        self.notes.clear();
        self.peers = None;
        self.is_asked = false;
    }
}

/// A peer takes another value for chosen than this node does. No protocol allows that: a quorum has
/// lost its log, or more nodes broke a promise than the protocol tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contradiction {
    /// The values differ in this slot or in one before it.
    pub slot: Slot,
    /// The peer.
    pub by: NodeId,
}

/// A timer set or cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange<T> {
    /// Run out after a duration that the driver draws from the range. Replaces a running one.
    Set(T, Range<Duration>),
    /// Do not run out.
    Cancel(T),
}

/// Effects that a core may ask for: a write-only view of its host's [`Outbox`].
#[derive(Debug)]
pub struct Effects<'a, P: Protocol>(&'a mut Outbox<P>);

impl<P: Protocol> Effects<'_, P> {
    fn outbox(&mut self) -> &mut Outbox<P> {
        self.0.is_touched = true;
        self.0
    }

    fn outputs(&mut self) -> &mut Outputs<P> {
        let outbox = self.outbox();
        outbox.outputs.is_asked = true;
        &mut outbox.outputs
    }

    /// Asks for a durable write. The writes of one [round](crate::Host::round) become durable
    /// together, in this order.
    pub fn write(&mut self, write: Write<P>) {
        self.outbox().writes.push(write);
    }

    /// Sends a message when its [gate](crate::Gate) allows. To itself, too: that is how a leader
    /// counts its own vote only once it is durable.
    pub fn send(&mut self, to: NodeId, message: P::Message) {
        self.outbox().sends.push((to, message));
    }

    /// Sets a timer to run out after a duration from `after`, drawn by the driver. An empty range
    /// means exactly its start.
    pub fn set_timer(&mut self, timer: P::Timer, after: Range<Duration>) {
        self.outputs().timers.push(TimerChange::Set(timer, after));
    }

    /// Stops a timer; nothing happens if it is not running.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.outputs().timers.push(TimerChange::Cancel(timer));
    }

    /// Reports chosen slots: each right behind the one before, none twice in a core's life.
    pub fn chosen(&mut self, run: Run<P::Stamp>) {
        self.outputs().chosen.push(run);
    }

    /// The proposal stands in this node's log at `at`; whether it is ever chosen is open.
    pub fn placed(&mut self, ticket: Ticket, at: Slot) {
        self.outputs().placed.push((ticket, at));
    }

    /// The proposal is in no log.
    pub fn refuse(&mut self, ticket: Ticket, why: Refusal) {
        self.outputs().refused.push((ticket, why));
    }

    /// The read may be served from a state at or past `at`.
    pub fn read_ready(&mut self, id: ReadId, at: Slot) {
        self.outputs().reads.push((id, Ok(at)));
    }

    /// The read cannot be served here.
    pub fn refuse_read(&mut self, id: ReadId, why: Refusal) {
        self.outputs().reads.push((id, Err(why)));
    }

    /// The peer needs what the log no longer holds. A level, not an edge: said again and again
    /// while it is so, and ignored while a transfer runs.
    pub fn ship_snapshot(&mut self, to: NodeId) {
        if !self.outputs().snapshots.contains(&to) {
            self.outputs().snapshots.push(to);
        }
    }

    /// These are the members now, as far as the network is concerned: active, perhaps not chosen.
    pub fn peers(&mut self, members: &Membership) {
        self.outputs().peers = Some(members.clone());
    }

    /// Reports that this node's chosen slots contradict a peer's. Nothing of the present round leaves
    /// the host, and the driver stops the node.
    pub fn contradicted(&mut self, found: Contradiction) {
        self.outbox().contradiction.get_or_insert(found);
    }

    /// Tells people what happened.
    pub fn note(&mut self, event: ProtocolEvent) {
        self.outputs().notes.push(event);
    }
}

/// Reason why a proposal or a read is not taken, and so what its client should do. Exhaustive on
/// purpose: a new one must not compile until each API has an answer for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Ask the leader; `hint` is who that probably is.
    NotLeader {
        /// The leader as far as this node knows.
        hint: Option<NodeId>,
    },
    /// Too much is under way: try again later.
    Busy,
    /// The members have changed: ask one of these.
    WrongEpoch {
        /// The configuration in force.
        epoch: Epoch,
        /// Its members.
        members: Membership,
    },
    /// The command is longer than the protocol takes.
    TooLarge {
        /// The longest command in bytes.
        limit: u64,
    },
    /// This protocol does not do that.
    Unsupported,
}

/// What happened inside a protocol, for logs, metrics and transcripts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolEvent {
    /// The node finds out whether it could win an election, without disturbing the cluster.
    PreCampaigning {
        /// The ballot it would campaign under.
        ballot: Ballot,
    },
    /// The node campaigns.
    Campaigning {
        /// The ballot it campaigns under.
        ballot: Ballot,
    },
    /// The node gave its vote or promise.
    Voted {
        /// To whom.
        to: NodeId,
        /// Under which ballot.
        ballot: Ballot,
    },
    /// The node leads.
    Leading {
        /// Its ballot.
        ballot: Ballot,
    },
    /// The node follows a leader that it did not follow before.
    Following {
        /// Whom.
        leader: NodeId,
        /// Under which ballot.
        ballot: Ballot,
    },
    /// The node led or campaigned and does so no more.
    SteppedDown {
        /// The ballot it had.
        ballot: Ballot,
        /// The reason.
        reason: StepDownReason,
    },
    /// The node waits before it tries again, so that two proposers do not outbid each other.
    BackingOff {
        /// The ballot that was overtaken.
        ballot: Ballot,
        /// From which range the driver draws for how long.
        within: Range<Duration>,
    },
    /// A part of the log that was never chosen goes.
    Truncated {
        /// The first slot that goes.
        from: Slot,
    },
    /// A message had no effect.
    Ignored {
        /// Its sender.
        from: NodeId,
        /// The reason.
        reason: IgnoreReason,
    },
}

impl fmt::Display for ProtocolEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PreCampaigning { ballot } => write!(f, "pre-campaigns under {ballot}"),
            Self::Campaigning { ballot } => write!(f, "campaigns under {ballot}"),
            Self::Voted { to, ballot } => write!(f, "votes for {to:?} under {ballot}"),
            Self::Leading { ballot } => write!(f, "leads under {ballot}"),
            Self::Following { leader, ballot } => write!(f, "follows {leader:?} under {ballot}"),
            Self::SteppedDown { ballot, reason } => {
                write!(f, "steps down from {ballot}: {reason}")
            }
            Self::BackingOff { within, .. } => write!(f, "backs off for {within:?}"),
            Self::Truncated { from } => write!(f, "truncates its log from slot {from}"),
            Self::Ignored { from, reason } => write!(f, "ignores {from:?}: {reason}"),
        }
    }
}
