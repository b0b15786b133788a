//! Basic Paxos in the simulator: the conformance suite of all protocols, and pinned seeds.

use synod_basic_paxos::{BasicPaxos, Limits};
use synod_sim::conformance::default_config;
use synod_sim::{RunOptions, run_seed};

// The survivor of a wiped quorum compares histories with its peers, and stops.
synod_sim::protocol_suite!(
    BasicPaxos,
    partial_partitions: [quorum_loss, constrained_election, chain, half_connected_leader],
    flexible_quorums: |config| config.with_quorums(3, 2).unwrap(),
);

/// A window of one slot is too small for the simulator's load: some commands are refused, the others are
/// served, and no work is left after the load.
#[test]
fn overloaded_cluster_serves_and_drains() {
    let narrow = |node, members: &_| {
        let limits = Limits { window: 1, waiting: 4096, ..Limits::default() };
        default_config::<BasicPaxos>(node, members).with_limits(limits).unwrap()
    };
    for seed in 0..30 {
        let report = run_seed::<BasicPaxos>(narrow, seed, &RunOptions::default());
        let is_refusal = |text: &str| text.contains("left operation");
        let stall = report.violation.filter(|violation| !is_refusal(&violation.explanation));
        assert_eq!(stall, None, "seed {seed}");
    }
}
