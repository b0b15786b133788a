//! Raft in the simulator: the suite that every protocol passes, and seeds that do the same
//! everywhere.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;
use synod_raft::types::{Membership, NodeId};
use synod_raft::{Config, Raft};
use synod_sim::{RunOptions, run_seed};

fn config(node: NodeId, members: &Membership) -> Config {
    Config::new(node, members.clone()).unwrap()
}

synod_sim::conformance!(under load Raft, config);

/// The longest election time-out of the default settings.
const ELECTION: Duration = Duration::from_millis(300);

synod_sim::partial_partitions!(Raft, config, ELECTION, quorum_loss, chain, deaf_leader);

/// Raft cannot recover from this one, and pre-vote and check-quorum are no help: the only node that
/// reaches a majority lacks an entry, and nobody may vote for it (Raft §5.4.1). It has to wait until
/// the links between the others work again.
#[test]
#[should_panic(expected = "4 election time-outs, and not served")]
fn partial_partition_constrained_election_stops_raft() {
    synod_sim::conformance::partial::constrained_election::<Raft>(config, ELECTION);
}

/// What its peers append contradicts what the survivor has applied, so its core ignores it.
#[test]
fn survivor_of_a_wiped_quorum_serves_no_mixture() {
    synod_sim::conformance::survivor_of_a_wiped_quorum_serves_no_mixture::<Raft>(config);
}

/// The hashes are pinned, so that debug and release builds, and all machines, are held to the same
/// run. Whatever changes what nodes say changes them: `UPDATE_GOLDENFILES=1` writes them anew.
#[test]
fn pinned_seeds_do_the_same_in_every_build() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/hashes.txt");
    let mut found = String::from("# seed hash events operations\n");
    for seed in 0..8 {
        let report = run_seed::<Raft>(config, seed, &RunOptions::default());
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
