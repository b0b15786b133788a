//! Parts of a protocol's settings that several protocols share.

use crate::QuorumError;
use crate::proposals::size_in_batch;
use core::ops::Range;
use core::time::Duration;
use synod_types::NodeId;

/// Reason why a protocol rejects its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The node is not a member.
    #[error("node {0} is neither a voter nor a learner")]
    NotAMember(NodeId),
    /// The two quorums need not intersect.
    #[error(transparent)]
    Quorum(#[from] QuorumError),
    /// The range of election timeouts is empty. Without a spread nodes campaign at the same time, again
    /// and again (Raft §5.2).
    #[error("the range of election timeouts is empty")]
    EmptyElection,
    /// The election timeouts exceed an hour, which is a mistake of units.
    #[error("the longest election timeout is more than an hour")]
    LongElection,
    /// The heartbeat interval is zero.
    #[error("the heartbeat interval is zero")]
    ZeroHeartbeat,
    /// The heartbeat interval is too long: one or two lost heartbeats must not cause an election.
    #[error("the heartbeat interval is more than a third of the shortest election timeout")]
    SlowHeartbeat,
    /// A duration is zero.
    #[error("{0} is zero")]
    ZeroTime(&'static str),
    /// A duration exceeds an hour, which is a mistake of units.
    #[error("{0} is more than an hour")]
    LongTime(&'static str),
    /// A limit is zero, so that no value could be chosen.
    #[error("{0} is zero")]
    ZeroLimit(&'static str),
    /// The limit exceeds its maximum. A batch is one buffer with 32-bit offsets.
    #[error("{name} is more than {max}")]
    HugeLimit {
        /// Name of the setting.
        name: &'static str,
        /// Its largest value.
        max: usize,
    },
    /// A limit is smaller than the longest command, which would always be refused as Busy.
    #[error("the longest command does not fit into {0}")]
    CommandBeyond(&'static str),
}

/// Longest duration that a setting may have.
pub const MAX_DURATION: Duration = Duration::from_secs(3600);

/// Largest limit of a protocol in bytes.
pub const MAX_BYTES: usize = 1 << 30;

/// Times that an operator sets for a cluster of any protocol. See
/// [`Protocol::with_cluster_timing`](crate::Protocol::with_cluster_timing).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClusterTiming {
    /// Election timeout, drawn from this range each time.
    pub election: Range<Duration>,
    /// Interval of heartbeats.
    pub heartbeat: Duration,
    /// Time after which a client's request fails.
    pub request: Duration,
}

/// Election and heartbeat timeouts of a protocol with a leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// Election timeout: the time without a leader after which a node campaigns, drawn from this range
    /// each time. Default: 150 to 300 ms. For the shortest one a voter protects a leader after its last
    /// message; after the longest one a leader without contact to a quorum steps down.
    pub election: Range<Duration>,
    /// Interval of a leader's heartbeats. Default: 50 ms.
    pub heartbeat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { election: ms(150)..ms(300), heartbeat: ms(50) }
    }
}

impl Timing {
    /// Checks the timeouts.
    ///
    /// # Errors
    /// If the range is empty or beyond an hour, or the heartbeat is zero or more than a third of
    /// the shortest election timeout.
    pub fn check(&self) -> Result<(), ConfigError> {
        // "broadcastTime << electionTimeout" (Raft §5.6): the bounds below keep followers from timing out
        // under a leader that works.
        if self.election.is_empty() {
            Err(ConfigError::EmptyElection)
        } else if self.election.end > MAX_DURATION {
            Err(ConfigError::LongElection)
        } else if self.heartbeat.is_zero() {
            Err(ConfigError::ZeroHeartbeat)
        } else if self.heartbeat > self.election.start / 3 {
            Err(ConfigError::SlowHeartbeat)
        } else {
            Ok(())
        }
    }
}

impl ConfigError {
    /// Checks that each limit is positive and at most its maximum: `(name, value, maximum)`.
    ///
    /// # Errors
    /// The first limit that is not.
    pub fn check_limits(limits: &[(&'static str, usize, usize)]) -> Result<(), Self> {
        limits.iter().try_for_each(|&(name, value, max)| match value {
            0 => Err(Self::ZeroLimit(name)),
            value if value > max => Err(Self::HugeLimit { name, max }),
            _ => Ok(()),
        })
    }

    /// Checks that each duration is positive and at most an hour.
    ///
    /// # Errors
    /// The first duration that is not.
    pub fn check_times(times: &[(&'static str, Duration)]) -> Result<(), Self> {
        times.iter().try_for_each(|&(name, time)| match time {
            Duration::ZERO => Err(Self::ZeroTime(name)),
            time if time > MAX_DURATION => Err(Self::LongTime(name)),
            _ => Ok(()),
        })
    }

    /// Checks that a command of `command` bytes fits into `room` bytes of values, the setting `name`.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn check_command(command: usize, name: &'static str, room: usize) -> Result<(), Self> {
        if size_in_batch(command) <= room { Ok(()) } else { Err(Self::CommandBeyond(name)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_that_cannot_work_are_rejected() {
        let ms = Duration::from_millis;
        let cases = [
            (ms(150)..ms(150), ms(50), ConfigError::EmptyElection),
            (ms(300)..ms(150), ms(50), ConfigError::EmptyElection),
            (ms(150)..ms(4_000_000), ms(50), ConfigError::LongElection),
            (ms(150)..ms(300), ms(0), ConfigError::ZeroHeartbeat),
            (ms(150)..ms(300), ms(51), ConfigError::SlowHeartbeat),
        ];
        for (election, heartbeat, expected) in cases {
            let timing = Timing { election, heartbeat };
            assert_eq!(timing.check(), Err(expected), "{timing:?}");
        }
        assert_eq!(Timing::default().check(), Ok(()));
        let hour = Timing { election: ms(150)..MAX_DURATION, ..Timing::default() };
        assert_eq!(hour.check(), Ok(()));
    }

    #[test]
    fn limits_and_durations_have_bounds() {
        let limit = |value| ConfigError::check_limits(&[("a", 1, 1), ("b", value, 10)]);
        assert_eq!(limit(0), Err(ConfigError::ZeroLimit("b")));
        assert_eq!((limit(1), limit(10)), (Ok(()), Ok(())));
        assert_eq!(limit(11), Err(ConfigError::HugeLimit { name: "b", max: 10 }));
        let time = |value| ConfigError::check_times(&[("a", MAX_DURATION), ("b", value)]);
        assert_eq!(time(Duration::ZERO), Err(ConfigError::ZeroTime("b")));
        assert_eq!(time(Duration::from_nanos(1)), Ok(()));
        let longer = MAX_DURATION + Duration::from_nanos(1);
        assert_eq!(time(longer), Err(ConfigError::LongTime("b")));
        assert_eq!(ConfigError::check_command(9, "c", 10), Ok(()));
        assert_eq!(ConfigError::check_command(10, "c", 10), Err(ConfigError::CommandBeyond("c")));
    }
}
