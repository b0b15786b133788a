//! Synod's Raft core beside OmniPaxos: decided entries a second, in memory and in one thread.
//!
//! Every contender runs the same shape. A cluster of cores in one thread elects a leader; then, in
//! turn, the leader is offered a batch of commands and messages are carried until none is left.
//! Disks are memory, a message is a moved value, and every node takes note of what was decided.
//! Logs are compacted by the same rule, so that memory stays bounded. What remains is the cost of
//! the protocol's own code.
//!
//! Contenders take turns within each run, because a machine's speed drifts; the medians of all
//! runs are compared. Choices in favour of the peer: its batches have exactly the size that is
//! offered, its commands are [`Bytes`](bytes::Bytes), whose clone copies no payload, it reads each
//! decided entry once a node, and its clock stands still, so that it sends no heartbeats.
#![forbid(unsafe_code)]

mod contender;
#[path = "../../src/core.rs"]
mod cores;
mod omni;
mod synod;

use contender::{Contender, Shape};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often and how long each contender runs, and with which batches.
struct Plan {
    runs: usize,
    length: Duration,
    batches: Vec<usize>,
}

/// Builds a contender for a shape.
type Build = fn(Shape) -> Box<dyn Contender>;

/// Who is measured: the first is compared with all others.
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
    println!("decided entries a second, medians of {} runs in turn", plan.runs);
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

/// Reads the command line.
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

/// The median rate of each contender, from runs in turn.
fn compare(shape: Shape, plan: &Plan) -> Vec<f64> {
    let mut rates = vec![Vec::with_capacity(plan.runs); CONTENDERS.len()];
    for _ in 0..plan.runs {
        for (rates, (_, build)) in rates.iter_mut().zip(&CONTENDERS) {
            rates.push(measure(build(shape).as_mut(), plan.length));
        }
    }
    rates.into_iter().map(median).collect()
}

/// Decided entries a second over about `length`, after a warm-up of a tenth of it.
fn measure(contender: &mut dyn Contender, length: Duration) -> f64 {
    run_for(contender, length / 10);
    let began = Instant::now();
    let decided = run_for(contender, length);
    decided as f64 / began.elapsed().as_secs_f64()
}

/// Runs rounds until `length` has passed; how many entries they decided.
fn run_for(contender: &mut dyn Contender, length: Duration) -> u64 {
    let began = Instant::now();
    let mut decided = 0;
    while began.elapsed() < length {
        // A reading of the clock costs as much as a small round: take one for many.
        for _ in 0..64 {
            decided += contender.round();
        }
    }
    decided
}

/// The middle one of an odd number of values, the upper middle one of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Prints one row: rates in millions a second, then how often the first beats each other one.
fn report(shape: Shape, rates: &[f64]) {
    let cells: Vec<_> = rates.iter().map(|rate| format!("{:.2} M/s", rate / 1e6)).collect();
    let ratios: Vec<_> = rates[1..].iter().map(|rate| format!("{:.1}", rates[0] / rate)).collect();
    let Shape { nodes, bytes, batch } = shape;
    println!("| {nodes} | {bytes} | {batch} | {} |", [cells, ratios].concat().join(" | "));
}
