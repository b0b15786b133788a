//! Plan of a load run: sustained load and one disturbance.

use crate::cluster::network::throughput::time_for;
use std::time::Duration;

/// Sustained load and one disturbance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadPlan {
    /// Bytes of a written value.
    pub value: u64,
    /// Offered load: bytes of values a second.
    pub rate: u64,
    /// Timeout of a client.
    pub timeout: Duration,
    /// The disturbance.
    pub disturbance: Disturbance,
    /// Bytes of state that one read reads.
    pub read_bytes: u64,
}

/// Disturbance under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// This many bytes of writes arrive at once.
    Burst(u64),
    /// A node other than the leader is cut off for this long.
    Away(Duration),
    /// The leader's disk (without a leader, one node's) has a quarter of its throughput for this
    /// long.
    SlowDisk(Duration),
    /// This many clients per node read its state continuously for this long.
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
    /// Returns the interval between two writes.
    pub(crate) fn write_interval(&self) -> Duration {
        time_for(self.value, self.rate)
    }
}
