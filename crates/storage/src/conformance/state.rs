//! Conformance suite of state stores.

use super::{Fixture, SCRIPTS, StateStep, random_bytes, state_steps};
use crate::{StateStore, StoreView};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use synod_types::{Change, Changes};

type Map = BTreeMap<Bytes, Bytes>;

/// Runs the conformance suite of state stores, each case on a new fixture.
///
/// # Panics
/// If the store violates a rule.
pub fn state_store<F>(mut fixture: impl FnMut() -> F)
where
    F: Fixture<Store: StateStore>,
{
    keys_are_ordered_bytes(fixture());
    batch_is_applied_in_order(fixture());
    view_does_not_change(fixture());
    view_is_consistent_on_another_thread_during_writes(fixture());
    view_outlives_its_store(fixture());
    synced_batches_survive_a_crash(fixture());
    crash_keeps_a_prefix_of_whole_batches(fixture());
    for seed in 0..SCRIPTS {
        check_state(fixture(), &state_steps(&random_bytes(seed)));
    }
}

/// Runs a script and compares the store with a reference model after every step.
///
/// # Panics
/// If the store violates a rule.
pub fn check_state<F>(mut fixture: F, steps: &[StateStep])
where
    F: Fixture<Store: StateStore>,
{
    let mut store = fixture.open();
    // The states that a crash may leave: the state at the last sync, and the state after each batch since
    // then. The last element is the current state.
    let mut history = vec![Map::new()];
    let mut earlier = None;
    for (at, step) in steps.iter().enumerate() {
        let when = format!("step {at}, {step:?}");
        if matches!(step, StateStep::Restart | StateStep::Crash) {
            // A view keeps the store open, so it is dropped before the next open.
            earlier = None;
        }
        match step {
            StateStep::Write(changes) => {
                write(&mut store, changes);
                let mut next = history[history.len() - 1].clone();
                apply(&mut next, changes);
                history.push(next);
            }
            StateStep::Sync => {
                store.sync().unwrap_or_else(|error| panic!("{when}: {error}"));
                // A crash may no longer leave an earlier state.
                history.drain(..history.len() - 1);
            }
            StateStep::Restart => {
                // A restart without a sync may lose batches, too.
                drop(store);
                store = fixture.open();
                history = vec![recovered(&store, &history, &when)];
            }
            StateStep::Crash => {
                fixture.crash(store);
                store = fixture.open();
                history = vec![recovered(&store, &history, &when)];
            }
        }
        let current = history[history.len() - 1].clone();
        check(&*store.reader(), &current, &when);
        let view = view(&store, &when);
        check(&*view, &current, &format!("{when}, in a view"));
        if let Some((view, expected)) = earlier.replace((view, current)) {
            check(&*view, &expected, &format!("{when}, in the view of the previous step"));
        }
    }
}

/// Returns the state after a crash, and checks that it is one of the permitted states.
fn recovered(store: &impl StateStore, history: &[Map], when: &str) -> Map {
    let found = entries(&*store.reader(), b"", None, when).into_iter().collect();
    assert!(
        history.contains(&found),
        "{when}: {found:?} is not the state at the last sync or after a later batch: {history:?}"
    );
    found
}

fn apply(map: &mut Map, changes: &Changes) {
    for change in changes.as_slice() {
        match change {
            Change::Put(key, value) => map.insert(key.clone(), value.clone()),
            Change::Delete(key) => map.remove(key),
        };
    }
}

fn write(store: &mut impl StateStore, changes: &Changes) {
    store.write(changes).unwrap_or_else(|error| panic!("write of {changes:?}: {error}"));
}

fn view(store: &impl StateStore, when: &str) -> Arc<dyn StoreView> {
    store.reader().view().unwrap_or_else(|error| panic!("{when}: view: {error}"))
}

fn check<V: StoreView + ?Sized>(view: &V, expected: &Map, when: &str) {
    // Keys, bounds between keys, and reversed pairs of bounds, which are empty ranges.
    let bounds: [&[u8]; 8] = [b"", &[0], &[0, 0], b"a", b"aa", b"b", &[0xFF], &[0xFF, 0xFF, 0xFF]];
    for key in bounds.into_iter().chain(expected.keys().map(AsRef::as_ref)) {
        let found = view.get(key).unwrap_or_else(|error| panic!("{when}: get: {error}"));
        assert_eq!(found.as_ref(), expected.get(key), "{when}: the value of {key:?}");
    }
    for from in bounds {
        for to in bounds.into_iter().map(Some).chain([None]) {
            let wanted: Vec<_> = expected
                .iter()
                .filter(|(key, _)| from <= key.as_ref() && to.is_none_or(|to| key.as_ref() < to))
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            assert_eq!(entries(view, from, to, when), wanted, "{when}: {from:?} to {to:?}");
        }
    }
}

fn entries<V>(view: &V, from: &[u8], to: Option<&[u8]>, when: &str) -> Vec<(Bytes, Bytes)>
where
    V: StoreView + ?Sized,
{
    view.range(from, to)
        .map(|entry| entry.unwrap_or_else(|error| panic!("{when}: range: {error}")))
        .collect()
}

fn puts(pairs: &[(&'static str, &'static str)]) -> Changes {
    let mut changes = Changes::new();
    pairs.iter().for_each(|(key, value)| changes.put(*key, *value));
    changes
}

fn keys_are_ordered_bytes<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    let mut changes = Changes::new();
    let keys: [&[u8]; 9] =
        [&[0xFF, 0xFF], b"b", b"a", &[0], b"", &[0xFF], b"a\0", b"ab", &[0x7F, 0x80]];
    for key in keys {
        changes.put(key.to_vec(), key.to_vec());
    }
    write(&mut store, &changes);
    let mut expected = Map::new();
    apply(&mut expected, &changes);
    check(&*store.reader(), &expected, "keys are ordered as bytes");
}

fn batch_is_applied_in_order<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    let mut changes = puts(&[("a", "1"), ("b", "1"), ("a", "2")]);
    changes.delete("b");
    changes.delete("c");
    changes.append(&mut puts(&[("c", "3")]));
    write(&mut store, &changes);
    let expected = Map::from([("a".into(), "2".into()), ("c".into(), "3".into())]);
    check(&*store.reader(), &expected, "the last change of a key in a batch wins");
}

fn view_does_not_change<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    write(&mut store, &puts(&[("a", "1"), ("b", "1")]));
    let before = Map::from([("a".into(), "1".into()), ("b".into(), "1".into())]);
    let (reader, view) = (store.reader(), view(&store, "after a write"));
    // A second range is read while the first is half read: ranges of a view are independent.
    let mut first = view.range(b"", None);
    assert!(first.next().is_some(), "a range over two keys is empty");
    check(&*view, &before, "a view");
    assert_eq!(first.next().transpose().expect("an entry"), Some(("b".into(), "1".into())));
    write(&mut store, &puts(&[("a", "2"), ("c", "1")]));
    check(&*view, &before, "a view after a write");
    store.sync().expect("a sync");
    check(&*view, &before, "a view after a sync");
    let mut after = before;
    apply(&mut after, &puts(&[("a", "2"), ("c", "1")]));
    check(&*reader, &after, "a reader returns later writes");
    check(&*reader.view().expect("a view"), &after, "a later view");
}

fn view_is_consistent_on_another_thread_during_writes<F>(mut fixture: F)
where
    F: Fixture<Store: StateStore>,
{
    let mut store = fixture.open();
    write(&mut store, &puts(&[("a", "0"), ("b", "0")]));
    let before = Map::from([("a".into(), "0".into()), ("b".into(), "0".into())]);
    let (reader, view) = (store.reader(), view(&store, "after a write"));
    let written = AtomicBool::new(false);
    thread::scope(|scope| {
        let read = || {
            while !written.load(Ordering::Acquire) {
                check(&*view, &before, "a view during writes");
                let latest = reader.view().expect("a view");
                let values = [b"a", b"b"].map(|key| latest.get(key).expect("a read"));
                assert_eq!(values[0], values[1], "a view contains a part of a batch");
            }
        };
        let reading = scope.spawn(read);
        for round in ["1", "2", "3", "4", "5", "6", "7", "8"] {
            write(&mut store, &puts(&[("a", round), ("b", round), ("c", round)]));
            store.sync().expect("a sync");
        }
        written.store(true, Ordering::Release);
        reading.join().expect("the reading thread panicked");
    });
}

fn view_outlives_its_store<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    write(&mut store, &puts(&[("a", "1"), ("b", "1")]));
    store.sync().expect("a sync");
    let expected = Map::from([("a".into(), "1".into()), ("b".into(), "1".into())]);
    let view = view(&store, "after a sync");
    // A node may drop its store while a read of a client is in progress.
    drop(store);
    check(&*view, &expected, "a view of a store that was dropped");
    drop(view);
    check(&*fixture.open().reader(), &expected, "a store opened after its last view was dropped");
}

fn synced_batches_survive_a_crash<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    store.sync().expect("a sync without writes");
    write(&mut store, &puts(&[("a", "1"), ("b", "1")]));
    let mut delete = Changes::new();
    delete.delete("a");
    write(&mut store, &delete);
    store.sync().expect("a sync");
    let expected = Map::from([("b".into(), "1".into())]);
    fixture.crash(store);
    for rule in ["synced batches survive a crash", "synced batches survive a restart"] {
        check(&*fixture.open().reader(), &expected, rule);
    }
}

fn crash_keeps_a_prefix_of_whole_batches<F: Fixture<Store: StateStore>>(mut fixture: F) {
    let mut store = fixture.open();
    let mut history = vec![Map::new()];
    for round in ["1", "2", "3", "4", "5"] {
        let changes = puts(&[("a", round), ("b", round), ("c", round)]);
        write(&mut store, &changes);
        let mut next = history[history.len() - 1].clone();
        apply(&mut next, &changes);
        history.push(next);
    }
    fixture.crash(store);
    let kept = recovered(&fixture.open(), &history, "a crash keeps a prefix of whole batches");
    // The next open must find the same state, because the node has acted on this one.
    check(&*fixture.open().reader(), &kept, "the state found by an open is durable");
}
