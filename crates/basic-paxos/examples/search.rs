//! Searches seeds of the simulator for a violation: the same core as `synod sim`, without the
//! node.
//!
//! ```text
//! cargo run --release -p synod-basic-paxos --example search -- --seeds 0..2000 [--nodes 5] [--keep-going]
//! ```
//!
//! The last line on stdout is one JSON object. With a violation, the lines before it name the seed
//! and the command that replays it, and the exit code is 1.

use std::ops::{ControlFlow, Range};
use std::process::ExitCode;
use std::time::Instant;
use synod_basic_paxos::consensus::Protocol;
use synod_basic_paxos::{BasicPaxos, Config};
use synod_sim::{Campaign, Options};

/// What the command line asks for.
struct Arguments {
    seeds: Range<u64>,
    options: Options,
    keep_going: bool,
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            eprintln!("usage: search [--seeds FROM..TO] [--nodes N] [--keep-going] [--verbose]");
            return ExitCode::from(2);
        }
    };
    let started = Instant::now();
    let config = |id, members: &synod_basic_paxos::types::Membership| {
        Config::new(id, members.clone()).expect("the simulator asks for members only")
    };
    let campaign = Campaign::run::<BasicPaxos>(
        config,
        arguments.seeds.clone(),
        &arguments.options,
        |report| {
            if arguments.verbose {
                println!("{report:?}");
            }
            let Some(violation) = &report.violation else { return ControlFlow::Continue(()) };
            let seed = report.seed;
            println!("seed {seed}: {violation}");
            let nodes = arguments.options.nodes.map(|nodes| format!(" --nodes {nodes}"));
            println!(
                "replay: cargo run --release -p synod-basic-paxos --example search -- --seeds {seed}..{}{}",
                seed + 1,
                nodes.unwrap_or_default()
            );
            if arguments.keep_going { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        },
    );
    if campaign.violations.is_empty() && !campaign.passed() {
        println!("faults that never fired: {}", campaign.silent().join(", "));
    }
    println!("{} of {} seeds count", campaign.counted, campaign.seeds);
    println!("{}", campaign.summary(BasicPaxos::NAME, started.elapsed()));
    if campaign.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut arguments = Arguments {
        seeds: 0..1000,
        options: Options::default(),
        keep_going: false,
        verbose: false,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => arguments.seeds = parse_range(&value()?)?,
            "--nodes" => arguments.options.nodes = Some(parse_number(&value()?)?),
            "--keep-going" => arguments.keep_going = true,
            "--verbose" => arguments.verbose = true,
            _ => return Err(format!("unknown argument {word}")),
        }
    }
    Ok(arguments)
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or(format!("{text} is no range like 0..2000"))?;
    Ok(parse_number(from)?..parse_number(to)?)
}

fn parse_number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
