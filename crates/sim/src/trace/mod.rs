//! Trace of a run, as text. Scripts print it, and it helps to analyse a seed.

pub(crate) mod fault_text;
pub(crate) mod messages;

use std::collections::VecDeque;
use synod_consensus::ProtocolEvent;
use synod_replica::Outcome;
use synod_types::{Instant, NodeId};

/// Event of the trace.
#[derive(Clone, Debug)]
pub(crate) enum TraceEvent {
    /// Line about a node.
    Line(String),
    /// Reply of this node to a client's operation.
    Reply { node: NodeId, id: u64, outcome: String },
}

/// Recorded events of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    verbosity: Verbosity,
    /// Simulated time.
    pub(crate) now: Instant,
    events: VecDeque<(Instant, TraceEvent)>,
    transcript: Vec<String>,
}

/// Amount of detail that is recorded.
#[derive(Clone, Copy, Debug, Default)]
enum Verbosity {
    #[default]
    Off,
    /// All actions of nodes.
    NodeActions,
    /// This many of the newest lines about actions of nodes and faults, and the transcript.
    Recent(usize),
}

impl Trace {
    /// Records all actions of nodes from now on.
    pub(crate) fn record_node_actions(&mut self) {
        self.verbosity = Verbosity::NodeActions;
    }

    /// Records the transcript and this many of the newest lines from now on.
    pub(crate) fn keep_recent(&mut self, lines: usize) {
        self.verbosity = Verbosity::Recent(lines);
    }

    /// Takes the recorded events.
    pub(crate) fn take(&mut self) -> Vec<TraceEvent> {
        self.events.drain(..).map(|(_, event)| event).collect()
    }

    /// Takes the transcript: faults, crashes, votes, new leaders.
    pub(crate) fn take_transcript(&mut self) -> Vec<String> {
        std::mem::take(&mut self.transcript)
    }

    /// Takes the newest lines.
    pub(crate) fn take_recent(&mut self) -> Vec<String> {
        let lines = self.events.drain(..).map(|(at, event)| match event {
            TraceEvent::Line(line) => timed(at, &line),
            TraceEvent::Reply { node, id, outcome } => {
                timed(at, &format!("{node:?} replies to operation {id}: {outcome}"))
            }
        });
        lines.collect()
    }

    pub(crate) fn record(&mut self, line: impl FnOnce() -> String) {
        if !matches!(self.verbosity, Verbosity::Off) {
            self.push(TraceEvent::Line(line()));
        }
    }

    /// Records an event for the transcript.
    pub(crate) fn record_key_event(&mut self, line: impl FnOnce() -> String) {
        if matches!(self.verbosity, Verbosity::Recent(_)) {
            let line = line();
            self.transcript.push(timed(self.now, &line));
            self.push(TraceEvent::Line(line));
        }
    }

    /// Records a protocol event.
    pub(crate) fn record_protocol_event(&mut self, node: NodeId, note: &ProtocolEvent) {
        let line = || format!("{node:?} {note}");
        match (self.verbosity, note) {
            (Verbosity::Recent(_), ProtocolEvent::Leading { .. } | ProtocolEvent::Voted { .. }) => {
                self.record_key_event(line);
            }
            _ => self.record(line),
        }
    }

    pub(crate) fn record_reply(&mut self, node: NodeId, id: u64, outcome: &Outcome) {
        if !matches!(self.verbosity, Verbosity::Off) {
            let outcome = match outcome {
                Outcome::Done(slot, _) => format!("done at slot {slot}"),
                Outcome::Readable => "readable".into(),
                Outcome::Refused(why) => format!("refused, {why:?}"),
                Outcome::Unknown => "unknown".into(),
            };
            self.push(TraceEvent::Reply { node, id, outcome });
        }
    }

    fn push(&mut self, event: TraceEvent) {
        self.events.push_back((self.now, event));
        if let Verbosity::Recent(lines) = self.verbosity
            && self.events.len() > lines
        {
            self.events.pop_front();
        }
    }
}

/// Prefixes a line with its time.
fn timed(at: Instant, line: &str) -> String {
    format!("{:>10.6} s  {line}", at.since(Instant::ZERO).as_secs_f64())
}
