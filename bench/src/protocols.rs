//! The protocols as they are compared: one function each, and settings as they ship.

use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_types::{Membership, NodeId};

/// One core's settings for every node.
pub type Configs<P> = Vec<(NodeId, <P as Protocol>::Config)>;

/// Raft with `nodes` voters and default settings.
///
/// # Panics
/// If there is no node.
#[must_use]
pub fn raft(nodes: u64) -> Configs<Raft> {
    configs(nodes, |node, members| synod_raft::Config::new(node, members).expect("a member"))
}

/// Multi-Paxos with `nodes` voters and default settings.
///
/// # Panics
/// If there is no node.
#[must_use]
pub fn multi_paxos(nodes: u64) -> Configs<MultiPaxos> {
    configs(nodes, |node, members| synod_multi_paxos::Config::new(node, members).expect("a member"))
}

/// Basic Paxos with `nodes` voters and default settings, save that `waiting` commands may wait:
/// a batch is offered at once, and here none of it may give way.
///
/// # Panics
/// If there is no node, or so many commands must not wait.
#[must_use]
pub fn basic_paxos(nodes: u64, waiting: usize) -> Configs<BasicPaxos> {
    let limits = synod_basic_paxos::Limits { waiting, ..Default::default() };
    configs(nodes, |node, members| {
        let config = synod_basic_paxos::Config::new(node, members).expect("a member");
        config.with_limits(limits.clone()).expect("sound limits")
    })
}

fn configs<C>(nodes: u64, config: impl Fn(NodeId, Membership) -> C) -> Vec<(NodeId, C)> {
    let members = Membership::new((1..=nodes).map(NodeId), []).expect("at least one voter");
    members.voters().iter().map(|node| (*node, config(*node, members.clone()))).collect()
}
