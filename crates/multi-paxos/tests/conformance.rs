//! Multi-Paxos in the simulator: the conformance suite of all protocols, and pinned seeds.

use synod_multi_paxos::MultiPaxos;

synod_sim::protocol_suite!(
    MultiPaxos,
    partial_partitions: [quorum_loss, constrained_election, chain, half_connected_leader],
    flexible_quorums: |config| config.with_quorums(3, 2).unwrap(),
);
