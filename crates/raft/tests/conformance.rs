//! Raft in the simulator: the suite that every protocol passes, and seeds with pinned hashes.

use synod_raft::Raft;
use synod_sim::conformance::partial;

// After the loss of a quorum its new log contradicts the slots that the survivor has applied: the
// survivor takes none of its appends.
synod_sim::protocol_suite!(Raft, partial_partitions: [quorum_loss, chain, half_connected_leader]);

/// Raft cannot recover from this partial partition, with or without pre-vote and check-quorum: the only
/// node that reaches a majority lacks an entry, and no node may vote for it (Raft §5.4.1). The cluster is
/// unavailable until the links between the other nodes work again.
#[test]
#[should_panic(expected = "the write is not acknowledged within")]
fn partial_partition_constrained_election_stops_raft() {
    partial::constrained_election::<Raft>();
}
