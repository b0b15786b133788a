//! Course of a load run, and its checks.

use crate::cluster::Cluster;
use crate::cluster::network::links::links;
use crate::cluster::network::throughput::time_for;
use crate::cluster::traffic::Traffic;
use crate::faults::kind::Fault;
use crate::faults::schedule::{FaultEffect, NodeFault};
use crate::plan::load::{Disturbance, LoadPlan};
use crate::runner::spec::RunOptions;
use crate::runner::wait::{stalled, wait};
use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::load::{LoadFigures, SLICE};
use std::time::Duration;
use synod_consensus::{Protocol, Role};
use synod_types::NodeId;

/// Time without load, time of load before the measurement, and time of the measurement.
const START: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(3);
/// Windows over which throughput is checked.
const WINDOW: Duration = Duration::from_secs(1);
/// Throughput counts as recovered after this long: longer than the timeout of clients.
const STABLE: Duration = Duration::from_secs(6);
/// Ten election timeouts of the default settings, in addition to the time for the backlog.
const GRACE: Duration = Duration::from_secs(3);
/// Percentage of a link or disk that windows fill: windows that keep queues short leave gaps.
const USED_PERCENT: u64 = 95;
/// Round trips that windows may take to adapt, in addition.
const GROWTH_ROUND_TRIPS: u32 = 10;
/// Upper bound of the time to recover from a disturbance.
const LONGEST: Duration = Duration::from_secs(60);
/// Maximum ratio, in thousandths, of bytes sent or written to those for the same commands before
/// the disturbance.
const MAX_AMPLIFICATION: u64 = 1300;
/// The same without a leader: proposers that compete for a slot each send its value again.
const MAX_AMPLIFICATION_OF_PEERS: u64 = 1600;
/// Absolute maximum, in thousandths of the bytes needed. Forwarding takes up to 1370.
const MAX_COPIES: u64 = 1800;

/// Maximum factor, under continuous reads, of the 99th percentile of write latency before them, or
/// of the minimum latency below.
const MAX_SLOWER: u32 = 5;
const LEAST_LATENCY: Duration = Duration::from_millis(5);

/// Traffic and chosen bytes up to a time.
#[derive(Clone, Copy)]
struct Sample {
    traffic: Traffic,
    chosen: u64,
}

/// Performs a load run.
pub(crate) fn play<P: Protocol>(
    cluster: &mut Cluster<P>,
    plan: &LoadPlan,
    options: &RunOptions,
) -> Result<(), Violation> {
    cluster.run_for(START)?;
    let plan = &LoadPlan { rate: rate(cluster, plan), ..plan.clone() };
    cluster.world.plan.load = Some(plan.clone());
    cluster.begin_load();
    let first = sample(cluster);
    let served = |cluster: &Cluster<P>| cluster.workload.load.acknowledged > 0;
    wait(cluster, options.liveness_timeout, "acknowledges no write", served)?;
    cluster.run_for(WARM_UP)?;
    let (before, begin) = (sample(cluster), cluster.workload.load.slice(cluster.now()));
    let round = highest_round(cluster);
    cluster.run_for(MEASURED)?;
    let end = cluster.workload.load.slice(cluster.now());
    let steady = cluster.workload.load.acknowledged_in(begin, end) / MEASURED.as_secs();
    let (steady_sent, steady_written) = amplification(cluster, before);
    if steady < plan.rate * 9 / 10 {
        let rate = plan.rate;
        return Err(stalled(cluster, &format!("carries {steady} of {rate} bytes a second")));
    }
    disturb(cluster, plan).map_err(|found| cluster.with_time(*found))?;
    cluster.run_for(plan.disturbance.time())?;
    let ended = cluster.workload.load.slice(cluster.now());
    let latencies = [
        cluster.workload.load.latency_in(begin, end),
        cluster.workload.load.latency_in(end, ended),
    ];
    let spare = spare_capacity(cluster, plan, steady_sent, steady_written);
    let bound = bound(cluster, plan, spare);
    let end = cluster.now() + bound + WINDOW * 3;
    while cluster.now() < end && !has_recovered(cluster, plan, ended, steady) {
        cluster.run_for(WINDOW)?;
    }
    let recovered_after = recovered_after(cluster, ended, steady);
    cluster.workload.load.is_over = true;
    let (sent, written) = amplification(cluster, first);
    let capacity = cluster.world.plan.capacity.as_ref();
    cluster.workload.load_figures = Some(LoadFigures {
        disturbance: plan.disturbance.name(),
        bandwidth: capacity.map_or(0, |capacity| capacity.bandwidth),
        disk: capacity.map_or(0, |capacity| capacity.disk),
        delay: cluster.world.plan.network.delay.end,
        steady,
        latencies,
        recovered_after,
        bound,
        sent,
        written,
        steady_sent,
        steady_written,
        dropped: cluster.world.traffic.dropped,
        repeated: cluster.workload.load.repeated * 1000 / cluster.workload.load.chosen.max(1),
        rounds: highest_round(cluster) - round,
        offered: cluster.workload.load.offered,
        failed: cluster.workload.load.failed,
    });
    judge(cluster).map_err(|found| cluster.with_time(*found))?;
    let quiet =
        |cluster: &Cluster<P>| !cluster.workload.clients.is_loaded() && cluster.has_settled();
    wait(cluster, options.liveness_timeout, "does not converge", quiet)
}

/// Starts the disturbance; a replayed one comes from the schedule.
fn disturb<P: Protocol>(cluster: &mut Cluster<P>, plan: &LoadPlan) -> Checked {
    let leader = cluster.leader().map_or(0, Cluster::<P>::index);
    let nodes = cluster.world.nodes.len();
    let node_fault = match &plan.disturbance {
        Disturbance::Burst(bytes) => {
            cluster.submit_load_burst(plan, *bytes);
            return Ok(());
        }
        Disturbance::Reads(clients, time) => {
            cluster.workload.load.reads_until = cluster.world.now + *time;
            for client in 0..*clients * nodes as u64 {
                cluster.world.read_load(client as usize % nodes, plan.read_bytes);
            }
            return Ok(());
        }
        Disturbance::Away(time) => {
            let away = [(leader + 1) % nodes];
            let others: Vec<_> = (0..nodes).filter(|node| *node != away[0]).collect();
            let cut = [links(&away, &others), links(&others, &away)].concat();
            NodeFault { fault: Fault::Isolate, effect: FaultEffect::Links(cut, *time) }
        }
        Disturbance::SlowDisk(time) => {
            NodeFault { fault: Fault::SlowDisk, effect: FaultEffect::Stall(leader, *time) }
        }
    };
    match cluster.faults.source.is_random() {
        true => cluster.apply_fault(node_fault),
        false => Ok(()),
    }
}

/// Returns the bytes of values a second that fit in addition to the load, at least a tenth of the
/// load. `sent` and `written` are the bytes for each thousand of them before the disturbance.
fn spare_capacity<P: Protocol>(
    cluster: &Cluster<P>,
    plan: &LoadPlan,
    sent: u64,
    written: u64,
) -> u64 {
    let Some(capacity) = &cluster.world.plan.capacity else { return plan.rate };
    let sent = capacity.bandwidth * 1000 / sent.max(1000);
    let written = capacity.disk * 1000 / written.max(1000);
    let used = sent.min(written) / 100 * USED_PERCENT;
    used.saturating_sub(plan.rate).max(plan.rate / 10)
}

/// Returns the bound of the recovery time: twice the time for the backlog at the spare capacity,
/// plus margins.
fn bound<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan, spare: u64) -> Duration {
    let lag = match plan.disturbance {
        Disturbance::Away(time) => u128::from(plan.rate) * time.as_millis() / 1000,
        _ => 0,
    };
    let backlog = cluster.workload.load.backlog().max(u64::try_from(lag).unwrap_or(u64::MAX));
    let growth = cluster.world.plan.network.delay.end * 2 * GROWTH_ROUND_TRIPS;
    let drained = time_for(backlog, spare) * 2;
    (drained + GRACE + growth).min(LONGEST)
}

/// Returns the offered load: half of the drawn rate without a leader, as values are then sent
/// twice.
fn rate<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan) -> u64 {
    if has_peers(cluster) { plan.rate / 2 } else { plan.rate }
}

/// Returns whether every node proposes and none leads.
fn has_peers<P: Protocol>(cluster: &Cluster<P>) -> bool {
    let statuses = cluster.members().all().filter_map(|id| cluster.status(id));
    statuses.into_iter().any(|status| status.role == Role::Peer)
}

/// Returns whether the cluster has recovered: throughput has been stable for a while, at most the
/// writes of one window are pending, and no node lags. More time would only show the steady load
/// again.
fn has_recovered<P: Protocol>(
    cluster: &Cluster<P>,
    plan: &LoadPlan,
    ended: usize,
    steady: u64,
) -> bool {
    let slices = cluster.workload.load.slice(cluster.now()) - ended;
    let is_stable = SLICE * slices as u32 >= recovered_after(cluster, ended, steady) + STABLE;
    is_stable
        && cluster.workload.load.backlog() <= plan.rate * WINDOW.as_secs()
        && lagging(cluster).is_empty()
}

/// Returns the end of the last window with throughput below nine tenths of `steady`, counted from
/// the slice `ended`.
fn recovered_after<P: Protocol>(cluster: &Cluster<P>, ended: usize, steady: u64) -> Duration {
    // Peers lose slots at random, and a command that lost takes some more round trips: where these
    // are long, throughput evens out over two windows only.
    let windows: u32 = if has_peers(cluster) { 2 } else { 1 };
    let window = ((WINDOW * windows).as_millis() / SLICE.as_millis()) as usize;
    let last = cluster.workload.load.slice(cluster.now());
    let low = steady * u64::from(windows) * 9 / 10;
    let is_low = |from: &usize| cluster.workload.load.acknowledged_in(*from, from + window) < low;
    let low = (ended..last.saturating_sub(window)).rev().find(is_low);
    low.map_or(Duration::ZERO, |from| SLICE * (from + 1 - ended) as u32)
}

fn judge<P: Protocol>(cluster: &Cluster<P>) -> Checked {
    let Some(figures) = &cluster.workload.load_figures else { return Ok(()) };
    let LoadFigures { recovered_after, bound, steady, .. } = figures;
    if recovered_after > bound {
        let text = format!(
            "throughput is below 90 % of {steady} bytes a second {recovered_after:?} after the \
             disturbance, bound {bound:?}: {figures:?}"
        );
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let most = if has_peers(cluster) { MAX_AMPLIFICATION_OF_PEERS } else { MAX_AMPLIFICATION };
    let limit = |steady: u64| (steady.max(1000) * most / 1000).min(MAX_COPIES);
    if figures.sent > limit(figures.steady_sent) || figures.written > limit(figures.steady_written)
    {
        let text = format!("too many bytes sent or written per command: {figures:?}");
        return Err(violation(ViolationKind::Amplified, [], text));
    }
    if figures.rounds > 0 {
        let text = format!("leadership moved although no node stopped: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let [before, meanwhile] = figures.latencies;
    let reads = matches!(
        cluster.world.plan.load.as_ref().map(|plan| &plan.disturbance),
        Some(Disturbance::Reads(..))
    );
    if reads && meanwhile > before.max(LEAST_LATENCY) * MAX_SLOWER {
        let text = format!("writes waited for reads: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let lag = lagging(cluster);
    if !lag.is_empty() {
        let text = format!("nodes lag by more than two seconds of load: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, lag, text));
    }
    Ok(())
}

/// Returns the nodes that have not applied the slots acknowledged two seconds ago.
fn lagging<P: Protocol>(cluster: &Cluster<P>) -> Vec<NodeId> {
    let Some(plan) = &cluster.world.plan.load else { return Vec::new() };
    let recent = 2 * plan.rate / plan.value.max(1);
    let last = cluster.chosen().0;
    let lags = |id: &NodeId| cluster.applied(*id).is_none_or(|(slot, _)| slot.0 + recent < last);
    cluster.members().all().filter(lags).collect()
}

fn sample<P: Protocol>(cluster: &Cluster<P>) -> Sample {
    Sample { traffic: cluster.world.traffic, chosen: cluster.workload.load.chosen }
}

/// Returns the bytes sent and written since a sample, for each thousand bytes needed.
fn amplification<P: Protocol>(cluster: &Cluster<P>, since: Sample) -> (u64, u64) {
    let traffic = cluster.world.traffic.since(since.traffic);
    let bytes = (cluster.workload.load.chosen - since.chosen).max(1);
    let nodes = cluster.world.nodes.len() as u64;
    let per_thousand = |done: u64, copies: u64| done * 1000 / (bytes * copies.max(1));
    (per_thousand(traffic.bytes, nodes - 1), per_thousand(traffic.written, nodes))
}

fn highest_round<P: Protocol>(cluster: &Cluster<P>) -> u64 {
    let rounds = cluster.members().all().filter_map(|id| cluster.status(id));
    rounds.map(|status| status.ballot.round).max().unwrap_or_default()
}
