//! Load on real nodes: bursts, slow links, slow disks, large reads, long logs.
//!
//! Each run starts three nodes, puts load on them, and prints one line per protocol: the measurements, the
//! goal, and whether it was met. `make load` executes all runs, `make load ARGS=burst` one run,
//! `make load ARGS='burst --protocol raft'` one protocol.
//!
//! A token bucket on the loopback of a separate network namespace limits links (Linux, `unshare` and
//! `tc`). A log store with a bounded rate limits disks. UDP proxies simulate long links that lose
//! packets.
#![forbid(unsafe_code)]

mod disk;
mod load;
mod machine;
mod runs;
#[allow(dead_code, unused_imports, reason = "shared with the tests; a benchmark needs a part")]
#[path = "../../tests/it/support/mod.rs"]
mod support;
mod wan;

use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Measure real nodes under load.
#[derive(Debug, Parser)]
struct Args {
    /// Runs to execute. Default: all.
    #[arg(value_parser = runs::names())]
    runs: Vec<String>,

    /// Protocol to measure; can be repeated. Default: all.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(support::PROTOCOLS))]
    protocol: Vec<String>,

    /// Execute the run in this process, whose network namespace is prepared.
    #[arg(long, hide = true)]
    inside: bool,

    /// Run a node with this settings file.
    #[arg(long, hide = true, requires = "rate")]
    node: Option<PathBuf>,

    /// Rate of the node's disk in bytes per second.
    #[arg(long, hide = true)]
    rate: Option<u64>,

    /// Flag that cargo passes to every benchmark; ignored.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let (Some(settings), Some(rate)) = (&args.node, args.rate) {
        return disk::serve(settings, rate);
    }
    let chosen =
        |run: &&runs::Run| args.runs.is_empty() || args.runs.iter().any(|it| it == run.name);
    let mut met = true;
    for run in runs::ALL.iter().filter(chosen) {
        for protocol in support::PROTOCOLS {
            if !args.protocol.is_empty() && !args.protocol.iter().any(|it| it == protocol) {
                continue;
            }
            met &= match run.mbit {
                Some(mbit) if !args.inside => machine::run_in_namespace(mbit, run.name, protocol),
                _ => {
                    let outcome = (run.load)(protocol);
                    let verdict = if outcome.met { "met" } else { "MISSED" };
                    println!("{} {protocol}: {} [goal {verdict}]", run.name, outcome.text);
                    outcome.met
                }
            };
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
