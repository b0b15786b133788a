//! Search of seeds for a violation. The result does not depend on the number of threads.
//!
//! All programs that run the simulator use it: a [`SearchRequest`] specifies the runs and a
//! [`Target`] the protocol. A [`SearchHost`] supplies the clock, the threads and the output, which
//! the simulator itself must not have. [`main`] is a whole program on one thread.

use crate::runner::campaign::{Campaign, CampaignSummary};
use crate::runner::case::Case;
use crate::runner::run::run;
use crate::runner::shrink::{ShrinkResult, shrink};
use crate::runner::spec::{RunKind, RunOptions, RunOutcome, RunReport, RunSpec};
use crate::trace::fault_text::seconds;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use synod_consensus::Protocol;
use synod_types::{Membership, NodeId};

/// Parameters of a search.
#[derive(Clone, Debug)]
pub struct SearchRequest {
    /// Seeds, run in this order.
    pub seeds: Range<u64>,
    /// Simulated time that must count before the search ends. If the seeds run out first, the
    /// search fails.
    pub hours: Option<Hours>,
    /// Options of each run.
    pub options: RunOptions,
    /// True if the search continues after a violation.
    pub keep_going: bool,
    /// Maximum number of runs for shrinking the first failure; 0 disables shrinking.
    pub shrink: u64,
    /// Number of trace lines to print of the first failing seed, or of a single seed.
    pub trace: usize,
}

impl Default for SearchRequest {
    /// The first hundred seeds, up to the first violation, without shrinking.
    fn default() -> Self {
        Self {
            seeds: 0..100,
            hours: None,
            options: RunOptions::default(),
            keep_going: false,
            shrink: 0,
            trace: 0,
        }
    }
}

impl SearchRequest {
    /// Sets the seeds. `None` selects the first hundred, or all seeds if the search ends by hours.
    pub fn choose_seeds(&mut self, seeds: Option<Seeds>) {
        let most = if self.hours.is_some() { u64::MAX } else { 100 };
        self.seeds = seeds.map_or(0..most, |Seeds(seeds)| seeds);
    }
}

/// Range of seeds, parsed from a text: `0..2000`, `17`, or `17..` for all seeds from 17 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Range<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|_| format!("invalid seed {text:?}: expected A..B, A.. or A"))
        };
        let (first, end) = match text.split_once("..") {
            Some((first, "")) => (number(first)?, u64::MAX),
            Some((first, end)) => (number(first)?, number(end)?),
            None => (number(text)?, number(text)?.saturating_add(1)),
        };
        if first >= end {
            return Err(format!("empty range of seeds {text:?}"));
        }
        Ok(Self(first..end))
    }
}

/// Simulated time, parsed from a number of hours: `60`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours(pub Duration);

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hours: Option<f64> = text.parse().ok();
        let seconds = hours.filter(|hours| *hours > 0.0).map(|hours| hours * 3600.0);
        let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        time.map(Self)
            .ok_or_else(|| format!("invalid number of hours {text:?}: expected a positive number"))
    }
}

/// Target of a search: a protocol with its settings.
pub struct Target {
    name: &'static str,
    replay_command: String,
    simulate: Box<Simulate>,
}

/// Function that performs a run.
type Simulate = dyn Fn(&RunSpec<'_>) -> RunOutcome + Send + Sync;

impl Target {
    /// Returns a target that runs a protocol with the settings that `config` makes. Reports print
    /// `replay_command`, to which arguments such as `--seeds 17` can be added.
    pub fn new<P: Protocol>(
        replay_command: impl Into<String>,
        config: impl Fn(NodeId, &Membership) -> P::Config + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::from_fn(P::NAME, replay_command, move |spec| run::<P>(config.clone(), spec))
    }

    /// Returns a target that performs runs with `simulate`.
    pub fn from_fn(
        name: &'static str,
        replay_command: impl Into<String>,
        simulate: impl Fn(&RunSpec<'_>) -> RunOutcome + Send + Sync + 'static,
    ) -> Self {
        Self { name, replay_command: replay_command.into(), simulate: Box::new(simulate) }
    }

    /// Returns the protocol's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Shrinks the failure of a seed, in at most `most_runs` runs. Returns `None` if the seed does
    /// not fail.
    pub fn shrink(
        &self,
        seed: u64,
        options: &RunOptions,
        most_runs: u64,
        report_line: &mut dyn FnMut(&str),
    ) -> Option<ShrinkResult> {
        let outcome = (self.simulate)(&RunSpec::of_seed(seed, options));
        let case = Case {
            protocol: self.name.into(),
            seed,
            options: options.clone(),
            violation: outcome.report.violation?.kind.to_string(),
            schedule: outcome.schedule,
        };
        let mut left = case.schedule.len();
        report_line(&format!(
            "shrinking seed {seed}: {left} faults, {} operations",
            outcome.report.ops
        ));
        let play = |case: &Case| (self.simulate)(&case.spec());
        shrink(&case, most_runs, &play, &mut |progress| {
            if progress.faults <= left / 2 {
                left = progress.faults;
                report_line(&format!("  {left} faults left after {} runs", progress.runs));
            }
        })
    }

    /// Returns the text of a case, followed by the transcript of its run as comments.
    #[must_use]
    pub fn script(&self, case: &Case) -> String {
        let outcome = (self.simulate)(&RunSpec { trace: 1, ..case.spec() });
        let mut text = format!("{case}\n");
        for line in transcript(&outcome) {
            text.push_str(&format!("# {line}\n"));
        }
        text
    }

    /// Returns the command that replays a seed.
    fn replay_command(&self, seed: u64, options: &RunOptions) -> String {
        let nodes = options.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
        let history_only = if options.history_only { " --history-only" } else { "" };
        let load = if options.kind == RunKind::Load { " --load" } else { "" };
        format!("{} --seeds {seed}{nodes}{history_only}{load}", self.replay_command)
    }
}

/// Host of a search: its clock, threads and output.
pub trait SearchHost: Sync {
    /// Returns the time that the search has been running.
    fn elapsed(&self) -> Duration;

    /// Runs `work` once on each thread of the host and returns when all calls have returned. The
    /// default uses only the caller's thread.
    fn on_threads(&self, work: &(dyn Fn() + Sync)) {
        work();
    }

    /// Prints a line of the report.
    fn report(&self, line: &str);

    /// Runs `work`, in which the code under test may panic many times. The search catches these
    /// panics, so programs suppress their messages with [`silence_panics`]. The default prints
    /// them.
    fn without_panic_messages(&self, work: &mut dyn FnMut()) {
        work();
    }

    /// Saves the text of a shrunk [case](Case). The default prints it.
    fn save_script(&self, script: &str) {
        script.lines().for_each(|line| self.report(line));
    }

    /// Called after each added seed. Does nothing by default.
    fn on_progress(&self, campaign: &Campaign) {
        let _ = campaign;
    }
}

/// Result of a search.
#[derive(Clone, Debug)]
pub struct SearchOutcome {
    /// Totals of all seeds.
    pub campaign: Campaign,
    /// Figures of the campaign.
    pub summary: CampaignSummary,
    /// True if no violation was found, and the search was large enough to be conclusive.
    pub passed: bool,
}

/// Runs seeds until the request is met, and reports each violation with the command that replays
/// it.
///
/// Reports are added in the order of seeds, and those of seeds after the last one that was needed
/// are dropped, so the result is the same on every machine.
pub fn search(target: &Target, request: &SearchRequest, host: &dyn SearchHost) -> SearchOutcome {
    let shared = Shared::new(request);
    let is_single = request.seeds.end - request.seeds.start == 1;
    let report_line = |report: &RunReport, campaign: &Campaign| {
        let seed = report.seed;
        if let Some(violation) = &report.violation {
            host.report(&format!("seed {seed}: {violation}"));
            host.report(&format!("  replay: {}", target.replay_command(seed, &request.options)));
        } else if is_single {
            let RunReport { hash, ops, events, .. } = report;
            let mut text = format!("{ops} operations, {events} events, hash {hash:016x}");
            if let Some(figures) = &report.load {
                text.push_str(&format!("\n  {figures:?}"));
            }
            host.report(&format!("seed {seed} passed: {text}"));
        }
        host.on_progress(campaign);
    };
    host.on_threads(&|| shared.work(&*target.simulate, &report_line));
    let campaign = shared.into_campaign();
    explain(target, request, &campaign, host);
    let mut reasons = campaign.inconclusive_reasons();
    if let Some(Hours(wanted)) = request.hours.filter(|hours| campaign.counted_time < hours.0) {
        let hours = |time: Duration| time.as_secs_f64() / 3600.0;
        let (is, wanted) = (hours(campaign.counted_time), hours(wanted));
        reasons.push(format!("only {is:.3} of {wanted:.3} simulated hours count"));
    }
    if campaign.violations.is_empty() {
        reasons.iter().for_each(|reason| host.report(&format!("inconclusive: {reason}")));
    }
    let passed = campaign.violations.is_empty() && reasons.is_empty();
    let summary = campaign.summary(target.name, host.elapsed());
    SearchOutcome { campaign, summary, passed }
}

/// Prints the trace of the first failing seed or of a single seed, and shrinks the first failure.
fn explain(target: &Target, request: &SearchRequest, campaign: &Campaign, host: &dyn SearchHost) {
    let SearchRequest { seeds, options, .. } = request;
    let failed = campaign.violations.first().map(|(seed, _)| *seed);
    if request.trace > 0
        && let Some(seed) = failed.or((seeds.end - seeds.start == 1).then_some(seeds.start))
    {
        let spec = RunSpec { trace: request.trace, ..RunSpec::of_seed(seed, options) };
        (target.simulate)(&spec).trace.iter().for_each(|line| host.report(line));
    }
    // A load run needs its one disturbance, so it is not shrunk.
    let shrinks = |seed: &u64| request.shrink > 0 && !options.kind.is_load(*seed);
    let Some(seed) = failed.filter(shrinks) else { return };
    let report_line = &mut |line: &str| host.report(line);
    let mut shrunk = None;
    host.without_panic_messages(&mut || {
        shrunk = target.shrink(seed, options, request.shrink, report_line)
    });
    if let Some(shrunk) = shrunk {
        let left = if shrunk.minimal { "all are needed" } else { "more runs might remove some" };
        let (faults, runs) = (shrunk.case.schedule.len(), shrunk.runs);
        host.report(&format!("  {faults} faults left after {runs} runs: {left}"));
        host.without_panic_messages(&mut || host.save_script(&target.script(&shrunk.case)));
    } else {
        host.report(
            "  replaying its faults does not reproduce it: the simulator is not deterministic",
        );
    }
}

/// Replays a case and prints its transcript, and the last `lines` lines of its trace. Returns whether
/// it finds the violation of the case.
pub fn replay(target: &Target, case: &Case, lines: usize, host: &dyn SearchHost) -> bool {
    let outcome = (target.simulate)(&RunSpec { trace: lines.max(1), ..case.spec() });
    if lines > 0 {
        outcome.trace.iter().for_each(|line| host.report(line));
        host.report("");
    }
    transcript(&outcome).iter().for_each(|line| host.report(line));
    let found = case.is_reproduced_by(&outcome);
    if !found {
        host.report(&format!("the replay does not reproduce the violation: {}", case.violation));
    }
    found
}

/// Returns the main events of a run, and its result.
fn transcript(outcome: &RunOutcome) -> Vec<String> {
    let mut lines = outcome.transcript.clone();
    match &outcome.report.violation {
        Some(violation) => lines.extend(violation.to_string().lines().map(String::from)),
        None => lines.push(format!("no violation in {}", seconds(outcome.report.simulated))),
    }
    lines
}

/// Runs `work` with the panic messages of this process suppressed.
pub fn silence_panics(work: &mut dyn FnMut()) {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    panic::set_hook(hook);
    if let Err(payload) = result {
        panic::resume_unwind(payload);
    }
}

/// State of a search, shared by its threads.
struct Shared<'a> {
    request: &'a SearchRequest,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Next seed that no thread has taken.
    next: u64,
    /// Reports that wait for the report of an earlier seed.
    early: BTreeMap<u64, RunReport>,
    /// Next seed to add.
    due: u64,
    campaign: Campaign,
    is_over: bool,
}

impl<'a> Shared<'a> {
    fn new(request: &'a SearchRequest) -> Self {
        let Range { start, .. } = request.seeds;
        let state = State { next: start, due: start, ..State::default() };
        Self { request, state: Mutex::new(state) }
    }

    /// Runs seeds until there are none left.
    fn work(&self, simulate: &Simulate, report_line: &(dyn Fn(&RunReport, &Campaign) + Sync)) {
        while let Some(seed) = self.take() {
            let report = simulate(&RunSpec::of_seed(seed, &self.request.options)).report;
            let mut state = self.lock();
            state.early.insert(seed, report);
            while !state.is_over {
                let due = state.due;
                let Some(report) = state.early.remove(&due) else { break };
                state.due += 1;
                state.campaign.add(&report);
                state.is_over = self.is_enough(&state.campaign);
                report_line(&report, &state.campaign);
            }
        }
    }

    fn take(&self) -> Option<u64> {
        let mut state = self.lock();
        let seed = state.next;
        if state.is_over || seed >= self.request.seeds.end {
            return None;
        }
        state.next += 1;
        Some(seed)
    }

    fn is_enough(&self, campaign: &Campaign) -> bool {
        let done = self.request.hours.is_some_and(|hours| campaign.counted_time >= hours.0);
        // If most seeds do not count, the campaign would take very long to reach its hours.
        let inconclusive = self.request.hours.is_some() && campaign.is_inconclusive();
        done || inconclusive || !campaign.violations.is_empty() && !self.request.keep_going
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while holding the lock")
    }

    fn into_campaign(self) -> Campaign {
        self.state.into_inner().expect("no thread panicked while holding the lock").campaign
    }
}

/// Runs the main function of a program that searches a target on one thread. `words` are the
/// command-line arguments; `clock` returns the time since the start.
///
/// Prints the figures to standard output, with `--json` as one object, and everything else to
/// standard error. The exit code is 0 if the search passed, 1 if not, and 2 if the arguments are
/// invalid.
pub fn main(
    target: &Target,
    words: impl Iterator<Item = String>,
    clock: impl Fn() -> Duration + Sync,
) -> ExitCode {
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\nusage: {} [ARGUMENT ...]\n{USAGE}", target.replay_command);
            return ExitCode::from(2);
        }
    };
    let console = Console(clock);
    if arguments.replay {
        return replay_input(target, arguments.request.trace, &console);
    }
    let verdict = search(target, &arguments.request, &console);
    match arguments.json {
        true => println!("{}", verdict.summary.json()),
        false => println!("{}", verdict.summary),
    }
    if verdict.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Replays the case on standard input. The exit code is 1 if the violation is reproduced, and 2 if
/// it is not or the case is invalid.
fn replay_input(target: &Target, trace: usize, host: &dyn SearchHost) -> ExitCode {
    let text = std::io::read_to_string(std::io::stdin()).map_err(|error| error.to_string());
    match text.and_then(|text| text.parse::<Case>().map_err(|error| error.to_string())) {
        Ok(case) if replay(target, &case, trace, host) => ExitCode::FAILURE,
        Ok(_) => ExitCode::from(2),
        Err(error) => {
            host.report(&error);
            ExitCode::from(2)
        }
    }
}

const USAGE: &str = "
  --seeds A..B   seeds to run: a range, one seed (17), or all from one on (17..) (default 0..100)
  --hours H      run seeds until this many simulated hours count: those of runs in which faults
                 occurred under load and operations still completed
  --nodes N      number of nodes of each cluster (default: drawn by each seed)
  --history-only check replies only at the end, by the client history
  --load         make every seed a load run (default: one seed in 32)
  --keep-going   continue after the first violation
  --shrink       shrink the first failure and print the case that replays it
  --replay       replay the case on standard input
  --trace N      print the last N trace lines of the first failing seed, or of a single seed
  --json         print the figures as one JSON object";

/// Default maximum number of runs for shrinking a failure. They take seconds to a minute.
pub const SHRINKING_RUNS: u64 = 2000;

/// Host with one thread and the standard streams.
struct Console<C>(C);

impl<C: Fn() -> Duration + Sync> SearchHost for Console<C> {
    fn elapsed(&self) -> Duration {
        (self.0)()
    }

    fn without_panic_messages(&self, work: &mut dyn FnMut()) {
        silence_panics(work);
    }

    fn report(&self, line: &str) {
        eprintln!("{line}");
    }
}

#[derive(Debug)]
struct Arguments {
    request: SearchRequest,
    replay: bool,
    json: bool,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut request, mut seeds) = (SearchRequest::default(), None);
        let (mut replay, mut json) = (false, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--seeds" => seeds = Some(value()?.parse()?),
                "--hours" => request.hours = Some(value()?.parse()?),
                "--nodes" => {
                    let nodes = value()?.parse();
                    request.options.nodes = Some(nodes.map_err(|_| "--nodes needs a number")?);
                }
                "--trace" => {
                    request.trace = value()?.parse().map_err(|_| "--trace needs a number")?;
                }
                "--shrink" => request.shrink = SHRINKING_RUNS,
                "--replay" => replay = true,
                "--history-only" => request.options.history_only = true,
                "--load" => request.options.kind = RunKind::Load,
                "--keep-going" => request.keep_going = true,
                "--json" => json = true,
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        request.choose_seeds(seeds);
        Ok(Self { request, replay, json })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_parse_from_a_range_a_number_or_an_open_range() {
        let parse = |text: &str| text.parse::<Seeds>().map(|Seeds(range)| range);
        assert_eq!(parse("0..2000"), Ok(0..2000));
        assert_eq!(parse("17"), Ok(17..18));
        assert_eq!(parse("17.."), Ok(17..u64::MAX));
        for text in ["", "..", "..5", "5..5", "6..5", "a..b", "-1..2"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn hours_must_be_a_positive_number() {
        assert_eq!("0.5".parse(), Ok(Hours(Duration::from_secs(1800))));
        for text in ["", "0", "-1", "NaN", "inf", "1e300", "h"] {
            assert!(text.parse::<Hours>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn replay_command_has_the_options_of_the_search() {
        let words = ["--seeds", "7..9", "--nodes", "3", "--history-only"];
        let request = Arguments::parse(words.map(String::from).into_iter()).unwrap().request;
        let target = Target::from_fn("none", "search", |_| unreachable!("no seed is run"));
        let replay_command = target.replay_command(7, &request.options);
        assert_eq!(replay_command, "search --seeds 7 --nodes 3 --history-only");
    }

    #[test]
    fn invalid_arguments_are_rejected() {
        for words in [&["--nodes", "many"][..], &["--seeds"], &["--fast"], &["--seeds", "5..5"]] {
            let words = words.iter().map(|word| (*word).to_owned());
            assert!(Arguments::parse(words.clone()).is_err(), "{:?}", words.collect::<Vec<_>>());
        }
    }
}
