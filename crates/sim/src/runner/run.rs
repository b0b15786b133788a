//! Run of one seed: faults, recovery, and the final checks.

use crate::cluster::Cluster;
use crate::faults::kind::Family;
use crate::faults::schedule::Schedule;
use crate::plan::Plan;
use crate::rng::SimRng;
use crate::runner::load_run;
use crate::runner::spec::{RunOptions, RunOutcome, RunReport, RunSpec};
use crate::runner::wait::{stalled, wait};
use crate::violation::{Violation, ViolationKind};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Instant, Membership, NodeId};

/// Runs a seed. `config` makes each node's protocol settings.
///
/// A panic of the code under test becomes a [`ViolationKind::Panic`]; its message is also printed
/// by the panic hook in force.
pub fn run_seed<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    options: &RunOptions,
) -> RunReport {
    run::<P>(config, &RunSpec::of_seed(seed, options)).report
}

/// Runs a seed and records its faults, so that [`replay`] can repeat the run.
pub fn record<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    options: &RunOptions,
) -> (RunReport, Schedule) {
    let outcome = run::<P>(config, &RunSpec::of_seed(seed, options));
    (outcome.report, outcome.schedule)
}

/// Runs a seed with the faults of a schedule instead of its own; everything else (the plan, the
/// clients, the delays of messages, the durations of syncs) is drawn from the seed. With the whole
/// schedule that [`record`] returned, the report is the same, including the
/// [hash](RunReport::hash). With a part of it, the run is the same up to the first missing fault
/// and similar after it.
pub fn replay<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    schedule: &Schedule,
    options: &RunOptions,
) -> RunReport {
    let spec = RunSpec { schedule: Some(schedule), ..RunSpec::of_seed(seed, options) };
    run::<P>(config, &spec).report
}

/// Performs a run.
pub fn run<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    spec: &RunSpec<'_>,
) -> RunOutcome {
    let RunSpec { seed, options, schedule, trace } = *spec;
    let mut rng = SimRng::new(seed);
    let nodes = options.nodes.map(|nodes| nodes.max(1));
    let plan = match options.kind.is_load(seed) {
        true => Plan::draw_load(&mut rng, nodes),
        false => Plan::draw(&mut rng, nodes),
    };
    let mut cluster = Cluster::<P>::with_schedule(plan, rng.word(), config, schedule);
    cluster.workload.clients.most = options.ops.unwrap_or(u64::MAX);
    cluster.checks.history_only = options.history_only;
    if trace > 0 {
        cluster.world.trace.keep_recent(trace);
        let limits = cluster.world.plan.limits.clone();
        cluster
            .world
            .trace
            .record_key_event(|| limits.map_or_else(String::new, |limits| limits.to_string()));
    }
    let load = cluster.world.plan.load.clone();
    let result = catch_unwind(AssertUnwindSafe(|| match &load {
        Some(load) => load_run::play(&mut cluster, load, options),
        None => play(&mut cluster, &mut rng, options),
    }));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(payload) => Some(panicked(cluster.now(), &*payload)),
    };
    let mut report = RunReport {
        seed,
        hash: cluster.hash(),
        simulated: cluster.now().since(Instant::ZERO),
        ops: cluster.workload.clients.done(),
        faults: cluster.faults.counts.by_name(),
        faults_under_load: cluster.faults.counts.under_load_by_name(),
        counted: violation.is_none() && is_counted(&cluster),
        events: cluster.world.events,
        violation,
        served_after: cluster.workload.served_after,
        load: cluster.workload.load_figures.clone(),
    };
    let schedule = std::mem::take(&mut cluster.faults.source.recorded);
    let fault_time_factor = cluster.world.plan.fault_time_factor;
    let (transcript, trace) =
        (cluster.world.trace.take_transcript(), cluster.world.trace.take_recent());
    if report.violation.is_none() {
        let end = catch_unwind(AssertUnwindSafe(|| cluster.finish()));
        report.violation = match end {
            Ok(result) => result.err(),
            Err(payload) => Some(panicked(Instant::ZERO + report.simulated, &*payload)),
        };
        report.counted &= report.violation.is_none();
    }
    RunOutcome { report, schedule, fault_time_factor, transcript, trace }
}

fn play<P: Protocol>(
    cluster: &mut Cluster<P>,
    rng: &mut SimRng,
    options: &RunOptions,
) -> Result<(), Violation> {
    cluster.run_for(options.fault_time * cluster.world.plan.fault_time_factor)?;
    let repaired = draw_repaired_nodes(rng, cluster);
    let healed = cluster.now();
    let names: Vec<_> = repaired.iter().map(|node| NodeId(*node as u64 + 1)).collect();
    cluster.world.trace.record_key_event(|| format!("all faults end; {names:?} are repaired"));
    cluster.end_faults(repaired);
    let slice = Duration::from_millis(100);
    let served = |cluster: &Cluster<P>| cluster.workload.clients.newest_begin_done > healed;
    wait(cluster, options.liveness_timeout, "serves no client", served)?;
    cluster.workload.served_after = Some(cluster.now() - healed);
    // From now on every operation must be served within its timeout.
    cluster.world.plan.clients.timeout = options.liveness_timeout..options.liveness_timeout * 2;
    cluster.workload.clients.must_serve = Some(cluster.now());
    let rest = options.recovery_time.saturating_sub(cluster.now() - healed + slice * 10);
    cluster.run_for(rest)?;
    // Submits no new operations, so that pending ones end and all nodes reach the same state.
    cluster.world.plan.clients.burst = 0..0;
    cluster.world.plan.clients.target = 0;
    let quiet = |cluster: &Cluster<P>| {
        let past = cluster.now() - healed >= options.recovery_time;
        past && !cluster.workload.clients.is_loaded() && cluster.has_converged()
    };
    let end = cluster.now() + options.recovery_time + options.liveness_timeout;
    loop {
        wait(cluster, options.liveness_timeout, "does not converge", quiet)?;
        if let Some(id) = cluster.workload.clients.unserved {
            return Err(stalled(cluster, &format!("did not serve operation {id}")));
        }
        // Waits until the last writes are durable, so that the stores can be compared. An election
        // may add a slot in this time; then waits again.
        let chosen = cluster.chosen();
        cluster.run_for(slice)?;
        if cluster.chosen() == chosen && quiet(cluster) {
            return Ok(());
        }
        if cluster.now() > end {
            return Err(stalled(cluster, "does not become idle"));
        }
    }
}

/// Draws the nodes to repair: all intact nodes in half of the runs, else a random quorum of them.
fn draw_repaired_nodes<P: Protocol>(rng: &mut SimRng, cluster: &Cluster<P>) -> Vec<usize> {
    let mut intact: Vec<_> = cluster.world.intact_nodes().collect();
    if rng.percent(50) {
        rng.shuffle(&mut intact);
        let mut sizes = 1..intact.len();
        let enough = sizes.find(|size| cluster.world.is_quorum(&intact[..*size]));
        intact.truncate(enough.unwrap_or(intact.len()));
    }
    intact
}

fn is_counted<P: Protocol>(cluster: &Cluster<P>) -> bool {
    if cluster.world.plan.load.is_some() {
        return cluster.workload.load_figures.is_some();
    }
    let fired = |family: Family| {
        !cluster.world.plan.faults.has_family(family)
            || cluster.faults.counts.family_under_load(family)
    };
    let seconds = cluster.now().since(Instant::ZERO).as_millis();
    Family::ALL.into_iter().all(fired)
        && u128::from(cluster.workload.clients.done()) * 1000 >= seconds * 10
}

fn panicked(at: Instant, payload: &(dyn Any + Send)) -> Violation {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into()));
    let explanation = text.unwrap_or_else(|| "panic without a message".into());
    Violation { kind: ViolationKind::Panic, at, nodes: Vec::new(), explanation }
}
