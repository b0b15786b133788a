//! Steps of the suite's tests, each with a bound in simulated time.

use crate::cluster::Cluster;
use crate::plan::Plan;
use std::time::Duration;
use synod_consensus::{Protocol, Role};
use synod_types::{Membership, NodeId};

/// Longest time for what a working cluster does at once.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Time in which something must not happen.
pub(super) const WATCH: Duration = Duration::from_secs(3);

/// Makes the settings of a node, as the protocol has them by default.
///
/// # Panics
/// If the node is not a member.
pub fn default_config<P: Protocol>(node: NodeId, members: &Membership) -> P::Config {
    P::config(node, members).expect("the node is a member")
}

/// A cluster of quick, healthy nodes.
pub(super) fn healthy<P: Protocol>(nodes: u64) -> Cluster<P> {
    Cluster::new(Plan::healthy(nodes), 42 + nodes, default_config::<P>)
}

pub(super) fn run<P: Protocol>(cluster: &mut Cluster<P>, time: Duration) {
    cluster.run_for(time).unwrap_or_else(|found| panic!("{found}"));
}

/// Lets time pass until something is so.
pub(super) fn until<P: Protocol>(
    cluster: &mut Cluster<P>,
    what: &str,
    mut is_so: impl FnMut(&mut Cluster<P>) -> bool,
) {
    let end = cluster.now() + PATIENCE;
    while !is_so(cluster) {
        assert!(cluster.now() < end, "after {PATIENCE:?} still not: {what}");
        run(cluster, Duration::from_millis(10));
    }
}

/// Returns a node that serves: the leader, or any node of a protocol that has none.
pub(super) fn leader<P: Protocol>(cluster: &mut Cluster<P>) -> NodeId {
    until(cluster, "a leader", |cluster| server(cluster, None).is_some());
    server(cluster, None).expect("just seen")
}

/// Returns a node other than `not` that serves.
pub(super) fn server<P: Protocol>(cluster: &Cluster<P>, not: Option<NodeId>) -> Option<NodeId> {
    let is_peer =
        |node: &NodeId| cluster.status(*node).is_some_and(|status| status.role == Role::Peer);
    let peer = || cluster.members().all().find(|node| Some(*node) != not && is_peer(node));
    cluster.leader().filter(|leader| Some(*leader) != not).or_else(peer)
}

/// Has `node` take a write, again and again until one is acknowledged.
pub(super) fn write<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, key: u8, value: &[u8]) {
    let mut operation = put(cluster, node, key, value);
    let mut asked = cluster.now();
    until(cluster, "an acknowledged write", |cluster| {
        if cluster.now() - asked > Duration::from_secs(2) {
            operation = put(cluster, node, key, value);
            asked = cluster.now();
        }
        cluster.is_done(operation)
    });
}

pub(super) fn put<P: Protocol>(
    cluster: &mut Cluster<P>,
    node: NodeId,
    key: u8,
    value: &[u8],
) -> u64 {
    cluster.put(node, key, value).unwrap_or_else(|found| panic!("{found}"))
}

pub(super) fn crash<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId) {
    cluster.crash(node).unwrap_or_else(|found| panic!("{found}"));
}

/// Every node holds what was chosen, in memory and in its store.
pub(super) fn converge<P: Protocol>(mut cluster: Cluster<P>) {
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    run(&mut cluster, Duration::from_secs(1));
    until(&mut cluster, "rest", |cluster| cluster.has_settled());
    cluster.finish().unwrap_or_else(|found| panic!("{found}"));
}

pub(super) fn others<P: Protocol>(cluster: &Cluster<P>, not: &[NodeId]) -> Vec<NodeId> {
    cluster.members().all().filter(|node| !not.contains(node)).collect()
}
