//! Settings of a core, validated when they are made.

use core::time::Duration;
use synod_consensus::{ConfigError, MAX_BYTES, Quorum};
use synod_types::{Membership, NodeId};

/// Settings of one node's core. Every value of this type is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    id: NodeId,
    members: Membership,
    quorum: Quorum,
    timing: Timing,
    limits: Limits,
}

/// Intervals and bounds of waits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// First estimate of a round trip with both disks; later it is measured. Default: 10 ms.
    pub round_trip: Duration,
    /// Longest wait before a message is sent again, and before a new ballot. Default: 500 ms.
    pub max_wait: Duration,
    /// Interval at which a node requests missed values from another one and finishes slots that block
    /// the log. It is drawn from one to two times this, or eight round trips if they are longer. Default:
    /// 50 ms.
    pub catch_up: Duration,
    /// Longest time that a command waits for a slot; then it is refused as Busy, and is in no log.
    /// Should be below the timeout of clients: it bounds the work on commands whose clients have
    /// given up. Once a command has waited for [`max_wait`](Self::max_wait), newer ones overtake it, so that
    /// an overloaded node answers some clients in time instead of all too late. Default: 5 s.
    pub max_queue_time: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { round_trip: ms(10), max_wait: ms(500), catch_up: ms(50), max_queue_time: ms(5000) }
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_times(&[
            ("round_trip", self.round_trip),
            ("max_wait", self.max_wait),
            ("catch_up", self.catch_up),
            ("max_queue_time", self.max_queue_time),
        ])
    }
}

/// Bounds of open slots, of values in flight and of queued commands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Number of slots after the chosen part of the log that may be open. The hard state holds a
    /// promise for each. At most 4096. Default: 128.
    ///
    /// A slot takes two round trips and two syncs, more if voters compete for it. So a small window
    /// limits the throughput; commands beyond that wait, and then are refused as Busy.
    pub window: usize,
    /// Values of this node's open proposals, in bytes. From there on no further slot is opened.
    /// Each value is in flight to every voter, so this and one command must stay well below the
    /// capacity of a network lane. Default: 4 MiB.
    pub flight_bytes: usize,
    /// Values in one message of a catch-up reply, in bytes; a longer value travels alone. Default: 256 KiB.
    pub catch_up_bytes: usize,
    /// Number of commands that may wait for a slot. One more makes the oldest be refused as Busy,
    /// because its client has most likely given up. At most 65,536. Default: 256.
    pub waiting: usize,
    /// Commands that wait for a slot, in bytes. Beyond that the oldest are refused as Busy, too.
    /// Default: 16 MiB.
    pub waiting_bytes: usize,
    /// Longest command, in bytes. A longer one is refused as too large. Default: 2 MiB.
    pub command_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window: 128,
            flight_bytes: 4 << 20,
            catch_up_bytes: 256 << 10,
            waiting: 256,
            waiting_bytes: 16 << 20,
            command_bytes: 2 << 20,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_limits(&[
            ("window", self.window, 4096),
            ("flight_bytes", self.flight_bytes, MAX_BYTES),
            ("catch_up_bytes", self.catch_up_bytes, MAX_BYTES),
            ("waiting", self.waiting, 1 << 16),
            ("waiting_bytes", self.waiting_bytes, MAX_BYTES),
            ("command_bytes", self.command_bytes, MAX_BYTES),
        ])?;
        // The queue must hold the longest command: `on_propose` makes room for each one.
        ConfigError::check_command(self.command_bytes, "waiting_bytes", self.waiting_bytes)
    }
}

impl Config {
    /// Creates the default settings of node `id` in a group founded by `members`.
    ///
    /// # Errors
    /// If `id` is not a member.
    pub fn new(id: NodeId, members: Membership) -> Result<Self, ConfigError> {
        if !members.contains(id) {
            return Err(ConfigError::NotAMember(id));
        }
        let quorum = Quorum::majority(&members);
        let (timing, limits) = (Timing::default(), Limits::default());
        Ok(Self { id, members, quorum, timing, limits })
    }

    /// Replaces the timing.
    ///
    /// # Errors
    /// If a duration is zero or longer than an hour.
    pub fn with_timing(mut self, timing: Timing) -> Result<Self, ConfigError> {
        timing.check()?;
        self.timing = timing;
        Ok(self)
    }

    /// Replaces the limits.
    ///
    /// # Errors
    /// If a limit is zero or too large, or `command_bytes` exceeds `waiting_bytes`.
    pub fn with_limits(mut self, limits: Limits) -> Result<Self, ConfigError> {
        limits.check()?;
        self.limits = limits;
        Ok(self)
    }

    /// Replaces the quorum sizes of phase 1 and phase 2; both are a majority by default. All nodes of a
    /// group must use the same sizes.
    ///
    /// # Errors
    /// If a size is zero or larger than the number of voters, or the two quorums need not intersect.
    pub fn with_quorums(mut self, first: usize, second: usize) -> Result<Self, ConfigError> {
        self.quorum = Quorum::flexible(&self.members, first, second)?;
        Ok(self)
    }

    /// Returns this node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns whether this node is a voter. Only voters propose.
    pub(crate) fn is_voter(&self) -> bool {
        self.members.is_voter(self.id)
    }

    /// Returns the other voters, in order of their ids.
    pub(crate) fn other_voters(&self) -> impl Iterator<Item = NodeId> {
        self.members.voters().iter().copied().filter(|node| *node != self.id)
    }

    /// Returns the founding members.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.members
    }

    /// Returns the quorum system.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
    }

    /// Returns the timing.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(NodeId(1), Membership::new([NodeId(1), NodeId(2)], []).unwrap()).unwrap()
    }

    #[test]
    fn non_member_config_is_rejected() {
        let members = Membership::new([NodeId(1)], [NodeId(2)]).unwrap();
        assert!(Config::new(NodeId(2), members.clone()).is_ok(), "a learner is a member");
        assert_eq!(Config::new(NodeId(3), members), Err(ConfigError::NotAMember(NodeId(3))));
    }

    #[test]
    fn settings_out_of_range_are_rejected() {
        let times = |bad| {
            let all = Timing::default();
            [
                ("round_trip", Timing { round_trip: bad, ..all.clone() }),
                ("max_wait", Timing { max_wait: bad, ..all.clone() }),
                ("catch_up", Timing { catch_up: bad, ..all.clone() }),
                ("max_queue_time", Timing { max_queue_time: bad, ..all }),
            ]
        };
        for (name, timing) in times(Duration::ZERO) {
            assert_eq!(config().with_timing(timing), Err(ConfigError::ZeroTime(name)));
        }
        for (name, timing) in times(Duration::from_secs(3601)) {
            assert_eq!(config().with_timing(timing), Err(ConfigError::LongTime(name)));
        }
        for bad in [0, (1 << 30) + 1] {
            let all = Limits::default();
            let cases = [
                ("window", 4096, Limits { window: bad, ..all.clone() }),
                ("flight_bytes", MAX_BYTES, Limits { flight_bytes: bad, ..all.clone() }),
                ("catch_up_bytes", MAX_BYTES, Limits { catch_up_bytes: bad, ..all.clone() }),
                ("waiting", 1 << 16, Limits { waiting: bad, ..all.clone() }),
                ("waiting_bytes", MAX_BYTES, Limits { waiting_bytes: bad, ..all.clone() }),
                ("command_bytes", MAX_BYTES, Limits { command_bytes: bad, ..all }),
            ];
            for (name, max, limits) in cases {
                let zero = ConfigError::ZeroLimit(name);
                let expected = if bad == 0 { zero } else { ConfigError::HugeLimit { name, max } };
                assert_eq!(config().with_limits(limits), Err(expected));
            }
        }
        let limits = Limits { waiting_bytes: 100, command_bytes: 100, ..Limits::default() };
        assert_eq!(config().with_limits(limits), Err(ConfigError::CommandBeyond("waiting_bytes")));
    }

    #[test]
    fn quorums_that_need_not_intersect_are_rejected() {
        assert!(config().with_quorums(1, 2).is_ok());
        assert!(matches!(config().with_quorums(1, 1), Err(ConfigError::Quorum(_))));
        assert!(matches!(config().with_quorums(3, 1), Err(ConfigError::Quorum(_))));
    }

    #[test]
    fn settings_at_their_bounds_are_accepted() {
        let hour = Duration::from_secs(3600);
        let timing =
            Timing { round_trip: hour, max_wait: hour, catch_up: hour, max_queue_time: hour };
        assert_eq!(config().with_timing(timing.clone()).unwrap().timing(), &timing);
        let most = Limits {
            window: 4096,
            flight_bytes: 1 << 30,
            catch_up_bytes: 1 << 30,
            waiting: 65_536,
            waiting_bytes: 1 << 30,
            command_bytes: (1 << 30) - 1,
        };
        let least = Limits {
            window: 1,
            flight_bytes: 1,
            catch_up_bytes: 1,
            waiting: 1,
            waiting_bytes: 2,
            command_bytes: 1,
        };
        for limits in [most, least] {
            assert_eq!(config().with_limits(limits.clone()).unwrap().limits(), &limits);
        }
    }

    #[test]
    fn defaults_match_their_documentation() {
        let ms = Duration::from_millis;
        let timing = Timing {
            round_trip: ms(10),
            max_wait: ms(500),
            catch_up: ms(50),
            max_queue_time: ms(5000),
        };
        let limits = Limits {
            window: 128,
            flight_bytes: 4_194_304,
            catch_up_bytes: 262_144,
            waiting: 256,
            waiting_bytes: 16_777_216,
            command_bytes: 2_097_152,
        };
        assert_eq!((config().timing(), config().limits()), (&timing, &limits));
        assert!(config().with_timing(timing).unwrap().with_limits(limits).is_ok());
    }
}
