//! Golden scripts in `tests/scripts`: step-by-step transcripts of basic Paxos, checked by hand.
//! `UPDATE_GOLDENFILES=1` rewrites the transcripts.

use synod_basic_paxos::{BasicPaxos, SingleDecree};

synod_sim::golden_scripts!(
    SingleDecree: overtaken, livelock, livelock_two_to_nine, found_undecided, missed_the_decision;
    BasicPaxos: five_nodes_two_sides;
);
