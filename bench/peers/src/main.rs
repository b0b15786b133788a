//! Comparison of Synod's Raft core with OmniPaxos: decided entries per second, in memory and in one
//! thread.
//!
//! Both execute the same workload. A cluster of cores in one thread elects a leader; then, repeatedly, the
//! leader receives a batch of commands, and messages are delivered until none is in flight. Disks are
//! in memory, a message is moved and not encoded, and every node reads its decided entries. Both compact
//! their logs at the same interval, so that memory is bounded. So the measurement is the cost of the
//! protocol's code.
//!
//! The contenders alternate within each run, because the speed of a machine varies over time. The medians
//! of all runs are compared. Choices in favour of OmniPaxos: its batch size is exactly that of the workload;
//! its commands are [`Bytes`](bytes::Bytes), whose clone copies no payload; each node reads a decided
//! entry once; and its clock does not advance, so it sends no heartbeats.
#![forbid(unsafe_code)]

mod contender;
#[path = "../../src/core.rs"]
mod cores;
mod omni;
mod synod;

use contender::{Contender, Shape};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Number and length of the runs, and the batch sizes.
struct Plan {
    runs: usize,
    length: Duration,
    batches: Vec<usize>,
}

/// Function that builds a contender.
type Build = fn(Shape) -> Box<dyn Contender>;

/// The contenders. Ratios compare the first with each of the others.
const CONTENDERS: [(&str, Build); 2] = [
    ("Synod", |shape| Box::new(synod::Synod::elect(shape))),
    ("OmniPaxos 0.2.4", |shape| Box::new(omni::Omni::elect(shape))),
];

fn main() -> ExitCode {
    let plan = match parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(problem) => {
            eprintln!("{problem}\nusage: synod-peers [--runs N] [--millis N] [--batch N]");
            return ExitCode::FAILURE;
        }
    };
    let names = CONTENDERS.map(|(name, _)| name).join(" | ");
    println!("decided entries per second, medians of {} alternating runs", plan.runs);
    println!("| nodes | bytes | batch | {names} | ratio |\n|---|---|---|---|---|---|");
    for nodes in [3, 5] {
        for bytes in [16, 256] {
            for &batch in &plan.batches {
                let shape = Shape { nodes, bytes, batch };
                report(shape, &compare(shape, &plan));
            }
        }
    }
    ExitCode::SUCCESS
}

/// Parses the command line.
fn parse(mut words: impl Iterator<Item = String>) -> Result<Plan, String> {
    let batches = vec![1, 64, 1024];
    let mut plan = Plan { runs: 7, length: Duration::from_millis(300), batches };
    while let Some(word) = words.next() {
        let number = words.next().and_then(|word| word.parse::<u32>().ok()).filter(|n| *n > 0);
        let Some(number) = number else { return Err(format!("{word} needs a number above 0")) };
        match word.as_str() {
            "--runs" => plan.runs = number as usize,
            "--batch" => plan.batches = vec![number as usize],
            "--millis" => plan.length = Duration::from_millis(u64::from(number)),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(plan)
}

/// Returns the median rate of each contender over alternating runs.
fn compare(shape: Shape, plan: &Plan) -> Vec<f64> {
    let mut rates = vec![Vec::with_capacity(plan.runs); CONTENDERS.len()];
    for _ in 0..plan.runs {
        for (rates, (_, build)) in rates.iter_mut().zip(&CONTENDERS) {
            rates.push(measure(build(shape).as_mut(), plan.length));
        }
    }
    rates.into_iter().map(median).collect()
}

/// Returns the decided entries per second over about `length`, after a warm-up of a tenth of it.
fn measure(contender: &mut dyn Contender, length: Duration) -> f64 {
    run_for(contender, length / 10);
    let start = Instant::now();
    let decided = run_for(contender, length);
    decided as f64 / start.elapsed().as_secs_f64()
}

/// Runs rounds until `length` has passed; returns the number of entries that they decided.
fn run_for(contender: &mut dyn Contender, length: Duration) -> u64 {
    let start = Instant::now();
    let mut decided = 0;
    while start.elapsed() < length {
        // Reading the clock costs as much as a small round, so read it once for many.
        for _ in 0..64 {
            decided += contender.round();
        }
    }
    decided
}

/// Returns the median, or the upper median of an even number of values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one row: rates in millions per second, then the ratio of the first to each of the others.
fn report(shape: Shape, rates: &[f64]) {
    let cells: Vec<_> = rates.iter().map(|rate| format!("{:.2} M/s", rate / 1e6)).collect();
    let ratios: Vec<_> = rates[1..].iter().map(|rate| format!("{:.1}", rates[0] / rate)).collect();
    let Shape { nodes, bytes, batch } = shape;
    println!("| {nodes} | {bytes} | {batch} | {} |", [cells, ratios].concat().join(" | "));
}
