//! The protocols side by side, in the simulator: what a write costs, how long it takes, and how
//! long a dead leader is missed. Prints one table in Markdown; the same one on every machine.

use std::process::ExitCode;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_sim::Violation;
use synod_sim::measure::{Configure, Effort, Profile, Table};
use synod_types::{Membership, NodeId};

/// Measures every protocol that was asked for.
fn compare(asked: &Asked) -> Result<Table, Violation> {
    let mut table = Table::new(asked.effort);
    asked.add::<Raft>(&mut table, raft)?;
    asked.add::<MultiPaxos>(&mut table, multi_paxos)?;
    asked.add::<BasicPaxos>(&mut table, basic_paxos)?;
    Ok(table)
}

fn raft(node: NodeId, members: &Membership, profile: &Profile) -> synod_raft::Config {
    let Profile { election, heartbeat, .. } = profile.clone();
    let config = synod_raft::Config::new(node, members.clone()).expect("it is a member");
    config.with_timing(synod_raft::Timing { election, heartbeat }).expect("sound timeouts")
}

fn multi_paxos(node: NodeId, members: &Membership, profile: &Profile) -> synod_multi_paxos::Config {
    let Profile { election, heartbeat, .. } = profile.clone();
    let config = synod_multi_paxos::Config::new(node, members.clone()).expect("it is a member");
    config.with_timing(synod_multi_paxos::Timing { election, heartbeat }).expect("sound timeouts")
}

fn basic_paxos(node: NodeId, members: &Membership, profile: &Profile) -> synod_basic_paxos::Config {
    let round_trip = (profile.one_way() * 2 + profile.sync).max(Duration::from_millis(1));
    let timing = synod_basic_paxos::Timing { round_trip, ..Default::default() };
    let config = synod_basic_paxos::Config::new(node, members.clone()).expect("it is a member");
    config.with_timing(timing).expect("sound timeouts")
}

/// What the command line asks for.
struct Asked {
    /// As little as possible when run as a test: cargo says `--bench` only when it benchmarks.
    effort: Effort,
    /// Parts of the names `protocols/raft` and so on; all of them if there is none.
    filters: Vec<String>,
}

impl Asked {
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
        let wanted = self.filters.iter().any(|filter| name.contains(filter.as_str()));
        if self.filters.is_empty() || wanted { table.add::<P>(config) } else { Ok(()) }
    }
}

fn main() -> ExitCode {
    match compare(&Asked::parse(std::env::args().skip(1))) {
        Ok(table) if table.rows().is_empty() => ExitCode::SUCCESS,
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(found) => {
            eprintln!("error: the comparison found a bug: {found}");
            ExitCode::FAILURE
        }
    }
}
