//! Check that the sender's synced disk backs the claim of each message.

use crate::violation::{Checked, ViolationKind, violation};
use synod_consensus::{Message, Protocol, Saved};
use synod_replica::{Payload, decode_frame};
use synod_types::NodeId;

/// Checks a frame when its sender releases it, against the sender's synced disk at that time.
pub(crate) fn check<P: Protocol>(
    from: NodeId,
    to: NodeId,
    frame: &[u8],
    synced: &Saved<P>,
) -> Checked {
    match decode_frame::<P::Message>(frame) {
        Ok((_, Payload::Protocol(message))) => check_message(from, to, &message, synced),
        Ok(_) => Ok(()),
        Err(error) => Err(violation(ViolationKind::Undecodable, [from, to], error.to_string())),
    }
}

fn check_message<P: Protocol>(
    from: NodeId,
    to: NodeId,
    message: &P::Message,
    synced: &Saved<P>,
) -> Checked {
    if message.holds(from, to, synced) {
        return Ok(());
    }
    let text = format!(
        "{from:?} sends {to:?} {}, but has synced only {:?} and slots up to {}",
        message.describe(),
        synced.hard_state,
        synced.log.last()
    );
    Err(violation(ViolationKind::FalseClaim, [from, to], text))
}
