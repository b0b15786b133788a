//! Partial partitions: some node is connected to a quorum, but not every pair of nodes is
//! connected.
//!
//! Three of them are from Ng, Haridi and Carbone, who show that each stops some protocols
//! ("Omni-Paxos: Breaking the Barriers of Partial Connectivity"), the fourth is a leader whose
//! incoming links are cut. A protocol that passes serves again within four of its longest election
//! timeouts, for every seed.

use super::steps::{converge, default_config, leader, put, run, until, write};
use crate::cluster::Cluster;
use crate::plan::Plan;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Ballot, NodeId};

/// Time within which a connected quorum must serve: four of the longest election timeouts of the
/// protocols' default settings.
const SERVE_TIMEOUT: Duration = Duration::from_millis(4 * 300);
/// Number of seeds to try.
const SEEDS: u64 = 25;

/// Returns a cluster in which every node holds one write, its leader (any node in a protocol
/// without leaders), and the other nodes.
fn settled<P: Protocol>(nodes: u64, seed: u64) -> (Cluster<P>, NodeId, Vec<NodeId>) {
    let mut cluster = Cluster::<P>::new(Plan::healthy(nodes), seed, default_config::<P>);
    let first = leader(&mut cluster);
    write(&mut cluster, first, b'a', b"before");
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    let others = super::steps::others(&cluster, &[first]);
    (cluster, first, others)
}

/// Heals all links, and cuts those between nodes that `linked` does not connect.
fn connect<P: Protocol>(cluster: &mut Cluster<P>, linked: impl Fn(NodeId, NodeId) -> bool) {
    cluster.heal();
    let all: Vec<_> = cluster.members().all().collect();
    for (index, one) in all.iter().enumerate() {
        for other in &all[index + 1..] {
            if !linked(*one, *other) && !linked(*other, *one) {
                cluster.partition(&[*one], &[*other]);
            }
        }
    }
}

/// Asserts that a client of `node` is served in time.
fn serves<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, case: &str) {
    let end = cluster.now() + SERVE_TIMEOUT;
    let operation = put(cluster, node, b'b', b"after");
    while !cluster.is_done(operation) {
        assert!(
            cluster.now() < end,
            "{case}: the write is not acknowledged within {SERVE_TIMEOUT:?}"
        );
        run(cluster, Duration::from_millis(1));
    }
}

/// Returns the leader and its ballot.
fn leadership<P: Protocol>(cluster: &Cluster<P>) -> Option<(NodeId, Ballot)> {
    let leader = cluster.leader()?;
    Some((leader, cluster.status(leader)?.ballot))
}

/// Asserts that `node` keeps serving and that the leader, if the protocol has leaders, does not
/// change.
fn serves_stably<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, case: &str) {
    run(cluster, SERVE_TIMEOUT);
    let expected = leadership(cluster);
    for _ in 0..5 {
        serves(cluster, node, case);
        run(cluster, SERVE_TIMEOUT);
        assert_eq!(leadership(cluster), expected, "{case}: the leader changed");
    }
}

fn heals<P: Protocol>(mut cluster: Cluster<P>, node: NodeId) {
    cluster.heal();
    write(&mut cluster, node, b'c', b"healed");
    converge(cluster);
}

/// One of five nodes, the hub, is connected to all others, and these are connected only to the hub.
/// The leader is one of them and loses its quorum. It can still send to the hub, and must not
/// prevent the hub from leading.
pub fn quorum_loss<P: Protocol>() {
    for seed in 0..SEEDS {
        let case = format!("quorum loss, seed {seed}");
        let (mut cluster, _, others) = settled::<P>(5, seed);
        let hub = others[seed as usize % others.len()];
        connect(&mut cluster, |one, other| one == hub || other == hub);
        serves(&mut cluster, hub, &case);
        serves_stably(&mut cluster, hub, &case);
        heals(cluster, hub);
    }
}

/// Like quorum loss, but the leader is cut off completely and the hub lacks the last write. No
/// other node is connected to a quorum, so the hub must lead although its log lags. Protocols that
/// require a leader's log to be as up to date as its voters' elect no leader here.
pub fn constrained_election<P: Protocol>() {
    for seed in 0..SEEDS {
        let case = format!("constrained election, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(5, seed);
        let hub = others[seed as usize % others.len()];
        connect(&mut cluster, |one, other| one != hub && other != hub);
        write(&mut cluster, first, b'a', b"missed by the hub");
        let missed = cluster.chosen();
        assert!(cluster.applied(hub).is_some_and(|(slot, _)| slot < missed), "{case}");
        let is_first = move |one: NodeId, other| one == first || other == first;
        connect(&mut cluster, |one, other| (one == hub || other == hub) && !is_first(one, other));
        serves(&mut cluster, hub, &case);
        let value = cluster.value(hub, b'a');
        assert_eq!(value.as_deref(), Some(&b"missed by the hub"[..]), "{case}");
        serves_stably(&mut cluster, hub, &case);
        heals(cluster, hub);
    }
}

/// In a cluster of three, the leader and another node are not connected. The other node receives no
/// heartbeats. It must not cause repeated changes of the leader.
pub fn chain<P: Protocol>() {
    for seed in 0..SEEDS {
        let case = format!("chain, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(3, seed);
        let (middle, end) = (others[seed as usize % 2], others[1 - seed as usize % 2]);
        connect(&mut cluster, |one, other| one == middle || other == middle);
        for node in [first, middle] {
            serves(&mut cluster, node, &case);
        }
        serves_stably(&mut cluster, middle, &case);
        heals(cluster, end);
    }
}

/// A leader's outgoing links work and its incoming links are cut. While it sends heartbeats no other
/// node campaigns, so it must step down when no replies arrive.
pub fn half_connected_leader<P: Protocol>() {
    for seed in 0..SEEDS {
        let case = format!("half-connected leader, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(3, seed);
        cluster.cut(&others, &[first]);
        serves(&mut cluster, others[seed as usize % 2], &case);
        serves_stably(&mut cluster, others[0], &case);
        heals(cluster, first);
    }
}
