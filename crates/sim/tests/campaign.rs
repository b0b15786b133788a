//! The campaign that every change must pass: 20 simulated hours that count, for each protocol.
//!
//! Too slow without optimisation, so debug builds ignore it. `synod sim --hours` runs longer ones.

use std::thread;
use std::time::{Duration, Instant};
use synod_basic_paxos::BasicPaxos;
use synod_consensus::Protocol;
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_sim::search::{Hours, SearchHost, SearchRequest, Target, search};
use synod_types::{Membership, NodeId};

const HOURS: Hours = Hours(Duration::from_secs(20 * 3600));

/// Host that uses all cores.
struct AllCores(Instant);

impl SearchHost for AllCores {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    fn on_threads(&self, work: &(dyn Fn() + Sync)) {
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(work);
            }
        });
    }

    fn report(&self, line: &str) {
        println!("{line}");
    }
}

fn passes<P: Protocol>(config: fn(NodeId, &Membership) -> P::Config) {
    let mut request = SearchRequest { hours: Some(HOURS), ..SearchRequest::default() };
    request.choose_seeds(None);
    let replay_command = format!("cargo run --release -p synod-{} --example search --", P::NAME);
    let verdict =
        search(&Target::new::<P>(replay_command, config), &request, &AllCores(Instant::now()));
    println!("{}", verdict.summary);
    assert!(
        verdict.passed,
        "violations, or reasons why the campaign is inconclusive, are printed above"
    );
}

#[test]
#[cfg_attr(debug_assertions, ignore = "too slow without optimisation")]
fn raft_passes_20_simulated_hours() {
    passes::<Raft>(|id, members| synod_raft::Config::new(id, members.clone()).unwrap());
}

#[test]
#[cfg_attr(debug_assertions, ignore = "too slow without optimisation")]
fn multi_paxos_passes_20_simulated_hours() {
    passes::<MultiPaxos>(|id, members| {
        synod_multi_paxos::Config::new(id, members.clone()).unwrap()
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "too slow without optimisation")]
fn basic_paxos_passes_20_simulated_hours() {
    passes::<BasicPaxos>(|id, members| {
        synod_basic_paxos::Config::new(id, members.clone()).unwrap()
    });
}
