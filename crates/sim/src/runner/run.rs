//! One seed: a time of faults, a time of healing, and the reckoning.

use crate::cluster::Cluster;
use crate::faults::kind::Family;
use crate::faults::schedule::Schedule;
use crate::plan::Plan;
use crate::rng::Dice;
use crate::runner::load_run::{self, LoadFigures};
use crate::violation::{Violation, ViolationKind};
use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Instant, Membership, NodeId};

/// What the caller decides about a run; the seed decides everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many nodes; `None` (the default) lets the seed choose 1, 3 or 5, and 0 is taken as 1.
    pub nodes: Option<u64>,
    /// How long faults fire. 45 s by default; one seed in sixteen takes four times as long, so that
    /// messages can come back that are minutes old.
    pub troubled: Duration,
    /// How long the healed cluster is watched. 15 s by default.
    pub healed: Duration,
    /// A healed cluster that has not served, or not converged, after this long will not. 10 s by
    /// default.
    pub patience: Duration,
    /// How many operations clients ask for while faults fire, at most; `None` (the default) leaves
    /// them to the seed.
    pub ops: Option<u64>,
    /// Leaves answers to what is judged at the end, the history of what clients saw: they are not
    /// held, as they come, against the slots at which commands took effect. False by default; for
    /// finding out whether the history alone tells of a bug. It tells less: what was refused, took
    /// effect all the same, and is asked for again is one operation in the history.
    pub history_only: bool,
    /// Which kind of run it is.
    pub kind: Kind,
}

/// A kind of run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The seed decides: one in thirty-two is a load run.
    #[default]
    Drawn,
    /// Faults while clients ask for little.
    Faults,
    /// Sustained load and one disturbance.
    Load,
}

impl Kind {
    /// Returns whether a seed is a load run.
    pub(crate) fn is_load(self, seed: u64) -> bool {
        match self {
            // A load run takes as long as ten others.
            Self::Drawn => seed % 32 == 31,
            Self::Faults => false,
            Self::Load => true,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: None,
            troubled: Duration::from_secs(45),
            healed: Duration::from_secs(15),
            patience: Duration::from_secs(10),
            ops: None,
            history_only: false,
            kind: Kind::Drawn,
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
    /// How often it fired while operations were in flight. A clock that is wrong from the start on
    /// is wrong then, too.
    pub faults_under_load: BTreeMap<&'static str, u64>,
    /// What the run found; it ended there.
    pub violation: Option<Violation>,
    /// How many events there were.
    pub events: u64,
    /// Whether the run counts: each family of faults that was on fired while operations were in
    /// flight, and at least 10 operations a simulated second were acknowledged.
    pub counted: bool,
    /// How long after the end of all faults the healed core had done an operation that began then,
    /// to a tenth of a second; `None` if the run ended before.
    pub served_after: Option<Duration>,
    /// The figures of a load run.
    pub load: Option<LoadFigures>,
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
    run::<P>(config, &Trial::of_seed(seed, options)).report
}

/// Runs a seed, and returns the faults that it threw as well: with them [`replay`] does the same
/// again.
pub fn record<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    options: &Options,
) -> (Report, Schedule) {
    let outcome = run::<P>(config, &Trial::of_seed(seed, options));
    (outcome.report, outcome.schedule)
}

/// Runs a seed with the faults of a schedule instead of those that it would throw; everything else
/// (the plan, the clients, how long messages and syncs take) is the seed's own. With the schedule
/// that [`record`] returned the report is the same, to the [hash](Report::hash); with a part of it
/// the run is the same up to the first fault that is missing, and after that as near as can be.
pub fn replay<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    seed: u64,
    schedule: &Schedule,
    options: &Options,
) -> Report {
    let trial = Trial { schedule: Some(schedule), ..Trial::of_seed(seed, options) };
    run::<P>(config, &trial).report
}

/// One run in full: what [`run_seed`], [`record`] and [`replay`] are short for.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The seed.
    pub seed: u64,
    /// How it is run.
    pub options: &'a Options,
    /// What befalls it; `None` has the seed throw the faults.
    pub schedule: Option<&'a Schedule>,
    /// How many lines of what happened last are kept; with 0 there is no story either.
    pub trace: usize,
}

impl<'a> Trial<'a> {
    /// A seed with the faults that it throws, and without a trace.
    #[must_use]
    pub fn of_seed(seed: u64, options: &'a Options) -> Self {
        Self { seed, options, schedule: None, trace: 0 }
    }
}

/// What a trial brought to light.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The figures, and what was found.
    pub report: Report,
    /// The faults that came to anything.
    pub schedule: Schedule,
    /// How many times as long as the [options](Options) say the seed has its faults fire.
    pub stretch: u32,
    /// The main events in words: faults, deaths, votes, new leaders.
    pub story: Vec<String>,
    /// Everything that happened last, in words.
    pub trace: Vec<String>,
}

impl From<Report> for Outcome {
    /// Without faults and without words.
    fn from(report: Report) -> Self {
        let (schedule, story, trace) = Default::default();
        Self { report, schedule, stretch: 1, story, trace }
    }
}

/// Does a trial.
pub fn run<P: Protocol>(
    config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
    trial: &Trial<'_>,
) -> Outcome {
    let Trial { seed, options, schedule, trace } = *trial;
    let mut dice = Dice::new(seed);
    let nodes = options.nodes.map(|nodes| nodes.max(1));
    let plan = match options.kind.is_load(seed) {
        true => Plan::draw_load(&mut dice, nodes),
        false => Plan::draw(&mut dice, nodes),
    };
    let mut cluster = Cluster::<P>::directed(plan, dice.word(), config, schedule);
    cluster.clients.most = options.ops.unwrap_or(u64::MAX);
    cluster.checks.history_only = options.history_only;
    if trace > 0 {
        cluster.journal.keep_tail(trace);
        let limits = cluster.plan.limits.clone();
        cluster.journal.event(|| limits.map_or_else(String::new, |limits| limits.to_string()));
    }
    let load = cluster.plan.load.clone();
    let result = catch_unwind(AssertUnwindSafe(|| match &load {
        Some(load) => load_run::play(&mut cluster, load, options),
        None => play(&mut cluster, &mut dice, options),
    }));
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
        faults_under_load: cluster.faults.under_load_by_name(),
        counted: violation.is_none() && counts(&cluster),
        events: cluster.events,
        violation,
        served_after: cluster.served_after,
        load: cluster.load_figures.clone(),
    };
    let schedule = std::mem::take(&mut cluster.director.recorded);
    let stretch = cluster.plan.stretch;
    let (story, trace) = (cluster.journal.take_story(), cluster.journal.take_tail());
    if report.violation.is_none() {
        let end = catch_unwind(AssertUnwindSafe(|| cluster.finish()));
        report.violation = match end {
            Ok(result) => result.err(),
            Err(payload) => Some(panicked(Instant::ZERO + report.simulated, &*payload)),
        };
        report.counted &= report.violation.is_none();
    }
    Outcome { report, schedule, stretch, story, trace }
}

fn play<P: Protocol>(
    cluster: &mut Cluster<P>,
    dice: &mut Dice,
    options: &Options,
) -> Result<(), Violation> {
    cluster.run_for(options.troubled * cluster.plan.stretch)?;
    let core = draw_core(dice, cluster);
    let healed = cluster.now();
    let names: Vec<_> = core.iter().map(|node| NodeId(*node as u64 + 1)).collect();
    cluster.journal.event(|| format!("the faults end; {names:?} are whole again"));
    cluster.heal_core(core);
    let slice = Duration::from_millis(100);
    let served = |cluster: &Cluster<P>| cluster.clients.newest_begin_done > healed;
    wait(cluster, options.patience, "serves nobody", served)?;
    cluster.served_after = Some(cluster.now() - healed);
    // From here on nobody is turned away, and nobody waits in vain.
    cluster.plan.clients.patience = options.patience..options.patience * 2;
    cluster.clients.must_serve = Some(cluster.now());
    let rest = options.healed.saturating_sub(cluster.now() - healed + slice * 10);
    cluster.run_for(rest)?;
    // No new operations: what is under way ends, and all nodes reach the same state.
    cluster.plan.clients.burst = 0..0;
    cluster.plan.clients.target = 0;
    let quiet = |cluster: &Cluster<P>| {
        let past = cluster.now() - healed >= options.healed;
        past && !cluster.clients.is_loaded() && cluster.has_converged()
    };
    let end = cluster.now() + options.healed + options.patience;
    loop {
        wait(cluster, options.patience, "does not converge", quiet)?;
        if let Some(id) = cluster.clients.unserved {
            return Err(stalled(cluster, &format!("left operation {id} unserved")));
        }
        // The last writes become durable, so that the stores can be compared; unless a late
        // election adds another slot just now.
        let chosen = cluster.chosen();
        cluster.run_for(slice)?;
        if cluster.chosen() == chosen && quiet(cluster) {
            return Ok(());
        }
        if cluster.now() > end {
            return Err(stalled(cluster, "does not come to rest"));
        }
    }
}

/// Lets time pass until something is so.
pub(crate) fn wait<P: Protocol>(
    cluster: &mut Cluster<P>,
    patience: Duration,
    complaint: &str,
    is_so: impl Fn(&Cluster<P>) -> bool,
) -> Result<(), Violation> {
    let end = cluster.now() + patience;
    while !is_so(cluster) {
        if cluster.now() >= end {
            return Err(stalled(cluster, &format!("{complaint} for {patience:?}")));
        }
        cluster.run_for(Duration::from_millis(100))?;
    }
    Ok(())
}

/// A healed cluster does not do what it should.
pub(crate) fn stalled<P: Protocol>(cluster: &Cluster<P>, complaint: &str) -> Violation {
    let nodes: Vec<_> = cluster.core.iter().map(|node| NodeId(*node as u64 + 1)).collect();
    let words = nodes.iter().map(|id| {
        let applied = cluster.applied(*id).map_or(0, |(slot, _)| slot.0);
        let role = cluster.status(*id).map(|status| (status.role, status.ballot, status.commit));
        format!("{id:?} {role:?} applied {applied}")
    });
    let words: Vec<_> = words.collect();
    let explanation = format!(
        "the healed cluster {complaint}: chosen through {}; {}",
        cluster.chosen(),
        words.join("; ")
    );
    Violation { kind: ViolationKind::Liveness, at: cluster.now(), nodes, explanation }
}

/// Half of the time everyone is healed who can be, else just enough for a quorum.
fn draw_core<P: Protocol>(dice: &mut Dice, cluster: &Cluster<P>) -> Vec<usize> {
    let mut whole: Vec<_> = cluster.whole().collect();
    if dice.percent(50) {
        dice.shuffle(&mut whole);
        let mut sizes = 1..whole.len();
        let enough = sizes.find(|size| cluster.is_quorum(&whole[..*size]));
        whole.truncate(enough.unwrap_or(whole.len()));
    }
    whole
}

fn counts<P: Protocol>(cluster: &Cluster<P>) -> bool {
    if cluster.plan.load.is_some() {
        return cluster.load_figures.is_some();
    }
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
