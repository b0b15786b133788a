//! The driver's interface: events in, actions out, as plain data.

use crate::{Applied, RequestSeq};
use bytes::Bytes;
use synod_consensus::{FatalError, ProtocolEvent, Refusal, Status};
use synod_storage::Batch;
use synod_types::{Instant, Lane, Membership, NodeId, Seq, Slot, Values};

/// Replica without its protocol in the type, so that the loop that runs it compiles once for all
/// protocols.
pub trait Driver: Send {
    /// Processes one event. The caller reads `now` after it takes the event from its queue. If the
    /// clock goes back, the replica keeps the latest time that it has seen.
    fn handle(&mut self, now: Instant, event: Event);

    /// Ends a round: flushes the core and returns the work since the last call. Each action is
    /// returned once, so the caller must carry out all of them.
    #[must_use = "the driver keeps no copy of these actions"]
    fn take(&mut self, now: Instant) -> Actions;

    /// Returns the status of the core.
    fn status(&self) -> Status;

    /// Returns the counters of events since the start.
    fn counters(&self) -> &Counters;

    /// Returns the number of pending requests and reads of this node's clients.
    fn outstanding(&self) -> usize;
}

/// Identifier of a client's request or read, chosen by the runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Input of a replica.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame arrived from an authenticated peer.
    Frame {
        /// The peer.
        from: NodeId,
        /// Its bytes, not yet validated.
        frame: Bytes,
    },
    /// The time in [`Actions::wake`] was reached.
    Wake,
    /// All batches up to this one are durable.
    Written(Seq),
    /// Runs were applied.
    Applied(Applied),
    /// A client's command.
    Request {
        /// Identifier that its response carries.
        token: Token,
        /// The command for the state machine.
        command: Bytes,
        /// Time at which the request ends without a reply.
        deadline: Instant,
    },
    /// A client's linearizable read: ends with [`Outcome::Readable`].
    Read {
        /// Identifier that its response carries.
        token: Token,
        /// Time at which the request ends without a reply.
        deadline: Instant,
    },
}

/// Work for the runner of a replica. The runner queues the batch for the disk first, then carries
/// out the rest. Nothing here waits for the batch: the driver holds back messages that must wait.
#[derive(Debug, Default)]
pub struct Actions {
    /// Batch for the log store, to be reported by [`Event::Written`] once it is durable. Consecutive
    /// batches may share one sync; the report then carries the last number.
    pub batch: Option<(Seq, Batch)>,
    /// Frames to send.
    pub frames: Vec<(NodeId, Lane, Bytes)>,
    /// Runs to apply, in order.
    pub apply: Vec<ChosenRun>,
    /// Last slot whose effects may be saved: the log is durable through it.
    pub durable: Option<Slot>,
    /// Outcomes for clients.
    pub responses: Vec<Response>,
    /// New members, for the transport, if they changed.
    pub peers: Option<Membership>,
    /// Events of the protocol, for logs and metrics.
    pub notes: Vec<ProtocolEvent>,
    /// Time at which to send [`Event::Wake`]; replaces the time of the round before.
    pub wake: Option<Instant>,
    /// Error after which the node must stop. All other fields are empty, in this and every later
    /// round.
    pub fatal: Option<FatalError>,
}

/// Consecutive chosen slots for the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenRun {
    /// The slot of the first value.
    pub first: Slot,
    /// The values.
    pub values: Values,
}

impl ChosenRun {
    /// Returns the slot of the last value.
    #[must_use]
    pub fn last(&self) -> Slot {
        self.first.plus(self.values.len()).prev()
    }
}

/// Response to a client's request or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Identifier of the request or read.
    pub token: Token,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Outcome of a request or a read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The command was applied, at this slot, with this reply.
    Done(Slot, Bytes),
    /// The applied state of this node is now recent enough for the read.
    Readable,
    /// The request was not proposed and never will be: a retry is safe.
    Refused(Refusal),
    /// The request timed out in flight: it may have been applied, or may be applied later.
    Unknown,
}

/// Counters of a replica since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames processed.
    pub frames: u64,
    /// Frames dropped because they were damaged or of another wire version.
    pub frames_malformed: u64,
    /// Frames dropped because they were of another cluster, group or epoch.
    pub frames_foreign: u64,
    /// Frames dropped because their sender is not the peer that the transport authenticated.
    pub frames_forged: u64,
    /// Frames dropped because their sender's store was wiped, replaced or cloned since its first
    /// frame.
    pub frames_wrong_incarnation: u64,
    /// Requests received from this node's clients.
    pub requests: u64,
    /// Messages of the log and bulk lanes that were dropped because the disk is too far behind.
    pub frames_dropped: u64,
    /// Requests forwarded to a leader, retries included.
    pub forwarded: u64,
    /// Requests queued again because they may be lost.
    pub retried: u64,
    /// Stalls: times that the disk or the apply side completed no work within the stall limit.
    pub stalls: u64,
}

/// Request of this node's clients that this node has applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) seq: RequestSeq,
    pub(crate) slot: Slot,
    pub(crate) reply: Bytes,
}
