//! Random draws for a message (its delay and faults) and its arrivals.

use super::links::Link;
use crate::faults::schedule::MessageFault;
use crate::faults::source::FaultSource;
use crate::plan::NetworkPlan;
use crate::rng::{MILLION, SimRng};
use std::time::Duration;
use synod_types::Instant;

/// Number of a message on its link, and the draws for it.
#[derive(Debug)]
pub(crate) struct MessageDraw {
    pub(super) number: u64,
    pub(super) delay: Duration,
    pub(super) message_faults: MessageFaults,
}

/// Arrivals of a message (none, one or two) and its faults.
#[derive(Debug, Default)]
pub(crate) struct MessageFate {
    pub(crate) arrivals: [Option<Instant>; 2],
    /// Arrival of a replay, if there is one.
    pub(crate) replay: Option<Instant>,
    /// Bit to flip in the copy that arrives first.
    pub(crate) flipped: Option<u32>,
    pub(crate) message_faults: Vec<MessageFault>,
}

/// Faults of one message.
#[derive(Debug, Default)]
pub(super) struct MessageFaults {
    pub(super) is_lost: bool,
    pub(super) duplicated: Option<Duration>,
    pub(super) delayed: Option<Duration>,
    pub(super) reordered: bool,
    pub(super) replayed: Option<Duration>,
    pub(super) corrupted: Option<u32>,
}

impl MessageFaults {
    pub(super) fn draw(network: &NetworkPlan, rng: &mut SimRng) -> Self {
        // One draw decides which of the rare faults occurs, if any.
        let mut word = rng.below(u64::from(MILLION)) as u32;
        let mut drawn = |chance: u32| {
            let hit = word < chance;
            word = if hit { MILLION } else { word - chance };
            hit
        };
        let is_lost = drawn(network.loss);
        let duplicated = drawn(network.duplicate).then(|| rng.duration(&network.delay) * 4);
        let delayed = drawn(network.spikes).then(|| rng.duration(&network.spike));
        let replayed = drawn(network.replay).then(|| rng.duration(&network.replay_after));
        let corrupted = drawn(network.corruption).then(|| rng.word() as u32);
        let reordered = rng.chance(network.reorder);
        Self { is_lost, duplicated, delayed, reordered, replayed, corrupted }
    }

    pub(super) fn read(fault_source: &mut FaultSource, link: Link, number: u64) -> Self {
        let mut message_faults = Self::default();
        while let Some(message_fault) = fault_source.next_for(link, number) {
            match message_fault {
                MessageFault::Lost => message_faults.is_lost = true,
                MessageFault::Duplicated(after) => message_faults.duplicated = Some(after),
                MessageFault::Delayed(more) => message_faults.delayed = Some(more),
                MessageFault::Reordered => message_faults.reordered = true,
                MessageFault::Replayed(after) => message_faults.replayed = Some(after),
                MessageFault::Corrupted(bit) => message_faults.corrupted = Some(bit),
            }
        }
        message_faults
    }
}
