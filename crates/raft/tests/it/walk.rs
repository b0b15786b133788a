//! Random walks of cores without drivers, with compaction and installed snapshots.

use synod_explore::{WalkStats, random_walks};
use synod_raft::{Config, Limits, Raft};
use synod_types::{Membership, NodeId};

/// Voters and learners.
const SHAPES: [(u64, u64); 6] = [(3, 0), (5, 0), (2, 2), (4, 0), (3, 1), (1, 1)];

fn members(seed: u64) -> Membership {
    let (voters, learners) = SHAPES[seed as usize % SHAPES.len()];
    let all = |from, to| (from..=to).map(NodeId);
    Membership::new(all(1, voters), all(voters + 1, voters + learners)).unwrap()
}

/// Tight limits, different on each node and in each walk, so that everything comes in parts; and every
/// combination of the settings that do not affect safety.
fn config(seed: u64, id: NodeId, members: &Membership) -> Config {
    let tight = |salt: u64| (seed / 6 + salt * id.0) as usize % 12 + 1;
    let limits = Limits {
        inflight_messages: tight(3),
        inflight_bytes: 130 * tight(5),
        append_bytes: tight(11),
        ..Limits::default()
    };
    let bits = seed / 24 + id.0;
    let config = Config::new(id, members.clone()).unwrap().with_limits(limits).unwrap();
    config.with_pre_vote(bits & 1 == 0).with_check_quorum(bits & 2 == 0)
}

#[test]
fn compaction_and_snapshots_break_no_promise() {
    // The environment variable WALKS sets another number.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = random_walks::<Raft>(0..number, 4_000, members, config).unwrap();
    println!("{total:?}");
    let WalkStats { chosen, ballots, crashes, compactions, installs, reads } = total;
    assert!(
        chosen.min(ballots).min(crashes).min(compactions).min(installs).min(reads) >= 50,
        "{total:?}"
    );
}
