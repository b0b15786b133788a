//! Conformance suite of log stores.

use super::model::{LogModel, flatten, load};
use super::{Fixture, LogStep, SCRIPTS, log_steps, random_bytes};
use crate::{Batch, LogOp, LogStore, StoredRun};
use bytes::Bytes;
use synod_types::{GroupId, Slot, Value, Values};

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(256);

/// Runs the conformance suite of log stores, each case on a new fixture.
///
/// # Panics
/// If the store violates a rule.
pub fn log_store<F>(mut fixture: impl FnMut() -> F)
where
    F: Fixture<Store: LogStore>,
{
    each_open_has_its_own_boot_id(fixture());
    empty_batch_changes_nothing(fixture());
    put_replaces_the_slots_it_covers(fixture());
    truncated_slots_do_not_return(fixture());
    batch_is_applied_in_order(fixture());
    hard_states_and_bases_are_replaced(fixture());
    compaction_keeps_slots_after_the_base(fixture());
    snapshot_replaces_the_log(fixture());
    unwritten_slots_do_not_exist(fixture());
    groups_are_independent(fixture());
    large_values_are_stored_unchanged(fixture());
    for seed in 0..SCRIPTS {
        check_log(fixture(), &log_steps(&random_bytes(seed)));
    }
}

/// Runs a script and compares the store with a reference model after every restart and at the end.
///
/// # Panics
/// If the store violates a rule.
pub fn check_log<F>(mut fixture: F, steps: &[LogStep])
where
    F: Fixture<Store: LogStore>,
{
    let mut model = LogModel::default();
    let mut store = fixture.open();
    for (at, step) in steps.iter().enumerate() {
        match step {
            LogStep::Commit(batch) => {
                commit(&mut store, batch);
                model.apply(batch);
                // The comparison waits for the next open: the content must be durable, not only in memory.
                continue;
            }
            LogStep::Restart => drop(store),
            LogStep::Crash => fixture.crash(store),
        }
        store = fixture.open();
        model.check(&mut store, &format!("step {at}, {step:?}"));
    }
    model.check(&mut store, "before the last restart");
    drop(store);
    model.check(&mut fixture.open(), "after the last restart");
}

/// Commits the batches one by one and compares the store with the model after each of them, after a crash
/// and after a restart.
fn check_batches<F>(mut fixture: F, rule: &str, batches: &[&[(GroupId, LogOp)]])
where
    F: Fixture<Store: LogStore>,
{
    let mut model = LogModel::default();
    let mut store = fixture.open();
    for ops in batches {
        let batch = Batch { ops: ops.to_vec() };
        commit(&mut store, &batch);
        model.apply(&batch);
        model.check(&mut store, rule);
    }
    // A commit is durable when it returns, so a crash may lose none of the batches.
    fixture.crash(store);
    let mut store = fixture.open();
    model.check(&mut store, &format!("{rule}, after a crash"));
    drop(store);
    model.check(&mut fixture.open(), &format!("{rule}, after a restart"));
}

fn commit(store: &mut impl LogStore, batch: &Batch) {
    store.commit(batch).unwrap_or_else(|error| panic!("commit of {batch:?}: {error}"));
}

fn put(first: u64, stamp: u8, count: usize) -> LogOp {
    let command = |at| Value::Command(format!("{stamp}/{}", first + at as u64).into());
    let values: Values = (0..count).map(command).collect();
    LogOp::Put(StoredRun { first: Slot(first), stamp: vec![stamp].into(), values })
}

fn hard_state(state: &'static str) -> LogOp {
    LogOp::HardState(state.into())
}

fn truncate(from: u64) -> LogOp {
    LogOp::TruncateFrom(Slot(from))
}

fn compact(through: u64, base: &'static str) -> LogOp {
    LogOp::Compact { through: Slot(through), base: base.into() }
}

fn each_open_has_its_own_boot_id<F: Fixture<Store: LogStore>>(mut fixture: F) {
    let store = fixture.open();
    let first = store.boot_id();
    assert!(first.boot > 0, "the first boot count is 1 or more: {first:?}");
    drop(store);
    let store = fixture.open();
    let second = store.boot_id();
    assert_eq!(second.incarnation, first.incarnation, "a store keeps its incarnation");
    assert!(second.boot > first.boot, "an open increments the boot count: {first:?}, {second:?}");
    // Peers may have seen this boot count, although the store committed nothing with it.
    fixture.crash(store);
    let third = fixture.open().boot_id();
    assert!(third.boot > second.boot, "a crash keeps the boot count: {second:?}, {third:?}");
}

fn empty_batch_changes_nothing<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "an empty batch changes nothing";
    check_batches(fixture, rule, &[&[], &[(A, hard_state("x"))], &[]]);
}

fn put_replaces_the_slots_it_covers<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "a put replaces the slots that it covers, and no others";
    let ops: &[&[_]] = &[&[(A, put(1, 1, 6))], &[(A, put(3, 2, 2))], &[(A, put(4, 3, 9))]];
    check_batches(fixture, rule, ops);
}

fn truncated_slots_do_not_return<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "truncated slots do not reappear after a shorter append";
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 9))],
        &[(A, truncate(4)), (A, put(4, 2, 1))],
        &[(A, truncate(5))],
        &[(A, truncate(1))],
    ];
    check_batches(fixture, rule, ops);
}

fn batch_is_applied_in_order<F: Fixture<Store: LogStore>>(mut fixture: F) {
    let ops = vec![
        (A, put(1, 1, 4)),
        (A, hard_state("old")),
        (A, truncate(3)),
        (A, put(3, 2, 1)),
        (B, truncate(1)),
        (A, hard_state("new")),
    ];
    let mut store = fixture.open();
    commit(&mut store, &Batch { ops });
    fixture.crash(store);
    let saved = load(&mut fixture.open(), A, "a batch is applied in order");
    let slots = flatten(&saved);
    let stamps: Vec<_> = slots.iter().map(|(slot, (stamp, _))| (slot.0, stamp[0])).collect();
    assert_eq!(stamps, [(1, 1), (2, 1), (3, 2)], "a batch is applied in order");
    assert_eq!(saved.hard_state, Some(Bytes::from("new")), "a batch is applied in order");
}

fn hard_states_and_bases_are_replaced<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "the latest hard state and the latest base win";
    let ops: &[&[_]] = &[
        &[(A, hard_state("first")), (A, compact(3, "three"))],
        &[(A, hard_state(""))],
        &[(A, compact(3, "three again"))],
        &[(A, compact(5, ""))],
    ];
    check_batches(fixture, rule, ops);
}

fn compaction_keeps_slots_after_the_base<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "compaction keeps the slots after the base";
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 4))],
        &[(A, put(5, 1, 6))],
        &[(A, truncate(8)), (A, put(8, 2, 3))],
        &[(A, compact(4, "4"))],
        &[(A, compact(8, "8"))],
        &[(A, put(11, 3, 2)), (A, compact(9, "9")), (A, put(13, 3, 1))],
        &[(A, compact(13, "13"))],
        &[(A, put(14, 4, 1))],
    ];
    check_batches(fixture, rule, ops);
}

fn snapshot_replaces_the_log<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "a base with a truncation after it replaces the whole log";
    // The install of a snapshot: the base is in the middle of a run, whose rest is truncated.
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 4)), (A, put(90, 1, 30))],
        &[(A, compact(100, "far")), (A, truncate(101))],
        &[(A, put(101, 2, 2))],
    ];
    check_batches(fixture, rule, ops);
}

fn unwritten_slots_do_not_exist<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "slots that were never written do not exist";
    // A run without values writes no slot.
    let ops: &[&[_]] = &[&[(A, put(9, 1, 2))], &[(A, put(3, 1, 1)), (A, put(6, 2, 0))]];
    check_batches(fixture, rule, ops);
}

fn groups_are_independent<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "an operation changes its own group only";
    // 0, 1, 256 and the largest: a store that shortens the number in its keys mixes two of them.
    let (low, high) = (GroupId(0), GroupId(u64::MAX - 1));
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 3)), (B, put(1, 2, 5)), (high, put(1, 3, 2)), (low, put(1, 4, 1))],
        &[(A, hard_state("a")), (high, hard_state("high"))],
        &[(B, truncate(2)), (A, compact(2, "a"))],
        &[(high, truncate(1)), (low, compact(1, "low"))],
    ];
    check_batches(fixture, rule, ops);
}

fn large_values_are_stored_unchanged<F: Fixture<Store: LogStore>>(fixture: F) {
    let values: Values = (0..64_u32)
        .map(|at| Value::Command(at.to_le_bytes().repeat(2_000 + at as usize).into()))
        .collect();
    let run = |from, to| StoredRun {
        first: Slot(1 + from as u64),
        stamp: vec![9; 16].into(),
        values: values.slice(from, to),
    };
    // The second run is a slice of a larger buffer, as protocols often write it.
    let ops: &[&[_]] = &[&[(A, LogOp::Put(run(0, 64)))], &[(A, LogOp::Put(run(7, 33)))]];
    check_batches(fixture, "large values are stored unchanged", ops);
}
