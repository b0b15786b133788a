//! The same commands give the same bytes on every node, and the stored form gives them back.

use crate::strategy;
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use synod_consensus::{StateMachine, StateView};
use synod_kv::{Command, KvError, KvStore, Query, Reply, ReplyBody};
use synod_types::{Change, Changes, Slot};

/// What a state store would hold.
type Disk = BTreeMap<Bytes, Bytes>;

fn write(disk: &mut Disk, changes: &Changes) {
    for change in changes.as_slice() {
        match change {
            Change::Put(key, value) => {
                disk.insert(key.clone(), value.clone());
            }
            Change::Delete(key) => {
                assert!(disk.remove(key).is_some(), "deletes {key:?}, which is not stored");
            }
        }
    }
}

fn reload(disk: &Disk) -> KvStore {
    let mut store = KvStore::new();
    store.load(&mut disk.clone().into_iter()).unwrap();
    store
}

proptest! {
    #[test]
    fn nodes_agree_and_a_restart_changes_nothing(
        before in strategy::commands(1..40),
        after in strategy::commands(1..10),
    ) {
        let (mut first, mut second) = (KvStore::new(), KvStore::new());
        let mut disk = Disk::new();
        for (slot, command) in (1..).map(Slot).zip(&before) {
            let (mut a, mut b) = (Changes::new(), Changes::new());
            let command = command.encode();
            // The slot is not part of the state: only the order of the commands is.
            let reply = first.apply(slot, &command, &mut a);
            prop_assert_eq!(reply, second.apply(Slot(7), &command, &mut b));
            prop_assert_eq!(&a, &b);
            write(&mut disk, &a);
        }
        let mut reborn = reload(&disk);
        prop_assert_eq!(&reborn, &first);
        prop_assert_eq!(reborn.len(), disk.len().saturating_sub(1), "one entry for each key");
        for (slot, command) in (100..).map(Slot).zip(&after) {
            let (mut a, mut b) = (Changes::new(), Changes::new());
            let command = command.encode();
            let reply = first.apply(slot, &command, &mut a);
            prop_assert_eq!(reply, reborn.apply(slot, &command, &mut b));
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn requests_and_replies_survive_their_encoding(
        command in strategy::command(),
        query in strategy::query(),
    ) {
        prop_assert_eq!(Command::decode(&command.encode()), Ok(command.clone()));
        prop_assert_eq!(Query::decode(&query.encode()), Ok(query.clone()));
        let reply = KvStore::new().execute(command, &mut Changes::new());
        prop_assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        let error = KvStore::new().answer(query.clone()).answer.err();
        prop_assert_eq!(query.check().err(), error.filter(is_static));
    }

    #[test]
    fn any_bytes_get_a_reply(
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
            let (mut store, mut changes) = (KvStore::new(), Changes::new());
            let reply = Reply::decode(&store.apply(Slot(1), &bytes, &mut changes)).unwrap();
            if reply.answer.is_err() {
                prop_assert!(changes.is_empty() && store == KvStore::new());
            }
            Reply::decode(&store.query(&bytes)).unwrap();
        }
    }
}

/// Errors that need no look into the store.
fn is_static(error: &KvError) -> bool {
    use KvError::{DuplicateKey, EmptyKey, NotReadOnly, TooManyOps};
    matches!(error, EmptyKey | TooManyOps | DuplicateKey | NotReadOnly)
}

#[test]
fn bytes_that_are_no_request_are_rejected_as_malformed() {
    let whole = Command::Query(Query::Revision).encode();
    let mut longer = whole.to_vec();
    longer.push(0);
    let mut newer = whole.to_vec();
    newer[0] += 1;
    let cases: [&[u8]; 5] = [b"", b"\x01", &whole[..whole.len() - 1], &longer, &newer];
    for bytes in cases {
        let mut store = KvStore::new();
        let mut changes = Changes::new();
        let reply = Reply::decode(&store.apply(Slot(1), bytes, &mut changes)).unwrap();
        assert_eq!(reply.answer, Err(KvError::Malformed), "{bytes:?}");
        let reply = Reply::decode(&store.query(bytes)).unwrap();
        assert_eq!(reply.answer, Err(KvError::Malformed), "{bytes:?}");
    }
    let reply = Reply::decode(&KvStore::new().apply(Slot(1), &whole, &mut Changes::new())).unwrap();
    assert_eq!(reply.answer, Ok(ReplyBody::Revision));
}

#[test]
fn failed_load_does_not_change_the_store() {
    let mut store = KvStore::new();
    let mut changes = Changes::new();
    store.execute(Command::Put(synod_kv::Put::new("a", "1")), &mut changes);
    let before = store.clone();
    let foreign = (Bytes::from_static(b"x"), Bytes::new());
    store.load(&mut [foreign].into_iter()).unwrap_err();
    assert_eq!(store, before);
}
