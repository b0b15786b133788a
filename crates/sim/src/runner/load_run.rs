//! Phases of a load run, and its checks.

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

/// Time before the load starts.
const START: Duration = Duration::from_secs(1);
/// Time of load before the measurement.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time of the measurement before the disturbance.
const MEASURED: Duration = Duration::from_secs(3);
/// Length of the sliding window over which throughput is measured.
const WINDOW: Duration = Duration::from_secs(1);
/// Time without a slow window after which throughput has recovered. It exceeds the timeout of
/// clients, so that timeouts are noticed.
const STABLE: Duration = Duration::from_secs(6);
/// Margin of the recovery time: ten election timeouts of the default settings.
const GRACE: Duration = Duration::from_secs(3);
/// Percentage of the throughput of a link or disk that is usable: flow-control windows that keep
/// queues short leave it idle at times.
const USED_PERCENT: u64 = 95;
/// Margin of the recovery time: round trips in which flow-control windows adapt.
const ADAPTATION_ROUND_TRIPS: u32 = 10;
/// Upper bound of the time to recover from a disturbance.
const MAX_RECOVERY: Duration = Duration::from_secs(60);
/// Maximum ratio, in thousandths, of the bytes sent or written per command in the whole run to
/// those before the disturbance.
const MAX_AMPLIFICATION: u64 = 1300;
/// The same for protocols without a leader, where proposers that compete for a slot send its value
/// several times.
const MAX_AMPLIFICATION_OF_PEERS: u64 = 1600;
/// Absolute maximum, in thousandths of one copy per node. Undisturbed runs reach 1370, because
/// requests are forwarded to the leader.
const MAX_ABSOLUTE_AMPLIFICATION: u64 = 1800;

/// Maximum ratio, under continuous reads, of the 99th percentile of write latency to the one before
/// them.
const MAX_LATENCY_FACTOR: u32 = 5;
/// Lower bound of the latency that is multiplied with this factor.
const MIN_LATENCY: Duration = Duration::from_millis(5);

/// Counters at one time: traffic and bytes of chosen values.
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
    let plan = &LoadPlan { rate: offered_rate(cluster, plan), ..plan.clone() };
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
        return Err(stalled(
            cluster,
            &format!("acknowledges only {steady} of {rate} bytes a second"),
        ));
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

/// Starts the disturbance. In a replay, its fault is part of the schedule and is not applied here.
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

/// Returns the spare throughput: the bytes of values a second that links and disks can carry in
/// addition to the load, at least a tenth of the load. `sent` and `written` are the amplification
/// before the disturbance, in thousandths.
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
    let missed = match plan.disturbance {
        Disturbance::Away(time) => u128::from(plan.rate) * time.as_millis() / 1000,
        _ => 0,
    };
    let backlog = cluster.workload.load.backlog().max(u64::try_from(missed).unwrap_or(u64::MAX));
    let adaptation = cluster.world.plan.network.delay.end * 2 * ADAPTATION_ROUND_TRIPS;
    let drained = time_for(backlog, spare) * 2;
    (drained + GRACE + adaptation).min(MAX_RECOVERY)
}

/// Returns the offered rate: the drawn one, or half of it without a leader, because each value is
/// then sent twice.
fn offered_rate<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan) -> u64 {
    if has_peers(cluster) { plan.rate / 2 } else { plan.rate }
}

/// Returns whether every node proposes and none leads.
fn has_peers<P: Protocol>(cluster: &Cluster<P>) -> bool {
    let statuses = cluster.members().all().filter_map(|id| cluster.status(id));
    statuses.into_iter().any(|status| status.role == Role::Peer)
}

/// Returns whether the cluster has recovered: throughput has been stable for [`STABLE`], at most
/// the writes of one window are pending, and no node lags. The run can end then.
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

/// Returns the time from the slice `ended` to the first slice after which every window has at least
/// nine tenths of the throughput `steady`.
fn recovered_after<P: Protocol>(cluster: &Cluster<P>, ended: usize, steady: u64) -> Duration {
    // Without a leader, proposers lose slots to each other at random, and retries take more round
    // trips. Over slow links, throughput is stable only over two windows.
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
            "throughput was below 90 % of {steady} bytes a second until {recovered_after:?} after \
             the disturbance; the bound is {bound:?}: {figures:?}"
        );
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let most = if has_peers(cluster) { MAX_AMPLIFICATION_OF_PEERS } else { MAX_AMPLIFICATION };
    let limit = |steady: u64| (steady.max(1000) * most / 1000).min(MAX_ABSOLUTE_AMPLIFICATION);
    if figures.sent > limit(figures.steady_sent) || figures.written > limit(figures.steady_written)
    {
        let text = format!("too many bytes sent or written per command: {figures:?}");
        return Err(violation(ViolationKind::Amplified, [], text));
    }
    if figures.rounds > 0 {
        let text = format!("leadership changed although no node stopped: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let [before, during] = figures.latencies;
    let reads = matches!(
        cluster.world.plan.load.as_ref().map(|plan| &plan.disturbance),
        Some(Disturbance::Reads(..))
    );
    if reads && during > before.max(MIN_LATENCY) * MAX_LATENCY_FACTOR {
        let text =
            format!("reads raised the write latency from {before:?} to {during:?}: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let lag = lagging(cluster);
    if !lag.is_empty() {
        let text = format!("nodes lag by more than two seconds of load: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, lag, text));
    }
    Ok(())
}

/// Returns the nodes whose applied state lags the last chosen slot by more than two seconds of
/// load.
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

/// Returns the bytes sent and written since a sample, in thousandths of one copy of each chosen
/// value per node (sent: per other node).
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
