//! Measurements of a healthy cluster, and of one whose leader dies.

use super::profile::{ClientLoad, Configure, Effort, PATIENCE, Profile, ProposerHome};
use super::proposers::Proposers;
use super::times::Times;
use crate::cluster::Cluster;
use crate::cluster::traffic::Traffic;
use crate::rng::SimRng;
use crate::violation::{Violation, ViolationKind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// Longest measurement: a protocol under which proposers block one another may
/// never get through its commands.
const LONGEST: Duration = Duration::from_secs(600);

/// A healthy cluster under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SteadyState {
    /// Traffic of all nodes for the commands.
    pub traffic: Traffic,
    /// From a write's first attempt to its acknowledgement, one for each command.
    pub latencies: Times,
    /// Attempts that were refused or ran out of time, and were made again.
    pub failed: u64,
}

/// Measures a healthy cluster under load, until enough commands are through, or for ten simulated
/// minutes.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served anyone.
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
    let mut proposers = Proposers::new(profile, seats(&cluster, home, load));
    let warm = effort.warm_up * load.proposers;
    proposers.run(&mut cluster, PATIENCE, |all| all.latencies().len() >= warm)?;
    let before = cluster.world.traffic;
    proposers.forget();
    let enough = (effort.commands * load.proposers).max(effort.least);
    proposers.run(&mut cluster, LONGEST, |all| all.latencies().len() >= enough)?;
    Ok(SteadyState {
        traffic: cluster.world.traffic.since(before),
        latencies: Times::new(proposers.latencies().to_vec()),
        failed: proposers.failed(),
    })
}

/// Measures the time to recovery after the leader has died under load, over several seeds:
/// from its death until the first write is acknowledged that was asked for after it, by a new
/// client at each node that lives. No client waits for longer than a minute, so that a minute stands
/// for anything longer, too. Of a protocol without a leader the first node dies.
///
/// # Errors
/// A violation; one of [`ViolationKind::Liveness`] if the cluster never served anyone.
///
/// # Panics
/// If the load has fewer than three nodes.
pub fn fail_over<P: Protocol>(
    config: impl Configure<P> + 'static,
    profile: &Profile,
    load: ClientLoad,
    effort: &Effort,
) -> Result<Times, Violation> {
    assert!(load.nodes >= 3, "of {} nodes none may die", load.nodes);
    let times = (0..effort.seeds).map(|seed| {
        let (mut cluster, home) = serving::<P>(config, profile, load, seed)?;
        let mut proposers = Proposers::new(profile, seats(&cluster, home, load));
        let warm = effort.warm_up * load.proposers;
        proposers.run(&mut cluster, PATIENCE, |all| all.latencies().len() >= warm)?;
        // Any moment between two heartbeats.
        let pause = SimRng::new(seed).duration(&(Duration::ZERO..profile.heartbeat * 2));
        proposers.run(&mut cluster, pause, |_| false)?;
        let died = cluster.now();
        cluster.crash(home)?;
        let alive: Vec<_> = cluster.members().all().filter(|node| *node != home).collect();
        proposers.leave(home);
        let probes = proposers.join(alive);
        proposers.run(&mut cluster, PATIENCE, |all| all.served(probes.clone()))?;
        Ok(cluster.now() - died)
    });
    Ok(Times::new(times.collect::<Result<_, _>>()?))
}

/// A cluster that has served its first write, and the node that leads it.
fn serving<P: Protocol>(
    config: impl Configure<P> + 'static,
    profile: &Profile,
    load: ClientLoad,
    seed: u64,
) -> Result<(Cluster<P>, NodeId), Violation> {
    let settings = profile.clone();
    let config = move |node, members: &Membership| config(node, members, &settings);
    let mut cluster = Cluster::<P>::new(profile.plan(load.nodes), seed, config);
    // Nodes start when time first passes.
    cluster.run_for(Duration::ZERO)?;
    let mut first = Proposers::new(profile, [NodeId(1)]);
    if !first.run(&mut cluster, PATIENCE, |all| !all.latencies().is_empty())? {
        return Err(Violation {
            kind: ViolationKind::Liveness,
            at: cluster.now(),
            nodes: cluster.members().all().collect(),
            explanation: format!("no client was served for {PATIENCE:?}"),
        });
    }
    let home = cluster.leader().unwrap_or(NodeId(1));
    Ok((cluster, home))
}

/// Returns the nodes of the proposers.
fn seats<P: Protocol>(cluster: &Cluster<P>, home: NodeId, load: ClientLoad) -> Vec<NodeId> {
    let nodes: Vec<_> = cluster.members().all().collect();
    let leader = nodes.iter().position(|node| *node == home).unwrap_or_default();
    let first = leader + usize::from(load.first == ProposerHome::Elsewhere);
    (0..load.proposers).map(|index| nodes[(first + index) % nodes.len()]).collect()
}
