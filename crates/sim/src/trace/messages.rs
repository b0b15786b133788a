//! Text for writes, values, frames and protocol events.

use crate::check::chosen::describe;
use synod_consensus::{Message, Protocol, Write};
use synod_replica::{ChosenRun, Payload, decode_frame};
use synod_types::{Slot, Values};

/// Describes a write to the disk.
pub(crate) fn describe_write<P: Protocol>(write: &Write<P>) -> String {
    match write {
        Write::HardState(hard_state) => format!("{hard_state:?}"),
        Write::Put(run) => {
            format!("{} under {:?}", describe_values(run.first, &run.values), run.stamp)
        }
        Write::TruncateFrom(slot) => format!("a cut from slot {slot} on"),
        Write::Compact(base) => format!("a base at slot {}", base.through),
    }
}

/// Describes slots and their values: `3 no-op, 4 x=5`.
pub(crate) fn describe_values(first: Slot, values: &Values) -> String {
    let words = values.iter().enumerate().map(|(index, value)| {
        let slot = first.plus(index);
        format!("{slot} {}", describe(&value))
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Describes chosen slots.
pub(crate) fn describe_run(run: &ChosenRun) -> String {
    describe_values(run.first, &run.values)
}

/// Describes the content of a frame.
pub(crate) fn describe_frame<P: Protocol>(frame: &[u8]) -> String {
    match decode_frame::<P::Message>(frame) {
        Ok((_, Payload::Protocol(message))) => message.describe(),
        Ok((_, Payload::Forward(requests))) => {
            let words: Vec<_> = requests.iter().map(|request| describe(&request)).collect();
            format!("Forward({})", words.join(", "))
        }
        Ok((_, Payload::Acknowledged { requests })) => {
            format!("Taken({} requests)", requests.len())
        }
        Ok((_, Payload::Refused { requests, why })) => {
            format!("Refused({} requests, {why:?})", requests.len())
        }
        Err(error) => format!("<{error}>"),
    }
}
