//! Random draws of a seed's plan: swarm testing.
//!
//! A run with every fault at a medium rate explores little, because faults mask one another. So
//! each seed disables some faults and draws the rates of the others.

use super::limits::{LimitsPlan, MAX_PADDING};
use super::{CapacityPlan, ClientPlan, DiskPlan, InjectionPlan, NetworkPlan, Plan};
use crate::cluster::network::lanes::LaneBounds;
use crate::faults::kind::{Family, Fault, FaultSet};
use crate::rng::SimRng;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

impl Plan {
    /// Returns the plan of a seed; `nodes` overrides the drawn number.
    pub(crate) fn draw(rng: &mut SimRng, nodes: Option<u64>) -> Self {
        let drawn = match rng.below(100) {
            0..4 => 1,
            4..54 => 3,
            _ => 5,
        };
        let nodes = nodes.unwrap_or(drawn);
        let faults = draw_faults(rng, nodes);
        // In a storm, leaders crash one after another, before their last messages arrive, and
        // restart soon. So logs diverge, and a later leader replicates entries of old terms (Raft
        // Fig. 8).
        let storm = rng.percent(35);
        let mut plan = Self::healthy(nodes);
        plan.faults = faults;
        // Some runs are long, so that messages can be replayed after minutes.
        plan.fault_time_factor = if rng.below(16) == 0 { 4 } else { 1 };
        plan.network = draw_network(rng, faults, storm);
        plan.network.replay_after = 1000 * MS..40_000 * MS * plan.fault_time_factor;
        plan.disk = draw_disk(rng);
        plan.clients = draw_clients(rng);
        plan.injection = draw_injection(rng, faults, storm);
        let round_trip = (plan.network.delay.end + plan.disk.sync.end) * 2;
        plan.limits = Some(LimitsPlan::draw(&mut rng.split(), nodes, round_trip));
        plan.capacity = draw_capacity(&mut rng.clone().split());
        plan
    }
}

/// Draws the enabled faults: at least two families, and at least one kind of each of these.
fn draw_faults(rng: &mut SimRng, nodes: u64) -> FaultSet {
    let mut families = Family::ALL.to_vec();
    if nodes == 1 {
        families.retain(|family| *family != Family::Network);
    }
    rng.shuffle(&mut families);
    if families.len() > 2 && rng.percent(25) {
        families.pop();
    }
    let mut on = Vec::new();
    for family in families {
        let kinds: Vec<_> =
            Fault::ALL.iter().copied().filter(|fault| fault.family() == family).collect();
        let enabled = *rng.pick(&kinds);
        on.extend(kinds.into_iter().filter(|kind| *kind == enabled || rng.percent(65)));
    }
    // Some faults, such as `LoseLogSuffix`, occur only in crashes. Without crashes, each enabled
    // family needs a fault that occurs by itself.
    let set: FaultSet = on.iter().copied().collect();
    if !set.has(Fault::Crash) && !set.has(Fault::CrashAll) {
        if set.has_family(Family::Process) {
            on.push(Fault::Crash);
        } else if set.has_family(Family::Disk) {
            on.push(Fault::SlowDisk);
        }
    }
    on.into_iter().collect()
}

fn draw_network(rng: &mut SimRng, faults: FaultSet, storm: bool) -> NetworkPlan {
    // Delays from one rack to another continent, relative to the election timeout: long round trips
    // cause split votes.
    let delay = match rng.below(10) {
        0..4 => MS / 10..2 * MS,
        4..7 => MS..15 * MS,
        7..9 => 5 * MS..50 * MS,
        _ => 20 * MS..100 * MS,
    };
    let mut rate = |fault: Fault, most: u64| {
        let drawn = rng.below(most).min(rng.below(most)) as u32 + 1000;
        if faults.has(fault) { drawn } else { 0 }
    };
    NetworkPlan {
        loss: rate(Fault::Loss, 200_000),
        duplicate: rate(Fault::Duplicate, 200_000),
        spikes: rate(Fault::DelaySpike, 100_000),
        replay: rate(Fault::Replay, 8000),
        corruption: rate(Fault::Corruption, 40_000),
        replay_after: Duration::ZERO..Duration::ZERO,
        reorder: if faults.has(Fault::Reorder) { rng.within(50_000..1_000_000) as u32 } else { 0 },
        spike: 30 * MS..rng.duration(&(100 * MS..1500 * MS)),
        cuts_in_flight: storm || rng.percent(40),
        crash_drops_in_flight: if storm { 900_000 } else { rng.below(500_000) as u32 },
        delay,
    }
}

fn draw_disk(rng: &mut SimRng) -> DiskPlan {
    let sync = match rng.below(10) {
        0..5 => MS / 10..MS,
        5..8 => MS..10 * MS,
        _ => 5 * MS..40 * MS,
    };
    let apply = match rng.below(4) {
        0..2 => Duration::ZERO..Duration::ZERO,
        2 => MS / 10..MS,
        _ => MS..20 * MS,
    };
    let persist = rng.duration(&(20 * MS..1000 * MS));
    DiskPlan {
        sync,
        slow_sync: 10 * MS..rng.duration(&(50 * MS..400 * MS)),
        split: rng.below(500_000) as u32,
        apply,
        persist: persist / 2..persist * 2,
        state_sync: rng.within(100_000..900_000) as u32,
        stall: if rng.percent(50) { 2000 * MS } else { 600 * MS },
    }
}

/// Draws capacities in one of eight seeds. Slower links and disks, which the largest messages would
/// occupy for seconds, occur only in load runs, whose messages and windows are smaller.
fn draw_capacity(rng: &mut SimRng) -> Option<CapacityPlan> {
    if rng.below(8) > 0 {
        return None;
    }
    let mut draw = || rng.within(8 << 20..100 << 20);
    let mut capacity = CapacityPlan::of(draw(), draw());
    if rng.percent(50) {
        capacity.lanes = LaneBounds {
            frames: rng.within(8..200) as usize,
            bytes: rng.within(1 << 10..64 << 10) as usize,
        };
    }
    Some(capacity)
}

fn draw_clients(rng: &mut SimRng) -> ClientPlan {
    let pause = rng.duration(&(60 * MS..250 * MS));
    let timeout = rng.duration(&(300 * MS..4000 * MS));
    ClientPlan {
        pause: Some(pause / 2..pause * 3 / 2),
        burst: 1..rng.within(2..8),
        keys: rng.within(1..9),
        timeout: timeout / 2..timeout * 2,
        target: 13,
        padding: if rng.percent(30) { 0 } else { rng.within(16..MAX_PADDING) },
    }
}

fn draw_injection(rng: &mut SimRng, faults: FaultSet, storm: bool) -> InjectionPlan {
    let intervals = [
        (Fault::Clog, 1500..10_000),
        (Fault::Partition, 1500..10_000),
        (Fault::OneWay, 1500..10_000),
        (Fault::Isolate, 1500..10_000),
        (Fault::Bridge, 2500..12_000),
        (Fault::Ring, 2500..12_000),
        (Fault::Pause, 1500..10_000),
        (Fault::LoseAnyOrder, 20_000..90_000),
        (Fault::TornWrite, 20_000..90_000),
        (Fault::BitFlip, 20_000..90_000),
        (Fault::MisdirectedWrite, 20_000..90_000),
        (Fault::ReadError, 4000..20_000),
        (Fault::FsyncError, 3000..15_000),
        (Fault::DiskFull, 4000..20_000),
        (Fault::Drift, 2000..10_000),
        (Fault::JumpAhead, 1000..8000),
        (Fault::JumpBack, 2000..10_000),
        (Fault::Crash, 700..6000),
        (Fault::CrashAll, 3000..15_000),
        (Fault::SlowDisk, 2000..10_000),
        (Fault::DiskStall, 5000..20_000),
        (Fault::ApplyStall, 5000..20_000),
    ];
    let mut mean = Vec::new();
    for (fault, range) in intervals {
        let drawn = Duration::from_millis(rng.within(range));
        if faults.has(fault) {
            mean.push((fault, drawn));
        }
    }
    let processes = faults.has(Fault::Crash);
    let mut rate = |on: bool, storm: bool| {
        let drawn = if storm { rng.within(400_000..900_000) } else { rng.below(300_000) };
        if on && (storm || rng.percent(60)) { drawn as u32 } else { 0 }
    };
    let fault_on_vote = rate(processes, false);
    let fault_on_election = rate(processes || faults.has(Fault::Isolate), storm);
    let fault_on_commit = rate(processes || faults.has(Fault::Isolate), storm);
    let (down, cut) = if storm { (300..1500, 300..1500) } else { (20..2500, 300..4000) };
    InjectionPlan {
        mean,
        fault_on_vote,
        fault_on_election,
        fault_on_commit,
        down: Duration::from_millis(rng.within(down)),
        cut: Duration::from_millis(rng.within(cut)),
        pause: Duration::from_millis(rng.within(100..4000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_enables_two_families_and_some_seed_each_kind() {
        let mut seen: Vec<Fault> = Vec::new();
        let mut sizes = Vec::new();
        for seed in 0..300 {
            let plan = Plan::draw(&mut SimRng::new(seed), None);
            let families = Family::ALL.iter().filter(|family| plan.faults.has_family(**family));
            assert!(families.count() >= 2, "seed {seed}");
            seen.extend(Fault::ALL.iter().filter(|fault| plan.has(**fault)).copied());
            sizes.push(plan.nodes);
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), Fault::ALL.len());
        sizes.sort_unstable();
        sizes.dedup();
        assert_eq!(sizes, [1, 3, 5]);
    }

    #[test]
    fn number_of_nodes_can_be_set() {
        for seed in 0..50 {
            assert_eq!(Plan::draw(&mut SimRng::new(seed), Some(3)).nodes, 3);
        }
    }
}
