//! Tests of determinism and of the stored state: equal commands result in equal bytes, which load restores.

use crate::strategy;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use synod_consensus::{Output, StateError, StateMachine, StateReader};
use synod_kv::{Command, KvError, KvStore, Query, Reply, ReplyBody};
use synod_types::{Change, Changes, Slot};

/// Content of a state store.
type Disk = BTreeMap<Bytes, Bytes>;

fn write(disk: &mut Disk, changes: &Changes) {
    for change in changes.as_slice() {
        match change {
            Change::Put(key, value) => {
                disk.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                assert!(disk.remove(key).is_some(), "deletion of {key:?}, which is not stored");
            }
        }
    }
}

fn reload(disk: &Disk) -> KvStore {
    let mut store = KvStore::new();
    store.load(disk).unwrap();
    store
}

/// Applies a command and returns the reply and the changes.
fn apply(store: &mut KvStore, slot: Slot, command: &[u8]) -> (Bytes, Changes) {
    let mut output = Output::new();
    let reply = store.apply(slot, command, &Disk::new(), &mut output).unwrap();
    (reply, output.changes)
}

proptest! {
    #[test]
    fn equal_commands_have_equal_effects_also_after_a_restart(
        before in strategy::commands(1..40),
        after in strategy::commands(1..10),
    ) {
        let (mut first, mut second) = (KvStore::new(), KvStore::new());
        let mut disk = Disk::new();
        for (slot, command) in (1..).map(Slot).zip(&before) {
            let command = command.encode();
            let applied = apply(&mut first, slot, &command);
            // The effect depends on the order of the commands, but not on their slots.
            prop_assert_eq!(&apply(&mut second, Slot(7), &command), &applied);
            write(&mut disk, &applied.1);
        }
        let mut restarted = reload(&disk);
        prop_assert_eq!(&restarted, &first);
        // One stored entry for each key, and one for the revision.
        prop_assert_eq!(restarted.len(), disk.len().saturating_sub(1));
        for (slot, command) in (100..).map(Slot).zip(&after) {
            let command = command.encode();
            let applied = apply(&mut first, slot, &command);
            prop_assert_eq!(apply(&mut restarted, slot, &command), applied);
        }
    }

    #[test]
    fn requests_and_replies_are_decoded_to_the_encoded_ones(
        command in strategy::command(),
        query in strategy::query(),
    ) {
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        prop_assert_eq!(Query::decode(&query.encode()), Ok(query.clone()));
        let reply = KvStore::new().execute(command, &mut Changes::new());
        prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        let error = KvStore::new().execute_query(query.clone()).result.err();
        prop_assert_eq!(query.check().err(), error.filter(is_static));
    }

    #[test]
    fn arbitrary_bytes_get_a_reply(
        mut bytes in vec(any::<u8>(), 0..64),
        versioned in any::<bool>(),
        command in strategy::command(),
        flip in any::<prop::sample::Index>(),
    ) {
        if let (true, Some(format)) = (versioned, bytes.first_mut()) {
            *format = 1;
        }
        let mut damaged = command.encode().to_vec();
        let at = flip.index(damaged.len());
        damaged[at] ^= 1 << (at % 8);
        for bytes in [bytes, damaged] {
            let mut store = KvStore::new();
            let (reply, changes) = apply(&mut store, Slot(1), &bytes);
            let reply = Reply::decode(&reply).unwrap();
            if reply.result.is_err() {
                prop_assert!(changes.is_empty() && store == KvStore::new());
            }
            Reply::decode(&store.query(&bytes).unwrap()).unwrap();
        }
    }
}

/// Returns whether an error does not depend on the store's content.
fn is_static(error: &KvError) -> bool {
    use KvError::{DuplicateKey, EmptyKey, NotReadOnly, TooManyOps};
    matches!(error, EmptyKey | TooManyOps | DuplicateKey | NotReadOnly)
}

#[test]
fn bytes_that_are_not_a_request_are_rejected_as_malformed() {
    let whole = Command::Query(Query::Revision).encode();
    let mut longer = whole.to_vec();
    longer.push(0);
    let mut newer = whole.to_vec();
    newer[0] += 1;
    let cases: [&[u8]; 5] = [b"", b"\x01", &whole[..whole.len() - 1], &longer, &newer];
    for bytes in cases {
        let mut store = KvStore::new();
        let reply = Reply::decode(&apply(&mut store, Slot(1), bytes).0).unwrap();
        assert_eq!(reply.result, Err(KvError::Malformed), "{bytes:?}");
        let reply = Reply::decode(&store.query(bytes).unwrap()).unwrap();
        assert_eq!(reply.result, Err(KvError::Malformed), "{bytes:?}");
    }
    let reply = Reply::decode(&apply(&mut KvStore::new(), Slot(1), &whole).0).unwrap();
    assert_eq!(reply.result, Ok(ReplyBody::Revision));
}

#[test]
fn failed_load_does_not_change_the_store() {
    let mut store = KvStore::new();
    let mut changes = Changes::new();
    store.execute(Command::Put(synod_kv::Put::new("a", "1")), &mut changes);
    let before = store.clone();
    let foreign = Disk::from([(Bytes::from_static(b"x"), Bytes::new())]);
    assert!(matches!(store.load(&foreign), Err(StateError::Malformed(_))));
    assert_eq!(store, before);
}

#[test]
fn load_replaces_the_state() {
    let stored = |key: &str| {
        let (mut store, mut disk) = (KvStore::new(), Disk::new());
        let put = Command::Put(synod_kv::Put::new(key.to_owned(), "value")).encode();
        write(&mut disk, &apply(&mut store, Slot(1), &put).1);
        (store, disk)
    };
    let mut store = KvStore::new();
    for key in ["first", "second"] {
        let (expected, disk) = stored(key);
        store.load(&disk).unwrap();
        assert_eq!(store, expected, "keys of the previous state remain");
    }
}
