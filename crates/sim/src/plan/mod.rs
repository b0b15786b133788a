//! What a seed decides before anything happens: the swarm.
//!
//! A run with every fault at a middling rate explores little, because faults mask one another. So
//! each seed leaves some of them off and draws the rates of the others anew.

pub(crate) mod limits;
pub(crate) mod load;

use crate::cluster::network::LaneBounds;
use crate::faults::kind::{Family, Fault, FaultSet};
use crate::plan::limits::{LimitsPlan, MOST_PADDING};
use crate::plan::load::LoadPlan;
use crate::rng::Dice;
use std::ops::Range;
use std::time::Duration;

/// How a simulated cluster behaves. All chances are in parts of a million.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many nodes, all voters.
    pub nodes: u64,
    /// Which faults may fire at all.
    pub faults: FaultSet,
    /// How messages travel.
    pub network: NetworkPlan,
    /// How disks and the apply side work.
    pub disk: DiskPlan,
    /// What clients do.
    pub clients: ClientPlan,
    /// Limits and quorums; `None` leaves those of the protocol and the driver.
    pub limits: Option<LimitsPlan>,
    /// How often faults come.
    pub injection: InjectionPlan,
    /// How many times as long as usual faults fire.
    pub stretch: u32,
    /// What bytes cost; with `None` they cost nothing, and nothing waits for room.
    pub capacity: Option<CapacityPlan>,
    /// Sustained load and one disturbance, instead of the usual faults and clients.
    pub load: Option<LoadPlan>,
}

/// What bytes cost: links, disks and threads that carry so many a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityPlan {
    /// Bytes a second of each link, in each direction.
    pub bandwidth: u64,
    /// Bounds of the transport's lanes, on both sides.
    pub lanes: LaneBounds,
    /// Bytes a second of the log's disk; each sync takes [`DiskPlan::sync`] on top.
    pub disk: u64,
    /// The same while the disk is slow.
    pub slow_disk: u64,
    /// Waiting batches are merged into one sync until they have so many bytes.
    pub merged_bytes: u64,
    /// Bytes a second that the apply thread applies or reads.
    pub apply: u64,
    /// Bytes a second that the driver's thread takes in.
    pub step: u64,
    /// A round takes frames until they have so many bytes.
    pub round_bytes: u64,
    /// What each event costs the driver's thread on top.
    pub step_each: Duration,
    /// Whether reads run on the apply thread, where commands wait for them.
    pub reads_hold_up_applies: bool,
}

impl CapacityPlan {
    /// Links and disks that carry so many bytes a second, and threads that seldom limit them.
    #[must_use]
    pub fn of(bandwidth: u64, disk: u64) -> Self {
        Self {
            bandwidth,
            lanes: LaneBounds { frames: 4096, bytes: 16 << 20 },
            disk,
            slow_disk: disk / 4,
            merged_bytes: 2 << 20,
            apply: 400 << 20,
            step: 1 << 30,
            round_bytes: 1 << 20,
            step_each: Duration::from_micros(5),
            reads_hold_up_applies: false,
        }
    }
}

/// How messages travel.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// How long a message takes.
    pub delay: Range<Duration>,
    /// How much longer a delay spike makes it.
    pub spike: Range<Duration>,
    /// The chance that a message is lost.
    pub loss: u32,
    /// The chance that it arrives twice.
    pub duplicate: u32,
    /// The chance of a delay spike.
    pub spikes: u32,
    /// The chance that a message need not keep its place: it may overtake earlier ones.
    pub reorder: u32,
    /// The chance that it comes once more, long after.
    pub replay: u32,
    /// How long after.
    pub replay_after: Range<Duration>,
    /// The chance that a bit of it flips under way.
    pub corruption: u32,
    /// Whether a cut link loses what is under way, too.
    pub sharp: bool,
    /// The chance that what a node sent and has not arrived dies with it.
    pub die_with_sender: u32,
}

/// How disks and the apply side work.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// How long a sync of the log takes.
    pub sync: Range<Duration>,
    /// How long it takes while the disk is slow.
    pub slow_sync: Range<Duration>,
    /// The chance that a sync takes only a part of what is queued.
    pub split: u32,
    /// How long the apply side takes for what is queued; zero applies at once.
    pub apply: Range<Duration>,
    /// How long until the state is written next.
    pub persist: Range<Duration>,
    /// The chance that the state is synced when it was written.
    pub state_sync: u32,
    /// When a driver takes its disk for stalled.
    pub stall: Duration,
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// How long until operations come next; `None` leaves clients to the caller.
    pub pause: Option<Range<Duration>>,
    /// How many come together, to one node.
    pub burst: Range<u64>,
    /// How many different keys.
    pub keys: u64,
    /// When a client gives up.
    pub patience: Range<Duration>,
    /// Operations a second below which bursts grow.
    pub target: u64,
    /// How many bytes longer than it must be a written value is, at most.
    pub padding: u64,
}

/// How often faults come, and how long they last.
#[derive(Clone, Debug)]
pub struct InjectionPlan {
    /// For each kind that comes by itself: how long until it comes next, on average.
    pub mean: Vec<(Fault, Duration)>,
    /// How long a dead node stays dead, at most.
    pub down: Duration,
    /// How long a partition or a clog lasts, at most.
    pub cut: Duration,
    /// How long a node is paused, at most.
    pub pause: Duration,
    /// The chance that a node dies right after it gave its vote.
    pub strike_voter: u32,
    /// The chance that a new leader dies or is cut off right after it won.
    pub strike_leader: u32,
    /// The chance that it does so when it has just chosen its first slot; for later slots a
    /// fiftieth of it.
    pub strike_commit: u32,
}

const MS: Duration = Duration::from_millis(1);

impl Plan {
    /// A cluster that nothing befalls: short delays, quick disks, no clients of its own.
    #[must_use]
    pub fn calm(nodes: u64) -> Self {
        Self {
            nodes,
            faults: FaultSet::default(),
            network: NetworkPlan {
                delay: MS / 5..MS,
                spike: 50 * MS..500 * MS,
                loss: 0,
                duplicate: 0,
                spikes: 0,
                reorder: 0,
                replay: 0,
                replay_after: 1000 * MS..2000 * MS,
                corruption: 0,
                sharp: false,
                die_with_sender: 0,
            },
            disk: DiskPlan {
                sync: MS / 10..MS,
                slow_sync: 20 * MS..200 * MS,
                split: 0,
                apply: Duration::ZERO..Duration::ZERO,
                persist: 100 * MS..300 * MS,
                state_sync: 500_000,
                stall: 2000 * MS,
            },
            clients: ClientPlan {
                pause: None,
                burst: 1..2,
                keys: 4,
                patience: 1000 * MS..2000 * MS,
                target: 0,
                padding: 0,
            },
            limits: None,
            injection: InjectionPlan {
                mean: Vec::new(),
                down: 500 * MS,
                cut: 2000 * MS,
                pause: 1000 * MS,
                strike_voter: 0,
                strike_leader: 0,
                strike_commit: 0,
            },
            stretch: 1,
            capacity: None,
            load: None,
        }
    }

    /// The plan of a seed; `nodes` overrides the seed's own choice.
    pub(crate) fn draw(dice: &mut Dice, nodes: Option<u64>) -> Self {
        let drawn = match dice.below(100) {
            0..4 => 1,
            4..54 => 3,
            _ => 5,
        };
        let nodes = nodes.unwrap_or(drawn);
        let faults = draw_faults(dice, nodes);
        // In a storm leaders fall one after another, before anyone heard what they said last, and
        // come back soon: logs fork and meet again, and tails of old terms are brought back (Raft
        // fig. 8).
        let storm = dice.percent(35);
        let mut plan = Self::calm(nodes);
        plan.faults = faults;
        // Now and then there is time for messages to come back that are minutes old.
        plan.stretch = if dice.below(16) == 0 { 4 } else { 1 };
        plan.network = draw_network(dice, faults, storm);
        plan.network.replay_after = 1000 * MS..40_000 * MS * plan.stretch;
        plan.disk = draw_disk(dice);
        plan.clients = draw_clients(dice);
        plan.injection = draw_injection(dice, faults, storm);
        let round_trip = (plan.network.delay.end + plan.disk.sync.end) * 2;
        plan.limits = Some(LimitsPlan::draw(&mut dice.split(), nodes, round_trip));
        plan.capacity = draw_capacity(&mut dice.clone().split());
        plan
    }

    /// Whether the kind is on.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }
}

/// At least two families, and of each family that is on at least one kind.
fn draw_faults(dice: &mut Dice, nodes: u64) -> FaultSet {
    let mut families = Family::ALL.to_vec();
    if nodes == 1 {
        families.retain(|family| *family != Family::Network);
    }
    dice.shuffle(&mut families);
    if families.len() > 2 && dice.percent(25) {
        families.pop();
    }
    let mut on = Vec::new();
    for family in families {
        let kinds: Vec<_> =
            Fault::ALL.iter().copied().filter(|fault| fault.family() == family).collect();
        let sure = *dice.pick(&kinds);
        on.extend(kinds.into_iter().filter(|kind| *kind == sure || dice.percent(65)));
    }
    // What befalls a dying node needs a dying node: without one the disk's own faults stand in.
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

fn draw_network(dice: &mut Dice, faults: FaultSet, storm: bool) -> NetworkPlan {
    // From one rack to the other end of the world, measured in election time-outs: where a round
    // trip is long, elections collide.
    let delay = match dice.below(10) {
        0..4 => MS / 10..2 * MS,
        4..7 => MS..15 * MS,
        7..9 => 5 * MS..50 * MS,
        _ => 20 * MS..100 * MS,
    };
    let mut rate = |fault: Fault, most: u64| {
        let drawn = dice.below(most).min(dice.below(most)) as u32 + 1000;
        if faults.has(fault) { drawn } else { 0 }
    };
    NetworkPlan {
        loss: rate(Fault::Loss, 200_000),
        duplicate: rate(Fault::Duplicate, 200_000),
        spikes: rate(Fault::DelaySpike, 100_000),
        replay: rate(Fault::Replay, 8000),
        corruption: rate(Fault::Corruption, 40_000),
        replay_after: Duration::ZERO..Duration::ZERO,
        reorder: if faults.has(Fault::Reorder) { dice.within(50_000..1_000_000) as u32 } else { 0 },
        spike: 30 * MS..dice.duration(&(100 * MS..1500 * MS)),
        sharp: storm || dice.percent(40),
        die_with_sender: if storm { 900_000 } else { dice.below(500_000) as u32 },
        delay,
    }
}

fn draw_disk(dice: &mut Dice) -> DiskPlan {
    let sync = match dice.below(10) {
        0..5 => MS / 10..MS,
        5..8 => MS..10 * MS,
        _ => 5 * MS..40 * MS,
    };
    let apply = match dice.below(4) {
        0..2 => Duration::ZERO..Duration::ZERO,
        2 => MS / 10..MS,
        _ => MS..20 * MS,
    };
    let persist = dice.duration(&(20 * MS..1000 * MS));
    DiskPlan {
        sync,
        slow_sync: 10 * MS..dice.duration(&(50 * MS..400 * MS)),
        split: dice.below(500_000) as u32,
        apply,
        persist: persist / 2..persist * 2,
        state_sync: dice.within(100_000..900_000) as u32,
        stall: if dice.percent(50) { 2000 * MS } else { 600 * MS },
    }
}

/// In most seeds bytes cost nothing, which no small command would notice. In one of eight they do.
/// Links and disks that the largest messages would occupy for seconds are left to load runs, which
/// scale messages and windows with them.
fn draw_capacity(dice: &mut Dice) -> Option<CapacityPlan> {
    if dice.below(8) > 0 {
        return None;
    }
    let mut draw = || dice.within(8 << 20..100 << 20);
    let mut capacity = CapacityPlan::of(draw(), draw());
    if dice.percent(50) {
        capacity.lanes = LaneBounds {
            frames: dice.within(8..200) as usize,
            bytes: dice.within(1 << 10..64 << 10) as usize,
        };
    }
    Some(capacity)
}

fn draw_clients(dice: &mut Dice) -> ClientPlan {
    let pause = dice.duration(&(60 * MS..250 * MS));
    let patience = dice.duration(&(300 * MS..4000 * MS));
    ClientPlan {
        pause: Some(pause / 2..pause * 3 / 2),
        burst: 1..dice.within(2..8),
        keys: dice.within(1..9),
        patience: patience / 2..patience * 2,
        target: 13,
        padding: if dice.percent(30) { 0 } else { dice.within(16..MOST_PADDING) },
    }
}

fn draw_injection(dice: &mut Dice, faults: FaultSet, storm: bool) -> InjectionPlan {
    let pace = [
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
    for (fault, range) in pace {
        let drawn = Duration::from_millis(dice.within(range));
        if faults.has(fault) {
            mean.push((fault, drawn));
        }
    }
    let processes = faults.has(Fault::Crash);
    let mut strike = |on: bool, storm: bool| {
        let drawn = if storm { dice.within(400_000..900_000) } else { dice.below(300_000) };
        if on && (storm || dice.percent(60)) { drawn as u32 } else { 0 }
    };
    let strike_voter = strike(processes, false);
    let strike_leader = strike(processes || faults.has(Fault::Isolate), storm);
    let strike_commit = strike(processes || faults.has(Fault::Isolate), storm);
    let (down, cut) = if storm { (300..1500, 300..1500) } else { (20..2500, 300..4000) };
    InjectionPlan {
        mean,
        strike_voter,
        strike_leader,
        strike_commit,
        down: Duration::from_millis(dice.within(down)),
        cut: Duration::from_millis(dice.within(cut)),
        pause: Duration::from_millis(dice.within(100..4000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_leaves_two_families_on_and_the_swarm_reaches_all_kinds() {
        let mut seen: Vec<Fault> = Vec::new();
        let mut sizes = Vec::new();
        for seed in 0..300 {
            let plan = Plan::draw(&mut Dice::new(seed), None);
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
    fn the_number_of_nodes_can_be_set() {
        for seed in 0..50 {
            assert_eq!(Plan::draw(&mut Dice::new(seed), Some(3)).nodes, 3);
        }
    }
}
