//! Prints the fingerprints of three seeds of each protocol. They are equal in every build, on every
//! machine.

use std::fmt::Write as _;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_sim::{RunOptions, run_seed};

fn main() {
    print!("{}", traces());
}

/// Returns one line per seed: the protocol, the seed, the trace's hash, the number of events, and
/// the number of acknowledged operations.
pub fn traces() -> String {
    let options = RunOptions { fault_time: Duration::from_secs(15), ..RunOptions::default() };
    let mut lines = String::new();
    macro_rules! trace {
        ($protocol:ty, $config:ty) => {
            for seed in 0..3 {
                let config = |id, members: &synod_types::Membership| {
                    <$config>::new(id, members.clone()).expect("the nodes are members")
                };
                let report = run_seed::<$protocol>(config, seed, &options);
                let name = <$protocol as synod_consensus::Protocol>::NAME;
                let (hash, events, ops) = (report.hash, report.events, report.ops);
                writeln!(lines, "{name} {seed} {hash:016x} {events} {ops}")
                    .expect("writing to a string cannot fail");
            }
        };
    }
    trace!(Raft, synod_raft::Config);
    trace!(MultiPaxos, synod_multi_paxos::Config);
    trace!(BasicPaxos, synod_basic_paxos::Config);
    lines
}
