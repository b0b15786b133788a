//! Basic Paxos in the simulator: the suite that every protocol passes, and seeds that do the same
//! everywhere.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use synod_basic_paxos::types::{Membership, NodeId};
use synod_basic_paxos::{BasicPaxos, Config, Limits};
use synod_sim::{RunOptions, run_seed};

fn config(node: NodeId, members: &Membership) -> Config {
    Config::new(node, members.clone()).unwrap()
}

synod_sim::conformance!(under load BasicPaxos, config);

/// The longest election time-out of the default settings.
const ELECTION: Duration = Duration::from_millis(300);

synod_sim::partial_partitions!(
    BasicPaxos,
    config,
    ELECTION,
    quorum_loss,
    constrained_election,
    chain,
    deaf_leader
);

/// The survivor compares histories with its peers, and stops.
#[test]
fn survivor_of_a_wiped_quorum_serves_no_mixture() {
    synod_sim::conformance::survivor_of_a_wiped_quorum_serves_no_mixture::<BasicPaxos>(config);
}

/// A window of one slot cannot carry the load of the simulator: some commands have to be refused.
/// The others are served, and the work ends with the load.
#[test]
fn an_overloaded_cluster_serves_and_comes_to_rest() {
    let narrow = |node, members: &Membership| {
        let limits = Limits { window: 1, waiting: 4096, ..Limits::default() };
        config(node, members).with_limits(limits).unwrap()
    };
    for seed in 0..30 {
        let report = run_seed::<BasicPaxos>(narrow, seed, &RunOptions::default());
        let is_refusal = |text: &str| text.contains("left operation");
        let stall = report.violation.filter(|violation| !is_refusal(&violation.explanation));
        assert_eq!(stall, None, "seed {seed}");
    }
}

/// The hashes are pinned, so that debug and release builds, and all machines, are held to the same
/// run. Whatever changes what nodes say changes them: `UPDATE_GOLDENFILES=1` writes them anew.
#[test]
fn pinned_seeds_do_the_same_in_every_build() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hashes.txt");
    let mut found = String::from("# seed hash events operations\n");
    for seed in 0..8 {
        let report = run_seed::<BasicPaxos>(config, seed, &RunOptions::default());
        assert_eq!(report.violation, None, "seed {seed}");
        let (hash, events, ops) = (report.hash, report.events, report.ops);
        writeln!(found, "{seed} {hash:016x} {events} {ops}").unwrap();
    }
    if std::env::var_os("UPDATE_GOLDENFILES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let pinned = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, pinned, "UPDATE_GOLDENFILES=1 writes {} anew", path.display());
}

/// Three of four for phase 1, two of four for phase 2: quorums that are no majorities. The simulator
/// asks the protocol how many are enough, and goes on with any three.
#[test]
fn flexible_quorums_survive_a_search() {
    let flexible = |node: NodeId, members: &Membership| {
        Config::new(node, members.clone()).unwrap().with_quorums(3, 2).unwrap()
    };
    let options = RunOptions { nodes: Some(4), ..RunOptions::default() };
    for seed in 100..120 {
        let report = run_seed::<BasicPaxos>(flexible, seed, &options);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}
