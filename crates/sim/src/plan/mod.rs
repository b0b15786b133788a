//! Plan of a run: all random choices made before the run starts.
//!
//! A run with every fault at a medium rate explores little, because faults mask one another. So
//! each seed disables some faults and draws the rates of the others.

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

/// Plan of a simulated cluster. Probabilities are in parts per million.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Number of nodes, all voters.
    pub nodes: u64,
    /// Enabled kinds of faults.
    pub faults: FaultSet,
    /// Delays and faults of messages.
    pub network: NetworkPlan,
    /// Disks and apply threads.
    pub disk: DiskPlan,
    /// Clients.
    pub clients: ClientPlan,
    /// Limits and quorums; `None` uses those of the protocol and the driver.
    pub limits: Option<LimitsPlan>,
    /// Rates and durations of faults.
    pub injection: InjectionPlan,
    /// Factor by which the time of faults is longer than usual.
    pub fault_time_factor: u32,
    /// Limits of throughput; `None` means unlimited throughput and unbounded queues.
    pub capacity: Option<CapacityPlan>,
    /// Sustained load and one disturbance, instead of the usual faults and clients.
    pub load: Option<LoadPlan>,
}

/// Capacities of links, disks and threads, in bytes a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapacityPlan {
    /// Bytes a second of each link, in each direction.
    pub bandwidth: u64,
    /// Bounds of the transport's lanes, on both sides.
    pub lanes: LaneBounds,
    /// Bytes a second of the log's disk; each sync takes [`DiskPlan::sync`] on top.
    pub disk: u64,
    /// Bytes a second of the log's disk while it is slow.
    pub slow_disk: u64,
    /// Maximum bytes of waiting batches that one sync covers.
    pub merged_bytes: u64,
    /// Bytes a second that the apply thread applies or reads.
    pub apply: u64,
    /// Bytes a second that the driver's thread processes.
    pub step: u64,
    /// Bytes of frames after which a driver round takes no more.
    pub round_bytes: u64,
    /// Additional time of the driver's thread for each event.
    pub step_each: Duration,
    /// True if reads run on the apply thread, where commands wait for them.
    pub reads_hold_up_applies: bool,
}

impl CapacityPlan {
    /// Returns a plan with this bandwidth and disk throughput, in bytes a second. Its threads are
    /// rarely the bottleneck.
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

/// Delays and faults of messages.
#[derive(Clone, Debug)]
pub struct NetworkPlan {
    /// Delay of a message.
    pub delay: Range<Duration>,
    /// Additional delay of a delay spike.
    pub spike: Range<Duration>,
    /// Probability that a message is lost.
    pub loss: u32,
    /// Probability that a message arrives twice.
    pub duplicate: u32,
    /// Probability of a delay spike.
    pub spikes: u32,
    /// Probability that a message may overtake earlier ones.
    pub reorder: u32,
    /// Probability that a message is replayed long after it was sent.
    pub replay: u32,
    /// Time until the replay.
    pub replay_after: Range<Duration>,
    /// Probability that a bit of a message flips in flight.
    pub corruption: u32,
    /// True if a cut link loses the messages in flight, too.
    pub cuts_in_flight: bool,
    /// Probability that a crash loses the node's messages in flight.
    pub crash_drops_in_flight: u32,
}

/// Disks and apply threads.
#[derive(Clone, Debug)]
pub struct DiskPlan {
    /// Duration of a sync of the log.
    pub sync: Range<Duration>,
    /// Duration of a sync while the disk is slow.
    pub slow_sync: Range<Duration>,
    /// Probability that a sync covers only some of the queued batches.
    pub split: u32,
    /// Time in which the apply thread completes its queue; zero completes it at once.
    pub apply: Range<Duration>,
    /// Time between two writes of the state.
    pub persist: Range<Duration>,
    /// Probability that a write of the state is synced.
    pub state_sync: u32,
    /// Time without a sync after which a driver considers its disk stalled.
    pub stall: Duration,
}

/// Clients.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// Interval between two arrivals of operations; with `None`, only the caller submits
    /// operations.
    pub pause: Option<Range<Duration>>,
    /// Number of operations that arrive together at one node.
    pub burst: Range<u64>,
    /// Number of different keys.
    pub keys: u64,
    /// Timeout of a client.
    pub timeout: Range<Duration>,
    /// Rate of acknowledged operations, per second, below which bursts grow.
    pub target: u64,
    /// Longest padding of a written value, in bytes.
    pub padding: u64,
}

/// Rates and durations of faults.
#[derive(Clone, Debug)]
pub struct InjectionPlan {
    /// Mean interval of each kind of fault that occurs at random times.
    pub mean: Vec<(Fault, Duration)>,
    /// Longest downtime of a crashed node.
    pub down: Duration,
    /// Longest partition or clog.
    pub cut: Duration,
    /// Longest pause of a node.
    pub pause: Duration,
    /// Probability that a node crashes just after it voted.
    pub fault_on_vote: u32,
    /// Probability that a new leader crashes or is cut off just after its election.
    pub fault_on_election: u32,
    /// Probability that a leader crashes or is cut off just after it chose its first slot; a
    /// fiftieth of it for later slots.
    pub fault_on_commit: u32,
}

const MS: Duration = Duration::from_millis(1);

impl Plan {
    /// Returns the plan of a cluster without faults, with short delays and fast disks. Only the
    /// caller submits operations.
    #[must_use]
    pub fn healthy(nodes: u64) -> Self {
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
                cuts_in_flight: false,
                crash_drops_in_flight: 0,
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
                timeout: 1000 * MS..2000 * MS,
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
            fault_time_factor: 1,
            capacity: None,
            load: None,
        }
    }

    /// Returns whether this kind of fault is enabled.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.has(fault)
    }
}
