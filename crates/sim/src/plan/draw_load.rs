//! Random draws of a load run's plan.

use super::limits::{DriverLimits, LimitsPlan};
use super::load::{Disturbance, LoadPlan};
use super::{CapacityPlan, Plan};
use crate::cluster::network::lanes::LaneBounds;
use crate::rng::SimRng;
use std::time::Duration;
use synod_consensus::Bounds;

const MS: Duration = Duration::from_millis(1);

/// Factor by which throughputs, bounds of queues and windows, and sizes of values are smaller than
/// in a real cluster. Times and numbers of commands are the same.
const SCALE: u64 = 16;

/// Returns the limits of all three protocols: the shipped ones, divided by [`SCALE`]. Where the
/// shipped limits of the protocols differ, it is the largest of them or more, so that more can be
/// in flight than queues hold. The limits that differ from the shipped ones are:
///
/// - unacknowledged bytes to one peer: two times the shipped limit in Raft, four times in
///   Multi-Paxos (in basic Paxos as shipped for votes, see its `bounded`);
/// - in basic Paxos, a catch-up reply: four times; commands that wait for a slot: four times the
///   bytes, the same number.
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
            remote_proposal_bytes: 32 * MIB,
            unwritten_bytes: 4 * MIB,
            flood_bytes: 64 * MIB,
            unapplied_bytes: 4 * MIB,
            unapplied_slots: 16_384,
            held_messages: 4096,
        },
    }
}

impl Plan {
    /// Returns the plan of a load run; `nodes` overrides the drawn number.
    pub(crate) fn draw_load(rng: &mut SimRng, nodes: Option<u64>) -> Self {
        let drawn = if rng.percent(80) { 3 } else { 5 };
        let mut plan = Self::healthy(nodes.unwrap_or(drawn));
        let megabytes = |rng: &mut SimRng, range| rng.within(range) * (1 << 20) / SCALE;
        let bandwidth = megabytes(rng, 10..80);
        let disk = megabytes(rng, 10..80);
        let capacity = bandwidth.min(disk);
        plan.network.delay = match rng.below(4) {
            0 => 15 * MS..30 * MS,
            _ => MS / 10..MS,
        };
        plan.disk.sync = if rng.percent(70) { MS / 10..MS } else { MS..8 * MS };
        // A slow disk has a quarter of the throughput; its syncs take no longer otherwise.
        plan.disk.slow_sync = plan.disk.sync.clone();
        let mut throughputs = CapacityPlan::of(bandwidth, disk);
        throughputs.lanes = LaneBounds { frames: 4096, bytes: (16 << 20) / SCALE as usize };
        throughputs.apply /= SCALE;
        throughputs.step /= SCALE;
        throughputs.merged_bytes /= SCALE;
        throughputs.round_bytes /= SCALE;
        plan.capacity = Some(throughputs);
        plan.limits = Some(scaled_limits());
        let rate = capacity * rng.within(30..71) / 100;
        let seconds = |rng: &mut SimRng, range| MS * rng.within(range) as u32;
        let disturbance = match rng.below(10) {
            0..4 => Disturbance::Burst(rate * rng.within(3000..10_000) / 1000),
            4..7 => Disturbance::Away(seconds(rng, 2000..10_000)),
            7..9 => Disturbance::SlowDisk(seconds(rng, 1000..6000)),
            _ => Disturbance::Reads(2 + rng.below(7), seconds(rng, 2000..6000)),
        };
        plan.load = Some(LoadPlan {
            value: rate / rng.within(50..150),
            rate,
            timeout: 5000 * MS,
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
    fn offered_load_is_30_to_70_percent_of_capacity() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let plan = Plan::draw_load(&mut SimRng::new(seed), None);
            let (capacity, load) = (plan.capacity.unwrap(), plan.load.unwrap());
            let share = load.rate * 100 / capacity.bandwidth.min(capacity.disk);
            assert!((29..=70).contains(&share), "seed {seed}: {share} %");
            assert!(
                load.write_interval() <= 20 * MS,
                "seed {seed}: too few writes to measure a rate"
            );
            seen.insert(load.disturbance.name());
        }
        assert_eq!(seen.len(), 4);
    }
}
