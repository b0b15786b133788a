//! Random walks of cores with compacted logs and installed snapshots.

use synod_basic_paxos::types::{Membership, NodeId};
use synod_basic_paxos::{BasicPaxos, Config, Limits};
use synod_explore::{WalkStats, random_walks};

/// Numbers of voters and learners, and quorum sizes of the two phases.
const SHAPES: [(u64, u64, usize, usize); 10] = [
    (3, 0, 2, 2),
    (5, 0, 3, 3),
    (2, 2, 2, 2),
    (4, 0, 3, 3),
    (3, 1, 2, 2),
    (1, 1, 1, 1),
    (4, 0, 3, 2),
    (5, 0, 4, 2),
    (3, 0, 3, 1),
    (3, 1, 1, 3),
];

fn members(seed: u64) -> Membership {
    let (voters, learners, ..) = SHAPES[seed as usize % SHAPES.len()];
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

/// Returns settings with a small window and replies of a slot or two, different on each node and walk.
fn config(seed: u64, id: NodeId, members: &Membership) -> Config {
    let tight = |salt: u64| (seed / 10 + salt * id.0) as usize % 12 + 1;
    let limits = Limits { window: tight(3), catch_up_bytes: tight(5), ..Limits::default() };
    let (_, _, first, second) = SHAPES[seed as usize % SHAPES.len()];
    let config = Config::new(id, members.clone()).unwrap().with_limits(limits).unwrap();
    config.with_quorums(first, second).unwrap()
}

#[test]
fn trimmed_logs_and_snapshots_cost_no_promise() {
    // The environment variable `WALKS` overrides the number.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = random_walks::<BasicPaxos>(0..number, 4_000, members, config).unwrap();
    println!("{total:?}");
    let WalkStats { chosen, crashes, compactions, installs, .. } = total;
    assert!(chosen.min(crashes).min(compactions).min(installs) >= 50, "{total:?}");
}
