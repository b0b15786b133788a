//! Profiles of clusters, and the load of clients.

use crate::plan::Plan;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// Maximum time for which clients wait for a cluster to serve.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);

/// Message delays, disk latency and timeouts of a measured cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// Delay of a message; messages on one link stay in order.
    pub delay: Range<Duration>,
    /// Duration of every sync.
    pub sync: Duration,
    /// Election timeout. Equal for all protocols, so that fail-over compares the protocols and not
    /// their settings.
    pub election: Range<Duration>,
    /// Interval of a leader's heartbeats.
    pub heartbeat: Duration,
}

impl Profile {
    /// Every message takes one unit of time and syncs take none, so latencies are counted in
    /// message delays.
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

    /// Returns the mean delay of a message.
    #[must_use]
    pub fn one_way(&self) -> Duration {
        (self.delay.start + self.delay.end) / 2
    }

    pub(super) fn plan(&self, nodes: u64) -> Plan {
        let mut plan = Plan::healthy(nodes);
        plan.network.delay = self.delay.clone();
        plan.disk.sync = self.sync..self.sync;
        plan.clients.timeout = MAX_WAIT..MAX_WAIT;
        plan
    }
}

/// Function that makes a node's protocol settings for a profile.
pub trait Configure<P: Protocol>: Fn(NodeId, &Membership, &Profile) -> P::Config + Copy {}

impl<P: Protocol, F: Fn(NodeId, &Membership, &Profile) -> P::Config + Copy> Configure<P> for F {}

/// Numbers of nodes and of proposers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLoad {
    /// Number of nodes, all voters.
    pub nodes: u64,
    /// Number of proposers, assigned to the nodes round-robin.
    pub proposers: usize,
    /// Node of the first proposer.
    pub first: ProposerHome,
}

/// Node of a proposer, relative to the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposerHome {
    /// The leader, or the first node of a protocol without leaders.
    Leader,
    /// The node after the leader, in the order of ids.
    Elsewhere,
}

impl fmt::Display for ClientLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.proposers, self.first) {
            (1, ProposerHome::Leader) => write!(f, "1, at the leader"),
            (1, ProposerHome::Elsewhere) => write!(f, "1, elsewhere"),
            (many, _) => write!(f, "{many}"),
        }
    }
}

/// Amount of simulation for one measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Commands of each proposer before the measurement.
    pub warm_up: usize,
    /// Measured commands of each proposer.
    pub commands: usize,
    /// Minimum number of measured commands of all proposers together.
    pub least: usize,
    /// Number of seeds, each with one crash of the leader.
    pub seeds: u64,
}

impl Default for Effort {
    /// Returns the effort of the published tables.
    fn default() -> Self {
        Self { warm_up: 5, commands: 50, least: 500, seeds: 20 }
    }
}

impl Effort {
    /// Smallest effort, for tests.
    pub const QUICK: Self = Self { warm_up: 2, commands: 5, least: 20, seeds: 2 };
}

/// Returns the value of a proposer's write: 256 bytes, as in the other benchmarks.
pub(super) fn value() -> Bytes {
    Bytes::from_static(&[7; 256])
}
