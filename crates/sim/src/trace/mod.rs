//! What a cluster does, in words: for scripts, and for whoever looks into a seed.

pub(crate) mod fault_text;

use crate::check::chosen::describe;
use std::collections::VecDeque;
use synod_consensus::{Message, Protocol, ProtocolEvent, Write};
use synod_replica::{Outcome, Payload, Run, decode_frame};
use synod_types::{Instant, NodeId, Slot, Values};

/// One thing seen.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// A line about a node.
    Line(String),
    /// An operation of a client of this node ended.
    Answer { node: NodeId, id: u64, how: String },
}

/// What is written down, if anyone wants to read it.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    mode: Mode,
    /// The simulated time.
    pub(crate) now: Instant,
    sights: VecDeque<(Instant, Sight)>,
    story: Vec<String>,
}

/// How much is written down.
#[derive(Clone, Copy, Debug, Default)]
enum Mode {
    #[default]
    Nothing,
    /// All that nodes do.
    Deeds,
    /// The same and what befalls them, up to this many lines of what came last; and the story.
    Tail(usize),
}

impl Journal {
    /// From now on all that nodes do is written down.
    pub(crate) fn open(&mut self) {
        self.mode = Mode::Deeds;
    }

    /// From now on the story is written down, and this many lines of what came last.
    pub(crate) fn keep_tail(&mut self, lines: usize) {
        self.mode = Mode::Tail(lines);
    }

    /// Takes what was written down.
    pub(crate) fn take(&mut self) -> Vec<Sight> {
        self.sights.drain(..).map(|(_, sight)| sight).collect()
    }

    /// The main events: faults, deaths, votes, new leaders.
    pub(crate) fn take_story(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story)
    }

    /// What came last, in words.
    pub(crate) fn take_tail(&mut self) -> Vec<String> {
        let lines = self.sights.drain(..).map(|(at, sight)| match sight {
            Sight::Line(line) => timed(at, &line),
            Sight::Answer { node, id, how } => {
                timed(at, &format!("{node:?} answers operation {id}: {how}"))
            }
        });
        lines.collect()
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if !matches!(self.mode, Mode::Nothing) {
            self.see(Sight::Line(line()));
        }
    }

    /// Something that belongs into the story.
    pub(crate) fn event(&mut self, line: impl FnOnce() -> String) {
        if matches!(self.mode, Mode::Tail(_)) {
            let line = line();
            self.story.push(timed(self.now, &line));
            self.see(Sight::Line(line));
        }
    }

    /// Something happened in a protocol.
    pub(crate) fn note(&mut self, node: NodeId, note: &ProtocolEvent) {
        let line = || format!("{node:?} {note}");
        match (self.mode, note) {
            (Mode::Tail(_), ProtocolEvent::Leading { .. } | ProtocolEvent::Voted { .. }) => {
                self.event(line);
            }
            _ => self.line(line),
        }
    }

    pub(crate) fn answer(&mut self, node: NodeId, id: u64, outcome: &Outcome) {
        if !matches!(self.mode, Mode::Nothing) {
            let how = match outcome {
                Outcome::Done(slot, _) => format!("done at slot {slot}"),
                Outcome::Readable => "readable".into(),
                Outcome::Refused(why) => format!("refused, {why:?}"),
                Outcome::Unknown => "unknown".into(),
            };
            self.see(Sight::Answer { node, id, how });
        }
    }

    fn see(&mut self, sight: Sight) {
        self.sights.push_back((self.now, sight));
        if let Mode::Tail(lines) = self.mode
            && self.sights.len() > lines
        {
            self.sights.pop_front();
        }
    }
}

/// A line with the time before it.
fn timed(at: Instant, line: &str) -> String {
    format!("{:>10.6} s  {line}", at.since(Instant::ZERO).as_secs_f64())
}

/// A write as the disk gets it.
pub(crate) fn write_in_words<P: Protocol>(write: &Write<P>) -> String {
    match write {
        Write::HardState(hard_state) => format!("{hard_state:?}"),
        Write::Put(run) => {
            format!("{} under {:?}", values_in_words(run.first, &run.values), run.stamp)
        }
        Write::TruncateFrom(slot) => format!("a cut from slot {slot} on"),
        Write::Compact(base) => format!("a base at slot {}", base.through),
    }
}

/// Slots and what they hold: `3 no-op, 4 x=5`.
pub(crate) fn values_in_words(first: Slot, values: &Values) -> String {
    let words = values.iter().enumerate().map(|(index, value)| {
        let slot = first.plus(index);
        format!("{slot} {}", describe(&value))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Chosen slots.
pub(crate) fn run_in_words(run: &Run) -> String {
    values_in_words(run.first, &run.values)
}

/// What a frame says.
pub(crate) fn frame_in_words<P: Protocol>(frame: &[u8]) -> String {
    match decode_frame::<P::Message>(frame) {
        Ok((_, Payload::Protocol(message))) => message.describe(),
        Ok((_, Payload::Forward(requests))) => {
            let words: Vec<_> = requests.iter().map(|request| describe(&request)).collect();
            format!("Forward({})", words.join(", "))
        }
        Ok((_, Payload::Taken { requests })) => format!("Taken({} requests)", requests.len()),
        Ok((_, Payload::Refused { requests, why })) => {
            format!("Refused({} requests, {why:?})", requests.len())
        }
        Err(error) => format!("<{error}>"),
    }
}
