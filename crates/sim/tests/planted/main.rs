//! Tests that the checkers find bugs planted in a toy protocol.

mod random_walk;
mod shrink;
mod toy;

use std::time::Duration;
use synod_sim::{Cluster, Plan, RunKind, RunOptions, Violation, ViolationKind, run_seed};
use synod_types::NodeId;
use toy::{Bug, Config, Toy};

fn cluster(bug: Bug) -> Cluster<Toy> {
    let mut plan = Plan::healthy(3);
    // Disks are slow, so that messages that do not wait for them are sent before the write is
    // durable.
    plan.disk.sync = Duration::from_millis(5)..Duration::from_millis(9);
    Cluster::new(plan, 11, move |id, members| Config { id, members: members.clone(), bug })
}

/// Runs some writes, a crash, a restart, and more writes.
fn run_writes(mut cluster: Cluster<Toy>) -> Result<(), Violation> {
    let second = Duration::from_secs(1);
    cluster.run_for(second)?;
    let mut last = 0;
    for round in 0..4_u64 {
        let node = NodeId(1 + round % 3);
        last = cluster.put(node, b'a', &[b'0' + round as u8])?;
        cluster.run_for(second)?;
        cluster.crash(node)?;
        cluster.restart(node)?;
        cluster.run_for(second)?;
    }
    assert!(cluster.is_done(last));
    assert!(cluster.has_converged());
    assert_eq!(cluster.value(NodeId(2), b'a').as_deref(), Some(&b"3"[..]));
    cluster.finish()
}

fn finds(bug: Bug, kind: ViolationKind) {
    let found = run_writes(cluster(bug)).expect_err("the bug is not found");
    assert_eq!(found.kind, kind, "{found}");
    assert!(found.at.0 > 0 || bug == Bug::EveryNodeLeads, "{found}");
}

#[test]
fn correct_protocol_passes() {
    run_writes(cluster(Bug::None)).unwrap();
}

#[test]
fn message_sent_before_its_write_is_a_false_claim() {
    finds(Bug::EarlyAck, ViolationKind::FalseClaim);
}

#[test]
fn acknowledgement_without_a_write_is_a_false_claim() {
    finds(Bug::UnwrittenAck, ViolationKind::FalseClaim);
}

#[test]
fn commit_by_a_minority_is_found() {
    finds(Bug::MinorityCommit, ViolationKind::NotOnQuorum);
}

#[test]
fn truncation_of_chosen_slots_is_found() {
    finds(Bug::TruncatesChosen, ViolationKind::NotOnQuorum);
}

#[test]
fn two_values_of_one_slot_under_one_stamp_are_a_mismatch() {
    finds(Bug::WrongValue, ViolationKind::LogMismatch);
}

#[test]
fn hard_state_regression_is_found() {
    finds(Bug::LosesStarts, ViolationKind::HardStateRegressed);
}

#[test]
fn two_leaders_of_one_term_are_found() {
    finds(Bug::EveryNodeLeads, ViolationKind::TwoLeaders);
}

/// A failed assertion ends the run, and the report names the seed.
#[test]
fn panic_is_reported_with_its_seed() {
    let config = |id, members: &synod_types::Membership| Config {
        id,
        members: members.clone(),
        bug: Bug::Panicking,
    };
    let second = Duration::from_secs(1);
    let options = RunOptions {
        fault_time: second,
        recovery_time: second,
        liveness_timeout: second,
        kind: RunKind::Faults,
        ..RunOptions::default()
    };
    let report = run_seed::<Toy>(config, 3, &options);
    let found = report.violation.expect("the assertion fails at the first write");
    assert_eq!((report.seed, report.counted, found.kind), (3, false, ViolationKind::Panic));
    assert!(found.explanation.contains("planted"), "{found}");
}
