//! Tests of views and limits: views are immutable, queries run in bounded pieces, replies are bounded.

use crate::strategy;
use bytes::Bytes;
use proptest::prelude::*;
use std::collections::BTreeMap;
use synod_consensus::{Output, StateMachine};
use synod_kv::{
    Command, DeleteRange, KeyRange, KvError, KvStore, MAX_REPLY_BYTES, Op, OpResult, PiecewiseRead,
    Put, Query, Range, Reply, ReplyBody, Revision, Sort, SortBy, SortDirection, Txn,
};
use synod_types::{Changes, Slot};

/// Returns a store of `keys` keys that share one value of `value` bytes.
fn filled(keys: usize, value: usize) -> KvStore {
    let (mut store, value) = (KvStore::new(), Bytes::from(vec![7; value]));
    for key in 0..keys {
        let put = Command::Put(Put::new(format!("key {key:06}"), value.clone()));
        store.execute(put, &mut Changes::new());
    }
    store
}

fn all() -> Range {
    Range::new(KeyRange::all())
}

fn put(key: &str) -> Op {
    Op::Put(Put::new(key.to_owned(), "new"))
}

/// Executes a command that must fail without an effect, and returns its error.
fn rejected(store: &KvStore, command: Command) -> KvError {
    let (mut after, mut changes) = (store.clone(), Changes::new());
    changes.put("before", "1");
    let reply = after.execute(command, &mut changes);
    assert_eq!(&after, store, "a rejected command changes the store");
    assert_eq!(changes.as_slice().len(), 1, "a rejected command writes to the state store");
    assert_eq!(reply.revision, store.revision());
    reply.result.unwrap_err()
}

#[test]
fn reader_does_not_change_with_later_commands() {
    let (mut store, stored) = (filled(3_000, 1), BTreeMap::new());
    let reader = store.reader(&stored).unwrap();
    let query = Query::Range(all()).encode();
    let before = reader.query(&query);
    for key in (0..3_000).step_by(2) {
        let keys = KeyRange::one(format!("key {key:06}"));
        let delete = Command::DeleteRange(DeleteRange::new(keys)).encode();
        store.apply(Slot(key), &delete, &stored, &mut Output::new()).unwrap();
        let put = Command::Put(Put::new(format!("key {:06}", key + 1), "new")).encode();
        store.apply(Slot(key), &put, &stored, &mut Output::new()).unwrap();
    }
    assert_eq!(reader.query(&query), before);
    assert_ne!(store.reader(&stored).unwrap().query(&query), before);
    assert_eq!(store.len(), 1_500);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn commands_applied_to_a_clone_have_the_same_effect(
        history in strategy::commands(1..40),
        cut in any::<prop::sample::Index>(),
    ) {
        let (mut store, cut) = (KvStore::new(), cut.index(history.len()));
        for command in &history[..cut] {
            store.execute(command.clone(), &mut Changes::new());
        }
        let mut view = store.clone();
        let (mut of_store, mut of_view) = (Changes::new(), Changes::new());
        for command in &history[cut..] {
            let reply = store.execute(command.clone(), &mut of_store);
            prop_assert_eq!(view.execute(command.clone(), &mut of_view), reply);
        }
        prop_assert_eq!((view, of_view), (store, of_store));
    }
}

#[test]
fn query_in_pieces_has_the_same_reply() {
    let store = filled(10_000, 3);
    let sorted = |by, order| Range { sort: Some(Sort { by, order }), limit: 700, ..all() };
    let keys = || Range { keys_only: true, ..all() };
    let compare = synod_kv::Compare {
        keys: KeyRange::all(),
        relation: synod_kv::CompareRelation::Less,
        operand: synod_kv::CompareOperand::Created(Revision(10_002)),
    };
    let txn = |compares: Vec<_>| Txn {
        compares,
        success: vec![Op::Range(all()), Op::Range(keys())],
        failure: vec![Op::Range(keys())],
    };
    let queries = [
        (Query::Range(all()), 10),
        (Query::Range(keys()), 10),
        (Query::Range(Range { limit: 1_500, ..all() }), 2),
        (Query::Range(Range { min_mod_revision: Some(Revision(9_000)), ..all() }), 10),
        (Query::Range(sorted(SortBy::Modified, SortDirection::Descending)), 10),
        (Query::Range(sorted(SortBy::Version, SortDirection::Ascending)), 10),
        (Query::Txn(txn(vec![compare])), 30),
        (Query::Txn(txn(Vec::new())), 20),
        (Query::Range(Range { count_only: true, ..all() }), 1),
        (Query::Revision, 1),
    ];
    for (query, at_least) in queries {
        let mut reading = store.read(query.clone(), usize::MAX);
        let (mut pieces, mut collected) = (1, 0);
        let reply = loop {
            match reading.step() {
                Some(reply) => break reply,
                None => {
                    // A piece reads at most 1024 keys of 10 bytes, with values of 3 bytes.
                    let grown = reading.bytes().saturating_sub(collected);
                    assert!(grown <= 1024 * 64, "{grown} bytes in one piece: {query:?}");
                    (pieces, collected) = (pieces + 1, reading.bytes());
                }
            }
        };
        assert!(pieces >= at_least, "{pieces} pieces: {query:?}");
        assert_eq!(reply, store.execute_query(query.clone()), "{query:?}");
        let mut logged = store.clone();
        assert_eq!(reply, logged.execute(Command::Query(query), &mut Changes::new()));
    }
}

#[test]
fn sorted_read_with_a_limit_has_bounded_memory() {
    let store = filled(20_000, 1_000);
    let sort = Some(Sort { by: SortBy::Modified, order: SortDirection::Descending });
    let mut reading = store.read(Query::Range(Range { sort, limit: 10, ..all() }), 1 << 20);
    let reply = loop {
        match reading.step() {
            Some(reply) => break reply,
            None => assert!(reading.bytes() < 4 << 20, "{} bytes are collected", reading.bytes()),
        }
    };
    let Ok(ReplyBody::Op(OpResult::Range(found))) = reply.result else { panic!("{reply:?}") };
    assert_eq!((found.kvs.len(), found.more, found.count), (10, true, 20_000));
    assert_eq!(found.kvs[0].key, "key 019999");
    assert_eq!(found.kvs[9].key, "key 019990");
}

#[test]
fn query_stops_when_its_reply_exceeds_the_limit() {
    let store = filled(50_000, 100);
    let mut reading = store.read(Query::Range(all()), 1 << 20);
    let mut most = 0;
    let reply = loop {
        match reading.step() {
            Some(reply) => break reply,
            None => most = most.max(reading.bytes()),
        }
    };
    assert_eq!(reply.result, Err(KvError::ReplyTooLarge));
    assert!((900_000..=1 << 20).contains(&most), "{most} bytes were collected");
    let page = store.read(Query::Range(Range { limit: 1_000, ..all() }), 1 << 20).finish();
    assert!(page.result.is_ok(), "a page of 1000 keys is rejected: {:?}", page.result);
}

#[test]
fn transaction_with_too_large_a_reply_is_rejected_without_effect() {
    // 1 MiB of keys and values: 127 reads of all keys exceed the limit of 16 MiB.
    let store = filled(1_024, 1_000);
    let mut success = vec![put("first")];
    success.extend(std::iter::repeat_n(Op::Range(all()), 127));
    let txn = Command::Txn(Txn { success: success.clone(), ..Txn::default() });
    assert_eq!(rejected(&store, txn), KvError::ReplyTooLarge);
    success.truncate(10);
    let txn = Command::Txn(Txn { success, ..Txn::default() });
    let (mut store, revision) = (store, Revision(1_025));
    assert_eq!(store.revision(), revision);
    let reply = store.execute(txn, &mut Changes::new());
    assert!(reply.result.is_ok(), "nine reads are within the limit: {:?}", reply.result);
    assert_eq!(reply.revision, revision.next());
}

#[test]
fn every_kind_of_reply_is_bounded_and_rejected_without_effect() {
    let store = filled(40, 1 << 20);
    let delete = DeleteRange { keys: KeyRange::prefix("key "), prev_kv: true };
    let old = |key| Op::Put(Put { prev_kv: true, ..Put::new(format!("key {key:06}"), "new") });
    let success = [(0..40).map(old).collect(), vec![put("new"), Op::DeleteRange(delete.clone())]];
    let commands = [
        Command::DeleteRange(delete),
        Command::Txn(Txn { success: success[0].clone(), ..Txn::default() }),
        Command::Txn(Txn { success: success[1].clone(), ..Txn::default() }),
        Command::Query(Query::Range(all())),
        Command::Query(Query::Range(Range {
            sort: Some(Sort { by: SortBy::Modified, order: SortDirection::Descending }),
            limit: 20,
            ..all()
        })),
    ];
    for command in commands {
        assert_eq!(rejected(&store, command.clone()), KvError::ReplyTooLarge, "{command:?}");
    }
    // An encoded reply within the limit is not larger than the limit. A request that returns no keys is not
    // limited.
    let mut store = store;
    let query = Command::Query(Query::Range(Range { limit: 15, ..all() }));
    let reply = store.execute(query, &mut Changes::new());
    assert!(reply.result.is_ok() && reply.encode().len() <= MAX_REPLY_BYTES);
    let all = Command::DeleteRange(DeleteRange::new(KeyRange::all()));
    assert!(store.execute(all, &mut Changes::new()).result.is_ok() && store.is_empty());
}

#[test]
fn sort_direction_is_encoded_like_the_earlier_flag() {
    let range = |order| Range { sort: Some(Sort { by: SortBy::Value, order }), ..all() };
    let encoded = |order| Command::Query(Query::Range(range(order))).encode();
    // Format, query, range, from, key, limit, revision, sort, by; then the order.
    let bytes = |order| [&[1, 3, 0, 2, 1, 0, 0, 0, 1, 4, order][..], &[0; 6]].concat();
    assert_eq!(encoded(SortDirection::Ascending), bytes(0));
    assert_eq!(encoded(SortDirection::Descending), bytes(1));
    assert_eq!(encoded(SortDirection::AscendingWithinLimit), bytes(2));
    let rejection = Reply { revision: Revision(1), result: Err(KvError::ReplyTooLarge) };
    assert_eq!(rejection.encode(), &[1, 2, 1, 8][..]);
}
