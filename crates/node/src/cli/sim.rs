//! `synod sim`: a protocol under faults, in simulated clusters, seed by seed.

use crate::registry::{self, Simulate};
use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::ops::Range;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;
use synod_sim::{Campaign, Options, Report};

/// After this many violations there is enough to look at.
const ENOUGH_VIOLATIONS: usize = 10;

/// Run a protocol in simulated clusters under faults, seed by seed, and check it.
///
/// Each seed is a cluster of its own, with a minute of crashes, partitions, lost messages and slow
/// disks, then a time to heal; everything is checked after every event. The same seed always does
/// the same. The last line on standard output is one JSON object; the exit code is 1 if anything
/// was found.
#[derive(Debug, clap::Args)]
pub(super) struct Sim {
    /// The protocol: raft, multi-paxos or basic-paxos.
    #[arg(long, default_value = registry::DEFAULT_PROTOCOL, value_name = "NAME")]
    protocol: String,
    /// Which seeds: from the first up to, not including, the second; or just one.
    #[arg(long, default_value = "0..100", value_name = "A..B")]
    seeds: Seeds,
    /// How many nodes each cluster has; each seed chooses 1, 3 or 5 by itself if this is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=9))]
    nodes: Option<u64>,
    /// How many seeds run at once; as many as the machine has cores if this is not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Seeds(Range<u64>);

impl FromStr for Seeds {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let number = |text: &str| {
            text.parse::<u64>().with_context(|| format!("{text:?} is no seed: write A..B"))
        };
        let (first, end) = match text.split_once("..") {
            Some((first, end)) => (number(first)?, number(end)?),
            None => {
                let seed = number(text)?;
                (seed, seed.saturating_add(1))
            }
        };
        if first >= end {
            bail!("{text:?} holds no seed");
        }
        Ok(Self(first..end))
    }
}

impl Sim {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let (name, simulate) = registry::simulator(&self.protocol)?;
        let since = Instant::now();
        let campaign = self.campaign(simulate);
        let silent = campaign.silent();
        if campaign.violations.is_empty() && !campaign.passed() {
            eprintln!("synod: these faults never fired, so nothing is proved: {silent:?}");
        }
        println!("{}", campaign.summary(name, since.elapsed()));
        Ok(if campaign.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Runs all seeds, on all cores: each takes the next seed that nobody has taken.
    fn campaign(&self, simulate: Simulate) -> Campaign {
        let Seeds(seeds) = &self.seeds;
        let options = Options { nodes: self.nodes, ..Options::default() };
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.map_or_else(cores, usize::from);
        let (next, enough) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
        let bar = progress_bar(seeds.end - seeds.start);
        let work = || {
            let mut campaign = Campaign::default();
            while !enough.load(Ordering::Relaxed) {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= seeds.end {
                    break;
                }
                let report = simulate(seed, &options);
                campaign.add(&report);
                bar.suspend(|| self.tell(&report, seeds.end - seeds.start == 1));
                bar.inc(1);
                if campaign.violations.len() >= ENOUGH_VIOLATIONS {
                    enough.store(true, Ordering::Relaxed);
                }
            }
            campaign
        };
        let mut all = Campaign::default();
        thread::scope(|scope| {
            let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                all.merge(thread.join().expect("a seed's panic is caught and reported"));
            }
        });
        bar.finish_and_clear();
        all
    }

    /// Says what a seed found, and how to see it again.
    fn tell(&self, report: &Report, alone: bool) {
        let seed = report.seed;
        if let Some(violation) = &report.violation {
            let nodes = self.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
            eprintln!("seed {seed}: {violation}");
            eprintln!(
                "  again: synod sim --protocol {}{nodes} --seeds {seed}..{}",
                self.protocol,
                seed.saturating_add(1)
            );
        } else if alone {
            eprintln!("seed {seed}: {} operations, trace {:016x}", report.ops, report.hash);
        }
    }
}

/// A bar on a terminal, nothing elsewhere.
fn progress_bar(seeds: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(seeds), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {eta} left");
    ProgressBar::new(seeds).with_style(style.expect("the template is well-formed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_or_one() {
        let parse = |text: &str| text.parse::<Seeds>().map(|Seeds(range)| range);
        assert_eq!(parse("0..2000").unwrap(), 0..2000);
        assert_eq!(parse("17").unwrap(), 17..18);
        for text in ["", "..", "5..", "..5", "5..5", "6..5", "a..b", "-1..2"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_core_takes_its_share_and_no_seed_is_run_twice() {
        let sim = Sim { protocol: "fake".into(), seeds: Seeds(3..40), nodes: None, jobs: Some(4) };
        let campaign = sim.campaign(|seed, _| Report {
            seed,
            hash: seed,
            simulated: std::time::Duration::from_secs(60),
            ops: seed,
            faults: Default::default(),
            violation: None,
            events: 1,
            counted: true,
        });
        assert_eq!((campaign.seeds, campaign.ops), (37, (3..40).sum()));
    }
}
