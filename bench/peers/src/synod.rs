//! Synod's Raft core, driven by the same code as in Synod's own benchmark.

use crate::contender::{Contender, Shape, commands};
use crate::cores::Cores;
use bytes::Bytes;
use synod_raft::{Config, Raft};
use synod_types::{Membership, NodeId};

/// A cluster of Raft cores.
pub struct Synod {
    cores: Cores<Raft>,
    commands: Vec<Bytes>,
    decided: u64,
}

impl Synod {
    /// Builds the cluster and elects its first node.
    pub fn elect(shape: Shape) -> Self {
        let ids = || (1..=shape.nodes as u64).map(NodeId);
        let members = Membership::new(ids(), []).expect("a group of voters");
        let configs =
            ids().map(|id| (id, Config::new(id, members.clone()).expect("every node is a member")));
        let mut cores = Cores::elect(configs);
        // Its result is the number of slots decided before the measurement, with those of the election.
        let commands = commands(shape);
        let decided = cores.decide(&commands);
        Self { cores, commands, decided }
    }
}

impl Contender for Synod {
    fn round(&mut self) -> u64 {
        let before = self.decided;
        self.decided = self.cores.decide(&self.commands);
        self.decided - before
    }
}
