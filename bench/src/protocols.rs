//! The protocols as they are compared: one function each, and settings as they ship.

use synod_consensus::Protocol;
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
    let members = Membership::new((1..=nodes).map(NodeId), []).expect("at least one voter");
    let config = |node| synod_raft::Config::new(node, members.clone()).expect("it is a member");
    members.voters().iter().map(|node| (*node, config(*node))).collect()
}
