//! The course of a load run, and what it must not do.

use crate::cluster::Cluster;
use crate::cluster::network::links;
use crate::faults::kind::Fault;
use crate::faults::schedule::{Effect, Trouble};
use crate::measure::Traffic;
use crate::plan::load::{Disturbance, LoadPlan};
use crate::runner::run::{Options, stalled, wait};
use crate::violation::{Checked, Violation, ViolationKind, violation};
use crate::workload::load::SLICE;
use std::time::Duration;
use synod_consensus::{Protocol, Role};
use synod_types::NodeId;

/// How long the cluster has to itself, how long the load goes on before anything is measured, and
/// how long it is measured.
const START: Duration = Duration::from_secs(1);
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(3);
/// Throughput is judged over windows of this length.
const WINDOW: Duration = Duration::from_secs(1);
/// Throughput counts as back after this long: more than clients wait for an answer.
const BACK: Duration = Duration::from_secs(6);
/// Ten election timeouts of the default settings, on top of what the backlog takes.
const GRACE: Duration = Duration::from_secs(3);
/// Hundredths of a link or disk that windows fill: those that keep queues short leave gaps.
const USED: u64 = 95;
/// Round trips that windows may take to adapt, on top of that.
const GROWTH: u32 = 10;
/// No disturbance may take longer than this to pass.
const LONGEST: Duration = Duration::from_secs(60);
/// Bytes sent and written may be this many thousandths of what they were for the same commands
/// before the disturbance.
const MOST_AMPLIFICATION: u64 = 1300;
/// The same where no node leads: proposers that compete for a slot send its value again, each.
const MOST_AMPLIFICATION_OF_PEERS: u64 = 1600;
/// Whatever they were before: so many thousandths of what is needed. Forwards make up to 1370.
const MOST_COPIES: u64 = 1800;

/// While clients read all the time, 99 % of the writes may take this many times as long as before,
/// or as this.
const MOST_SLOWER: u32 = 5;
const LEAST_LATENCY: Duration = Duration::from_millis(5);

/// The figures of a load run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFigures {
    /// What disturbed it.
    pub disturbance: &'static str,
    /// Bytes a second that a link and a disk carry.
    pub bandwidth: u64,
    /// See [`bandwidth`](Self::bandwidth).
    pub disk: u64,
    /// The longest time that a message is on its way, without waiting.
    pub delay: Duration,
    /// Acknowledged bytes of values a second before the disturbance.
    pub steady: u64,
    /// The latency that 99 % of the writes kept before the disturbance, and while it lasted.
    pub latencies: [Duration; 2],
    /// How long after the disturbance ended throughput was below nine tenths of that.
    pub recovered_after: Duration,
    /// How long that may take.
    pub bound: Duration,
    /// Bytes sent for each thousand bytes that the chosen values need: one copy for each
    /// other node.
    pub sent: u64,
    /// Bytes written to logs for each thousand bytes that they need: one copy for each node.
    pub written: u64,
    /// The same two before the disturbance.
    pub steady_sent: u64,
    /// See [`steady_sent`](Self::steady_sent).
    pub steady_written: u64,
    /// Frames dropped because their lane was full.
    pub dropped: u64,
    /// Bytes of commands that were chosen again, for each thousand bytes of those chosen first.
    pub repeated: u64,
    /// Rounds (terms) that passed.
    pub rounds: u64,
    /// Bytes of all writes.
    pub offered: u64,
    /// Bytes of writes that were refused or not answered in time.
    pub failed: u64,
}

/// What was carried up to a time.
#[derive(Clone, Copy)]
struct Sample {
    traffic: Traffic,
    chosen: u64,
}

/// Runs a load run.
pub(crate) fn play<P: Protocol>(
    cluster: &mut Cluster<P>,
    plan: &LoadPlan,
    options: &Options,
) -> Result<(), Violation> {
    cluster.run_for(START)?;
    let plan = &LoadPlan { rate: rate(cluster, plan), ..plan.clone() };
    cluster.plan.load = Some(plan.clone());
    cluster.begin_load();
    let first = sample(cluster);
    let served = |cluster: &Cluster<P>| cluster.load.acknowledged > 0;
    wait(cluster, options.patience, "acknowledges no write", served)?;
    cluster.run_for(WARM_UP)?;
    let (before, begin) = (sample(cluster), cluster.load.slice(cluster.now()));
    let round = highest_round(cluster);
    cluster.run_for(MEASURED)?;
    let end = cluster.load.slice(cluster.now());
    let steady = cluster.load.acknowledged_in(begin, end) / MEASURED.as_secs();
    let (steady_sent, steady_written) = amplification(cluster, before);
    if steady < plan.rate * 9 / 10 {
        let rate = plan.rate;
        return Err(stalled(cluster, &format!("carries {steady} of {rate} bytes a second")));
    }
    disturb(cluster, plan).map_err(|found| cluster.dated(*found))?;
    cluster.run_for(plan.disturbance.time())?;
    let ended = cluster.load.slice(cluster.now());
    let latencies = [cluster.load.latency_in(begin, end), cluster.load.latency_in(end, ended)];
    let free = free(cluster, plan, (steady_sent, steady_written));
    let bound = bound(cluster, plan, free);
    let end = cluster.now() + bound + WINDOW * 3;
    while cluster.now() < end && !is_back(cluster, plan, (ended, steady)) {
        cluster.run_for(WINDOW)?;
    }
    let recovered_after = recovered_after(cluster, ended, steady);
    cluster.load.is_over = true;
    let (sent, written) = amplification(cluster, first);
    let capacity = cluster.plan.capacity.as_ref();
    cluster.load_figures = Some(LoadFigures {
        disturbance: plan.disturbance.name(),
        bandwidth: capacity.map_or(0, |capacity| capacity.bandwidth),
        disk: capacity.map_or(0, |capacity| capacity.disk),
        delay: cluster.plan.network.delay.end,
        steady,
        latencies,
        recovered_after,
        bound,
        sent,
        written,
        steady_sent,
        steady_written,
        dropped: cluster.traffic.dropped,
        repeated: cluster.load.repeated * 1000 / cluster.load.chosen.max(1),
        rounds: highest_round(cluster) - round,
        offered: cluster.load.offered,
        failed: cluster.load.failed,
    });
    judge(cluster).map_err(|found| cluster.dated(*found))?;
    let quiet = |cluster: &Cluster<P>| !cluster.clients.is_loaded() && cluster.has_settled();
    wait(cluster, options.patience, "does not converge", quiet)
}

/// The disturbance begins; with a schedule it comes from there.
fn disturb<P: Protocol>(cluster: &mut Cluster<P>, plan: &LoadPlan) -> Checked {
    let leader = cluster.leader().map_or(0, Cluster::<P>::index);
    let nodes = cluster.nodes.len();
    let trouble = match &plan.disturbance {
        Disturbance::Burst(bytes) => {
            cluster.burst(plan, *bytes);
            return Ok(());
        }
        Disturbance::Reads(clients, time) => {
            cluster.load.reads_until = cluster.now + *time;
            for client in 0..*clients * nodes as u64 {
                cluster.read_load(client as usize % nodes, plan.read_bytes);
            }
            return Ok(());
        }
        Disturbance::Away(time) => {
            let away = [(leader + 1) % nodes];
            let others: Vec<_> = (0..nodes).filter(|node| *node != away[0]).collect();
            let cut = [links(&away, &others), links(&others, &away)].concat();
            Trouble { fault: Fault::Isolate, effect: Effect::Links(cut, *time) }
        }
        Disturbance::SlowDisk(time) => {
            Trouble { fault: Fault::SlowDisk, effect: Effect::Hold(leader, *time) }
        }
    };
    match cluster.director.is_drawing() {
        true => cluster.befall(trouble),
        false => Ok(()),
    }
}

/// Bytes of values a second that can be carried beside the load, given what bytes were sent and
/// written for them before the disturbance: at least a tenth of the load.
fn free<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan, steady: (u64, u64)) -> u64 {
    let Some(capacity) = &cluster.plan.capacity else { return plan.rate };
    let sent = capacity.bandwidth * 1000 / steady.0.max(1000);
    let written = capacity.disk * 1000 / steady.1.max(1000);
    let used = sent.min(written) / 100 * USED;
    used.saturating_sub(plan.rate).max(plan.rate / 10)
}

/// Twice the time that the backlog takes at what is free, and some.
fn bound<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan, free: u64) -> Duration {
    let lag = match plan.disturbance {
        Disturbance::Away(time) => u128::from(plan.rate) * time.as_millis() / 1000,
        _ => 0,
    };
    let backlog = cluster.load.backlog().max(u64::try_from(lag).unwrap_or(u64::MAX));
    let growth = cluster.plan.network.delay.end * 2 * GROWTH;
    let drained = crate::cluster::network::time_for(backlog, free) * 2;
    (drained + GRACE + growth).min(LONGEST)
}

/// The load: half of what is drawn where no node leads, as values are then sent twice.
fn rate<P: Protocol>(cluster: &Cluster<P>, plan: &LoadPlan) -> u64 {
    if has_peers(cluster) { plan.rate / 2 } else { plan.rate }
}

/// Whether every node proposes and none leads.
fn has_peers<P: Protocol>(cluster: &Cluster<P>) -> bool {
    let statuses = cluster.members().all().filter_map(|id| cluster.status(id));
    statuses.into_iter().any(|status| status.role == Role::Peer)
}

/// Whether the disturbance has left no trace: throughput has been back for a while, at most the
/// writes of a window wait for an answer, and no node lags. The rest of the time would show nothing
/// but the steady load again.
fn is_back<P: Protocol>(
    cluster: &Cluster<P>,
    plan: &LoadPlan,
    (ended, steady): (usize, u64),
) -> bool {
    let slices = cluster.load.slice(cluster.now()) - ended;
    let back = SLICE * slices as u32 >= recovered_after(cluster, ended, steady) + BACK;
    back && cluster.load.backlog() <= plan.rate * WINDOW.as_secs() && lagging(cluster).is_empty()
}

/// When the last window ended in which throughput was below nine tenths of `steady`, counted from
/// the slice `ended`.
fn recovered_after<P: Protocol>(cluster: &Cluster<P>, ended: usize, steady: u64) -> Duration {
    // Peers lose slots at random, and a command that lost takes some round trips more: where these
    // are long, it takes two windows until this evens out.
    let windows: u32 = if has_peers(cluster) { 2 } else { 1 };
    let window = ((WINDOW * windows).as_millis() / SLICE.as_millis()) as usize;
    let last = cluster.load.slice(cluster.now());
    let low = steady * u64::from(windows) * 9 / 10;
    let is_low = |from: &usize| cluster.load.acknowledged_in(*from, from + window) < low;
    let low = (ended..last.saturating_sub(window)).rev().find(is_low);
    low.map_or(Duration::ZERO, |from| SLICE * (from + 1 - ended) as u32)
}

fn judge<P: Protocol>(cluster: &Cluster<P>) -> Checked {
    let Some(figures) = &cluster.load_figures else { return Ok(()) };
    let LoadFigures { recovered_after, bound, steady, .. } = figures;
    if recovered_after > bound {
        let text = format!(
            "{recovered_after:?} after the disturbance throughput is still below 90 % of {steady} \
             bytes a second, which may take {bound:?}: {figures:?}"
        );
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let most = if has_peers(cluster) { MOST_AMPLIFICATION_OF_PEERS } else { MOST_AMPLIFICATION };
    let limit = |steady: u64| (steady.max(1000) * most / 1000).min(MOST_COPIES);
    if figures.sent > limit(figures.steady_sent) || figures.written > limit(figures.steady_written)
    {
        let text = format!("bytes are sent or written too often: {figures:?}");
        return Err(violation(ViolationKind::Amplified, [], text));
    }
    if figures.rounds > 0 {
        let text = format!("leadership moves though no node stops: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let [before, meanwhile] = figures.latencies;
    let reads = matches!(
        cluster.plan.load.as_ref().map(|plan| &plan.disturbance),
        Some(Disturbance::Reads(..))
    );
    if reads && meanwhile > before.max(LEAST_LATENCY) * MOST_SLOWER {
        let text = format!("writes wait for reads: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, [], text));
    }
    let lag = lagging(cluster);
    if !lag.is_empty() {
        let text = format!("nodes are more than two seconds of load behind: {figures:?}");
        return Err(violation(ViolationKind::NotRecovered, lag, text));
    }
    Ok(())
}

/// The nodes that have not applied what was acknowledged two seconds ago.
fn lagging<P: Protocol>(cluster: &Cluster<P>) -> Vec<NodeId> {
    let Some(plan) = &cluster.plan.load else { return Vec::new() };
    let recent = 2 * plan.rate / plan.value.max(1);
    let last = cluster.chosen().0;
    let is_behind =
        |id: &NodeId| cluster.applied(*id).is_none_or(|(slot, _)| slot.0 + recent < last);
    cluster.members().all().filter(is_behind).collect()
}

fn sample<P: Protocol>(cluster: &Cluster<P>) -> Sample {
    Sample { traffic: cluster.traffic, chosen: cluster.load.chosen }
}

/// Bytes sent and written since a sample, for each thousand bytes that were needed.
fn amplification<P: Protocol>(cluster: &Cluster<P>, since: Sample) -> (u64, u64) {
    let traffic = cluster.traffic.since(since.traffic);
    let bytes = (cluster.load.chosen - since.chosen).max(1);
    let nodes = cluster.nodes.len() as u64;
    let per_thousand = |done: u64, copies: u64| done * 1000 / (bytes * copies.max(1));
    (per_thousand(traffic.bytes, nodes - 1), per_thousand(traffic.written, nodes))
}

fn highest_round<P: Protocol>(cluster: &Cluster<P>) -> u64 {
    let rounds = cluster.members().all().filter_map(|id| cluster.status(id));
    rounds.map(|status| status.ballot.round).max().unwrap_or_default()
}
