//! Prints the results of load runs of a protocol, one line per seed.
//!
//! ```text
//! cargo run --release -p synod-sim --example load -- raft 0 40
//! ```

use std::process::ExitCode;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_sim::{RunKind, RunOptions, run_seed};
use synod_types::{Membership, NodeId};

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let number = |index: usize| words.get(index).and_then(|word| word.parse().ok());
    let (Some(first), Some(end)) = (number(1), number(2)) else {
        eprintln!("usage: load PROTOCOL FIRST END");
        return ExitCode::from(2);
    };
    macro_rules! runs {
        ($protocol:ty, $config:ty) => {
            runs::<$protocol>(first..end, |id, members| {
                <$config>::new(id, members.clone()).expect("the nodes are members")
            })
        };
    }
    match words[0].as_str() {
        "raft" => runs!(Raft, synod_raft::Config),
        "multi-paxos" => runs!(MultiPaxos, synod_multi_paxos::Config),
        "basic-paxos" => runs!(BasicPaxos, synod_basic_paxos::Config),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn runs<P: Protocol>(seeds: std::ops::Range<u64>, config: fn(NodeId, &Membership) -> P::Config) {
    let options = RunOptions { kind: RunKind::Load, ..RunOptions::default() };
    println!(
        "seed disturbance, KB/s (steady, link, disk), delay ms, recovered and bound s, \
         sent (steady), written (steady),\n     \
         repeated, dropped frames, rounds, failed, write latency before/during"
    );
    for seed in seeds {
        let report = run_seed::<P>(config, seed, &options);
        let kind = report.violation.as_ref().map_or(String::new(), |found| found.kind.to_string());
        let Some(figures) = report.load else {
            println!("{seed:4} {:?}", report.violation.map(|found| found.to_string()));
            continue;
        };
        let times = |thousandths: u64| thousandths as f64 / 1000.0;
        println!(
            "{seed:4} {:9} {:5} {:4} {:4} {:4} {:5.1} {:5.1} {:8.2} ({:.2}) {:8.2} ({:.2}) {:6.2} {:6} \
             {:4} {:6.0}% {:4}/{:4} ms {kind}",
            figures.disturbance,
            figures.steady / 1000,
            figures.bandwidth / 1000,
            figures.disk / 1000,
            figures.delay.as_millis(),
            figures.recovered_after.as_secs_f64(),
            figures.bound.as_secs_f64(),
            times(figures.sent),
            times(figures.steady_sent),
            times(figures.written),
            times(figures.steady_written),
            times(figures.repeated),
            figures.dropped,
            figures.rounds,
            figures.failed as f64 * 100.0 / figures.offered.max(1) as f64,
            figures.latencies[0].as_millis(),
            figures.latencies[1].as_millis(),
        );
    }
}
