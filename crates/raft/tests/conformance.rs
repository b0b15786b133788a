//! Raft in the simulator: the suite that every protocol passes, and seeds that do the same
//! everywhere.

use synod_raft::Raft;
use synod_sim::conformance::partial;

// What the peers of a wiped quorum append contradicts what the survivor has applied: its core ignores
// it.
synod_sim::protocol_suite!(Raft, partial_partitions: [quorum_loss, chain, half_connected_leader]);

/// Raft cannot recover from this one, and pre-vote and check-quorum are no help: the only node that
/// reaches a majority lacks an entry, and no node may vote for it (Raft §5.4.1). It has to wait until
/// the links between the others work again.
#[test]
#[should_panic(expected = "the write is not acknowledged within")]
fn partial_partition_constrained_election_stops_raft() {
    partial::constrained_election::<Raft>();
}
