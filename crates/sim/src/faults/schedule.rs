//! The faults of one run as an explicit list: recorded while the dice throw them, and played again
//! as they stand or with some of them left out.

mod text;

use crate::faults::kind::Fault;
use std::collections::VecDeque;
use std::time::Duration;
use synod_types::Instant;
pub use text::ScheduleError;

/// What befell one run, in the order in which it happened.
///
/// A schedule prints itself as lines and is parsed from them; empty lines and those that begin
/// with `#` say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule {
    entries: Vec<Entry>,
}

/// One fault, with everything that the dice had to decide about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry(pub(crate) Moment);

/// When something happens, and what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// At a point in time, after all else that happens there.
    At(Instant, Trouble),
    /// To the message that was sent as the `number`th (from 0) of its link.
    Message { link: (usize, usize), number: u64, mishap: Mishap },
}

/// Something befalls nodes or links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) fault: Fault,
    pub(crate) effect: Effect,
}

/// What a fault does. Nodes are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// To these links, for so long.
    Links(Vec<(usize, usize)>, Duration),
    /// These nodes die and come back.
    Crash(Vec<Victim>),
    /// To this node, for so long.
    Hold(usize, Duration),
    /// This node dies, and its log is damaged; the number decides where.
    Damage(Victim, u64),
    /// This node's disk fails, which kills it; for so long it cannot be opened.
    Fail(Victim, Duration),
    /// This node's clock is set, by so much.
    Shift(usize, Duration),
    /// This node's clock gains so many parts of a million, for so long.
    Drift(usize, i32, Duration),
}

/// A node that dies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Victim {
    pub(crate) node: usize,
    /// How many of the batches that its log has not synced are there after all, oldest first;
    /// `None` is all.
    pub(crate) keep: Option<usize>,
    /// The same for its state.
    pub(crate) keep_state: Option<usize>,
    /// What it sent dies with it, where it has not arrived.
    pub(crate) muted: bool,
    /// When it is started again.
    pub(crate) down: Duration,
}

/// What befalls one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mishap {
    /// It is lost.
    Lost,
    /// It arrives a second time, so long after it was sent.
    Again(Duration),
    /// It takes so much longer.
    Late(Duration),
    /// It need not keep its place.
    Overtakes,
    /// It comes once more so long after, whatever has happened in between.
    Replayed(Duration),
    /// This bit of it flips, counted from the first of its first byte and round and round.
    Flipped(u32),
}

impl Mishap {
    pub(crate) fn fault(self) -> Fault {
        match self {
            Self::Lost => Fault::Loss,
            Self::Again(_) => Fault::Duplicate,
            Self::Late(_) => Fault::DelaySpike,
            Self::Overtakes => Fault::Reorder,
            Self::Replayed(_) => Fault::Replay,
            Self::Flipped(_) => Fault::Corruption,
        }
    }
}

impl Entry {
    /// Which kind of fault it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match &self.0 {
            Moment::At(_, trouble) => trouble.fault,
            Moment::Message { mishap, .. } => mishap.fault(),
        }
    }
}

impl Schedule {
    /// Every fault, in the order in which they happened.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How many faults it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing befalls the run.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn push(&mut self, moment: Moment) {
        self.entries.push(Entry(moment));
    }
}

impl FromIterator<Entry> for Schedule {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        Self { entries: entries.into_iter().collect() }
    }
}

/// Where a run's faults come from, and where they are written down.
#[derive(Debug)]
pub(crate) struct Director {
    /// What happened so far.
    pub(crate) recorded: Schedule,
    /// Whether the dice decide; else the messages' fates were read from a schedule.
    drawing: bool,
    /// What is still to befall messages, by link.
    given: Vec<VecDeque<(u64, Mishap)>>,
    nodes: usize,
}

impl Director {
    /// The dice decide.
    pub(crate) fn drawing(nodes: usize) -> Self {
        Self { recorded: Schedule::default(), drawing: true, given: Vec::new(), nodes }
    }

    /// A schedule decides. What it says about links and nodes that are not there is passed over.
    pub(crate) fn playing(nodes: usize, schedule: &Schedule) -> Self {
        let mut given = vec![Vec::new(); nodes * nodes];
        for Entry(moment) in &schedule.entries {
            if let Moment::Message { link: (from, to), number, mishap } = moment
                && *from < nodes
                && *to < nodes
            {
                given[from * nodes + to].push((*number, *mishap));
            }
        }
        given.iter_mut().for_each(|link| link.sort_by_key(|(number, _)| *number));
        let given = given.into_iter().map(VecDeque::from).collect();
        Self { recorded: Schedule::default(), drawing: false, given, nodes }
    }

    pub(crate) fn is_drawing(&self) -> bool {
        self.drawing
    }

    /// The next thing that a schedule has for this message.
    pub(crate) fn take(&mut self, (from, to): (usize, usize), number: u64) -> Option<Mishap> {
        let link = self.given.get_mut(from * self.nodes + to)?;
        while link.front().is_some_and(|(at, _)| *at < number) {
            link.pop_front();
        }
        link.pop_front_if(|(at, _)| *at == number).map(|(_, mishap)| mishap)
    }
}
