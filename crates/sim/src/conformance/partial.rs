//! Partial partitions: the links that work connect a quorum, though not everyone with everyone.
//!
//! The three that Ng, Haridi and Carbone found to stop one protocol or another ("Omni-Paxos:
//! Breaking the Barriers of Partial Connectivity"), and a leader that is heard but hears no other
//! node. A protocol that has these tests serves again within four of its longest election time-outs,
//! whatever the seed.

use super::steps::{converge, default_config, leader, put, run, until, write};
use crate::cluster::Cluster;
use crate::plan::Plan;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Ballot, NodeId};

/// Time within which a connected quorum must be served: four of the longest election timeouts of the
/// protocols' default settings.
const PATIENCE: Duration = Duration::from_millis(4 * 300);
/// Number of seeds to try.
const SEEDS: u64 = 25;

/// A cluster in which everyone holds one write, who leads it (without leaders: any node), and the
/// others.
fn settled<P: Protocol>(nodes: u64, seed: u64) -> (Cluster<P>, NodeId, Vec<NodeId>) {
    let mut cluster = Cluster::<P>::new(Plan::healthy(nodes), seed, default_config::<P>);
    let first = leader(&mut cluster);
    write(&mut cluster, first, b'a', b"before");
    until(&mut cluster, "convergence", |cluster| cluster.has_converged());
    let others = super::steps::others(&cluster, &[first]);
    (cluster, first, others)
}

/// Mends all links and cuts those between nodes that `linked` does not connect.
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

/// A client of `node` is served in time.
fn serves<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, what: &str) {
    let end = cluster.now() + PATIENCE;
    let operation = put(cluster, node, b'b', b"after");
    while !cluster.is_done(operation) {
        assert!(cluster.now() < end, "{what}: 4 election time-outs, and not served");
        run(cluster, Duration::from_millis(1));
    }
}

/// Returns the leader and its ballot.
fn reign<P: Protocol>(cluster: &Cluster<P>) -> Option<(NodeId, Ballot)> {
    let leader = cluster.leader()?;
    Some((leader, cluster.status(leader)?.ballot))
}

/// Serves for a while, under one and the same leader, if the protocol has any.
fn rests<P: Protocol>(cluster: &mut Cluster<P>, node: NodeId, what: &str) {
    run(cluster, PATIENCE);
    let reigns = reign(cluster);
    for _ in 0..5 {
        serves(cluster, node, what);
        run(cluster, PATIENCE);
        assert_eq!(reign(cluster), reigns, "{what}: leaders come and go");
    }
}

fn heals<P: Protocol>(mut cluster: Cluster<P>, node: NodeId) {
    cluster.heal();
    write(&mut cluster, node, b'c', b"healed");
    converge(cluster);
}

/// Five nodes are connected to one of them, the hub, and to no other: the leader, too, which so loses its
/// quorum. It goes on talking to the hub, and must not keep it from leading.
pub fn quorum_loss<P: Protocol>() {
    for seed in 0..SEEDS {
        let what = format!("quorum loss, seed {seed}");
        let (mut cluster, _, others) = settled::<P>(5, seed);
        let hub = others[seed as usize % others.len()];
        connect(&mut cluster, |one, other| one == hub || other == hub);
        serves(&mut cluster, hub, &what);
        rests(&mut cluster, hub, &what);
        heals(cluster, hub);
    }
}

/// The same with a leader that is cut off and a hub that missed the last write. No other node
/// has a quorum, so the hub has to lead, with a log that is behind. Where only a log may lead
/// that is as good as those of its voters, no node can.
pub fn constrained_election<P: Protocol>() {
    for seed in 0..SEEDS {
        let what = format!("constrained election, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(5, seed);
        let hub = others[seed as usize % others.len()];
        connect(&mut cluster, |one, other| one != hub && other != hub);
        write(&mut cluster, first, b'a', b"missed by the hub");
        let missed = cluster.chosen();
        assert!(cluster.applied(hub).is_some_and(|(slot, _)| slot < missed), "{what}");
        let is_first = move |one: NodeId, other| one == first || other == first;
        connect(&mut cluster, |one, other| (one == hub || other == hub) && !is_first(one, other));
        serves(&mut cluster, hub, &what);
        let value = cluster.value(hub, b'a');
        assert_eq!(value.as_deref(), Some(&b"missed by the hub"[..]), "{what}");
        rests(&mut cluster, hub, &what);
        heals(cluster, hub);
    }
}

/// Of three nodes the leader and another one do not hear each other. That one hears nobody who
/// leads; it must neither depose the leader again and again, nor be deposed in turn.
pub fn chain<P: Protocol>() {
    for seed in 0..SEEDS {
        let what = format!("chain, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(3, seed);
        let (middle, end) = (others[seed as usize % 2], others[1 - seed as usize % 2]);
        connect(&mut cluster, |one, other| one == middle || other == middle);
        for node in [first, middle] {
            serves(&mut cluster, node, &what);
        }
        rests(&mut cluster, middle, &what);
        heals(cluster, end);
    }
}

/// Leader that every node hears and that hears none. As long as it sends heartbeats no other node
/// campaigns, so it must notice that nothing is answered, and stop.
pub fn deaf_leader<P: Protocol>() {
    for seed in 0..SEEDS {
        let what = format!("deaf leader, seed {seed}");
        let (mut cluster, first, others) = settled::<P>(3, seed);
        cluster.cut(&others, &[first]);
        serves(&mut cluster, others[seed as usize % 2], &what);
        rests(&mut cluster, others[0], &what);
        heals(cluster, first);
    }
}
