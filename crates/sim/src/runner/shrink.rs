//! Shrinking of a failure: delta debugging over its faults.
//!
//! A failure with a thousand faults usually needs only three of them. A fault is removed if the run
//! without it still finds a violation of the same kind. Time at the end and client operations are
//! removed in the same way. The result is 1-minimal: without any one of its faults, the violation
//! does not occur.

use crate::faults::kind::Fault;
use crate::faults::schedule::{CrashSpec, FaultEffect, NodeFault, ScheduleEntry, ScheduledFault};
use crate::runner::case::Case;
use crate::runner::spec::{RunOptions, RunOutcome};
use crate::violation::Violation;
use std::time::Duration;
use synod_types::Instant;

/// Shrunk failure.
#[derive(Clone, Debug)]
pub struct ShrinkResult {
    /// The smaller case.
    pub case: Case,
    /// Violation that the smaller case finds.
    pub violation: Violation,
    /// Number of runs.
    pub runs: u64,
    /// True if every remaining fault is needed; false if the maximum number of runs was reached.
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

/// Shrinks a failure in at most `most_runs` runs. `play` runs a case; `progress` is called for
/// every smaller case that still fails. Returns `None` if the run of `case` does not reproduce its
/// violation.
pub fn shrink(
    case: &Case,
    most_runs: u64,
    play: &dyn Fn(&Case) -> RunOutcome,
    progress: &mut dyn FnMut(Progress),
) -> Option<ShrinkResult> {
    let outcome = play(case);
    let violation = outcome.report.violation.clone().filter(|_| case.is_reproduced_by(&outcome))?;
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
    // With less time and fewer operations, fewer faults may be needed.
    let minimal = shrinker.drop_faults();
    let Shrinker { best: case, violation, runs, .. } = shrinker;
    Some(ShrinkResult { case, violation, runs, minimal })
}

struct Shrinker<'a> {
    play: &'a dyn Fn(&Case) -> RunOutcome,
    progress: &'a mut dyn FnMut(Progress),
    /// Smallest failing case so far.
    best: Case,
    violation: Violation,
    /// See [`RunOutcome::fault_time_factor`].
    fault_time_factor: u32,
    runs: u64,
    most_runs: u64,
}

impl Shrinker<'_> {
    /// Runs a smaller case, and keeps it if it fails in the same way.
    fn attempt(&mut self, case: Case) -> bool {
        if self.is_exhausted() {
            return false;
        }
        self.runs += 1;
        let outcome = (self.play)(&case);
        let found = outcome.report.violation.clone().filter(|_| case.is_reproduced_by(&outcome));
        let Some(violation) = found else { return false };
        self.violation = violation;
        // Drops faults without effect, and those after the end.
        self.best = Case { schedule: outcome.schedule, ..case };
        (self.progress)(Progress { runs: self.runs, faults: self.best.schedule.len() });
        true
    }

    fn attempt_with(&mut self, change: impl FnOnce(&mut RunOptions)) -> bool {
        let mut case = self.best.clone();
        change(&mut case.options);
        case != self.best && self.attempt(case)
    }

    /// Keeps the faults that `keep` selects by index and content.
    fn attempt_keeping(&mut self, keep: impl Fn(usize, &ScheduleEntry) -> bool) -> bool {
        let entries = self.best.schedule.entries().iter().enumerate();
        let kept = entries.filter(|(place, entry)| keep(*place, entry));
        let schedule = kept.map(|(_, entry)| entry.clone()).collect();
        self.attempt(Case { schedule, ..self.best.clone() })
    }

    fn is_exhausted(&self) -> bool {
        self.runs >= self.most_runs
    }

    /// Shortens the run: a violation that occurs under faults needs no recovery time; for one that
    /// occurs after them, a shorter time of faults may suffice.
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

    /// Removes whole kinds of faults, the most frequent ones first.
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

    /// Removes ever smaller groups of faults, until no single fault can be removed. Returns false
    /// if the maximum number of runs is reached first.
    fn drop_faults(&mut self) -> bool {
        let mut size = self.best.schedule.len().div_ceil(2);
        while size > 0 {
            let before = self.best.schedule.len();
            let mut from = 0;
            while from < self.best.schedule.len() {
                let group = from..from + size;
                if !self.attempt_keeping(|place, _| !group.contains(&place)) {
                    from += size;
                }
                if self.is_exhausted() {
                    return false;
                }
            }
            // Removing later faults may have made earlier ones unnecessary.
            let again = size == 1 && self.best.schedule.len() < before;
            size = if again { 1 } else { size / 2 };
        }
        true
    }

    /// Weakens each remaining fault as far as possible.
    fn weaken_faults(&mut self) {
        let mut place = 0;
        while let Some(entry) = self.best.schedule.entries().get(place) {
            let weakened = weaker_variants(entry).into_iter().any(|variant| {
                let mut entries = self.best.schedule.entries().to_vec();
                entries[place] = variant;
                let schedule = entries.into_iter().collect();
                self.attempt(Case { schedule, ..self.best.clone() })
            });
            place += usize::from(!weakened);
        }
    }

    /// Reduces the number of client operations.
    fn reduce_operations(&mut self) {
        let powers = (0..10).map(|power| 1 << power);
        for ops in powers {
            if self.best.options.ops.is_some_and(|most| most <= ops)
                || self.attempt_with(|options| options.ops = Some(ops))
            {
                break;
            }
        }
    }
}

/// Returns variants of a fault with smaller effects.
fn weaker_variants(ScheduleEntry(scheduled): &ScheduleEntry) -> Vec<ScheduleEntry> {
    let ScheduledFault::At(at, NodeFault { fault, effect }) = scheduled else { return Vec::new() };
    let effects = match effect {
        FaultEffect::Crash(crashes) => {
            weaker_crashes(crashes).into_iter().map(FaultEffect::Crash).collect()
        }
        FaultEffect::Links(links, time) => {
            let fewer = all_without_one(links).into_iter();
            fewer.map(|links| FaultEffect::Links(links, *time)).collect()
        }
        // The crash that a disk failure causes is often sufficient.
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

/// Returns variants with fewer crashes, or with fewer lost batches.
fn weaker_crashes(crashes: &[CrashSpec]) -> Vec<Vec<CrashSpec>> {
    let mut variants = all_without_one(crashes);
    for (place, crash) in crashes.iter().enumerate() {
        let weaker = [
            CrashSpec { drops_in_flight: false, ..crash.clone() },
            CrashSpec { keep: None, ..crash.clone() },
            CrashSpec { keep_state: None, ..crash.clone() },
        ];
        for crash in weaker.into_iter().filter(|weaker| weaker != crash) {
            let mut crashes = crashes.to_vec();
            crashes[place] = crash;
            variants.push(crashes);
        }
    }
    variants
}

/// Returns all lists with one item less, but no empty list.
fn all_without_one<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    let places = if items.len() > 1 { 0..items.len() } else { 0..0 };
    let without = |place: usize| [&items[..place], &items[place + 1..]].concat();
    places.map(without).collect()
}
