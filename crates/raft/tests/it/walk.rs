//! Random walks of bare cores, with logs that are trimmed and snapshots that are installed.

use crate::cluster::members;
use synod_raft::{Config, Limits, Raft};
use synod_sim::walk::{Walked, walks};
use synod_types::NodeId;

/// Tight limits, different on each node and each walk, so that everything comes in parts; and
/// every mixture of the settings that are no matter of safety.
fn config(id: u64, seed: u64, voters: u64) -> Config {
    let tight = |salt: u64| (seed / 4 + salt * id) as usize % 12 + 1;
    let limits = Limits {
        inflight_messages: tight(3),
        inflight_bytes: 4 + tight(5),
        append_bytes: tight(11),
        ..Limits::default()
    };
    let config = Config::new(NodeId(id), members(voters, 0)).unwrap();
    let bits = seed / 16 + id;
    let config = config.with_pre_vote(bits & 1 == 0).with_check_quorum(bits & 2 == 0);
    config.with_limits(limits).unwrap()
}

#[test]
fn trimmed_logs_and_snapshots_cost_no_promise() {
    // WALKS names another number of them.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = walks::<Raft>(0..number, 4_000, |seed| {
        let voters = [3, 5, 2, 4][seed as usize % 4];
        (1..=voters).map(|id| (NodeId(id), config(id, seed, voters))).collect()
    });
    let total = total.unwrap();
    println!("{total:?}");
    let Walked { chosen, ballots, crashes, trims, installs } = total;
    assert!(chosen.min(ballots).min(crashes).min(trims).min(installs) >= 50, "{total:?}");
}
