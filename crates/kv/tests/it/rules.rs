//! Tests of etcd's rules for revisions, ranges and transactions.

use bytes::Bytes;
use synod_kv::{
    Command, Compare, CompareOperand, CompareRelation, DeleteRange, KeyRange, KeyValue, KvError,
    KvStore, MAX_TXN_OPS, Op, OpResult, Put, Query, Range, RangeResult, Reply, ReplyBody, Revision,
    Sort, SortBy, SortDirection, Txn, TxnResult, Version,
};
use synod_types::Changes;

fn run(store: &mut KvStore, command: Command) -> Reply {
    store.execute(command, &mut Changes::new())
}

fn put(store: &mut KvStore, key: &'static str, value: &'static str) -> Revision {
    let reply = run(store, Command::Put(Put::new(key, value)));
    reply.result.unwrap();
    reply.revision
}

fn delete(store: &mut KvStore, keys: KeyRange) -> (Revision, u64) {
    let reply = run(store, Command::DeleteRange(DeleteRange::new(keys)));
    let Ok(ReplyBody::Op(OpResult::DeleteRange(result))) = reply.result else {
        panic!("{reply:?}")
    };
    (reply.revision, result.deleted)
}

fn read(store: &KvStore, range: Range) -> RangeResult {
    let reply = store.execute_query(Query::Range(range));
    let Ok(ReplyBody::Op(OpResult::Range(result))) = reply.result else { panic!("{reply:?}") };
    result
}

fn get(store: &KvStore, key: &'static str) -> Option<KeyValue> {
    read(store, Range::new(KeyRange::one(key))).kvs.pop()
}

fn names(result: &RangeResult) -> Vec<&str> {
    result.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).unwrap()).collect()
}

fn transact(store: &mut KvStore, txn: Txn) -> TxnResult {
    let reply = run(store, Command::Txn(txn));
    let Ok(ReplyBody::Txn(result)) = reply.result else { panic!("{reply:?}") };
    result
}

fn abc() -> KvStore {
    let mut store = KvStore::new();
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("b", "9")] {
        put(&mut store, key, value);
    }
    store
}

#[test]
fn each_change_increments_the_revision() {
    let mut store = KvStore::new();
    assert_eq!(store.revision(), Revision(1), "the revision of an empty etcd");
    assert_eq!(put(&mut store, "a", "1"), Revision(2));
    assert_eq!(put(&mut store, "a", "1"), Revision(3), "a put of the same value is a change");
    assert_eq!(delete(&mut store, KeyRange::one("x")), (Revision(3), 0), "no key was deleted");
    assert_eq!(delete(&mut store, KeyRange::all()), (Revision(4), 1));
    let reply = run(&mut store, Command::Query(Query::Range(Range::new(KeyRange::all()))));
    assert_eq!(reply.revision, Revision(4), "a logged read changes nothing");
}

#[test]
fn key_has_its_revisions_and_version() {
    let mut store = abc();
    let b = get(&store, "b").unwrap();
    assert_eq!((b.create_revision, b.mod_revision), (Revision(3), Revision(5)));
    assert_eq!((b.version, &b.value[..]), (Version(2), &b"9"[..]));
    delete(&mut store, KeyRange::one("b"));
    put(&mut store, "b", "new");
    let b = get(&store, "b").unwrap();
    assert_eq!((b.create_revision, b.version), (Revision(7), Version(1)), "after a new creation");
}

#[test]
fn put_can_return_or_keep_the_previous_value() {
    let mut store = abc();
    let before = get(&store, "a");
    let put = Put { prev_kv: true, ..Put::new("a", "4") };
    let reply = run(&mut store, Command::Put(put));
    let Ok(ReplyBody::Op(OpResult::Put(result))) = reply.result else { panic!("{reply:?}") };
    assert_eq!(result.prev, before);

    let keep = |key| Put { key: Bytes::from_static(key), value: None, prev_kv: false };
    run(&mut store, Command::Put(keep(b"a"))).result.unwrap();
    let a = get(&store, "a").unwrap();
    assert_eq!((&a.value[..], a.version), (&b"4"[..], Version(3)));

    let reply = run(&mut store, Command::Put(keep(b"x")));
    assert_eq!(reply, Reply { revision: store.revision(), result: Err(KvError::KeyNotFound) });
}

#[test]
fn delete_can_return_the_deleted_keys() {
    let mut store = abc();
    let keys = KeyRange::Between("a".into(), "c".into());
    let reply = run(&mut store, Command::DeleteRange(DeleteRange { keys, prev_kv: true }));
    let Ok(ReplyBody::Op(OpResult::DeleteRange(result))) = reply.result else {
        panic!("{reply:?}")
    };
    let prev: Vec<_> = result.prev_kvs.iter().map(|kv| (&kv.key[..], &kv.value[..])).collect();
    assert_eq!((result.deleted, prev), (2, vec![(&b"a"[..], &b"3"[..]), (b"b", b"9")]));
    assert_eq!(store.len(), 1);
}

#[test]
fn limit_does_not_affect_the_count() {
    let store = abc();
    let all = || Range::new(KeyRange::all());
    let cut = read(&store, Range { limit: 2, ..all() });
    assert_eq!((names(&cut), cut.more, cut.count), (vec!["a", "b"], true, 3));
    let exact = read(&store, Range { limit: 3, ..all() });
    assert_eq!((exact.kvs.len(), exact.more, exact.count), (3, false, 3));
    let counted = read(&store, Range { count_only: true, limit: 1, ..all() });
    assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 3));
    let keys = read(&store, Range { keys_only: true, ..all() });
    assert!(keys.kvs.iter().all(|kv| kv.value.is_empty() && kv.version > Version(0)));
    let filtered = read(&store, Range { min_mod_revision: Some(Revision(4)), ..all() });
    let found = (names(&filtered), filtered.count);
    assert_eq!(found, (vec!["b", "c"], 3), "the count ignores filters");
}

#[test]
fn result_is_sorted_by_each_property() {
    let store = abc();
    let sorted = |by, descending| {
        let order = if descending { SortDirection::Descending } else { SortDirection::Ascending };
        let sort = Some(Sort { by, order });
        let result = read(&store, Range { sort, limit: 2, ..Range::new(KeyRange::all()) });
        assert_eq!((result.more, result.count), (true, 3));
        names(&result).concat()
    };
    assert_eq!(sorted(SortBy::Key, false), "ab");
    assert_eq!(sorted(SortBy::Key, true), "cb");
    assert_eq!(sorted(SortBy::Version, false), "ac");
    assert_eq!(sorted(SortBy::Version, true), "ba");
    assert_eq!(sorted(SortBy::Created, true), "cb");
    assert_eq!(sorted(SortBy::Modified, false), "ac");
    assert_eq!(sorted(SortBy::Modified, true), "bc");
    assert_eq!(sorted(SortBy::Value, false), "ca");
    assert_eq!(sorted(SortBy::Value, true), "ba");
}

#[test]
fn order_within_the_limit_sorts_one_key_more_than_the_limit() {
    let mut store = KvStore::new();
    for (key, value) in [("a", "4"), ("b", "3"), ("c", "2"), ("d", "1")] {
        store.execute(Command::Put(Put::new(key, value)), &mut Changes::new());
    }
    let sort = Some(Sort { by: SortBy::Value, order: SortDirection::AscendingWithinLimit });
    let of = |range: Range| {
        let result = read(&store, Range { sort, ..range });
        (names(&result).concat(), result.more, result.count)
    };
    let limited = |limit| Range { limit, ..Range::new(KeyRange::all()) };
    assert_eq!(of(limited(1)), ("b".into(), true, 4), "the lowest of the first two");
    assert_eq!(of(limited(2)), ("cb".into(), true, 4), "the lowest of the first three");
    assert_eq!(of(limited(4)), ("dcba".into(), false, 4));
    assert_eq!(of(limited(0)), ("dcba".into(), false, 4));
    let filtered = Range { min_mod_revision: Some(Revision(1)), ..limited(1) };
    assert_eq!(of(filtered), ("d".into(), true, 4), "with a filter all keys are sorted");
}

#[test]
fn filter_bounds_are_inclusive() {
    let store = abc();
    let found = |min_mod, max_mod, min_create, max_create| {
        let range = Range {
            min_mod_revision: min_mod,
            max_mod_revision: max_mod,
            min_create_revision: min_create,
            max_create_revision: max_create,
            ..Range::new(KeyRange::all())
        };
        names(&read(&store, range)).concat()
    };
    let at = |revision| Some(Revision(revision));
    assert_eq!(found(at(4), None, None, None), "bc");
    assert_eq!(found(None, at(4), None, None), "ac");
    assert_eq!(found(None, None, at(3), None), "bc");
    assert_eq!(found(None, None, None, at(3)), "ab");
    assert_eq!(found(at(3), at(4), at(2), at(4)), "c");
}

#[test]
fn only_the_newest_revision_can_be_read() {
    let store = abc();
    let at = |revision| {
        let range = Range { revision: Some(Revision(revision)), ..Range::new(KeyRange::all()) };
        store.execute_query(Query::Range(range)).result.map(|_| ())
    };
    assert_eq!(store.revision(), Revision(5));
    assert_eq!(at(6), Err(KvError::FutureRevision));
    assert_eq!((at(5), at(0), at(-1)), (Ok(()), Ok(()), Ok(())));
    assert_eq!((at(4), at(1)), (Err(KvError::HistoricRevision), Err(KvError::HistoricRevision)));
}

#[test]
fn transaction_has_one_revision() {
    let mut store = abc();
    let txn = Txn {
        success: vec![
            Op::Range(Range::new(KeyRange::one("a"))),
            Op::Put(Put::new("a", "x")),
            Op::Range(Range::new(KeyRange::one("a"))),
            Op::DeleteRange(DeleteRange::new(KeyRange::one("b"))),
            Op::Put(Put::new("d", "y")),
        ],
        ..Txn::default()
    };
    let result = transact(&mut store, txn);
    assert_eq!(store.revision(), Revision(6));
    let revisions: Vec<_> = result.replies.iter().map(|reply| reply.revision.0).collect();
    assert_eq!(revisions, [5, 6, 6, 6, 6], "the new revision starts with the first change");
    let OpResult::Range(before) = &result.replies[0].result else { panic!("{result:?}") };
    let OpResult::Range(after) = &result.replies[2].result else { panic!("{result:?}") };
    assert_eq!((&before.kvs[0].value[..], &after.kvs[0].value[..]), (&b"3"[..], &b"x"[..]));
    assert_eq!(get(&store, "d").unwrap().create_revision, Revision(6));
}

#[test]
fn transaction_without_changes_keeps_the_revision() {
    let mut store = abc();
    let txn = Txn {
        success: vec![
            Op::Range(Range::new(KeyRange::all())),
            Op::DeleteRange(DeleteRange::new(KeyRange::one("x"))),
        ],
        failure: vec![Op::Put(Put::new("a", "never"))],
        ..Txn::default()
    };
    assert!(transact(&mut store, txn).succeeded);
    assert_eq!(store.revision(), Revision(5));
}

#[test]
fn rejected_transaction_changes_nothing() {
    let before = abc();
    let keep_missing = Put { key: "x".into(), value: None, prev_kv: false };
    let old_read = |at| Range { revision: Some(Revision(at)), ..Range::new(KeyRange::one("a")) };
    let cases = [
        (Op::Put(keep_missing), KvError::KeyNotFound),
        (Op::Range(old_read(6)), KvError::FutureRevision),
        (Op::Range(old_read(4)), KvError::HistoricRevision),
        // The newest revision, but after a write of the same transaction.
        (Op::Range(old_read(5)), KvError::HistoricRevision),
    ];
    for (op, error) in cases {
        let mut store = before.clone();
        let mut changes = Changes::new();
        let success = vec![Op::Put(Put::new("a", "x")), op];
        let reply = store.execute(Command::Txn(Txn { success, ..Txn::default() }), &mut changes);
        assert_eq!(reply, Reply { revision: Revision(5), result: Err(error) });
        assert_eq!((store, changes), (before.clone(), Changes::new()), "changes after {error}");
    }
}

#[test]
fn compare_holds_for_every_key_of_its_range() {
    let store = abc();
    let succeeds = |keys: KeyRange, relation, operand| {
        let compares = vec![Compare { keys, relation, operand }];
        transact(&mut store.clone(), Txn { compares, ..Txn::default() }).succeeded
    };
    use CompareRelation::{Equal, Greater, Less, NotEqual};
    let version = |number| CompareOperand::Version(Version(number));
    let value = |value: &'static str| CompareOperand::Value(value.into());
    let b = || KeyRange::one("b");
    assert!(succeeds(b(), Equal, version(2)) && !succeeds(b(), NotEqual, version(2)));
    assert!(succeeds(b(), Less, version(3)) && !succeeds(b(), Less, version(2)));
    assert!(succeeds(b(), Greater, version(1)) && !succeeds(b(), Greater, version(2)));
    assert!(succeeds(b(), Equal, CompareOperand::Created(Revision(3))));
    assert!(succeeds(b(), Equal, CompareOperand::Modified(Revision(5))));
    assert!(succeeds(b(), Equal, value("9")) && succeeds(b(), Greater, value("8")));
    // The compare of a range holds only if it holds for every key.
    assert!(succeeds(KeyRange::all(), Greater, version(0)));
    assert!(!succeeds(KeyRange::all(), Equal, version(1)));
}

#[test]
fn compare_of_a_missing_key_uses_zero_and_fails_for_values() {
    let mut store = abc();
    let mut succeeds = |relation, operand| {
        let compares = vec![Compare { keys: KeyRange::one("x"), relation, operand }];
        transact(&mut store, Txn { compares, ..Txn::default() }).succeeded
    };
    use CompareRelation::{Equal, Greater, Less, NotEqual};
    for zero in [
        CompareOperand::Version(Version(0)),
        CompareOperand::Created(Revision(0)),
        CompareOperand::Modified(Revision(0)),
    ] {
        assert!(succeeds(Equal, zero.clone()) && !succeeds(NotEqual, zero.clone()), "{zero:?}");
        assert!(!succeeds(Less, zero.clone()) && !succeeds(Greater, zero.clone()), "{zero:?}");
    }
    assert!(succeeds(Less, CompareOperand::Version(Version(1))));
    for relation in [Equal, NotEqual, Less, Greater] {
        assert!(
            !succeeds(relation, CompareOperand::Value(Bytes::new())),
            "{relation:?} holds for a missing value"
        );
    }
}

#[test]
fn branch_that_writes_a_key_twice_is_rejected() {
    let put = |key: &'static str| Op::Put(Put::new(key, "v"));
    let delete = |keys| Op::DeleteRange(DeleteRange::new(keys));
    let branches = [
        vec![put("a"), put("a")],
        vec![put("a"), delete(KeyRange::one("a"))],
        vec![delete(KeyRange::prefix("a")), put("ab")],
    ];
    for branch in branches {
        for txn in [
            Txn { success: branch.clone(), ..Txn::default() },
            Txn { failure: branch.clone(), ..Txn::default() },
        ] {
            // Also in the branch that is not executed: a rejection must not depend on the store's keys.
            assert_eq!(Command::Txn(txn).check(), Err(KvError::DuplicateKey), "{branch:?}");
        }
    }
    let valid = Txn {
        success: vec![
            put("a"),
            put("b"),
            delete(KeyRange::prefix("c")),
            delete(KeyRange::one("c")),
        ],
        failure: vec![put("a")],
        compares: Vec::new(),
    };
    assert_eq!(Command::Txn(valid).check(), Ok(()));
}

#[test]
fn transaction_with_too_many_operations_is_rejected() {
    let key = |number: usize| Bytes::from(format!("k{number}"));
    let puts = |count| (0..count).map(|at| Op::Put(Put::new(key(at), "v"))).collect::<Vec<_>>();
    let txn = |success, failure| Command::Txn(Txn { success, failure, ..Txn::default() });
    assert_eq!(txn(puts(MAX_TXN_OPS), puts(MAX_TXN_OPS)).check(), Ok(()));
    assert_eq!(txn(puts(MAX_TXN_OPS + 1), Vec::new()).check(), Err(KvError::TooManyOps));
    assert_eq!(txn(Vec::new(), puts(MAX_TXN_OPS + 1)).check(), Err(KvError::TooManyOps));
    let compare = Compare {
        keys: KeyRange::one("a"),
        relation: CompareRelation::Equal,
        operand: CompareOperand::Version(Version(0)),
    };
    let compares = vec![compare; MAX_TXN_OPS + 1];
    let txn = Command::Txn(Txn { compares, ..Txn::default() });
    assert_eq!(txn.check(), Err(KvError::TooManyOps));
}

#[test]
fn empty_key_is_rejected_in_every_request() {
    let from_empty = || KeyRange::from_etcd(Bytes::new(), Bytes::from_static(b"z"));
    let op = |op| Command::Txn(Txn { failure: vec![op], ..Txn::default() });
    let compare = Compare {
        keys: from_empty(),
        relation: CompareRelation::Equal,
        operand: CompareOperand::Value("".into()),
    };
    let commands = [
        Command::Put(Put::new("", "v")),
        Command::DeleteRange(DeleteRange::new(from_empty())),
        Command::Query(Query::Range(Range::new(from_empty()))),
        op(Op::Put(Put::new("", "v"))),
        op(Op::DeleteRange(DeleteRange::new(from_empty()))),
        op(Op::Range(Range::new(from_empty()))),
        Command::Txn(Txn { compares: vec![compare], ..Txn::default() }),
    ];
    for command in commands {
        assert_eq!(command.check(), Err(KvError::EmptyKey), "{command:?}");
        let reply = run(&mut KvStore::new(), command);
        assert_eq!(reply, Reply { revision: Revision(1), result: Err(KvError::EmptyKey) });
    }
}

#[test]
fn query_that_writes_is_rejected() {
    let success = vec![Op::Put(Put::new("a", "v"))];
    let txn = Txn { success, ..Txn::default() };
    assert_eq!(KvStore::new().execute_query(Query::Txn(txn)).result, Err(KvError::NotReadOnly));
}
