//! Comparison of the protocols in the simulator: cost and latency of a write, and unavailability after
//! a leader's crash. Prints one Markdown table, the same on every machine.

use std::process::ExitCode;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_sim::Violation;
use synod_sim::measure::{Configure, Effort, Profile, Table};
use synod_types::{Membership, NodeId};

/// Measures every selected protocol.
fn compare(args: &Args) -> Result<Table, Violation> {
    let mut table = Table::new(args.effort);
    args.add::<Raft>(&mut table, raft)?;
    args.add::<MultiPaxos>(&mut table, multi_paxos)?;
    args.add::<BasicPaxos>(&mut table, basic_paxos)?;
    Ok(table)
}

fn raft(node: NodeId, members: &Membership, profile: &Profile) -> synod_raft::Config {
    let Profile { election, heartbeat, .. } = profile.clone();
    let config = synod_raft::Config::new(node, members.clone()).expect("a member");
    config.with_timing(synod_raft::Timing { election, heartbeat }).expect("valid timeouts")
}

fn multi_paxos(node: NodeId, members: &Membership, profile: &Profile) -> synod_multi_paxos::Config {
    let Profile { election, heartbeat, .. } = profile.clone();
    let config = synod_multi_paxos::Config::new(node, members.clone()).expect("a member");
    config.with_timing(synod_multi_paxos::Timing { election, heartbeat }).expect("valid timeouts")
}

fn basic_paxos(node: NodeId, members: &Membership, profile: &Profile) -> synod_basic_paxos::Config {
    let round_trip = (profile.one_way() * 2 + profile.sync).max(Duration::from_millis(1));
    let timing = synod_basic_paxos::Timing { round_trip, ..Default::default() };
    let config = synod_basic_paxos::Config::new(node, members.clone()).expect("a member");
    config.with_timing(timing).expect("valid timeouts")
}

/// Arguments of the command line.
struct Args {
    /// Minimal if this is run as a test: cargo passes `--bench` only when it runs benchmarks.
    effort: Effort,
    /// Selects protocols by substrings of their names, such as `protocols/raft`. Empty: selects all.
    filters: Vec<String>,
}

impl Args {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let (options, filters): (Vec<_>, Vec<_>) =
            arguments.partition(|argument| argument.starts_with('-'));
        let bench = options.iter().any(|option| option == "--bench");
        Self { effort: if bench { Effort::default() } else { Effort::QUICK }, filters }
    }

    fn add<P: Protocol>(
        &self,
        table: &mut Table,
        config: impl Configure<P> + 'static,
    ) -> Result<(), Violation> {
        let name = format!("protocols/{}", P::NAME);
        let matches = self.filters.iter().any(|filter| name.contains(filter.as_str()));
        if self.filters.is_empty() || matches { table.add::<P>(config) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    match compare(&Args::parse(std::env::args().skip(1))) {
        Ok(table) if table.rows().is_empty() => ExitCode::SUCCESS,
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(violation) => {
            eprintln!("error: the comparison found a violation: {violation}");
            ExitCode::FAILURE
        }
    }
}
