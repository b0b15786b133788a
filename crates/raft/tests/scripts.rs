//! Golden scripts in `tests/scripts`: scenarios of Raft with transcripts that were checked by hand.
//! `UPDATE_GOLDENFILES=1` rewrites the transcripts.

use synod_raft::Raft;

synod_sim::golden_scripts!(
    Raft:
        conflicting_tail,
        first_election,
        heartbeats,
        huge_term,
        later_term,
        leader_dies,
        old_term_does_not_commit,
        partition_of_five,
        reads,
        remembers_its_vote,
        replication,
        split_vote;
);
