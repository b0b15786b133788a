//! Specification of a run, and its outcome.

use crate::faults::schedule::Schedule;
use crate::violation::Violation;
use crate::workload::load::LoadFigures;
use std::collections::BTreeMap;
use std::time::Duration;

/// Options of a run; the seed decides everything else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Number of nodes. `None` (the default) lets the seed choose 1, 3 or 5; 0 counts as 1.
    pub nodes: Option<u64>,
    /// Time in which faults occur, 45 s by default. In one seed of sixteen they occur for four
    /// times as long, so that messages can be replayed after minutes.
    pub fault_time: Duration,
    /// Time in which the healed cluster is observed, 15 s by default.
    pub recovery_time: Duration,
    /// Time within which a healed cluster must serve and converge, 10 s by default.
    pub liveness_timeout: Duration,
    /// Maximum number of client operations while faults occur; `None` (the default) lets the seed
    /// choose.
    pub ops: Option<u64>,
    /// True if replies are checked only at the end, by the client history, and not against the
    /// slots at which commands took effect. False by default; use it to test whether the history
    /// alone reveals a bug. The history reveals less: a request that was rejected, took effect
    /// anyway and was retried is one operation in it.
    pub history_only: bool,
    /// Kind of the run.
    pub kind: RunKind,
}

/// Kind of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunKind {
    /// The seed decides: one in thirty-two is a load run.
    #[default]
    Drawn,
    /// Faults under a light client load.
    Faults,
    /// Sustained load and one disturbance.
    Load,
}

impl RunKind {
    /// Returns whether a seed is a load run.
    pub(crate) fn is_load(self, seed: u64) -> bool {
        match self {
            // A load run takes as long as ten other runs.
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
            liveness_timeout: Duration::from_secs(10),
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
    /// Fingerprint of all events: equal for every run of the seed.
    pub hash: u64,
    /// Simulated time that passed.
    pub simulated: Duration,
    /// Number of operations acknowledged to clients.
    pub ops: u64,
    /// Counts of each kind of fault.
    pub faults: BTreeMap<&'static str, u64>,
    /// Counts of each kind of fault while operations were in flight. Clock skews, which last from
    /// the start of the run, count as well.
    pub faults_under_load: BTreeMap<&'static str, u64>,
    /// Violation that ended the run.
    pub violation: Option<Violation>,
    /// Number of events.
    pub events: u64,
    /// True if the run counts: each enabled family of faults occurred while operations were in
    /// flight, and at least 10 operations a simulated second were acknowledged.
    pub counted: bool,
    /// Time from the end of all faults to the first operation that began after it and completed,
    /// rounded up to a tenth of a second; `None` if the run ended earlier.
    pub served_after: Option<Duration>,
    /// Figures of a load run.
    pub load: Option<LoadFigures>,
}

/// Specification of one run. [`run_seed`](crate::run_seed), [`record`](crate::record) and
/// [`replay`](crate::replay) are shorthands.
#[derive(Clone, Copy, Debug)]
pub struct RunSpec<'a> {
    /// The seed.
    pub seed: u64,
    /// Options of the run.
    pub options: &'a RunOptions,
    /// Faults; `None` lets the seed draw them.
    pub schedule: Option<&'a Schedule>,
    /// Number of trace lines to keep, the newest ones; 0 disables the transcript as well.
    pub trace: usize,
}

impl<'a> RunSpec<'a> {
    /// Returns the run of a seed with the faults that it draws, and without a trace.
    #[must_use]
    pub fn of_seed(seed: u64, options: &'a RunOptions) -> Self {
        Self { seed, options, schedule: None, trace: 0 }
    }
}

/// Outcome of a run.
#[derive(Clone, Debug)]
pub struct RunOutcome {
    /// Figures, and the violation if there is one.
    pub report: RunReport,
    /// Faults that had an effect.
    pub schedule: Schedule,
    /// Factor by which the seed extends the [time of faults](RunOptions::fault_time).
    pub fault_time_factor: u32,
    /// Main events as text: faults, crashes, votes, new leaders.
    pub transcript: Vec<String>,
    /// Last events as text.
    pub trace: Vec<String>,
}

impl From<RunReport> for RunOutcome {
    /// Returns an outcome without faults, transcript and trace.
    fn from(report: RunReport) -> Self {
        let (schedule, transcript, trace) = Default::default();
        Self { report, schedule, fault_time_factor: 1, transcript, trace }
    }
}
