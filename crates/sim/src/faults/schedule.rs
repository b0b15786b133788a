//! Faults of one run as an explicit list: recorded while they are drawn, and replayed in full or in
//! part.

mod text;

use crate::cluster::network::links::Link;
use crate::faults::kind::Fault;
use std::fmt;
use std::time::Duration;
use synod_types::Instant;

/// Faults of one run, in the order in which they occurred.
///
/// A schedule displays as lines and is parsed from them; empty lines and those that begin with `#`
/// are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<ScheduleEntry>,
}

/// Fault with all its random draws.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleEntry(pub(crate) ScheduledFault);

/// Fault and its time or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScheduledFault {
    /// At a point in time, after all other events of that instant.
    At(Instant, NodeFault),
    /// On the `number`th message (from 0) of its link.
    Message { link: Link, number: u64, message_fault: MessageFault },
}

/// Fault of nodes or links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFault {
    pub(crate) fault: Fault,
    pub(crate) effect: FaultEffect,
}

/// Effect of a fault. Nodes are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultEffect {
    /// Cuts or clogs these links, for this long.
    Links(Vec<Link>, Duration),
    /// Crashes these nodes and restarts them.
    Crash(Vec<CrashSpec>),
    /// Stalls or slows this node, its disk or its apply thread, for this long.
    Stall(usize, Duration),
    /// Crashes this node and corrupts its log; the number seeds the choice of what is corrupted.
    CorruptDisk(CrashSpec, u64),
    /// Fails this node's disk, which crashes the node; the disk cannot be opened for this long.
    FailDisk(CrashSpec, Duration),
    /// Shifts this node's clock by this much: back for [`Fault::JumpBack`], else ahead.
    ClockShift(usize, Duration),
    /// Lets this node's clock drift by so many parts per million, for this long.
    ClockDrift(usize, i32, Duration),
}

/// Crash of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashSpec {
    pub(crate) node: usize,
    /// Number of unsynced batches of its log that survive, oldest first; `None` keeps all.
    pub(crate) keep: Option<usize>,
    /// Number of unsynced batches of its state that survive.
    pub(crate) keep_state: Option<usize>,
    /// True if its messages in flight are lost.
    pub(crate) drops_in_flight: bool,
    /// Time until it is started again.
    pub(crate) down: Duration,
}

/// Fault of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageFault {
    /// Dropped by the network.
    Lost,
    /// Arrives a second time, this long after it was sent.
    Duplicated(Duration),
    /// Delayed by this much in addition to its usual delay.
    Delayed(Duration),
    /// Delivered before earlier messages, if its delay allows.
    Reordered,
    /// Arrives again, this long after it was sent.
    Replayed(Duration),
    /// This bit flips, counted from the first bit of the message, modulo its length.
    Corrupted(u32),
}

impl MessageFault {
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Lost => Fault::Loss,
            Self::Duplicated(_) => Fault::Duplicate,
            Self::Delayed(_) => Fault::DelaySpike,
            Self::Reordered => Fault::Reorder,
            Self::Replayed(_) => Fault::Replay,
            Self::Corrupted(_) => Fault::Corruption,
        }
    }
}

impl ScheduleEntry {
    /// Returns the kind of the fault.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match &self.0 {
            ScheduledFault::At(_, node_fault) => node_fault.fault,
            ScheduledFault::Message { message_fault, .. } => message_fault.fault(),
        }
    }
}

impl Schedule {
    /// Returns all faults, in the order in which they occurred.
    #[must_use]
    pub fn entries(&self) -> &[ScheduleEntry] {
        &self.entries
    }

    /// Returns the number of faults.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no faults.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, scheduled: ScheduledFault) {
        self.entries.push(ScheduleEntry(scheduled));
    }
}

impl FromIterator<ScheduleEntry> for Schedule {
    fn from_iter<I: IntoIterator<Item = ScheduleEntry>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

/// Error of parsing a line of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// Number of the line, from 1; 0 if only one line was parsed.
    pub line: usize,
    /// The reason.
    pub reason: String,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

impl std::error::Error for ScheduleError {}
