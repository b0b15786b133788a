//! Random walks of bare cores, with logs that are trimmed and snapshots that are installed.

use synod_basic_paxos::types::{Membership, NodeId};
use synod_basic_paxos::{BasicPaxos, Config, Limits};
use synod_sim::walk::{Walked, walks};

/// A tight window, and answers of a slot or two, different on each node and each walk.
fn config(id: u64, seed: u64, voters: u64) -> Config {
    let tight = |salt: u64| (seed / 4 + salt * id) as usize % 12 + 1;
    let limits = Limits { window: tight(3), catch_up_bytes: tight(5), ..Limits::default() };
    let members = Membership::new((1..=voters).map(NodeId), []).unwrap();
    Config::new(NodeId(id), members).unwrap().with_limits(limits).unwrap()
}

#[test]
fn trimmed_logs_and_snapshots_cost_no_promise() {
    // WALKS names another number of them.
    let number = std::env::var("WALKS").map_or(80, |it| it.parse().unwrap());
    let total = walks::<BasicPaxos>(0..number, 4_000, |seed| {
        let voters = [3, 5, 2, 4][seed as usize % 4];
        (1..=voters).map(|id| (NodeId(id), config(id, seed, voters))).collect()
    });
    let total = total.unwrap();
    println!("{total:?}");
    let Walked { chosen, crashes, trims, installs, .. } = total;
    assert!(chosen.min(crashes).min(trims).min(installs) >= 50, "{total:?}");
}
