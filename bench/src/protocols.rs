//! Configurations of the compared protocols, with default settings.

use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_types::{Membership, NodeId};

/// The configuration of each node's core.
pub type Configs<P> = Vec<(NodeId, <P as Protocol>::Config)>;

/// Returns configurations of Raft with `nodes` voters and default settings.
///
/// # Panics
/// If `nodes` is 0.
#[must_use]
pub fn raft(nodes: u64) -> Configs<Raft> {
    configs(nodes, |node, members| synod_raft::Config::new(node, members).expect("a member"))
}

/// Returns configurations of Multi-Paxos with `nodes` voters and default settings.
///
/// # Panics
/// If `nodes` is 0.
#[must_use]
pub fn multi_paxos(nodes: u64) -> Configs<MultiPaxos> {
    configs(nodes, |node, members| synod_multi_paxos::Config::new(node, members).expect("a member"))
}

/// Returns configurations of Basic Paxos with `nodes` voters and a limit of `waiting` queued commands. The
/// limit must be at least the size of a batch, so that no command is rejected.
///
/// # Panics
/// If `nodes` is 0, or `waiting` exceeds the protocol's maximum.
#[must_use]
pub fn basic_paxos(nodes: u64, waiting: usize) -> Configs<BasicPaxos> {
    let limits = synod_basic_paxos::Limits { waiting, ..Default::default() };
    configs(nodes, |node, members| {
        let config = synod_basic_paxos::Config::new(node, members).expect("a member");
        config.with_limits(limits.clone()).expect("valid limits")
    })
}

fn configs<C>(nodes: u64, config: impl Fn(NodeId, Membership) -> C) -> Vec<(NodeId, C)> {
    let members = Membership::new((1..=nodes).map(NodeId), []).expect("at least one voter");
    members.voters().iter().map(|node| (*node, config(*node, members.clone()))).collect()
}
