//! Plan of a load run: sustained load and one disturbance.

use crate::cluster::network::throughput::time_for;
use std::time::Duration;

/// Sustained load, and its disturbance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Bytes of a written value.
    pub value: u64,
    /// Bytes of values offered a second.
    pub rate: u64,
    /// Timeout of a client.
    pub timeout: Duration,
    /// The disturbance.
    pub disturbance: Disturbance,
    /// Bytes that one read processes.
    pub read_bytes: u64,
}

/// Disturbance under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// So many bytes of writes arrive at once.
    Burst(u64),
    /// A node that does not lead is cut off for this long.
    Away(Duration),
    /// A node's disk has a quarter of its throughput for this long: the leader's, if there is one.
    SlowDisk(Duration),
    /// So many clients per node read its state without pause for this long.
    Reads(u64, Duration),
}

impl Disturbance {
    /// Returns its name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Burst(_) => "burst",
            Self::Away(_) => "away",
            Self::SlowDisk(_) => "slow disk",
            Self::Reads(..) => "reads",
        }
    }

    /// Returns its duration.
    #[must_use]
    pub fn time(&self) -> Duration {
        match self {
            Self::Burst(_) => Duration::ZERO,
            Self::Away(time) | Self::SlowDisk(time) | Self::Reads(_, time) => *time,
        }
    }
}

impl LoadPlan {
    /// Returns the time between two writes.
    pub(crate) fn pause(&self) -> Duration {
        time_for(self.value, self.rate)
    }
}
