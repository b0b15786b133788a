//! The protocols of this program, by name.

use std::fmt;
use std::str::FromStr;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;

/// A consensus protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProtocolKind {
    /// Raft, the default.
    #[default]
    Raft,
    /// Multi-Paxos.
    MultiPaxos,
    /// Basic Paxos: a log of single decrees, without a leader.
    BasicPaxos,
}

impl ProtocolKind {
    /// Every protocol.
    pub const ALL: [Self; 3] = [Self::Raft, Self::MultiPaxos, Self::BasicPaxos];

    /// The name of each protocol, in the order of [`ProtocolKind::ALL`].
    pub const NAMES: [&str; 3] = [Raft::NAME, MultiPaxos::NAME, BasicPaxos::NAME];

    /// The protocol's name in settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for ProtocolKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ProtocolKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        let known = || Self::NAMES.join(", ");
        found.ok_or_else(|| format!("unknown protocol {name:?}; known: {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_name_of_its_protocol() {
        for kind in ProtocolKind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!(ProtocolKind::Raft.name(), Raft::NAME);
        assert_eq!(ProtocolKind::MultiPaxos.name(), MultiPaxos::NAME);
        assert_eq!(ProtocolKind::BasicPaxos.name(), BasicPaxos::NAME);
    }
}
