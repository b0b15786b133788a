//! Random draws of a fault's effect: its nodes, links and duration.

use super::Faults;
use super::kind::Fault;
use super::schedule::{CrashSpec, FaultEffect};
use crate::cluster::network::links::{Link, links};
use crate::cluster::world::World;
use std::time::Duration;
use synod_consensus::Protocol;

impl Faults {
    /// Draws the effect of a fault of this kind.
    pub(crate) fn draw_effect<P: Protocol>(
        &mut self,
        world: &World<P>,
        fault: Fault,
    ) -> FaultEffect {
        let node = self.rng.below(world.plan.nodes) as usize;
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Isolate => self.draw_cut(world, fault, node),
            Fault::Bridge | Fault::Ring | Fault::Clog => self.draw_pattern(world, fault),
            Fault::CrashAll => {
                let crashes = world.running().map(|node| self.draw_crash(world, node));
                FaultEffect::Crash(crashes.collect())
            }
            Fault::Pause | Fault::SlowDisk | Fault::DiskStall | Fault::ApplyStall => {
                self.draw_stall(world, fault, node)
            }
            Fault::LoseAnyOrder
            | Fault::TornWrite
            | Fault::BitFlip
            | Fault::MisdirectedWrite
            | Fault::ReadError
            | Fault::FsyncError
            | Fault::DiskFull => self.draw_disk_failure(world, fault, node),
            Fault::Skew | Fault::Drift | Fault::JumpAhead | Fault::JumpBack => {
                self.draw_clock(fault, node)
            }
            _ => FaultEffect::Crash(vec![self.draw_crash(world, node)]),
        }
    }

    /// Draws the effect of a fault that targets a node.
    pub(crate) fn draw_targeted<P: Protocol>(
        &mut self,
        world: &World<P>,
        fault: Fault,
        node: usize,
    ) -> FaultEffect {
        match fault {
            Fault::Isolate => self.draw_cut(world, fault, node),
            Fault::SlowStart => self.draw_stall(world, fault, node),
            _ => FaultEffect::Crash(vec![self.draw_crash(world, node)]),
        }
    }

    fn draw_cut<P: Protocol>(
        &mut self,
        world: &World<P>,
        fault: Fault,
        node: usize,
    ) -> FaultEffect {
        let (count, rng) = (world.nodes.len(), &mut self.rng);
        let mut order: Vec<_> = (0..count).collect();
        rng.shuffle(&mut order);
        let size = match fault {
            Fault::Isolate => {
                order.retain(|other| *other != node);
                order.insert(0, node);
                // Sometimes another node is cut off with it, and the two remain connected.
                1 + usize::from(count > 3 && rng.percent(40))
            }
            _ => rng.within(1..count as u64) as usize,
        };
        let (here, there) = order.split_at(size);
        let mut cut = links(here, there);
        if fault != Fault::OneWay {
            cut.extend(links(there, here));
        }
        let time = Duration::from_millis(50) + rng.mostly_short(world.plan.injection.cut);
        FaultEffect::Links(cut, time)
    }

    /// Draws a cut, or a clog, that follows a pattern.
    fn draw_pattern<P: Protocol>(&mut self, world: &World<P>, fault: Fault) -> FaultEffect {
        let (count, rng) = (world.nodes.len(), &mut self.rng);
        let mut order: Vec<_> = (0..count).collect();
        rng.shuffle(&mut order);
        let cut = match fault {
            Fault::Bridge => {
                let (here, there) = order[1..].split_at((count - 1) / 2);
                [links(here, there), links(there, here)].concat()
            }
            Fault::Ring => ring(&order),
            _ => match rng.below(3) {
                0 => links(&order[..1], &order[1..]),
                1 => links(&order[1..], &order[..1]),
                _ => links(&order[..1], &order[1..count.min(2)]),
            },
        };
        let time = Duration::from_millis(50) + rng.mostly_short(world.plan.injection.cut);
        FaultEffect::Links(cut, time)
    }

    fn draw_disk_failure<P: Protocol>(
        &mut self,
        world: &World<P>,
        fault: Fault,
        node: usize,
    ) -> FaultEffect {
        // These faults corrupt unsynced writes, so prefer a node that has some.
        let busy = |node: &usize| world.nodes[*node].disk.unsynced_counts()[0] > 0;
        let busy: Vec<_> = (0..world.nodes.len()).filter(busy).collect();
        let hits_writes = matches!(fault, Fault::LoseAnyOrder | Fault::TornWrite);
        let node = if hits_writes && !busy.is_empty() { *self.rng.pick(&busy) } else { node };
        let mut crash = self.draw_crash(world, node);
        let (rng, ms) = (&mut self.rng, Duration::from_millis);
        let time = match fault {
            Fault::FsyncError => {
                // A failed sync may have made any prefix of its batches durable.
                crash.keep = Some(rng.below(4) as usize);
                Duration::ZERO
            }
            Fault::DiskFull => {
                crash.keep = Some(0);
                ms(50) + rng.mostly_short(ms(3000))
            }
            Fault::ReadError => ms(50) + rng.mostly_short(ms(3000)),
            _ => {
                crash.keep = Some(0);
                return FaultEffect::CorruptDisk(crash, rng.word());
            }
        };
        FaultEffect::FailDisk(crash, time)
    }

    fn draw_clock(&mut self, fault: Fault, node: usize) -> FaultEffect {
        let (rng, ms) = (&mut self.rng, Duration::from_millis);
        match fault {
            Fault::Skew => FaultEffect::ClockShift(node, rng.duration(&(ms(1)..ms(1_000_000_000)))),
            Fault::JumpAhead => FaultEffect::ClockShift(node, ms(10) + rng.mostly_short(ms(5000))),
            Fault::JumpBack => FaultEffect::ClockShift(node, ms(10) + rng.mostly_short(ms(1500))),
            _ => {
                // From a poor quartz (500 ppm) to a virtual machine whose clock runs wrong by a
                // quarter.
                let most = *rng.pick(&[500, 20_000, 250_000]);
                let drift_ppm = rng.within(0..2 * most + 1) as i32 - most as i32;
                FaultEffect::ClockDrift(node, drift_ppm, ms(500) + rng.mostly_short(ms(10_000)))
            }
        }
    }

    fn draw_stall<P: Protocol>(
        &mut self,
        world: &World<P>,
        fault: Fault,
        node: usize,
    ) -> FaultEffect {
        let (stall, rng) = (world.plan.disk.stall, &mut self.rng);
        let time = match fault {
            Fault::SlowDisk => rng.duration(&(stall / 4..stall * 2)),
            Fault::Pause | Fault::SlowStart => {
                Duration::from_millis(10) + rng.mostly_short(world.plan.injection.pause)
            }
            _ => stall / 2 + rng.mostly_short(stall * 3),
        };
        FaultEffect::Stall(node, time)
    }

    fn draw_crash<P: Protocol>(&mut self, world: &World<P>, node: usize) -> CrashSpec {
        let (plan, rng) = (&world.plan, &mut self.rng);
        let unsynced_counts = world.nodes[node].disk.unsynced_counts();
        let mut keep = |fault: Fault, most: usize| {
            plan.has(fault).then(|| rng.below(most as u64 + 1) as usize)
        };
        CrashSpec {
            node,
            keep: keep(Fault::LoseLogSuffix, unsynced_counts[0]),
            keep_state: keep(Fault::LoseStateSuffix, unsynced_counts[1]),
            drops_in_flight: rng.chance(plan.network.crash_drops_in_flight),
            down: rng.mostly_short(plan.injection.down),
        }
    }
}

/// Returns the links to cut for a ring of majorities: each node receives only from its nearest
/// neighbours on the ring, which form a majority with it.
fn ring(order: &[usize]) -> Vec<Link> {
    let count = order.len();
    let majority = count / 2 + 1;
    let first = (majority - 1) / 2;
    let mut cut = Vec::new();
    for at in 0..count {
        for step in majority..count {
            let cut_off = order[(at + count - first + step) % count];
            cut.push(Link { from: cut_off, to: order[at] });
        }
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_connects_each_node_to_a_different_majority() {
        for count in 3..8 {
            let order: Vec<_> = (0..count).rev().collect();
            let cut = ring(&order);
            let receives = |node, from| !cut.contains(&Link { from, to: node });
            let majority = |node| (0..count).filter(|from| receives(node, *from)).collect();
            let mut all: Vec<Vec<_>> = (0..count).map(majority).collect();
            for (node, majority) in all.iter().enumerate() {
                assert_eq!(majority.len(), count / 2 + 1);
                assert!(majority.contains(&node));
            }
            all.sort();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }
}
