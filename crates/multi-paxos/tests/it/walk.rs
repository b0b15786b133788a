//! Random walks of bare cores, with logs that are trimmed and snapshots that are installed.

use synod_explore::{WalkStats, random_walks};
use synod_multi_paxos::types::{Membership, NodeId};
use synod_multi_paxos::{Config, Limits, MultiPaxos};

/// Numbers of voters and learners, and quorum sizes of the two phases.
const SHAPES: [(u64, u64, usize, usize); 12] = [
    (3, 0, 2, 2),
    (5, 0, 3, 3),
    (4, 0, 2, 3),
    (4, 0, 3, 2),
    (5, 0, 4, 2),
    (5, 0, 2, 4),
    (2, 0, 2, 2),
    (3, 0, 3, 1),
    (3, 0, 1, 3),
    (3, 1, 2, 2),
    (2, 2, 2, 2),
    (1, 1, 1, 1),
];

fn members(seed: u64) -> Membership {
    let (voters, learners, ..) = SHAPES[seed as usize % SHAPES.len()];
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

/// Returns small limits, different on each node and walk: reports, replies and Accepts of a slot or two, so
/// that all of them are sent in parts.
fn config(seed: u64, id: NodeId, members: &Membership) -> Config {
    let tight = |salt: u64| (seed / 12 + salt * id.0) as usize % 12 + 1;
    let limits = Limits {
        chunk_bytes: tight(3),
        accept_bytes: tight(5),
        inflight_bytes: 4 + tight(11),
        ..Limits::default()
    };
    let (_, _, first, second) = SHAPES[seed as usize % SHAPES.len()];
    let config = Config::new(id, members.clone()).unwrap().with_limits(limits).unwrap();
    config.with_quorums(first, second).unwrap()
}

#[test]
fn trimmed_logs_and_snapshots_cost_no_promise() {
    // The environment variable `WALKS` overrides the number.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = random_walks::<MultiPaxos>(0..number, 4_000, members, config).unwrap();
    println!("{total:?}");
    let WalkStats { chosen, ballots, crashes, compactions, installs, reads } = total;
    assert!(
        chosen.min(ballots).min(crashes).min(compactions).min(installs).min(reads) >= 50,
        "{total:?}"
    );
}
