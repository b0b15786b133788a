//! Steps of the suite's tests, each with a timeout in simulated time.

use crate::cluster::Cluster;
use crate::plan::Plan;
use std::time::Duration;
use synod_consensus::{Protocol, Role};
use synod_types::{Membership, NodeId};

/// Timeout of a step of a working cluster.
pub(super) const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for which tests wait to show that something does not happen.
pub(super) const OBSERVATION: Duration = Duration::from_secs(3);

/// Returns the default settings of a protocol for a node.
///
/// # Panics
/// If the node is not a member.
pub fn default_config<P: Protocol>(node: NodeId, members: &Membership) -> P::Config {
    P::config(node, members).expect("the node is a member")
}

/// Returns a cluster of healthy nodes with fast disks.
pub(super) fn healthy<P: Protocol>(nodes: u64) -> Cluster<P> {
    Cluster::new(Plan::healthy(nodes), 42 + nodes, default_config::<P>)
}

pub(super) fn run<P: Protocol>(cluster: &mut Cluster<P>, time: Duration) {
    cluster.run_for(time).unwrap_or_else(|found| panic!("{found}"));
}

/// Advances time until the condition holds. Panics after [`STEP_TIMEOUT`].
pub(super) fn until<P: Protocol>(
    cluster: &mut Cluster<P>,
    expected: &str,
    mut condition: impl FnMut(&mut Cluster<P>) -> bool,
) {
    let end = cluster.now() + STEP_TIMEOUT;
    while !condition(cluster) {
        assert!(cluster.now() < end, "{expected} not reached within {STEP_TIMEOUT:?}");
        run(cluster, Duration::from_millis(10));
    }
}

/// Returns a node that serves clients: the leader, or any node of a protocol without leaders.
pub(super) fn leader<P: Protocol>(cluster: &mut Cluster<P>) -> NodeId {
    until(cluster, "a leader", |cluster| server(cluster, None).is_some());
    server(cluster, None).expect("a node serves")
}

/// Returns a node other than `not` that serves clients.
pub(super) fn server<P: Protocol>(cluster: &Cluster<P>, not: Option<NodeId>) -> Option<NodeId> {
    let is_peer =
        |node: &NodeId| cluster.status(*node).is_some_and(|status| status.role == Role::Peer);
    let peer = || cluster.members().all().find(|node| Some(*node) != not && is_peer(node));
    cluster.leader().filter(|leader| Some(*leader) != not).or_else(peer)
}

/// Submits a write to `node`, and again every two seconds until it is acknowledged.
pub(super) fn write<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, key: u8, value: &[u8]) {
    let mut operation = put(cluster, node, key, value);
    let mut submitted = cluster.now();
    until(cluster, "an acknowledged write", |cluster| {
        if cluster.now() - submitted > Duration::from_secs(2) {
            operation = put(cluster, node, key, value);
            submitted = cluster.now();
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

/// Asserts that every node applies and stores all chosen slots, and ends the simulation.
pub(super) fn converge<P: Protocol>(mut cluster: Cluster<P>) {
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    run(&mut cluster, Duration::from_secs(1));
    until(&mut cluster, "stored states", |cluster| cluster.has_settled());
    cluster.finish().unwrap_or_else(|found| panic!("{found}"));
}

pub(super) fn others<P: Protocol>(cluster: &Cluster<P>, not: &[NodeId]) -> Vec<NodeId> {
    cluster.members().all().filter(|node| !not.contains(node)).collect()
}
