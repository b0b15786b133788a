//! A random walk finds what is planted into the toy, and ends in peace only if everyone gets on.

use crate::toy::{Bug, Config, Toy};
use synod_sim::walk::{Walked, walks};
use synod_types::{Membership, NodeId};

fn ten_walks(bug: Bug, voters: u64, steps: u32) -> Result<Walked, String> {
    let members = |_| Membership::new((1..=voters).map(NodeId), []).expect("a group");
    let config = |_, id, members: &Membership| Config { id, members: members.clone(), bug };
    walks::<Toy>(0..10, steps, members, config)
}

#[test]
fn what_is_sound_passes() {
    let walked = ten_walks(Bug::None, 1, 1_000).expect("nothing is wrong with one node");
    assert!(walked.chosen > 50 && walked.crashes > 10, "{walked:?}");
    assert_eq!((walked.trims, walked.installs), (0, 0), "it has no snapshots");
}

#[test]
fn what_is_planted_is_found() {
    let planted = [
        (Bug::HastyAck, "tells n1 Ack"),
        (Bug::UnwrittenAck, "tells n1 Ack"),
        (Bug::LonelyCommit, "as chosen, but only the disks of"),
        (Bug::Cutting, "no longer holds slot"),
        (Bug::Garble, "has two values"),
        (Bug::Forgetful, "is written over"),
        (Bug::Pretender, "lead under"),
        (Bug::Panicking, "a core panicked"),
    ];
    for (bug, words) in planted {
        let found = ten_walks(bug, 2, 1_000).expect_err("the bug goes unnoticed");
        assert!(found.starts_with("seed ") && found.contains(words), "{bug:?}: {found}");
    }
}

/// The toy's leader sends before its disk has it, and after a crash knows nothing of that: another
/// value comes to be chosen, or one that the follower alone holds under its number.
#[test]
fn what_a_crash_takes_back_is_found() {
    let found = ten_walks(Bug::None, 2, 6_000).expect_err("some crash undoes what was sent");
    let kinds = ["are chosen at", "as chosen, but only the disks of"];
    assert!(kinds.iter().any(|words| found.contains(words)), "{found}");
}

/// The toy has one leader and never another one: of three nodes two are enough, and do nothing.
#[test]
fn who_cannot_do_without_a_dead_leader_is_found() {
    let found = ten_walks(Bug::None, 3, 0).expect_err("some walk buries the leader");
    assert!(found.contains("nothing new is applied everywhere"), "{found}");
}
