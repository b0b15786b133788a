//! Settings of a core, validated when they are built.

use synod_consensus::{ConfigError, MAX_BYTES, ProposalLimits, Timing, WindowLimits};
use synod_types::{Membership, NodeId};

/// Settings of one node's core. Every value of this type is usable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    id: NodeId,
    members: Membership,
    timing: Timing,
    limits: Limits,
    pre_vote: bool,
    check_quorum: bool,
}

/// Limits of message sizes, command sizes and data in flight.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Unacknowledged appends to one peer, in messages. Default: 256.
    pub inflight_messages: usize,
    /// Unacknowledged appends to one peer, in bytes of frames: the largest size of the window, which
    /// adapts to the path. It must stay well below the bound of the transport's lane (16 MiB), which
    /// drops frames beyond it. Default: 8 MiB.
    pub inflight_bytes: usize,
    /// One append, in bytes of values; a longer single command travels alone. Default: 1 MiB.
    pub append_bytes: usize,
    /// Uncommitted entries of a leader, in bytes of values. A proposal beyond that is refused as
    /// Busy. Default: 64 MiB.
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
        ConfigError::check_limits(&[
            ("inflight_messages", self.inflight_messages, MAX_BYTES),
            ("inflight_bytes", self.inflight_bytes, MAX_BYTES),
            ("append_bytes", self.append_bytes, MAX_BYTES),
            ("uncommitted_bytes", self.uncommitted_bytes, MAX_BYTES),
            ("command_bytes", self.command_bytes, MAX_BYTES),
        ])?;
        // A leader without any uncommitted entry must have room for one command of any allowed length.
        ConfigError::check_command(self.command_bytes, "uncommitted_bytes", self.uncommitted_bytes)
    }
}

impl Config {
    /// Returns the default settings of node `id` of a group founded by `members`.
    ///
    /// # Errors
    /// If `id` is not a member.
    pub fn new(id: NodeId, members: Membership) -> Result<Self, ConfigError> {
        // A learner is a member, too: it replicates the log without a vote (thesis §4.2.1).
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

    /// Sets whether a node requests pre-votes before it campaigns, so that a node which could not win
    /// does not disrupt the leader (thesis §9.6). Default: yes. Safety does not depend on it.
    #[must_use]
    pub fn with_pre_vote(mut self, on: bool) -> Self {
        self.pre_vote = on;
        self
    }

    /// Sets whether a leader without contact to a majority steps down, and a voter with a live leader
    /// ignores candidates (thesis §4.2.3, §6.2). Default: yes. Safety does not depend on it.
    #[must_use]
    pub fn with_check_quorum(mut self, on: bool) -> Self {
        self.check_quorum = on;
        self
    }

    /// Returns the id of this node.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the founding members.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.members
    }

    /// Returns the timeouts.
    #[must_use]
    pub fn timing(&self) -> &Timing {
        &self.timing
    }

    /// Returns the limits.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Returns the bounds of a leader's proposals. Open slots have no bound: a Raft log has no gaps that a
    /// new leader must fill.
    pub(crate) fn proposal_limits(&self) -> ProposalLimits {
        // A batch becomes one run, so its bound is that of an append: the run is then sent uncut.
        let Limits { command_bytes, append_bytes, uncommitted_bytes, .. } = self.limits;
        ProposalLimits { command_bytes, batch_bytes: append_bytes, open_bytes: uncommitted_bytes }
    }

    /// Returns the bounds of the window towards each peer.
    #[must_use]
    pub(crate) fn window(&self) -> WindowLimits {
        WindowLimits {
            batches: self.limits.inflight_messages,
            bytes: self.limits.inflight_bytes,
            // Long enough to keep disk and network busy, short compared with an election timeout.
            target_delay: self.timing.heartbeat,
        }
    }

    /// Returns whether a node requests pre-votes before it campaigns.
    #[must_use]
    pub fn pre_vote(&self) -> bool {
        self.pre_vote
    }

    /// Returns whether a leader without contact to a majority steps down.
    #[must_use]
    pub fn check_quorum(&self) -> bool {
        self.check_quorum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

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
    fn timing_that_cannot_work_is_rejected() {
        let timing = Timing { heartbeat: Duration::ZERO, ..Timing::default() };
        assert_eq!(config().with_timing(timing), Err(ConfigError::ZeroHeartbeat));
        assert!(config().with_timing(Timing::default()).is_ok());
    }

    #[test]
    fn limits_that_cannot_work_are_rejected() {
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
                let expected =
                    if bad == 0 { zero } else { ConfigError::HugeLimit { name, max: MAX_BYTES } };
                assert_eq!(config().with_limits(limits), Err(expected));
            }
        }
        let limits = Limits { uncommitted_bytes: 100, command_bytes: 100, ..Limits::default() };
        assert_eq!(
            config().with_limits(limits),
            Err(ConfigError::CommandBeyond("uncommitted_bytes"))
        );
    }
}
