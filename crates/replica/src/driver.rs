//! The driver's interface: events in, actions out, as plain data.

use crate::{Applied, RequestSeq};
use bytes::Bytes;
use synod_consensus::{FatalError, ProtocolEvent, Refusal, Status};
use synod_storage::Batch;
use synod_types::{Instant, Lane, Membership, NodeId, Seq, Slot, Values};

/// Replica without its protocol in the type: the loop that runs it compiles once for all protocols.
pub trait Driver: Send {
    /// Processes one event. `now` is read after the event left its queue, from a clock that should
    /// never go back: if it does, it counts as standing still until it has caught up.
    fn handle(&mut self, now: Instant, event: Event);

    /// Ends a round: flushes the core and hands out the work since the last call, for the caller to
    /// carry out. Nothing is handed out twice, so nothing may be dropped.
    #[must_use = "the driver keeps no copy of these actions"]
    fn take(&mut self, now: Instant) -> Actions;

    /// Returns the status of the core.
    fn status(&self) -> Status;

    /// Returns the counters since the start.
    fn counters(&self) -> &Counters;

    /// Returns the number of pending requests and reads of this node's clients.
    fn outstanding(&self) -> usize;
}

/// Name of a client's request or read between the driver and its runner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Input of a replica.
#[derive(Clone, Debug)]
pub enum Event {
    /// A frame arrived from an authenticated peer.
    Frame {
        /// The peer.
        from: NodeId,
        /// Its bytes; not to be trusted.
        frame: Bytes,
    },
    /// The time named by [`Actions::wake`] has come.
    Wake,
    /// All batches up to this one are durable.
    Written(Seq),
    /// Runs were applied.
    Applied(Applied),
    /// A client's command.
    Request {
        /// Its name in the answer.
        token: Token,
        /// The command for the state machine.
        command: Bytes,
        /// Time at which the request ends without a reply.
        deadline: Instant,
    },
    /// A client's linearizable read: answered by [`Outcome::Readable`].
    Read {
        /// Its name in the answer.
        token: Token,
        /// Time at which the request ends without a reply.
        deadline: Instant,
    },
}

/// Work that a replica hands out, to be carried out in this order: first the writes go to the disk,
/// then the rest. Nothing here waits for those writes; what must wait was held back.
#[derive(Debug, Default)]
pub struct Actions {
    /// To be written, then reported by [`Event::Written`]. Batches may be merged into one sync as
    /// long as their order stays; then the last number is reported.
    pub batch: Option<(Seq, Batch)>,
    /// To be sent.
    pub frames: Vec<(NodeId, Lane, Bytes)>,
    /// To be applied, in order.
    pub apply: Vec<ChosenRun>,
    /// The applied state may be made durable up to here, and not further.
    pub durable: Option<Slot>,
    /// For clients.
    pub answers: Vec<Answer>,
    /// The members now, if they changed: for the transport.
    pub peers: Option<Membership>,
    /// Events of the protocol.
    pub notes: Vec<ProtocolEvent>,
    /// Time to send [`Event::Wake`] at; replaces the time of the round before.
    pub wake: Option<Instant>,
    /// The node must stop. All else is empty then, and stays so.
    pub fatal: Option<FatalError>,
}

/// Chosen slots on their way to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenRun {
    /// The slot of the first value.
    pub first: Slot,
    /// The values.
    pub values: Values,
}

impl ChosenRun {
    /// The slot of the last value.
    #[must_use]
    pub fn last(&self) -> Slot {
        self.first.plus(self.values.len()).prev()
    }
}

/// Answer to a client's request or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Name of the request or read.
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
    /// It was not proposed and never will be: safe to retry.
    Refused(Refusal),
    /// It timed out while it was in flight: it may have been applied, or may yet be.
    Unknown,
}

/// Counters of a replica since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames processed.
    pub frames: u64,
    /// Frames that were damaged, or of another wire version.
    pub frames_malformed: u64,
    /// Frames of another cluster, group or epoch.
    pub frames_foreign: u64,
    /// Frames whose sender is not the one that the transport authenticated.
    pub frames_forged: u64,
    /// Frames of a store that is not the one its node had before: wiped, or a clone.
    pub frames_wrong_incarnation: u64,
    /// Requests of this node's clients.
    pub requests: u64,
    /// Frames of the log that were dropped because the disk is too far behind.
    pub frames_dropped: u64,
    /// Requests sent on to a leader, repetitions included.
    pub forwarded: u64,
    /// Requests queued again because they may be lost.
    pub retried: u64,
    /// Times that the disk or the apply side completed nothing in time while work waited.
    pub stalls: u64,
}

/// A request of this node that was applied here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) seq: RequestSeq,
    pub(crate) slot: Slot,
    pub(crate) reply: Bytes,
}
