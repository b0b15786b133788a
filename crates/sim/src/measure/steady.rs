//! Measurements of a healthy cluster, and of one whose leader crashes.

use super::profile::{ClientLoad, Configure, Effort, MAX_WAIT, Profile, ProposerHome};
use super::proposers::Proposers;
use super::times::Times;
use crate::cluster::Cluster;
use crate::cluster::traffic::Traffic;
use crate::rng::SimRng;
use crate::violation::{Violation, ViolationKind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// Maximum time of a measurement. In some protocols, competing proposers may prevent each other's
/// progress without end.
const MAX_MEASUREMENT: Duration = Duration::from_secs(600);

/// Measurements of a healthy cluster under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteadyState {
    /// Traffic of all nodes during the measurement.
    pub traffic: Traffic,
    /// Time from a write's first attempt to its acknowledgement, for each command.
    pub latencies: Times,
    /// Number of attempts that were rejected or timed out, and then retried.
    pub failed: u64,
}

/// Measures a healthy cluster under load, until enough commands have completed, or for ten
/// simulated minutes.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served a client.
///
/// # Panics
/// If the load has no nodes.
pub fn steady<P: Protocol>(
    config: impl Configure<P> + 'static,
    profile: &Profile,
    load: ClientLoad,
    effort: &Effort,
    seed: u64,
) -> Result<SteadyState, Violation> {
    let (mut cluster, home) = serving::<P>(config, profile, load, seed)?;
    let mut proposers = Proposers::new(profile, proposer_nodes(&cluster, home, load));
    let warm = effort.warm_up * load.proposers;
    proposers.run(&mut cluster, MAX_WAIT, |all| all.latencies().len() >= warm)?;
    let before = cluster.world.traffic;
    proposers.reset();
    let enough = (effort.commands * load.proposers).max(effort.least);
    proposers.run(&mut cluster, MAX_MEASUREMENT, |all| all.latencies().len() >= enough)?;
    Ok(SteadyState {
        traffic: cluster.world.traffic.since(before),
        latencies: Times::new(proposers.latencies().to_vec()),
        failed: proposers.failed(),
    })
}

/// Measures the time to recover from a crash of the leader under load, for several seeds. It ends
/// when a write that was submitted after the crash is acknowledged; after the crash, one new client
/// starts at each live node. Times above one minute, the timeout of clients, are reported as one
/// minute. In a protocol without leaders the first node crashes.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served a client.
///
/// # Panics
/// If the load has fewer than three nodes.
pub fn fail_over<P: Protocol>(
    config: impl Configure<P> + 'static,
    profile: &Profile,
    load: ClientLoad,
    effort: &Effort,
) -> Result<Times, Violation> {
    assert!(load.nodes >= 3, "a cluster of {} nodes cannot lose its leader", load.nodes);
    let times = (0..effort.seeds).map(|seed| {
        let (mut cluster, home) = serving::<P>(config, profile, load, seed)?;
        let mut proposers = Proposers::new(profile, proposer_nodes(&cluster, home, load));
        let warm = effort.warm_up * load.proposers;
        proposers.run(&mut cluster, MAX_WAIT, |all| all.latencies().len() >= warm)?;
        // Crashes at a random time between two heartbeats.
        let pause = SimRng::new(seed).duration(&(Duration::ZERO..profile.heartbeat * 2));
        proposers.run(&mut cluster, pause, |_| false)?;
        let crashed = cluster.now();
        cluster.crash(home)?;
        let alive: Vec<_> = cluster.members().all().filter(|node| *node != home).collect();
        proposers.leave(home);
        let probes = proposers.join(alive);
        proposers.run(&mut cluster, MAX_WAIT, |all| all.served(probes.clone()))?;
        Ok(cluster.now() - crashed)
    });
    Ok(Times::new(times.collect::<Result<_, _>>()?))
}

/// Returns a cluster that has served its first write, and the node that leads it.
fn serving<P: Protocol>(
    config: impl Configure<P> + 'static,
    profile: &Profile,
    load: ClientLoad,
    seed: u64,
) -> Result<(Cluster<P>, NodeId), Violation> {
    let settings = profile.clone();
    let config = move |node, members: &Membership| config(node, members, &settings);
    let mut cluster = Cluster::<P>::new(profile.plan(load.nodes), seed, config);
    // Processes the start of the nodes.
    cluster.run_for(Duration::ZERO)?;
    let mut first = Proposers::new(profile, [NodeId(1)]);
    if !first.run(&mut cluster, MAX_WAIT, |all| !all.latencies().is_empty())? {
        return Err(Violation {
            kind: ViolationKind::Liveness,
            at: cluster.now(),
            nodes: cluster.members().all().collect(),
            explanation: format!("no client was served for {MAX_WAIT:?}"),
        });
    }
    let home = cluster.leader().unwrap_or(NodeId(1));
    Ok((cluster, home))
}

/// Returns the nodes of the proposers.
fn proposer_nodes<P: Protocol>(
    cluster: &Cluster<P>,
    home: NodeId,
    load: ClientLoad,
) -> Vec<NodeId> {
    let nodes: Vec<_> = cluster.members().all().collect();
    let leader = nodes.iter().position(|node| *node == home).unwrap_or_default();
    let first = leader + usize::from(load.first == ProposerHome::Elsewhere);
    (0..load.proposers).map(|index| nodes[(first + index) % nodes.len()]).collect()
}
