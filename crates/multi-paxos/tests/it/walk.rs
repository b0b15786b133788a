//! Random walks of bare cores, with logs that are trimmed and snapshots that are installed.

use crate::cluster::members;
use synod_multi_paxos::types::NodeId;
use synod_multi_paxos::{Config, Limits, MultiPaxos};
use synod_sim::walk::{Walked, walks};

/// Nodes, and how many of them are enough for either phase.
const SHAPES: [(u64, usize, usize); 9] = [
    (3, 2, 2),
    (5, 3, 3),
    (4, 2, 3),
    (4, 3, 2),
    (5, 4, 2),
    (5, 2, 4),
    (2, 2, 2),
    (3, 3, 1),
    (3, 1, 3),
];

/// Tight limits, different on each node and each walk: reports, answers and Accepts of a slot or
/// two, so that everything comes in parts.
fn config(id: u64, seed: u64, (nodes, first, second): (u64, usize, usize)) -> Config {
    let tight = |salt: u64| (seed / 9 + salt * id) as usize % 12 + 1;
    let limits = Limits {
        chunk_bytes: tight(3),
        accept_bytes: tight(5),
        inflight_bytes: 4 + tight(11),
        ..Limits::default()
    };
    let config = Config::new(NodeId(id), members(nodes)).unwrap().with_limits(limits).unwrap();
    config.with_quorums(first, second).unwrap()
}

#[test]
fn trimmed_logs_and_snapshots_cost_no_promise() {
    // WALKS names another number of them.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = walks::<MultiPaxos>(0..number, 4_000, |seed| {
        let shape = SHAPES[seed as usize % SHAPES.len()];
        (1..=shape.0).map(|id| (NodeId(id), config(id, seed, shape))).collect()
    });
    let total = total.unwrap();
    println!("{total:?}");
    let Walked { chosen, ballots, crashes, trims, installs } = total;
    assert!(chosen.min(ballots).min(crashes).min(trims).min(installs) >= 50, "{total:?}");
}
