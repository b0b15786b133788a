//! What a protocol costs while nothing fails, and how long a dead leader is missed.
//!
//! A healthy cluster serves proposers that have one write under way each: when it is acknowledged,
//! the next one follows at once. Everything is counted in the simulation, so the same seed measures
//! the same on every machine; no clock is read, and the time that cores and codecs take is not part
//! of it (that is what benchmarks are for).
//!
//! ```
//! use synod_consensus::Protocol;
//! use synod_sim::Violation;
//! use synod_sim::measure::{Effort, Profile, Table};
//! use synod_types::{Membership, NodeId};
//!
//! /// One protocol's rows of a comparison.
//! fn rows<P: Protocol>(
//!     config: fn(NodeId, &Membership, &Profile) -> P::Config,
//! ) -> Result<String, Violation> {
//!     let mut table = Table::new(Effort::default());
//!     table.add::<P>(config)?;
//!     Ok(table.to_string())
//! }
//! ```
//!
//! Proposers that are served together ask together again, so their commands share rounds and
//! messages as well as they ever can; and where nodes compete, asking at once lets them fall into
//! step and collide less than they would in life.
//!
//! Left out on purpose: bandwidth and processor time, of which a simulated node has no end, so
//! that many proposers wait only for messages, syncs and one another.

mod proposers;
mod table;

pub use table::{Row, Table};

use crate::cluster::Cluster;
use crate::plan::Plan;
use crate::rng::Dice;
use crate::violation::{Violation, ViolationKind};
use bytes::Bytes;
use proposers::Proposers;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// How long a cluster may take to serve at all, or again.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a measurement goes on at most: a protocol under which proposers block one another may
/// never get through its commands.
const LONGEST: Duration = Duration::from_secs(600);

/// How far apart the nodes are, and how fast their disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    /// How long a message takes; none overtakes another one on its link.
    pub delay: Range<Duration>,
    /// How long every sync takes.
    pub sync: Duration,
    /// How long nodes should wait for a leader before they stand for election themselves. Equal
    /// for all protocols, so that fail-over compares the protocols and not their settings.
    pub election: Range<Duration>,
    /// How often a leader should say that it is alive.
    pub heartbeat: Duration,
}

impl Profile {
    /// Messages take one unit of time and syncs none: latency comes out in message delays.
    pub const DELAYS: Self = Self {
        name: "message delays",
        delay: Duration::from_millis(1)..Duration::from_millis(1),
        sync: Duration::ZERO,
        ..Self::LAN
    };

    /// One data centre: 0.2 to 0.3 ms one way, 1 ms a sync.
    pub const LAN: Self = Self {
        name: "LAN",
        delay: Duration::from_micros(200)..Duration::from_micros(300),
        sync: Duration::from_millis(1),
        election: Duration::from_millis(150)..Duration::from_millis(300),
        heartbeat: Duration::from_millis(50),
    };

    /// Neighbouring continents: 38 to 42 ms one way, 1 ms a sync.
    pub const WAN: Self = Self {
        name: "WAN",
        delay: Duration::from_millis(38)..Duration::from_millis(42),
        sync: Duration::from_millis(1),
        election: Duration::from_millis(500)..Duration::from_millis(1000),
        heartbeat: Duration::from_millis(100),
    };

    /// How long a message takes in the middle.
    #[must_use]
    pub fn one_way(&self) -> Duration {
        (self.delay.start + self.delay.end) / 2
    }

    fn plan(&self, nodes: u64) -> Plan {
        let mut plan = Plan::calm(nodes);
        plan.network.delay = self.delay.clone();
        plan.disk.sync = self.sync..self.sync;
        plan.clients.patience = PATIENCE..PATIENCE;
        plan
    }
}

/// Makes a node's protocol settings for a profile.
pub trait Configure<P: Protocol>: Fn(NodeId, &Membership, &Profile) -> P::Config + Copy {}

impl<P: Protocol, F: Fn(NodeId, &Membership, &Profile) -> P::Config + Copy> Configure<P> for F {}

/// How many nodes serve how many proposers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// How many nodes, all voters.
    pub nodes: u64,
    /// How many proposers, dealt out to the nodes in turn.
    pub proposers: usize,
    /// Which node gets the first one.
    pub first: Seat,
}

/// A node, seen from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seat {
    /// The leader, or the first node of a protocol that has none.
    Leader,
    /// The node next to it.
    Elsewhere,
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.proposers, self.first) {
            (1, Seat::Leader) => write!(f, "1, at the leader"),
            (1, Seat::Elsewhere) => write!(f, "1, elsewhere"),
            (many, _) => write!(f, "{many}"),
        }
    }
}

/// How much is simulated for one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Commands of each proposer before anything counts.
    pub warm_up: usize,
    /// Commands that count, of each proposer.
    pub commands: usize,
    /// Commands that count, at least, however few proposers there are.
    pub least: usize,
    /// How many leaders die.
    pub seeds: u64,
}

impl Default for Effort {
    /// What a published table takes.
    fn default() -> Self {
        Self { warm_up: 5, commands: 50, least: 500, seeds: 20 }
    }
}

impl Effort {
    /// Enough to see that everything works.
    pub const QUICK: Self = Self { warm_up: 2, commands: 5, least: 20, seeds: 2 };
}

/// What left the nodes and what their logs' disks did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames from one node to another, heartbeats included.
    pub frames: u64,
    /// Their length, envelopes and checksums included, but no transport's own overhead.
    pub bytes: u64,
    /// Syncs of logs; the state's own store is not counted.
    pub syncs: u64,
    /// Bytes written to logs, where a [plan](crate::Plan) says what bytes cost.
    pub written: u64,
    /// Frames dropped because their lane was full.
    pub dropped: u64,
}

impl Traffic {
    pub(crate) fn count_frame(&mut self, frame: &[u8]) {
        self.frames += 1;
        self.bytes += frame.len() as u64;
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            frames: self.frames - earlier.frames,
            bytes: self.bytes - earlier.bytes,
            syncs: self.syncs - earlier.syncs,
            written: self.written - earlier.written,
            dropped: self.dropped - earlier.dropped,
        }
    }
}

/// A healthy cluster under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steady {
    /// What all nodes together did for the commands.
    pub traffic: Traffic,
    /// From a write's first attempt to its acknowledgement, one for each command.
    pub latencies: Times,
    /// Attempts that were refused or ran out of time, and were made again.
    pub failed: u64,
}

/// Measures a healthy cluster under load, until enough commands are through, or for ten simulated
/// minutes.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served anyone.
///
/// # Panics
/// If the load has no nodes.
pub fn steady<P: Protocol>(
    config: impl Configure<P> + 'static,
    (profile, load): (&Profile, Load),
    effort: &Effort,
    seed: u64,
) -> Result<Steady, Violation> {
    let (mut cluster, home) = serving::<P>(config, (profile, load), seed)?;
    let mut proposers = Proposers::new(profile, seats(&cluster, home, load));
    let warm = effort.warm_up * load.proposers;
    proposers.run(&mut cluster, PATIENCE, |all| all.latencies().len() >= warm)?;
    let before = cluster.traffic;
    proposers.forget();
    let enough = (effort.commands * load.proposers).max(effort.least);
    proposers.run(&mut cluster, LONGEST, |all| all.latencies().len() >= enough)?;
    Ok(Steady {
        traffic: cluster.traffic.since(before),
        latencies: Times::new(proposers.latencies().to_vec()),
        failed: proposers.failed(),
    })
}

/// Measures how long nobody is served once the leader has died under load, over several seeds:
/// from its death until the first write is acknowledged that was asked for after it, by a new
/// client at each node that lives. Nobody waits for longer than a minute, so that a minute stands
/// for anything longer, too. Of a protocol without a leader the first node dies.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served anyone.
///
/// # Panics
/// If the load has fewer than three nodes.
pub fn fail_over<P: Protocol>(
    config: impl Configure<P> + 'static,
    (profile, load): (&Profile, Load),
    effort: &Effort,
) -> Result<Times, Violation> {
    assert!(load.nodes >= 3, "of {} nodes none may die", load.nodes);
    let times = (0..effort.seeds).map(|seed| {
        let (mut cluster, home) = serving::<P>(config, (profile, load), seed)?;
        let mut proposers = Proposers::new(profile, seats(&cluster, home, load));
        let warm = effort.warm_up * load.proposers;
        proposers.run(&mut cluster, PATIENCE, |all| all.latencies().len() >= warm)?;
        // Any moment between two heartbeats.
        let pause = Dice::new(seed).duration(&(Duration::ZERO..profile.heartbeat * 2));
        proposers.run(&mut cluster, pause, |_| false)?;
        let died = cluster.now();
        cluster.crash(home)?;
        let alive: Vec<_> = cluster.members().all().filter(|node| *node != home).collect();
        proposers.leave(home);
        let probes = proposers.join(alive);
        proposers.run(&mut cluster, PATIENCE, |all| all.served(probes.clone()))?;
        Ok(cluster.now() - died)
    });
    Ok(Times::new(times.collect::<Result<_, _>>()?))
}

/// A cluster that has served its first write, and the node that leads it.
fn serving<P: Protocol>(
    config: impl Configure<P> + 'static,
    (profile, load): (&Profile, Load),
    seed: u64,
) -> Result<(Cluster<P>, NodeId), Violation> {
    let settings = profile.clone();
    let config = move |node, members: &Membership| config(node, members, &settings);
    let mut cluster = Cluster::<P>::new(profile.plan(load.nodes), seed, config);
    // Nodes start when time first passes.
    cluster.run_for(Duration::ZERO)?;
    let mut first = Proposers::new(profile, [NodeId(1)]);
    if !first.run(&mut cluster, PATIENCE, |all| !all.latencies().is_empty())? {
        return Err(Violation {
            kind: ViolationKind::Liveness,
            at: cluster.now(),
            nodes: cluster.members().all().collect(),
            explanation: format!("nobody was served for {PATIENCE:?}"),
        });
    }
    let home = cluster.leader().unwrap_or(NodeId(1));
    Ok((cluster, home))
}

/// Where the proposers sit.
fn seats<P: Protocol>(cluster: &Cluster<P>, home: NodeId, load: Load) -> Vec<NodeId> {
    let nodes: Vec<_> = cluster.members().all().collect();
    let leader = nodes.iter().position(|node| *node == home).unwrap_or_default();
    let first = leader + usize::from(load.first == Seat::Elsewhere);
    (0..load.proposers).map(|index| nodes[(first + index) % nodes.len()]).collect()
}

/// Durations, to be looked at by rank.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// In any order.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The shortest that at least `percent` of a hundred do not exceed; `None` if there is none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent.min(100)).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// The longest.
    #[must_use]
    pub fn worst(&self) -> Option<Duration> {
        self.0.last().copied()
    }
}

/// What a proposer writes: as long as in the other benchmarks.
fn value() -> Bytes {
    Bytes::from_static(&[7; 256])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let times = Times::new((1..=10).rev().map(Duration::from_millis).collect());
        let at = |percent| times.percentile(percent).map(|time| time.as_millis());
        assert_eq!([at(0), at(50), at(51), at(99)], [Some(1), Some(5), Some(6), Some(10)]);
        assert_eq!(times.worst(), times.percentile(100));
        assert_eq!(Times::default().percentile(50), None);
    }
}
