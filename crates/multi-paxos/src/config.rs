//! Settings of a core, validated when they are made.

use synod_consensus::{ConfigError, MAX_BYTES, ProposalLimits, Quorum, Timing};
use synod_types::{Membership, NodeId};

/// Maximum of [`Limits::window_slots`]. Reports of correct nodes never leave more holes than this.
pub(crate) const MAX_WINDOW_SLOTS: usize = 1 << 20;

/// Settings of one node's core. Every value of this type is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    id: NodeId,
    members: Membership,
    quorum: Quorum,
    timing: Timing,
    limits: Limits,
    priority: u8,
}

/// Limits of proposals and messages.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Slots that a leader proposes beyond the last chosen one. Further proposals are rejected as Busy.
    /// At most 1,048,576. Default: 65,536.
    pub window_slots: usize,
    /// Values of the slots that a leader proposes beyond the last chosen one, in bytes. Default: 64 MiB.
    pub window_bytes: usize,
    /// Unacknowledged Accepts to one peer, in bytes of frames: the bound of a window that adapts to the
    /// capacity of the path. It must stay well below the bound of the transport's lane, 16 MiB. It also
    /// bounds, in bytes of values, the values found in phase 1 that a new leader proposes at a time.
    /// Default: 4 MiB.
    pub inflight_bytes: usize,
    /// Longest Accept, in bytes of values; a longer single command travels alone. Default: 1 MiB.
    pub accept_bytes: usize,
    /// Longest Promise or reply to a learner, in bytes of values. Default: 1 MiB.
    pub chunk_bytes: usize,
    /// Longest command, in bytes. A longer one is rejected as too large. Default: 2 MiB.
    pub command_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            window_slots: 65_536,
            window_bytes: 64 << 20,
            inflight_bytes: 4 << 20,
            accept_bytes: 1 << 20,
            chunk_bytes: 1 << 20,
            command_bytes: 2 << 20,
        }
    }
}

impl Limits {
    fn check(&self) -> Result<(), ConfigError> {
        ConfigError::check_limits(&[
            ("window_slots", self.window_slots, MAX_WINDOW_SLOTS),
            ("window_bytes", self.window_bytes, MAX_BYTES),
            ("inflight_bytes", self.inflight_bytes, MAX_BYTES),
            ("accept_bytes", self.accept_bytes, MAX_BYTES),
            ("chunk_bytes", self.chunk_bytes, MAX_BYTES),
            ("command_bytes", self.command_bytes, MAX_BYTES),
        ])?;
        // A command that does not fit an empty window would be refused as Busy forever.
        ConfigError::check_command(self.command_bytes, "window_bytes", self.window_bytes)
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
        Ok(Self { id, members, quorum, timing, limits, priority: 0 })
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
    /// If a limit is zero or too large, or `command_bytes` exceeds `window_bytes`.
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

    /// Sets the priority in elections: of several possible leaders, those with a higher priority go first.
    /// Default: 0. Safety does not depend on it, and it does not keep the only possible leader from
    /// leading.
    #[must_use]
    pub fn with_priority(mut self, priority: u8) -> Self {
        self.priority = priority;
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

    /// Returns the quorum system.
    #[must_use]
    pub fn quorum(&self) -> &Quorum {
        &self.quorum
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

    /// Returns the bounds of a leader's proposals, except their number.
    pub(crate) fn proposal_limits(&self) -> ProposalLimits {
        let Limits { command_bytes, accept_bytes, window_bytes, .. } = self.limits;
        ProposalLimits { command_bytes, batch_bytes: accept_bytes, open_bytes: window_bytes }
    }

    /// Returns the priority in elections.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.priority
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    fn config() -> Config {
        let members = Membership::new((1..=5).map(NodeId), []).unwrap();
        Config::new(NodeId(1), members).unwrap()
    }

    #[test]
    fn non_member_config_is_rejected() {
        let members = Membership::new([NodeId(1)], [NodeId(2)]).unwrap();
        assert!(Config::new(NodeId(2), members.clone()).is_ok(), "a learner is a member");
        assert_eq!(Config::new(NodeId(3), members), Err(ConfigError::NotAMember(NodeId(3))));
    }

    #[test]
    fn quorums_that_need_not_intersect_are_rejected() {
        assert!(config().with_quorums(4, 2).is_ok());
        assert!(matches!(config().with_quorums(3, 2), Err(ConfigError::Quorum(_))));
        assert!(matches!(config().with_quorums(6, 1), Err(ConfigError::Quorum(_))));
    }

    #[test]
    fn invalid_timing_is_rejected() {
        let timing = Timing { heartbeat: Duration::ZERO, ..Timing::default() };
        assert_eq!(config().with_timing(timing), Err(ConfigError::ZeroHeartbeat));
        assert!(config().with_timing(Timing::default()).is_ok());
    }

    #[test]
    fn invalid_limits_are_rejected() {
        let all = Limits::default();
        for (window_slots, expected) in [
            (0, ConfigError::ZeroLimit("window_slots")),
            (
                MAX_WINDOW_SLOTS + 1,
                ConfigError::HugeLimit { name: "window_slots", max: MAX_WINDOW_SLOTS },
            ),
        ] {
            let limits = Limits { window_slots, ..all.clone() };
            assert_eq!(config().with_limits(limits), Err(expected));
        }
        let limits = Limits { window_bytes: 100, command_bytes: 100, ..all };
        assert_eq!(config().with_limits(limits), Err(ConfigError::CommandBeyond("window_bytes")));
    }
}
