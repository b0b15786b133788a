//! A random walk finds what is planted into the toy, and passes only if every node makes progress.

use crate::toy::{Bug, Config, Toy};
use synod_explore::{Rule, WalkFailure, WalkStats, random_walks};
use synod_types::{Membership, NodeId};

fn ten_walks(bug: Bug, voters: u64, steps: u32) -> Result<WalkStats, WalkFailure> {
    let members = |_| Membership::new((1..=voters).map(NodeId), []).expect("a group");
    let config = |_, id, members: &Membership| Config { id, members: members.clone(), bug };
    random_walks::<Toy>(0..10, steps, members, config)
}

#[test]
fn sound_protocol_passes() {
    let walked = ten_walks(Bug::None, 1, 1_000).expect("nothing is wrong with one node");
    assert!(walked.chosen > 50 && walked.crashes > 10, "{walked:?}");
    assert_eq!((walked.trims, walked.installs), (0, 0), "it has no snapshots");
}

#[test]
fn planted_bug_is_found() {
    let planted = [
        (Bug::HastyAck, Rule::Claims),
        (Bug::UnwrittenAck, Rule::Claims),
        (Bug::LonelyCommit, Rule::OnQuorum),
        (Bug::Cutting, Rule::OnQuorum),
        (Bug::Garble, Rule::OneValuePerStamp),
        (Bug::Forgetful, Rule::HardState),
        (Bug::Pretender, Rule::OneLeader),
        (Bug::Panicking, Rule::NoPanic),
    ];
    for (bug, rule) in planted {
        let found = ten_walks(bug, 2, 1_000).expect_err("the bug is not found");
        assert_eq!(found.violation.rule, rule, "{bug:?}: {found}");
    }
}

/// The toy's leader sends before its disk has it, and has lost it after a crash: another value comes
/// to be chosen, or one that the follower alone holds under its number.
#[test]
fn write_undone_by_a_crash_is_found() {
    let found = ten_walks(Bug::None, 2, 6_000).expect_err("some crash undoes what was sent");
    let rules = [Rule::Agreement, Rule::OnQuorum, Rule::OneValuePerStamp];
    assert!(rules.contains(&found.violation.rule), "{found}");
}

/// The toy has one leader and never another one: of three nodes two are a quorum, and do nothing.
#[test]
fn cluster_without_progress_after_removal_of_its_leader_is_found() {
    let found = ten_walks(Bug::None, 3, 0).expect_err("some walk removes the leader");
    assert_eq!(found.violation.rule, Rule::Progress, "{found}");
}
