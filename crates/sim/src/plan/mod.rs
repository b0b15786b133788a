//! What a seed decides before anything happens: the swarm.
//!
//! A run with every fault at a middling rate explores little, because faults mask one another. So
//! each seed leaves some of them off and draws the rates of the others anew.

mod draw;
mod draw_load;
pub(crate) mod limits;
pub(crate) mod load;

use crate::cluster::network::lanes::LaneBounds;
use crate::faults::kind::{Fault, FaultSet};
use crate::plan::limits::LimitsPlan;
use crate::plan::load::LoadPlan;
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
    pub fault_on_vote: u32,
    /// The chance that a new leader dies or is cut off right after it won.
    pub fault_on_election: u32,
    /// The chance that it does so when it has just chosen its first slot; for later slots a
    /// fiftieth of it.
    pub fault_on_commit: u32,
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
                fault_on_vote: 0,
                fault_on_election: 0,
                fault_on_commit: 0,
            },
            stretch: 1,
            capacity: None,
            load: None,
        }
    }

    /// Whether the kind is on.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }
}
