//! What is measured: distances, disks, and the load of clients.

use crate::plan::Plan;
use bytes::Bytes;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// How long a cluster may take to serve at all, or again.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

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

    pub(super) fn plan(&self, nodes: u64) -> Plan {
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
pub struct ClientLoad {
    /// How many nodes, all voters.
    pub nodes: u64,
    /// How many proposers, dealt out to the nodes in turn.
    pub proposers: usize,
    /// Which node gets the first one.
    pub first: ProposerHome,
}

/// A node, seen from the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposerHome {
    /// The leader, or the first node of a protocol that has none.
    Leader,
    /// The node next to it.
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

/// What a proposer writes: as long as in the other benchmarks.
pub(super) fn value() -> Bytes {
    Bytes::from_static(&[7; 256])
}
