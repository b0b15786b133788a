//! The conformance suite of log stores.

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
/// If the store breaks a rule.
pub fn log_store<F>(mut fixture: impl FnMut() -> F)
where
    F: Fixture<Store: LogStore>,
{
    each_open_has_a_boot_id_of_its_own(fixture());
    empty_batch_changes_nothing(fixture());
    put_replaces_the_slots_it_covers(fixture());
    truncated_slots_do_not_return(fixture());
    batch_is_applied_in_order(fixture());
    hard_states_and_bases_are_replaced(fixture());
    compaction_keeps_slots_after_the_base(fixture());
    snapshot_replaces_the_log(fixture());
    gaps_stay_gaps(fixture());
    groups_do_not_mix(fixture());
    large_values_are_stored_unchanged(fixture());
    for seed in 0..SCRIPTS {
        check_log(fixture(), &log_steps(&random_bytes(seed)));
    }
}

/// Runs a script and compares the store with a reference after every restart and at the end.
///
/// # Panics
/// If the store breaks a rule.
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

/// Commits the batches one by one, and compares before and after a crash and a restart.
fn expect<F>(mut fixture: F, rule: &str, batches: &[&[(GroupId, LogOp)]])
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

fn hard(state: &'static str) -> LogOp {
    LogOp::HardState(state.into())
}

fn cut(from: u64) -> LogOp {
    LogOp::TruncateFrom(Slot(from))
}

fn compact(through: u64, base: &'static str) -> LogOp {
    LogOp::Compact { through: Slot(through), base: base.into() }
}

fn each_open_has_a_boot_id_of_its_own<F: Fixture<Store: LogStore>>(mut fixture: F) {
    let first = fixture.open();
    let born = first.boot_id();
    assert!(born.boot > 0, "the first boot is 1 or more");
    drop(first);
    let second = fixture.open();
    let next = second.boot_id();
    assert_eq!(next.incarnation, born.incarnation, "an incarnation lasts as long as the store");
    assert!(next.boot > born.boot, "every open is a boot of its own: {born:?}, then {next:?}");
    // Nothing was committed since this open, but its boot count is used.
    fixture.crash(second);
    let third = fixture.open().boot_id();
    assert!(third.boot > next.boot, "a boot survives a crash: {next:?}, then {third:?}");
}

fn empty_batch_changes_nothing<F: Fixture<Store: LogStore>>(fixture: F) {
    expect(fixture, "an empty batch changes nothing", &[&[], &[(A, hard("x"))], &[]]);
}

fn put_replaces_the_slots_it_covers<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "a put replaces the slots it covers, and no other";
    expect(fixture, rule, &[&[(A, put(1, 1, 6))], &[(A, put(3, 2, 2))], &[(A, put(4, 3, 9))]]);
}

fn truncated_slots_do_not_return<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "truncated slots do not return after a shorter append";
    let ops: &[&[_]] =
        &[&[(A, put(1, 1, 9))], &[(A, cut(4)), (A, put(4, 2, 1))], &[(A, cut(5))], &[(A, cut(1))]];
    expect(fixture, rule, ops);
}

fn batch_is_applied_in_order<F: Fixture<Store: LogStore>>(mut fixture: F) {
    let ops = vec![
        (A, put(1, 1, 4)),
        (A, hard("old")),
        (A, cut(3)),
        (A, put(3, 2, 1)),
        (B, cut(1)),
        (A, hard("new")),
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
    let rule = "the latest hard state and base count";
    let ops: &[&[_]] = &[
        &[(A, hard("first")), (A, compact(3, "three"))],
        &[(A, hard(""))],
        &[(A, compact(3, "three again"))],
        &[(A, compact(5, ""))],
    ];
    expect(fixture, rule, ops);
}

fn compaction_keeps_slots_after_the_base<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "slots after the base stay";
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 4))],
        &[(A, put(5, 1, 6))],
        &[(A, cut(8)), (A, put(8, 2, 3))],
        &[(A, compact(4, "4"))],
        &[(A, compact(8, "8"))],
        &[(A, put(11, 3, 2)), (A, compact(9, "9")), (A, put(13, 3, 1))],
        &[(A, compact(13, "13"))],
        &[(A, put(14, 4, 1))],
    ];
    expect(fixture, rule, ops);
}

fn snapshot_replaces_the_log<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "a base beyond the log, with the rest truncated, leaves no slot after it";
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 4)), (A, put(90, 1, 30))],
        &[(A, compact(100, "far")), (A, cut(101))],
        &[(A, put(101, 2, 2))],
    ];
    expect(fixture, rule, ops);
}

fn gaps_stay_gaps<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "slots that were never written do not exist";
    expect(fixture, rule, &[&[(A, put(9, 1, 2))], &[(A, put(3, 1, 1)), (A, put(6, 2, 0))]]);
}

fn groups_do_not_mix<F: Fixture<Store: LogStore>>(fixture: F) {
    let rule = "groups do not mix";
    let (low, high) = (GroupId(0), GroupId(u64::MAX - 1));
    let ops: &[&[_]] = &[
        &[(A, put(1, 1, 3)), (B, put(1, 2, 5)), (high, put(1, 3, 2)), (low, put(1, 4, 1))],
        &[(A, hard("a")), (high, hard("high"))],
        &[(B, cut(2)), (A, compact(2, "a"))],
        &[(high, cut(1)), (low, compact(1, "low"))],
    ];
    expect(fixture, rule, ops);
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
    let ops: &[&[_]] = &[&[(A, LogOp::Put(run(0, 64)))], &[(A, LogOp::Put(run(7, 33)))]];
    expect(fixture, "large values are stored unchanged", ops);
}
