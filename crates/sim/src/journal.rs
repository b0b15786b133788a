//! What a cluster does, in words: for scripts, and for whoever looks into a seed.

use crate::check::chosen::describe;
use synod_consensus::{Message, Protocol, ProtocolEvent, Write};
use synod_replica::{Outcome, Payload, Run, decode_frame};
use synod_types::{NodeId, Slot, Values};

/// One thing seen.
#[derive(Clone, Debug)]
pub(crate) enum Sight {
    /// A line about a node.
    Line(String),
    /// An operation of a client of this node ended.
    Answer { node: NodeId, id: u64, how: String },
}

/// Lines, if anyone wants to read them.
#[derive(Debug, Default)]
pub(crate) struct Journal(Option<Vec<Sight>>);

impl Journal {
    /// From now on everything is written down.
    pub(crate) fn open(&mut self) {
        self.0 = Some(Vec::new());
    }

    /// Takes what was written down.
    pub(crate) fn take(&mut self) -> Vec<Sight> {
        self.0.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn line(&mut self, line: impl FnOnce() -> String) {
        if let Some(sights) = &mut self.0 {
            sights.push(Sight::Line(line()));
        }
    }

    pub(crate) fn answer(&mut self, node: NodeId, id: u64, outcome: &Outcome) {
        if let Some(sights) = &mut self.0 {
            let how = match outcome {
                Outcome::Done(slot, _) => format!("done at slot {slot}"),
                Outcome::Readable => "readable".into(),
                Outcome::Refused(why) => format!("refused, {why:?}"),
                Outcome::Unknown => "unknown".into(),
            };
            sights.push(Sight::Answer { node, id, how });
        }
    }
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
        Ok((_, Payload::Refused { requests, why })) => {
            format!("Refused({} requests, {why:?})", requests.len())
        }
        Err(error) => format!("<{error}>"),
    }
}

/// What happened inside a protocol.
pub(crate) fn note_in_words(note: &ProtocolEvent) -> String {
    match note {
        ProtocolEvent::Canvassing { ballot } => format!("asks around for {ballot}"),
        ProtocolEvent::Campaigning { ballot } => format!("campaigns under {ballot}"),
        ProtocolEvent::Voted { to, ballot } => format!("votes for {to:?} under {ballot}"),
        ProtocolEvent::Leading { ballot } => format!("leads under {ballot}"),
        ProtocolEvent::Following { leader, ballot } => {
            format!("follows {leader:?} under {ballot}")
        }
        ProtocolEvent::SteppedDown { ballot, reason } => {
            format!("steps down from {ballot}: {reason}")
        }
        ProtocolEvent::Truncated { from } => format!("cuts its log from slot {from} on"),
        ProtocolEvent::Ignored { from, reason } => format!("ignores {from:?}: {reason}"),
    }
}
