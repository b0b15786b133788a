//! The faults of one run as an explicit list: recorded while they are drawn, and replayed
//! as they stand or with some of them left out.

mod text;

use crate::cluster::network::links::Link;
use crate::faults::kind::Fault;
use std::fmt;
use std::time::Duration;
use synod_types::Instant;

/// The faults of one run, in the order in which they occurred.
///
/// A schedule prints itself as lines and is parsed from them; empty lines and those that begin
/// with `#` say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<ScheduleEntry>,
}

/// One fault, with everything that is drawn about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleEntry(pub(crate) ScheduledFault);

/// A fault and its time or message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ScheduledFault {
    /// At a point in time, after all else that happens there.
    At(Instant, NodeFault),
    /// To the message that was sent as the `number`th (from 0) of its link.
    Message { link: Link, number: u64, message_fault: MessageFault },
}

/// A fault of nodes or links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeFault {
    pub(crate) fault: Fault,
    pub(crate) effect: FaultEffect,
}

/// Effect of a fault. Nodes are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultEffect {
    /// To these links, for so long.
    Links(Vec<Link>, Duration),
    /// These nodes die and come back.
    Crash(Vec<CrashSpec>),
    /// To this node, for so long.
    Stall(usize, Duration),
    /// This node dies, and its log is damaged; the number decides where.
    CorruptDisk(CrashSpec, u64),
    /// This node's disk fails, which kills it; for so long it cannot be opened.
    FailDisk(CrashSpec, Duration),
    /// This node's clock is set, by so much.
    ClockShift(usize, Duration),
    /// This node's clock gains so many parts of a million, for so long.
    ClockDrift(usize, i32, Duration),
}

/// A node that dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CrashSpec {
    pub(crate) node: usize,
    /// Number of unsynced batches of its log that survive, oldest first;
    /// `None` is all.
    pub(crate) keep: Option<usize>,
    /// The same for its state.
    pub(crate) keep_state: Option<usize>,
    /// Its messages in flight are lost.
    pub(crate) drops_in_flight: bool,
    /// Time until it is started again.
    pub(crate) down: Duration,
}

/// A fault of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageFault {
    /// It is lost.
    Lost,
    /// It arrives a second time, so long after it was sent.
    Duplicated(Duration),
    /// It takes so much longer.
    Delayed(Duration),
    /// It need not keep its place.
    Reordered,
    /// It arrives once more, so long after it was sent.
    Replayed(Duration),
    /// This bit of it flips, counted from the first of its first byte and round and round.
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
    /// Returns its kind.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match &self.0 {
            ScheduledFault::At(_, node_fault) => node_fault.fault,
            ScheduledFault::Message { message_fault, .. } => message_fault.fault(),
        }
    }
}

impl Schedule {
    /// Every fault, in the order in which they happened.
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

/// A line of a schedule cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleError {
    /// Line, counted from 1; 0 if the line stood alone.
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
