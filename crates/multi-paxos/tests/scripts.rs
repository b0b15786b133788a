//! Golden scripts in `tests/scripts`: step-by-step transcripts of Multi-Paxos, checked by hand.
//! `UPDATE_GOLDENFILES=1` rewrites the transcripts.

use synod_multi_paxos::MultiPaxos;

synod_sim::golden_scripts!(
    MultiPaxos:
        first_and_following_requests,
        five_nodes_two_sides,
        new_leader_fills_the_hole,
        overtaken_leader,
        reads;
);
