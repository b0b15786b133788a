//! `synod sim`: searches simulated clusters under faults for violations.

use crate::protocol::ProtocolKind;
use crate::registry;
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};
use synod_sim::search::{
    Hours, SHRINKING_RUNS, SearchHost, SearchRequest, Seeds, replay, search, silence_panics,
};
use synod_sim::{Campaign, Case, RunKind, RunOptions};

/// Search for violations: run a protocol in simulated clusters under faults, one cluster per seed.
///
/// A run has 45 simulated seconds of crashes, partitions, lost messages and slow disks (180 for some
/// seeds), then a period without faults. Safety is checked after every event, and at the end
/// whether the clients' history is linearizable. Runs of one seed are identical. Standard output has
/// only the figures. The exit code is 1 if a violation was found, or if too many runs do not count
/// (see --hours).
#[derive(Debug, clap::Args)]
pub(super) struct Sim {
    /// The protocol: raft, multi-paxos or basic-paxos.
    #[arg(long, default_value = ProtocolKind::default().name(), value_name = "NAME")]
    protocol: String,
    /// Seeds to run: a range, whose end is excluded (0..100), one seed (17), or all from one on (17..).
    /// Default: 0..100, or 0.. with --hours.
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Run seeds until this many simulated hours count. A run counts if each family of faults that its
    /// seed enables occurred while operations were in flight, and at least 10 operations per simulated
    /// second completed.
    #[arg(long, value_name = "H")]
    hours: Option<Hours>,
    /// Number of nodes of each cluster. Default: 1, 3 or 5, depending on the seed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// Number of seeds that run in parallel; it does not change the result. Default: the number of
    /// cores.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
    /// Run each seed under sustained load with one disturbance: a burst, an unreachable node, a slow
    /// disk, or continuous reads. Default: one seed in 32.
    #[arg(long)]
    load: bool,
    /// Continue after the first violation.
    #[arg(long)]
    keep_going: bool,
    /// Do not shrink the first failure. By default its faults are reduced to those without which it does
    /// not occur, and printed as a script for --replay, with a transcript.
    #[arg(long)]
    no_shrink: bool,
    /// Also write the script of the shrunk failure to this file.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Replay the script of a failure and print its transcript. The exit code is always 1: either the
    /// failure was reproduced, or an error states that it was not.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seeds", "hours", "nodes", "save", "json"])]
    replay: Option<PathBuf>,
    /// Print the last N trace lines: of a replay, of the first failed seed, or of the only seed.
    #[arg(long, value_name = "N", default_value_t = 0)]
    trace: usize,
    /// Print the figures as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Sim {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(file) = &self.replay {
            return self.replay(file);
        }
        let target = registry::simulator(&self.protocol)?;
        let kind = if self.load { RunKind::Load } else { RunKind::Drawn };
        let mut request = SearchRequest {
            hours: self.hours,
            options: RunOptions { nodes: self.nodes, kind, ..RunOptions::default() },
            keep_going: self.keep_going,
            shrink: if self.no_shrink { 0 } else { SHRINKING_RUNS },
            trace: self.trace,
            ..SearchRequest::default()
        };
        request.choose_seeds(self.seeds.clone());
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let host = TerminalHost {
            since: Instant::now(),
            jobs: self.jobs.map_or_else(cores, usize::from),
            bar: progress_bar(&request),
            hours: request.hours.is_some(),
            save: self.save,
        };
        let outcome = search(&target, &request, &host);
        host.bar.finish_and_clear();
        match self.json {
            true => println!("{}", outcome.summary.json()),
            false => println!("{}", outcome.summary),
        }
        Ok(if outcome.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Replays the script of a failure.
    fn replay(&self, file: &Path) -> anyhow::Result<ExitCode> {
        let text = fs::read_to_string(file);
        let text = text.with_context(|| format!("cannot read {}", file.display()))?;
        let case: Case = text
            .parse()
            .with_context(|| format!("{} is not a script of a failure", file.display()))?;
        let target = registry::simulator(&case.protocol)?;
        let host = TerminalHost {
            since: Instant::now(),
            jobs: 1,
            bar: ProgressBar::hidden(),
            hours: false,
            save: None,
        };
        if !replay(&target, &case, self.trace, &host) {
            bail!("{} does not reproduce its failure", file.display());
        }
        Ok(ExitCode::FAILURE)
    }
}

/// This process as the host of a search.
struct TerminalHost {
    since: Instant,
    jobs: usize,
    bar: ProgressBar,
    /// True if the bar shows simulated time, false if it shows seeds.
    hours: bool,
    /// File for the script of a shrunk failure.
    save: Option<PathBuf>,
}

impl SearchHost for TerminalHost {
    fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    fn on_threads(&self, work: &(dyn Fn() + Sync)) {
        thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(work);
            }
        });
    }

    fn report(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    fn without_panic_messages(&self, work: &mut dyn FnMut()) {
        silence_panics(work);
    }

    fn save_script(&self, script: &str) {
        script.lines().for_each(|line| self.report(line));
        let Some(file) = &self.save else { return };
        match fs::write(file, script) {
            Ok(()) => self.report(&format!("replay: synod sim --replay {}", file.display())),
            Err(error) => self.report(&format!("cannot write {}: {error}", file.display())),
        }
    }

    fn on_progress(&self, campaign: &Campaign) {
        let position = if self.hours { campaign.counted_time.as_secs() } else { campaign.seeds };
        self.bar.set_position(position);
    }
}

/// Returns a progress bar, hidden unless standard error is a terminal.
fn progress_bar(request: &SearchRequest) -> ProgressBar {
    let (length, unit) = match request.hours {
        Some(Hours(time)) => (time.as_secs(), "simulated seconds"),
        None => (request.seeds.end - request.seeds.start, "seeds"),
    };
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
    }
    let template = format!("{{bar:40}} {{pos}}/{{len}} {unit}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template is well-formed");
    ProgressBar::new(length).with_style(style)
}
