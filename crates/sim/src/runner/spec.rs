//! A run's specification, and what comes out of it.

use crate::faults::schedule::Schedule;
use crate::violation::Violation;
use crate::workload::load::LoadFigures;
use std::collections::BTreeMap;
use std::time::Duration;

/// Options of a run; the seed decides everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Number of nodes; `None` (the default) lets the seed choose 1, 3 or 5, and 0 is taken as 1.
    pub nodes: Option<u64>,
    /// Time in which faults occur. 45 s by default; one seed in sixteen takes four times as long, so that
    /// messages can come back that are minutes old.
    pub fault_time: Duration,
    /// Time in which the healed cluster is observed. 15 s by default.
    pub recovery_time: Duration,
    /// A healed cluster that has not served, or not converged, after this long will not. 10 s by
    /// default.
    pub patience: Duration,
    /// Most operations that clients submit while faults occur; `None` (the default) leaves
    /// them to the seed.
    pub ops: Option<u64>,
    /// Leaves answers to what is judged at the end, the history of what clients saw: they are not
    /// held, as they come, against the slots at which commands took effect. False by default; for
    /// finding out whether the history alone reveals a bug. It reveals less: what was refused, took
    /// effect all the same, and is asked for again is one operation in the history.
    pub history_only: bool,
    /// Kind of the run.
    pub kind: RunKind,
}

/// A kind of run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunKind {
    /// The seed decides: one in thirty-two is a load run.
    #[default]
    Drawn,
    /// Faults while clients ask for little.
    Faults,
    /// Sustained load and one disturbance.
    Load,
}

impl RunKind {
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

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            nodes: None,
            fault_time: Duration::from_secs(45),
            recovery_time: Duration::from_secs(15),
            patience: Duration::from_secs(10),
            ops: None,
            history_only: false,
            kind: RunKind::Drawn,
        }
    }
}

/// Report of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
    /// The seed.
    pub seed: u64,
    /// A fingerprint of everything that happened: equal wherever the seed is run again.
    pub hash: u64,
    /// Simulated time that passed.
    pub simulated: Duration,
    /// Number of operations acknowledged to clients.
    pub ops: u64,
    /// Counts of each kind of fault.
    pub faults: BTreeMap<&'static str, u64>,
    /// The same while operations were in flight. A clock that is wrong from the start on
    /// is wrong then, too.
    pub faults_under_load: BTreeMap<&'static str, u64>,
    /// The violation at which the run ended.
    pub violation: Option<Violation>,
    /// Number of events.
    pub events: u64,
    /// True if the run counts: each enabled family of faults occurred while operations were in
    /// flight, and at least 10 operations a simulated second were acknowledged.
    pub counted: bool,
    /// Time from the end of all faults to the first operation that began after it and was done,
    /// to a tenth of a second; `None` if the run ended before.
    pub served_after: Option<Duration>,
    /// The figures of a load run.
    pub load: Option<LoadFigures>,
}

/// Settings of one run. [`run_seed`](crate::run_seed), [`record`](crate::record) and [`replay`](crate::replay) are
/// shorthands.
#[derive(Clone, Copy, Debug)]
pub struct RunSpec<'a> {
    /// The seed.
    pub seed: u64,
    /// Options of the run.
    pub options: &'a RunOptions,
    /// The faults; `None` lets the seed draw them.
    pub schedule: Option<&'a Schedule>,
    /// Number of the last lines of the trace that are kept; with 0 there is no transcript either.
    pub trace: usize,
}

impl<'a> RunSpec<'a> {
    /// A seed with the faults that it throws, and without a trace.
    #[must_use]
    pub fn of_seed(seed: u64, options: &'a RunOptions) -> Self {
        Self { seed, options, schedule: None, trace: 0 }
    }
}

/// Everything that comes out of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The figures, and what was found.
    pub report: RunReport,
    /// The faults that came to anything.
    pub schedule: Schedule,
    /// Factor by which the seed's faults last longer than the [options](RunOptions) say.
    pub fault_time_factor: u32,
    /// The main events in words: faults, deaths, votes, new leaders.
    pub transcript: Vec<String>,
    /// Everything that happened last, in words.
    pub trace: Vec<String>,
}

impl From<RunReport> for RunOutcome {
    /// Without faults and without words.
    fn from(report: RunReport) -> Self {
        let (schedule, transcript, trace) = Default::default();
        Self { report, schedule, fault_time_factor: 1, transcript, trace }
    }
}
