//! A run's specification, and what comes out of it.

use crate::faults::schedule::Schedule;
use crate::violation::Violation;
use crate::workload::load::LoadFigures;
use std::collections::BTreeMap;
use std::time::Duration;

/// What the caller decides about a run; the seed decides everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
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
            troubled: Duration::from_secs(45),
            healed: Duration::from_secs(15),
            patience: Duration::from_secs(10),
            ops: None,
            history_only: false,
            kind: RunKind::Drawn,
        }
    }
}

/// What one seed did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunReport {
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

/// One run in full: what [`run_seed`], [`record`] and [`replay`] are short for.
#[derive(Clone, Copy, Debug)]
pub struct RunSpec<'a> {
    /// The seed.
    pub seed: u64,
    /// How it is run.
    pub options: &'a RunOptions,
    /// What befalls it; `None` has the seed throw the faults.
    pub schedule: Option<&'a Schedule>,
    /// How many lines of what happened last are kept; with 0 there is no story either.
    pub trace: usize,
}

impl<'a> RunSpec<'a> {
    /// A seed with the faults that it throws, and without a trace.
    #[must_use]
    pub fn of_seed(seed: u64, options: &'a RunOptions) -> Self {
        Self { seed, options, schedule: None, trace: 0 }
    }
}

/// What a trial brought to light.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// The figures, and what was found.
    pub report: RunReport,
    /// The faults that came to anything.
    pub schedule: Schedule,
    /// How many times as long as the [options](RunOptions) say the seed has its faults fire.
    pub stretch: u32,
    /// The main events in words: faults, deaths, votes, new leaders.
    pub story: Vec<String>,
    /// Everything that happened last, in words.
    pub trace: Vec<String>,
}

impl From<RunReport> for RunOutcome {
    /// Without faults and without words.
    fn from(report: RunReport) -> Self {
        let (schedule, story, trace) = Default::default();
        Self { report, schedule, stretch: 1, story, trace }
    }
}
