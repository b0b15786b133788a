//! Effects of a core: writes, messages, timers and reports.

use crate::{FatalError, IgnoreReason, Protocol, Run, StepDownReason, Write};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::time::Duration;
use serde::{Deserialize, Serialize};
use synod_types::{Ballot, Epoch, Membership, NodeId, ReadId, Slot, Ticket};

/// Effects of a core, in order. A [`Host`](crate::Host) owns one; the core sees it as [`Effects`].
#[derive(Clone, Debug)]
pub struct Outbox<P: Protocol> {
    pub(crate) writes: Vec<Write<P>>,
    pub(crate) sends: Vec<(NodeId, P::Message)>,
    pub(crate) contradiction: Option<Contradiction>,
    pub(crate) outputs: Outputs<P>,
    /// True if an effect was added since the host sorted them last. Most steps of a leader only add a
    /// command to its batch; for these the host has nothing to sort.
    pub(crate) is_touched: bool,
}

/// Outputs of a core other than writes and messages. Lent by its [`Host`](crate::Host), whose next
/// call discards what is left.
#[derive(Clone, Debug)]
pub struct Outputs<P: Protocol> {
    /// Timers set and cancelled, in order.
    pub timers: Vec<TimerChange<P::Timer>>,
    /// Newly chosen slots: contiguous and increasing over the core's life.
    pub chosen: Vec<Run<P::Stamp>>,
    /// Proposals that are in the log now, and their slots.
    pub placed: Vec<(Ticket, Slot)>,
    /// Proposals that were refused, and the reasons.
    pub refused: Vec<(Ticket, Refusal)>,
    /// Reads, each with the slot from which it may be served or the reason for its refusal.
    pub reads: Vec<(ReadId, Result<Slot, Refusal>)>,
    /// Peers that need a snapshot.
    pub snapshots: Vec<NodeId>,
    /// Events for logs, metrics and transcripts.
    pub notes: Vec<ProtocolEvent>,
    /// Members that the transport should connect to, if they changed.
    pub peers: Option<Membership>,
    /// Error for which the node must stop. All other outputs are empty then.
    pub fatal: Option<FatalError>,
    /// True if an output was added since the lists were cleared.
    has_output: bool,
}

impl<P: Protocol> Default for Outbox<P> {
    fn default() -> Self {
        let (writes, sends) = (Vec::new(), Vec::new());
        Self { writes, sends, contradiction: None, outputs: Outputs::default(), is_touched: false }
    }
}

impl<P: Protocol> Outbox<P> {
    /// Returns the core's view: it adds effects and reads none.
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
            has_output: false,
        }
    }
}

impl<P: Protocol> Outputs<P> {
    /// Returns whether the core has added no output since the host's latest call began, as after most
    /// inputs.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        // One flag instead of eight lists: a driver checks this after every input.
        !self.has_output && self.fatal.is_none()
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
        self.has_output = false;
    }
}

/// Chosen value of a peer that differs from this node's. In no protocol can this happen, unless a quorum
/// has lost its log, or more nodes broke a promise than the protocol tolerates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Contradiction {
    /// The values differ in this slot or in one before it.
    pub slot: Slot,
    /// The peer.
    pub by: NodeId,
}

/// Change of a timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TimerChange<T> {
    /// Starts the timer, or starts it again. The driver draws its duration from the range.
    Set(T, Range<Duration>),
    /// Stops the timer.
    Cancel(T),
}

/// Effects that a core may add: a write-only view of its host's [`Outbox`].
#[derive(Debug)]
pub struct Effects<'a, P: Protocol>(&'a mut Outbox<P>);

impl<P: Protocol> Effects<'_, P> {
    fn outbox(&mut self) -> &mut Outbox<P> {
        self.0.is_touched = true;
        self.0
    }

    fn outputs(&mut self) -> &mut Outputs<P> {
        let outbox = self.outbox();
        outbox.outputs.has_output = true;
        &mut outbox.outputs
    }

    /// Adds a durable write. The writes of one [round](crate::Host::round) become durable together, in
    /// this order.
    pub fn write(&mut self, write: Write<P>) {
        self.outbox().writes.push(write);
    }

    /// Sends a message as soon as its [gate](crate::Gate) allows. A node sends its votes to itself,
    /// too, so that they count only once they are durable.
    pub fn send(&mut self, to: NodeId, message: P::Message) {
        self.outbox().sends.push((to, message));
    }

    /// Starts a timer, or starts it again. The driver draws its duration from `after`; an empty range
    /// stands for its start.
    pub fn set_timer(&mut self, timer: P::Timer, after: Range<Duration>) {
        // The driver draws, so that the core needs no random numbers and each run can be replayed.
        self.outputs().timers.push(TimerChange::Set(timer, after));
    }

    /// Stops a timer. Has no effect if it is not running.
    pub fn cancel_timer(&mut self, timer: P::Timer) {
        self.outputs().timers.push(TimerChange::Cancel(timer));
    }

    /// Reports chosen slots: in order, without a gap, each once in a core's life.
    pub fn chosen(&mut self, run: Run<P::Stamp>) {
        self.outputs().chosen.push(run);
    }

    /// Reports that a proposal is in this node's log at `at`. It need not be chosen yet.
    pub fn placed(&mut self, ticket: Ticket, at: Slot) {
        self.outputs().placed.push((ticket, at));
    }

    /// Reports proposals that are in this node's log now, in consecutive slots from `first` on.
    pub fn placed_from(&mut self, first: Slot, tickets: impl ExactSizeIterator<Item = Ticket>) {
        let placed = tickets.enumerate().map(|(index, ticket)| (ticket, first.plus(index)));
        self.outputs().placed.extend(placed);
    }

    /// Refuses a proposal: it is in no log.
    pub fn refuse(&mut self, ticket: Ticket, why: Refusal) {
        self.outputs().refused.push((ticket, why));
    }

    /// Reports that a read may be served from a state at or past `at`.
    pub fn read_ready(&mut self, id: ReadId, at: Slot) {
        self.outputs().reads.push((id, Ok(at)));
    }

    /// Refuses a read.
    pub fn refuse_read(&mut self, id: ReadId, why: Refusal) {
        self.outputs().reads.push((id, Err(why)));
    }

    /// Requests that a snapshot be sent to a peer that needs slots which the log no longer holds. The
    /// core repeats it while that is so, and the driver ignores it while a transfer runs.
    pub fn ship_snapshot(&mut self, to: NodeId) {
        // A core repeats the request with each message that it cannot send.
        if !self.outputs().snapshots.contains(&to) {
            self.outputs().snapshots.push(to);
        }
    }

    /// Sets the members that the network connects to: those in force, perhaps not chosen yet.
    pub fn peers(&mut self, members: &Membership) {
        self.outputs().peers = Some(members.clone());
    }

    /// Reports that this node's chosen slots contradict a peer's. Nothing of the present round leaves
    /// the host, and the driver stops the node.
    pub fn contradicted(&mut self, found: Contradiction) {
        // One is enough to stop the node; the first is the one to look at.
        self.outbox().contradiction.get_or_insert(found);
    }

    /// Adds an event for logs, metrics and transcripts.
    pub fn note(&mut self, event: ProtocolEvent) {
        self.outputs().notes.push(event);
    }
}

/// Reason why a proposal or a read is refused. It determines what the client should do. The enum is
/// exhaustive on purpose: a new reason must not compile until each API handles it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Refusal {
    /// Another node leads: retry there.
    NotLeader {
        /// The leader, as far as this node can tell.
        hint: Option<NodeId>,
    },
    /// Too much is in flight: retry later.
    Busy,
    /// The members have changed: retry at one of these.
    WrongEpoch {
        /// The configuration in force.
        epoch: Epoch,
        /// Its members.
        members: Membership,
    },
    /// The command exceeds the limit of the settings.
    TooLarge {
        /// The longest command in bytes.
        limit: u64,
    },
    /// The protocol does not support the request.
    Unsupported,
}

/// Event inside a protocol, for logs, metrics and transcripts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProtocolEvent {
    /// The node requests pre-votes: it checks that it could win an election before it enters a term.
    PreCampaigning {
        /// Ballot that it would campaign under.
        ballot: Ballot,
    },
    /// The node campaigns.
    Campaigning {
        /// Ballot that it campaigns under.
        ballot: Ballot,
    },
    /// The node gave its vote or promise.
    Voted {
        /// Candidate that receives it.
        to: NodeId,
        /// The candidate's ballot.
        ballot: Ballot,
    },
    /// The node leads.
    Leading {
        /// Its ballot.
        ballot: Ballot,
    },
    /// The node follows a leader that it did not follow before.
    Following {
        /// The leader.
        leader: NodeId,
        /// The leader's ballot.
        ballot: Ballot,
    },
    /// The node has ceased to lead or to campaign.
    SteppedDown {
        /// Ballot under which it did.
        ballot: Ballot,
        /// The reason.
        reason: StepDownReason,
    },
    /// The node waits before its next ballot, so that two proposers do not outbid each other for ever.
    BackingOff {
        /// Ballot that was overtaken.
        ballot: Ballot,
        /// Range from which the driver draws the wait.
        within: Range<Duration>,
    },
    /// A suffix of the log that was never chosen is removed.
    Truncated {
        /// First slot that is removed.
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
