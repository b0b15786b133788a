//! One seed: a time of faults, a time of healing, and the reckoning.

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::faults::Family;
use crate::plan::Plan;
use crate::violation::{Violation, ViolationKind};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Instant, Membership, NodeId};

/// What the caller decides about a run; the seed decides everything else.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many nodes; `None` (the default) lets the seed choose 1, 3 or 5.
    pub nodes: Option<u64>,
    /// How long faults fire. 45 s by default.
    pub troubled: Duration,
    /// How long the healed cluster is watched. 15 s by default.
    pub healed: Duration,
    /// A healed cluster that has not served, or not converged, after this long will not. 10 s by
    /// default.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: None,
            troubled: Duration::from_secs(45),
            healed: Duration::from_secs(15),
            patience: Duration::from_secs(10),
        }
    }
}

/// What one seed did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A fingerprint of everything that happened: equal wherever the seed is run again.
    pub hash: u64,
    /// How much time passed inside.
    pub simulated: Duration,
    /// How many operations were acknowledged to clients.
    pub ops: u64,
    /// How often each kind of fault fired.
    pub faults: BTreeMap<&'static str, u64>,
    /// What the run found; it ended there.
    pub violation: Option<Violation>,
    /// How many events there were.
    pub events: u64,
    /// Whether the run counts: each family of faults that was on fired while operations were in
    /// flight, and at least 10 operations a simulated second were acknowledged.
    pub counted: bool,
}

/// Runs a seed. `config` makes each node's protocol settings.
///
/// A panic of the code under test becomes a [`ViolationKind::Panic`]; its message is also printed
/// by the panic hook in force.
pub fn run_seed<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    options: &Options,
) -> Report {
    let mut dice = Dice::new(seed);
    let plan = Plan::draw(&mut dice, options.nodes);
    let mut cluster = Cluster::<P>::new(plan, dice.word(), config);
    let result = catch_unwind(AssertUnwindSafe(|| play(&mut cluster, &mut dice, options)));
    let violation = match result {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(payload) => Some(panicked(cluster.now(), &*payload)),
    };
    let mut report = Report {
        seed,
        hash: cluster.hash(),
        simulated: cluster.now().since(Instant::ZERO),
        ops: cluster.clients.done(),
        faults: cluster.faults.by_name(),
        counted: violation.is_none() && counts(&cluster),
        events: cluster.events,
        violation,
    };
    if report.violation.is_none() {
        let end = catch_unwind(AssertUnwindSafe(|| cluster.finish()));
        report.violation = match end {
            Ok(result) => result.err(),
            Err(payload) => Some(panicked(Instant::ZERO + report.simulated, &*payload)),
        };
        report.counted &= report.violation.is_none();
    }
    report
}

fn play<P: Protocol>(
    cluster: &mut Cluster<P>,
    dice: &mut Dice,
    options: &Options,
) -> Result<(), Violation> {
    cluster.run_for(options.troubled)?;
    let core = draw_core(dice, cluster.nodes.len());
    let healed = cluster.now();
    cluster.heal_core(core);
    let slice = Duration::from_millis(100);
    let served = |cluster: &Cluster<P>| cluster.clients.newest_begin_done > healed;
    wait(cluster, options.patience, "serves nobody", served)?;
    let rest = options.healed.saturating_sub(cluster.now() - healed + slice * 10);
    cluster.run_for(rest)?;
    // No new operations: what is under way ends, and all nodes reach the same state.
    cluster.plan.clients.burst = 0..0;
    cluster.plan.clients.target = 0;
    let quiet = |cluster: &Cluster<P>| {
        let past = cluster.now() - healed >= options.healed;
        past && !cluster.clients.is_loaded() && cluster.has_converged()
    };
    wait(cluster, options.patience, "does not converge", quiet)?;
    // The last writes become durable, so that the stores can be compared. What a client gave up on
    // may be chosen even now.
    cluster.run_for(slice)?;
    wait(cluster, options.patience, "does not come to rest", Cluster::has_settled)
}

/// Lets time pass until something is so.
fn wait<P: Protocol>(
    cluster: &mut Cluster<P>,
    patience: Duration,
    complaint: &str,
    is_so: impl Fn(&Cluster<P>) -> bool,
) -> Result<(), Violation> {
    let end = cluster.now() + patience;
    while !is_so(cluster) {
        if cluster.now() >= end {
            let core: Vec<_> = cluster.core.iter().map(|node| NodeId(*node as u64 + 1)).collect();
            let nodes = core.iter().map(|id| {
                let applied = cluster.applied(*id).map_or(0, |(slot, _)| slot.0);
                let status = cluster.status(*id);
                let role = status.map(|status| (status.role, status.ballot, status.commit));
                format!("{id:?} {role:?} applied {applied}")
            });
            let nodes: Vec<_> = nodes.collect();
            let explanation = format!(
                "the healed cluster {complaint} for {patience:?}: chosen through {}; {}",
                cluster.chosen(),
                nodes.join("; ")
            );
            let kind = ViolationKind::Liveness;
            return Err(Violation { kind, at: cluster.now(), nodes: core, explanation });
        }
        cluster.run_for(Duration::from_millis(100))?;
    }
    Ok(())
}

/// Half of the time everyone is healed, else just a majority.
fn draw_core(dice: &mut Dice, nodes: usize) -> Vec<usize> {
    let mut all: Vec<_> = (0..nodes).collect();
    if dice.percent(50) {
        dice.shuffle(&mut all);
        all.truncate(nodes / 2 + 1);
    }
    all
}

fn counts<P: Protocol>(cluster: &Cluster<P>) -> bool {
    let fired = |family: Family| {
        !cluster.plan.faults.has_family(family) || cluster.faults.family_under_load(family)
    };
    let seconds = cluster.now().since(Instant::ZERO).as_millis();
    Family::ALL.into_iter().all(fired) && u128::from(cluster.clients.done()) * 1000 >= seconds * 10
}

fn panicked(at: Instant, payload: &(dyn Any + Send)) -> Violation {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).into()));
    let explanation = text.unwrap_or_else(|| "without a message".into());
    Violation { kind: ViolationKind::Panic, at, nodes: Vec::new(), explanation }
}
