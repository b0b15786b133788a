//! Shrinking a failure: delta debugging over its faults.
//!
//! What fails with a thousand faults usually fails with three of them. A fault is left out for good
//! if the run without it still finds a violation of the same kind; so is time at the end, and so
//! are operations of the clients. What is left is 1-minimal: without any one of its faults the run
//! finds something else, or nothing.

use crate::faults::kind::Fault;
use crate::faults::schedule::{CrashSpec, FaultEffect, NodeFault, ScheduleEntry, ScheduledFault};
use crate::runner::case::Case;
use crate::runner::spec::{RunOptions, RunOutcome};
use crate::violation::Violation;
use std::time::Duration;
use synod_types::Instant;

/// A failure made small.
#[derive(Clone, Debug)]
pub struct ShrinkResult {
    /// The smaller case.
    pub case: Case,
    /// The violation that it finds.
    pub violation: Violation,
    /// Number of runs.
    pub runs: u64,
    /// True if every fault that is left is needed; else the runs were used up.
    pub minimal: bool,
}

/// Progress of shrinking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Number of runs made.
    pub runs: u64,
    /// Number of faults left.
    pub faults: usize,
}

/// Shrinks a failure in at most so many runs. `play` runs a case, `progress` is called for every
/// case that still fails and is smaller than those before. `None`: the case itself does not find
/// what it says it finds.
pub fn shrink(
    case: &Case,
    most_runs: u64,
    play: &dyn Fn(&Case) -> RunOutcome,
    progress: &mut dyn FnMut(Progress),
) -> Option<ShrinkResult> {
    let outcome = play(case);
    let violation = outcome.report.violation.clone().filter(|_| case.is_found_by(&outcome))?;
    let best = Case { schedule: outcome.schedule, ..case.clone() };
    let fault_time_factor = outcome.fault_time_factor.max(1);
    let mut shrinker =
        Shrinker { play, progress, best, violation, fault_time_factor, runs: 1, most_runs };
    shrinker.shorten();
    shrinker.drop_kinds();
    shrinker.drop_faults();
    shrinker.weaken_faults();
    shrinker.shorten();
    shrinker.reduce_operations();
    // With less going on fewer faults may be needed.
    let minimal = shrinker.drop_faults();
    let Shrinker { best: case, violation, runs, .. } = shrinker;
    Some(ShrinkResult { case, violation, runs, minimal })
}

struct Shrinker<'a> {
    play: &'a dyn Fn(&Case) -> RunOutcome,
    progress: &'a mut dyn FnMut(Progress),
    /// The smallest case so far that fails.
    best: Case,
    violation: Violation,
    /// See [`RunOutcome::stretch`].
    fault_time_factor: u32,
    runs: u64,
    most_runs: u64,
}

impl Shrinker<'_> {
    /// Runs a smaller case, and takes it if it fails like the others.
    fn attempt(&mut self, case: Case) -> bool {
        if self.is_exhausted() {
            return false;
        }
        self.runs += 1;
        let outcome = (self.play)(&case);
        let found = outcome.report.violation.clone().filter(|_| case.is_found_by(&outcome));
        let Some(violation) = found else { return false };
        self.violation = violation;
        // Faults that came to nothing, or would have come after the end, need not be there.
        self.best = Case { schedule: outcome.schedule, ..case };
        (self.progress)(Progress { runs: self.runs, faults: self.best.schedule.len() });
        true
    }

    fn attempt_with(&mut self, change: impl FnOnce(&mut RunOptions)) -> bool {
        let mut case = self.best.clone();
        change(&mut case.options);
        case != self.best && self.attempt(case)
    }

    /// Keeps the faults at which `keep` nods; it sees their places.
    fn attempt_keeping(&mut self, keep: impl Fn(usize, &ScheduleEntry) -> bool) -> bool {
        let entries = self.best.schedule.entries().iter().enumerate();
        let kept = entries.filter(|(place, entry)| keep(*place, entry));
        let schedule = kept.map(|(_, entry)| entry.clone()).collect();
        self.attempt(Case { schedule, ..self.best.clone() })
    }

    fn is_exhausted(&self) -> bool {
        self.runs >= self.most_runs
    }

    /// A violation under faults needs no time after it; one after them may need less before it.
    fn shorten(&mut self) {
        let at = self.violation.at.since(Instant::ZERO);
        let fault_time = self.best.options.fault_time;
        if at <= fault_time * self.fault_time_factor {
            // In whole milliseconds, as in the text of a case.
            let millis = (at / self.fault_time_factor).as_millis();
            let end = Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX - 1) + 1);
            self.attempt_with(|options| {
                options.fault_time = fault_time.min(end);
                options.recovery_time = Duration::ZERO;
            });
            return;
        }
        for eighths in [0, 1, 2, 4, 6] {
            let millis = u64::try_from(fault_time.as_millis()).unwrap_or(u64::MAX) / 8 * eighths;
            if self.attempt_with(|options| options.fault_time = Duration::from_millis(millis)) {
                break;
            }
        }
        self.attempt_with(|options| options.recovery_time = Duration::ZERO);
    }

    /// Whole kinds of faults that are not needed fall first, the most frequent ones before others.
    fn drop_kinds(&mut self) {
        let count = |this: &Self, kind: Fault| {
            this.best.schedule.entries().iter().filter(|entry| entry.fault() == kind).count()
        };
        let mut kinds = Fault::ALL.to_vec();
        kinds.sort_by_key(|kind| std::cmp::Reverse(count(self, *kind)));
        for kind in kinds {
            if count(self, kind) > 0 {
                self.attempt_keeping(|_, entry| entry.fault() != kind);
            }
        }
    }

    /// Leaves out ever smaller pieces, until no single fault can be left out. Returns whether it
    /// came that far.
    fn drop_faults(&mut self) -> bool {
        let mut size = self.best.schedule.len().div_ceil(2);
        while size > 0 {
            let before = self.best.schedule.len();
            let mut from = 0;
            while from < self.best.schedule.len() {
                let piece = from..from + size;
                if !self.attempt_keeping(|place, _| !piece.contains(&place)) {
                    from += size;
                }
                if self.is_exhausted() {
                    return false;
                }
            }
            // What stood in the way of a fault's going may be gone by now.
            let again = size == 1 && self.best.schedule.len() < before;
            size = if again { 1 } else { size / 2 };
        }
        true
    }

    /// Weakens each fault that is left as far as possible.
    fn weaken_faults(&mut self) {
        let mut place = 0;
        while let Some(entry) = self.best.schedule.entries().get(place) {
            let softer = weaker_variants(entry).into_iter().any(|weaker_variants| {
                let mut entries = self.best.schedule.entries().to_vec();
                entries[place] = weaker_variants;
                let schedule = entries.into_iter().collect();
                self.attempt(Case { schedule, ..self.best.clone() })
            });
            place += usize::from(!softer);
        }
    }

    /// Clients ask for as little as possible.
    fn reduce_operations(&mut self) {
        let least = (0..10).map(|power| 1 << power);
        for ops in least {
            if self.best.options.ops.is_some_and(|most| most <= ops)
                || self.attempt_with(|options| options.ops = Some(ops))
            {
                break;
            }
        }
    }
}

/// The fault doing a little less, in every way there is.
fn weaker_variants(ScheduleEntry(scheduled): &ScheduleEntry) -> Vec<ScheduleEntry> {
    let ScheduledFault::At(at, NodeFault { fault, effect }) = scheduled else { return Vec::new() };
    let effects = match effect {
        FaultEffect::Crash(crashes) => {
            weaker_crashes(crashes).into_iter().map(FaultEffect::Crash).collect()
        }
        FaultEffect::Links(links, time) => {
            let fewer = without_one(links).into_iter();
            fewer.map(|links| FaultEffect::Links(links, *time)).collect()
        }
        // A disk that fails kills its node, and more often than not that is all it takes.
        FaultEffect::FailDisk(crash, _) => vec![FaultEffect::Crash(vec![crash.clone()])],
        _ => Vec::new(),
    };
    let failed = matches!(effect, FaultEffect::FailDisk(..));
    let entry = |effect: FaultEffect| {
        let alone = matches!(&effect, FaultEffect::Crash(crashes) if crashes.len() == 1);
        let plain = alone && (failed || *fault == Fault::CrashAll);
        let fault = if plain { Fault::Crash } else { *fault };
        ScheduleEntry(ScheduledFault::At(*at, NodeFault { fault, effect }))
    };
    effects.into_iter().map(entry).collect()
}

/// Fewer nodes die, or lose less.
fn weaker_crashes(crashes: &[CrashSpec]) -> Vec<Vec<CrashSpec>> {
    let mut ways = without_one(crashes);
    for (place, crash) in crashes.iter().enumerate() {
        let spared = [
            CrashSpec { drops_in_flight: false, ..crash.clone() },
            CrashSpec { keep: None, ..crash.clone() },
            CrashSpec { keep_state: None, ..crash.clone() },
        ];
        for crash in spared.into_iter().filter(|spared| spared != crash) {
            let mut crashes = crashes.to_vec();
            crashes[place] = crash;
            ways.push(crashes);
        }
    }
    ways
}

/// All lists with one item less, but never none.
fn without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let places = if items.len() > 1 { 0..items.len() } else { 0..0 };
    let without = |place: usize| [&items[..place], &items[place + 1..]].concat();
    places.map(without).collect()
}
