//! Contract of state machines: load, events, maintenance, and errors that stop the replica.

use crate::support::{TEST_TIMEOUT, Words, alone};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use synod_runtime::storage::{MemoryDisk, StoreView};
use synod_runtime::types::Incarnation;
use synod_runtime::{
    Bytes, Changes, Fatal, Output, Replica, ReplicaError, Slot, StateError, StateMachine,
    StateReader, StateView, Typed, Untyped, encode,
};

/// State machine whose commands each store obsolete keys for maintenance to remove. The command `fail`
/// is an error.
#[derive(Clone, Default)]
struct ObsoleteKeys {
    keys: Vec<Bytes>,
}

/// Number of keys that each command stores.
const KEYS: usize = 1_000;

impl StateMachine for ObsoleteKeys {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        let keys = state.range(&[], None).map(|entry| Ok(entry?.0));
        self.keys = keys.collect::<Result<_, StateError>>()?;
        Ok(())
    }

    fn apply(
        &mut self,
        slot: Slot,
        command: &[u8],
        _: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        if command == b"fail" {
            return Err(StateError::Malformed("failed on demand".into()));
        }
        for number in 0..KEYS {
            let key = Bytes::from(format!("{slot} {number}"));
            output.changes.put(key.clone(), "obsolete");
            self.keys.push(key);
        }
        Ok(Bytes::copy_from_slice(command))
    }

    fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(self.clone()))
    }

    fn maintain(
        &mut self,
        _: &dyn StateView,
        budget: usize,
        changes: &mut Changes,
    ) -> Result<bool, StateError> {
        let kept = self.keys.len().saturating_sub(budget);
        self.keys.drain(kept..).for_each(|key| changes.delete(key));
        Ok(kept > 0)
    }
}

impl StateReader for ObsoleteKeys {
    fn query(&self, _: &[u8]) -> Result<Bytes, StateError> {
        Ok(self.keys.len().to_string().into())
    }
}

async fn start(disk: &MemoryDisk) -> Replica<Untyped> {
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    alone().stores(log, state).start_untyped(ObsoleteKeys::default()).await.unwrap()
}

#[test]
fn load_of_a_typed_machine_replaces_the_whole_state() {
    let stored = |word: &str| BTreeMap::from([(Bytes::from("key"), encode(&word))]);
    let mut machine = Typed(Words::default());
    for word in ["first", "second"] {
        machine.load(&stored(word)).unwrap();
        assert_eq!(machine.0, Words(vec![word.to_owned()]), "the earlier state is gone");
    }
}

#[tokio::test]
async fn observer_receives_events_in_order_before_the_reply() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observed = Arc::clone(&seen);
    let builder = alone().in_memory().on_events(move |slot, events| {
        let words = events.iter().map(|event| event.downcast_ref::<String>().cloned());
        observed.lock().unwrap().extend(words.map(|word| (slot, word)));
    });
    let replica = builder.start(Words::default()).await.unwrap();
    for count in 1..=20 {
        let word = count.to_string();
        replica.execute(word.clone()).await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!((seen.len(), &seen[count - 1].1), (count, &Some(word)));
        assert!(seen.is_sorted_by(|one, next| one.0 < next.0), "{seen:?}");
    }
    replica.shutdown().await.unwrap();
}

#[tokio::test]
async fn idle_replica_continues_maintenance_until_no_keys_are_left() {
    let disk = MemoryDisk::new(Incarnation(1));
    let replica = start(&disk).await;
    for _ in 0..3 {
        replica.execute_bytes(Bytes::from_static(b"more")).await.unwrap();
    }
    let emptied = async {
        while replica.reader().await.unwrap().query(b"").unwrap() != "0" {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, emptied).await.expect("obsolete keys are left");
    replica.shutdown().await.unwrap();
    let state = disk.open_state();
    assert_eq!(state.range(&[1], Some(&[2])).count(), 0, "keys are left in the store");
}

#[tokio::test]
async fn error_of_the_state_machine_stops_the_replica_and_is_reported() {
    let disk = MemoryDisk::new(Incarnation(1));
    let replica = start(&disk).await;
    let error = replica.execute_bytes(Bytes::from_static(b"fail")).await.unwrap_err();
    let fatal = tokio::time::timeout(TEST_TIMEOUT, replica.failed()).await.unwrap();
    assert!(matches!(fatal, Fatal::Apply(_)));
    let expected = "the log cannot be applied, so the node stops: \
                    the stored state cannot be used: failed on demand";
    assert_eq!(fatal.to_string(), expected);
    assert_eq!(error, ReplicaError::OutcomeUnknown { cause: Some(fatal.clone()) });
    assert_eq!(replica.shutdown().await, Err(fatal));
}

#[tokio::test]
async fn unreadable_store_stops_the_replica_when_a_reader_is_created() {
    let disk = MemoryDisk::new(Incarnation(1));
    let (log, state) = (Box::new(disk.open_log()), Box::new(disk.open_state()));
    let replica = alone().stores(log, state).start_untyped(StoredCommand).await.unwrap();
    replica.execute_bytes(Bytes::from_static(b"kept")).await.unwrap();
    assert_eq!(replica.reader().await.unwrap().query(b"").unwrap(), "kept");
    // With all changes saved, the reader is the first to use the invalid handle, not the saver.
    let mut status = replica.watch();
    let saved = status.wait_for(|status| status.saved == status.applied);
    drop(tokio::time::timeout(TEST_TIMEOUT, saved).await.unwrap().unwrap());
    // A second opening invalidates the replica's handle of the store.
    drop(disk.open_state());
    let error = replica.reader().await.err().unwrap();
    let ReplicaError::Stopped { cause: Some(Fatal::Apply(_)) } = error else { panic!("{error}") };
    assert!(replica.shutdown().await.is_err());
}

/// State machine that keeps the last command in its store.
struct StoredCommand;

impl StateMachine for StoredCommand {
    fn load(&mut self, _: &dyn StateView) -> Result<(), StateError> {
        Ok(())
    }

    fn apply(
        &mut self,
        _: Slot,
        command: &[u8],
        _: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        output.changes.put("last", Bytes::copy_from_slice(command));
        Ok(Bytes::new())
    }

    fn reader(&self, state: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(StoredReader(state.owned()?)))
    }
}

struct StoredReader(Arc<dyn StateView>);

impl StateReader for StoredReader {
    fn query(&self, _: &[u8]) -> Result<Bytes, StateError> {
        Ok(self.0.get(b"last")?.unwrap_or_default())
    }
}
