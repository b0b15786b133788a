//! A random walk finds the bugs planted into the toy, and passes only if every node makes progress.

use crate::toy::{Bug, Config, Toy};
use synod_explore::{Rule, WalkFailure, WalkStats, random_walks};
use synod_types::{Membership, NodeId};

fn ten_walks(bug: Bug, voters: u64, steps: u32) -> Result<WalkStats, WalkFailure> {
    let members = |_| Membership::new((1..=voters).map(NodeId), []).expect("a group");
    let config = |_, id, members: &Membership| Config { id, members: members.clone(), bug };
    random_walks::<Toy>(0..10, steps, members, config)
}

#[test]
fn correct_protocol_passes() {
    let stats = ten_walks(Bug::None, 1, 1_000).expect("a single node is correct");
    assert!(stats.chosen > 50 && stats.crashes > 10, "{stats:?}");
    assert_eq!((stats.compactions, stats.installs), (0, 0), "the toy has no snapshots");
}

#[test]
fn planted_bug_is_found() {
    let planted = [
        (Bug::EarlyAck, Rule::BackedMessages),
        (Bug::UnwrittenAck, Rule::BackedMessages),
        (Bug::MinorityCommit, Rule::ChosenOnQuorum),
        (Bug::TruncatesChosen, Rule::ChosenOnQuorum),
        (Bug::WrongValue, Rule::OneValuePerStamp),
        (Bug::LosesStarts, Rule::HardStateMonotonic),
        (Bug::EveryNodeLeads, Rule::OneLeader),
        (Bug::Panicking, Rule::NoPanic),
    ];
    for (bug, rule) in planted {
        let found = ten_walks(bug, 2, 1_000).expect_err("the bug is not found");
        assert_eq!(found.violation.rule, rule, "{bug:?}: {found}");
    }
}

/// The toy leader sends a run before its own write is durable. If a crash loses the write, the
/// restarted leader reuses the slots for other values.
#[test]
fn write_undone_by_a_crash_is_found() {
    let found =
        ten_walks(Bug::None, 2, 24_000).expect_err("some crash loses a write that was sent");
    let rules = [Rule::Agreement, Rule::ChosenOnQuorum, Rule::OneValuePerStamp];
    assert!(rules.contains(&found.violation.rule), "{found}");
}

/// The toy never changes its leader, so without it a quorum of two nodes makes no progress.
#[test]
fn cluster_without_progress_after_removal_of_its_leader_is_found() {
    let found = ten_walks(Bug::None, 3, 0).expect_err("some walk removes the leader");
    assert_eq!(found.violation.rule, Rule::Progress, "{found}");
}
