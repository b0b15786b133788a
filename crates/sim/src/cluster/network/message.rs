//! The draws of a message: its delay, its faults and its arrivals.

use super::links::Link;
use crate::faults::schedule::MessageFault;
use crate::faults::source::FaultSource;
use crate::plan::NetworkPlan;
use crate::rng::{MILLION, SimRng};
use std::time::Duration;
use synod_types::Instant;

/// A message's number on its link and what was drawn for it.
#[derive(Debug)]
pub(crate) struct MessageDraw {
    pub(super) number: u64,
    pub(super) delay: Duration,
    pub(super) message_faults: MessageFaults,
}

/// Arrivals of a message: none, one or two; and its faults.
#[derive(Debug, Default)]
pub(crate) struct MessageFate {
    pub(crate) arrivals: [Option<Instant>; 2],
    /// Time at which a replay arrives, if there is one.
    pub(crate) replay: Option<Instant>,
    /// Bit that is flipped in the copy that arrives first.
    pub(crate) flipped: Option<u32>,
    pub(crate) message_faults: Vec<MessageFault>,
}

/// Faults of one message.
#[derive(Debug, Default)]
pub(super) struct MessageFaults {
    pub(super) is_lost: bool,
    pub(super) again: Option<Duration>,
    pub(super) late: Option<Duration>,
    pub(super) overtakes: bool,
    pub(super) replayed: Option<Duration>,
    pub(super) flipped: Option<u32>,
}

impl MessageFaults {
    pub(super) fn draw(network: &NetworkPlan, rng: &mut SimRng) -> Self {
        // One throw decides which of the rare things happens, if any.
        let mut word = rng.below(u64::from(MILLION)) as u32;
        let mut drawn = |chance: u32| {
            let hit = word < chance;
            word = if hit { MILLION } else { word - chance };
            hit
        };
        let is_lost = drawn(network.loss);
        let again = drawn(network.duplicate).then(|| rng.duration(&network.delay) * 4);
        let late = drawn(network.spikes).then(|| rng.duration(&network.spike));
        let replayed = drawn(network.replay).then(|| rng.duration(&network.replay_after));
        let flipped = drawn(network.corruption).then(|| rng.word() as u32);
        Self { is_lost, again, late, overtakes: rng.chance(network.reorder), replayed, flipped }
    }

    pub(super) fn read(fault_source: &mut FaultSource, link: Link, number: u64) -> Self {
        let mut message_faults = Self::default();
        while let Some(message_fault) = fault_source.next_for(link, number) {
            match message_fault {
                MessageFault::Lost => message_faults.is_lost = true,
                MessageFault::Duplicated(after) => message_faults.again = Some(after),
                MessageFault::Delayed(more) => message_faults.late = Some(more),
                MessageFault::Reordered => message_faults.overtakes = true,
                MessageFault::Replayed(after) => message_faults.replayed = Some(after),
                MessageFault::Corrupted(bit) => message_faults.flipped = Some(bit),
            }
        }
        message_faults
    }
}
