//! What a load run's seed decides.

use crate::cluster::network::LaneBounds;
use crate::plan::limits::{DriverLimits, LimitsPlan};
use crate::plan::{CapacityPlan, Plan};
use crate::rng::Dice;
use std::time::Duration;
use synod_consensus::Bounds;

const MS: Duration = Duration::from_millis(1);

/// Everything is so many times smaller than in a real cluster: bandwidths, throughputs, bounds of
/// queues and windows, and values. Times and the number of commands are not.
const SCALE: u64 = 16;

/// Sustained load, and what disturbs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Bytes of a written value.
    pub value: u64,
    /// Bytes of values offered a second.
    pub rate: u64,
    /// When a client gives up.
    pub patience: Duration,
    /// What happens meanwhile.
    pub disturbance: Disturbance,
    /// Bytes that one read goes through.
    pub read_bytes: u64,
}

/// What happens under load, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// Writes of so many bytes come at once.
    Burst(u64),
    /// A node that does not lead is cut off for so long.
    Away(Duration),
    /// A node's disk carries a quarter of its bytes for so long: the leader's, if there is one.
    SlowDisk(Duration),
    /// So many clients a node read its state without pause for so long.
    Reads(u64, Duration),
}

impl Disturbance {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Burst(_) => "burst",
            Self::Away(_) => "away",
            Self::SlowDisk(_) => "slow disk",
            Self::Reads(..) => "reads",
        }
    }

    /// How long it lasts.
    #[must_use]
    pub fn time(&self) -> Duration {
        match self {
            Self::Burst(_) => Duration::ZERO,
            Self::Away(time) | Self::SlowDisk(time) | Self::Reads(_, time) => *time,
        }
    }
}

impl LoadPlan {
    /// The time between two writes.
    pub(crate) fn pause(&self) -> Duration {
        crate::cluster::network::time_for(self.value, self.rate)
    }
}

/// Limits for all three protocols: the shipped ones, scaled, where these agree. Where they do not,
/// the largest or a larger one, so that more can be in flight than queues hold. As multiples of
/// what is shipped:
///
/// - unacknowledged bytes to one peer: twice in Raft, four times in Multi-Paxos (the bytes of
///   votes that basic Paxos asks for are as shipped, see its `bounded`);
/// - in basic Paxos, an answer to a node that catches up: four times; commands that wait for a
///   slot: four times the bytes, and as many.
///
/// Numbers of messages, slots and requests are as shipped, and so is the longest command.
fn scaled_limits() -> LimitsPlan {
    const MIB: usize = (1 << 20) / SCALE as usize;
    LimitsPlan {
        bounds: Bounds {
            message_bytes: MIB,
            window_messages: 256,
            window_bytes: 16 * MIB,
            open_slots: 65_536,
            open_bytes: 64 * MIB,
            quorums: None,
        },
        driver: DriverLimits {
            forward_bytes: MIB / 4,
            forward_window: 4 * MIB,
            max_outstanding: 100_000,
            guest_bytes: 32 * MIB,
            unwritten_bytes: 4 * MIB,
            flood_bytes: 64 * MIB,
            unapplied_bytes: 4 * MIB,
            unapplied_slots: 16_384,
            held_messages: 4096,
        },
    }
}

impl Plan {
    /// The plan of a load run; `nodes` overrides the seed's own choice.
    pub(crate) fn draw_load(dice: &mut Dice, nodes: Option<u64>) -> Self {
        let drawn = if dice.percent(80) { 3 } else { 5 };
        let mut plan = Self::calm(nodes.unwrap_or(drawn));
        let megabytes = |dice: &mut Dice, range| dice.within(range) * (1 << 20) / SCALE;
        let bandwidth = megabytes(dice, 10..80);
        let disk = megabytes(dice, 10..80);
        let capacity = bandwidth.min(disk);
        plan.network.delay = match dice.below(4) {
            0 => 15 * MS..30 * MS,
            _ => MS / 10..MS,
        };
        plan.disk.sync = if dice.percent(70) { MS / 10..MS } else { MS..8 * MS };
        // A quarter of the throughput is slow enough.
        plan.disk.slow_sync = plan.disk.sync.clone();
        let mut costs = CapacityPlan::of(bandwidth, disk);
        costs.lanes = LaneBounds { frames: 4096, bytes: (16 << 20) / SCALE as usize };
        costs.apply /= SCALE;
        costs.step /= SCALE;
        costs.merged_bytes /= SCALE;
        costs.round_bytes /= SCALE;
        plan.capacity = Some(costs);
        plan.limits = Some(scaled_limits());
        let rate = capacity * dice.within(30..71) / 100;
        let seconds = |dice: &mut Dice, range| MS * dice.within(range) as u32;
        let disturbance = match dice.below(10) {
            0..4 => Disturbance::Burst(rate * dice.within(3000..10_000) / 1000),
            4..7 => Disturbance::Away(seconds(dice, 2000..10_000)),
            7..9 => Disturbance::SlowDisk(seconds(dice, 1000..6000)),
            _ => Disturbance::Reads(2 + dice.below(7), seconds(dice, 2000..6000)),
        };
        plan.load = Some(LoadPlan {
            value: rate / dice.within(50..150),
            rate,
            patience: 5000 * MS,
            disturbance,
            read_bytes: (24 << 20) / SCALE,
        });
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_a_part_of_what_links_and_disks_carry() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw_load(&mut Dice::new(seed), None);
            let (capacity, load) = (plan.capacity.unwrap(), plan.load.unwrap());
            let share = load.rate * 100 / capacity.bandwidth.min(capacity.disk);
            assert!((29..=70).contains(&share), "seed {seed}: {share} %");
            assert!(load.pause() <= 20 * MS, "seed {seed}: enough writes to measure a rate");
            seen.insert(load.disturbance.name());
        }
        assert_eq!(seen.len(), 4);
    }
}
