//! The settings of a core, checked before it can exist.

use core::ops::Range;
use core::time::Duration;
use synod_consensus::WindowLimits;
use synod_types::{Membership, NodeId};

/// The settings of one node's core: every value of this type is usable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    id: NodeId,
    members: Membership,
    timing: Timing,
    limits: Limits,
    pre_vote: bool,
    check_quorum: bool,
}

/// Why settings are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The node is in no list of members.
    #[error("node {0} is neither a voter nor a learner")]
    NotAMember(NodeId),
    /// Without a spread of election timeouts nodes campaign together and split the votes for ever.
    #[error("the election timeouts are an empty range")]
    EmptyElection,
    /// Timeouts of more than an hour are a mistake of units.
    #[error("the election timeouts go beyond an hour")]
    LongElection,
    /// A leader must send heartbeats.
    #[error("the heartbeat interval is zero")]
    ZeroHeartbeat,
    /// A few lost heartbeats must not cost an election.
    #[error("the heartbeat interval is more than a third of the shortest election timeout")]
    SlowHeartbeat,
    /// With this limit at zero nothing could ever be replicated.
    #[error("{0} is zero")]
    ZeroLimit(&'static str),
    /// A batch is one buffer with 32-bit offsets.
    #[error("{0} is more than 1 GiB")]
    HugeLimit(&'static str),
    /// The longest command would always be refused as Busy.
    #[error("the longest command does not fit into the uncommitted bytes")]
    CommandBeyondUncommitted,
}

/// When nodes lose patience.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// How long a node waits for a leader before it campaigns, drawn anew each time. Default:
    /// 150 to 300 ms. The shortest is also how long a voter stands by the leader that it heard
    /// from, the longest how long a leader stays one without hearing from a majority.
    pub election: Range<Duration>,
    /// How often a leader says that it is alive. Default: 50 ms.
    pub heartbeat: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self { election: ms(150)..ms(300), heartbeat: ms(50) }
    }
}

impl Timing {
    fn check(&self) -> Result<(), ConfigError> {
        if self.election.is_empty() {
            return Err(ConfigError::EmptyElection);
        }
        if self.election.end > Duration::from_secs(3600) {
            return Err(ConfigError::LongElection);
        }
        if self.heartbeat.is_zero() {
            return Err(ConfigError::ZeroHeartbeat);
        }
        if self.heartbeat > self.election.start / 3 {
            return Err(ConfigError::SlowHeartbeat);
        }
        Ok(())
    }
}

/// How much may be under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Unacknowledged appends to one peer, in messages. Default: 256.
    pub inflight_messages: usize,
    /// Unacknowledged appends to one peer, in bytes of frames: the largest size of the window,
    /// which adapts to what the path drains. It must stay well below the bound of the transport's
    /// lane, which drops what goes beyond (16 MiB). Default: 8 MiB.
    pub inflight_bytes: usize,
    /// One append, in bytes of values; a longer single command travels alone. Default: 1 MiB.
    pub append_bytes: usize,
    /// Everything that a leader holds and nobody has agreed on yet, in bytes of values. A
    /// proposal past it is refused as Busy. Default: 64 MiB.
    pub uncommitted_bytes: usize,
    /// One command, in bytes. A longer one is refused as too large. Default: 2 MiB.
    pub command_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            inflight_messages: 256,
            inflight_bytes: 8 << 20,
            append_bytes: 1 << 20,
            uncommitted_bytes: 64 << 20,
            command_bytes: 2 << 20,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let all = [
            ("inflight_messages", self.inflight_messages),
            ("inflight_bytes", self.inflight_bytes),
            ("append_bytes", self.append_bytes),
            ("uncommitted_bytes", self.uncommitted_bytes),
            ("command_bytes", self.command_bytes),
        ];
        for (name, value) in all {
            if value == 0 {
                return Err(ConfigError::ZeroLimit(name));
            }
            if value > 1 << 30 {
                return Err(ConfigError::HugeLimit(name));
            }
        }
        // A command takes one byte more than its length in a batch.
        if self.command_bytes >= self.uncommitted_bytes {
            return Err(ConfigError::CommandBeyondUncommitted);
        }
        Ok(())
    }
}

impl Config {
    /// The settings of node `id` of a group founded by `members`, all else at its default.
    ///
    /// # Errors
    /// If `id` is not a member.
    pub fn new(id: NodeId, members: Membership) -> Result<Self, ConfigError> {
        if !members.contains(id) {
            return Err(ConfigError::NotAMember(id));
        }
        let (timing, limits) = (Timing::default(), Limits::default());
        Ok(Self { id, members, timing, limits, pre_vote: true, check_quorum: true })
    }

    /// Replaces the timeouts.
    ///
    /// # Errors
    /// If the range is empty or beyond an hour, or the heartbeat is zero or more than a third of
    /// the shortest election timeout.
    pub fn with_timing(mut self, timing: Timing) -> Result<Self, ConfigError> {
        timing.check()?;
        self.timing = timing;
        Ok(self)
    }

    /// Replaces the limits.
    ///
    /// # Errors
    /// If one is zero or beyond 1 GiB, or the longest command exceeds the uncommitted bytes.
    pub fn with_limits(mut self, limits: Limits) -> Result<Self, ConfigError> {
        limits.check()?;
        self.limits = limits;
        Ok(self)
    }

    /// Whether a node asks around before it campaigns, so that one which could not win disturbs
    /// nobody (thesis §9.6). Default: yes. Never a matter of safety.
    #[must_use]
    pub fn with_pre_vote(mut self, on: bool) -> Self {
        self.pre_vote = on;
        self
    }

    /// Whether a leader that hears from no majority steps down, and a voter that hears from a
    /// leader ignores candidates (thesis §4.2.3, §6.2). Default: yes. Never a matter of safety.
    #[must_use]
    pub fn with_check_quorum(mut self, on: bool) -> Self {
        self.check_quorum = on;
        self
    }

    /// Who this node is.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The founding members.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.members
    }

    /// The timeouts.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The bounds of the window towards each peer. A heartbeat's time is the queue that it
    /// accepts: long enough to keep disk and network busy, short against an election timeout.
    #[must_use]
    pub(crate) fn window(&self) -> WindowLimits {
        WindowLimits {
            batches: self.limits.inflight_messages,
            bytes: self.limits.inflight_bytes,
            target_delay: self.timing.heartbeat,
        }
    }

    /// Whether a node asks around before it campaigns.
    #[must_use]
    pub fn pre_vote(&self) -> bool {
        self.pre_vote
    }

    /// Whether leadership needs to hear from a majority.
    #[must_use]
    pub fn check_quorum(&self) -> bool {
        self.check_quorum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::new(NodeId(1), Membership::new([NodeId(1), NodeId(2)], []).unwrap()).unwrap()
    }

    #[test]
    fn a_stranger_gets_no_settings() {
        let members = Membership::new([NodeId(1)], [NodeId(2)]).unwrap();
        assert!(Config::new(NodeId(2), members.clone()).is_ok(), "a learner is a member");
        assert_eq!(Config::new(NodeId(3), members), Err(ConfigError::NotAMember(NodeId(3))));
    }

    #[test]
    fn timeouts_that_cannot_work_are_refused() {
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
            assert_eq!(config().with_timing(timing.clone()), Err(expected), "{timing:?}");
        }
        assert!(config().with_timing(Timing::default()).is_ok());
    }

    #[test]
    fn limits_that_cannot_work_are_refused() {
        for bad in [0, (1 << 30) + 1] {
            let all = Limits::default();
            let cases = [
                ("inflight_messages", Limits { inflight_messages: bad, ..all.clone() }),
                ("inflight_bytes", Limits { inflight_bytes: bad, ..all.clone() }),
                ("append_bytes", Limits { append_bytes: bad, ..all.clone() }),
                ("uncommitted_bytes", Limits { uncommitted_bytes: bad, ..all.clone() }),
                ("command_bytes", Limits { command_bytes: bad, ..all }),
            ];
            for (name, limits) in cases {
                let zero = ConfigError::ZeroLimit(name);
                let expected = if bad == 0 { zero } else { ConfigError::HugeLimit(name) };
                assert_eq!(config().with_limits(limits), Err(expected));
            }
        }
        let limits = Limits { uncommitted_bytes: 100, command_bytes: 100, ..Limits::default() };
        assert_eq!(config().with_limits(limits), Err(ConfigError::CommandBeyondUncommitted));
    }
}
