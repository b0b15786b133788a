//! What a cluster does, in words: for scripts, and for whoever looks into a seed.

pub(crate) mod fault_text;
pub(crate) mod messages;

use std::collections::VecDeque;
use synod_consensus::ProtocolEvent;
use synod_replica::Outcome;
use synod_types::{Instant, NodeId};

/// One thing seen.
#[derive(Clone, Debug)]
pub(crate) enum TraceEvent {
    /// A line about a node.
    Line(String),
    /// An operation of a client of this node ended.
    Answer { node: NodeId, id: u64, how: String },
}

/// What is written down, if anyone wants to read it.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    mode: Mode,
    /// The simulated time.
    pub(crate) now: Instant,
    events: VecDeque<(Instant, TraceEvent)>,
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

impl Trace {
    /// From now on all that nodes do is written down.
    pub(crate) fn open(&mut self) {
        self.mode = Mode::Deeds;
    }

    /// From now on the story is written down, and this many lines of what came last.
    pub(crate) fn keep_recent(&mut self, lines: usize) {
        self.mode = Mode::Tail(lines);
    }

    /// Takes what was written down.
    pub(crate) fn take(&mut self) -> Vec<TraceEvent> {
        self.events.drain(..).map(|(_, event)| event).collect()
    }

    /// The main events: faults, deaths, votes, new leaders.
    pub(crate) fn take_transcript(&mut self) -> Vec<String> {
        std::mem::take(&mut self.story)
    }

    /// What came last, in words.
    pub(crate) fn take_recent(&mut self) -> Vec<String> {
        let lines = self.events.drain(..).map(|(at, event)| match event {
            TraceEvent::Line(line) => timed(at, &line),
            TraceEvent::Answer { node, id, how } => {
                timed(at, &format!("{node:?} answers operation {id}: {how}"))
            }
        });
        lines.collect()
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if !matches!(self.mode, Mode::Nothing) {
            self.see(TraceEvent::Line(line()));
        }
    }

    /// Something that belongs into the story.
    pub(crate) fn event(&mut self, line: impl FnOnce() -> String) {
        if matches!(self.mode, Mode::Tail(_)) {
            let line = line();
            self.story.push(timed(self.now, &line));
            self.see(TraceEvent::Line(line));
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
            self.see(TraceEvent::Answer { node, id, how });
        }
    }

    fn see(&mut self, event: TraceEvent) {
        self.events.push_back((self.now, event));
        if let Mode::Tail(lines) = self.mode
            && self.events.len() > lines
        {
            self.events.pop_front();
        }
    }
}

/// A line with the time before it.
fn timed(at: Instant, line: &str) -> String {
    format!("{:>10.6} s  {line}", at.since(Instant::ZERO).as_secs_f64())
}
