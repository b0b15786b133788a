//! Generators of requests for property tests, with few keys, so that requests conflict often.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::ops;
use synod_kv::{
    Command, Compare, CompareOperand, CompareRelation, DeleteRange, KeyRange, Op, Put, Query,
    Range, Revision, Sort, SortBy, SortDirection, Txn, Version,
};

pub fn commands(count: ops::Range<usize>) -> impl Strategy<Value = Vec<Command>> {
    vec(command(), count)
}

pub fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        6 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        4 => txn(op().boxed()).prop_map(Command::Txn),
        3 => query().prop_map(Command::Query),
    ]
}

pub fn query() -> impl Strategy<Value = Query> {
    prop_oneof![
        6 => range().prop_map(Query::Range),
        2 => txn(range().prop_map(Op::Range).boxed()).prop_map(Query::Txn),
        1 => txn(op().boxed()).prop_map(Query::Txn),
        1 => Just(Query::Revision),
    ]
}

fn key() -> impl Strategy<Value = Bytes> {
    let byte = select(&[0_u8, b'a', b'b', b'c', 0xff][..]);
    // One key in 41 is empty, which every request must reject.
    prop_oneof![40 => vec(byte.clone(), 1..3), 1 => Just(Vec::new())].prop_map(Bytes::from)
}

fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        3 => key().prop_map(KeyRange::One),
        2 => (key(), key()).prop_map(|(from, to)| KeyRange::Between(from, to)),
        2 => key().prop_map(KeyRange::prefix),
        1 => key().prop_map(KeyRange::From),
        1 => (key(), key()).prop_map(|(key, end)| KeyRange::from_etcd(key, end)),
    ]
}

fn value() -> impl Strategy<Value = Bytes> {
    vec(select(&[0_u8, 1, 0xff][..]), 0..3).prop_map(Bytes::from)
}

fn revision() -> impl Strategy<Value = Revision> {
    prop_oneof![9 => 0_i64..12, 1 => any::<i64>()].prop_map(Revision)
}

fn put() -> impl Strategy<Value = Put> {
    (key(), option::weighted(0.8, value()), any::<bool>()).prop_map(|(key, value, prev_kv)| Put {
        key,
        value,
        prev_kv,
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}

fn range() -> impl Strategy<Value = Range> {
    let by =
        [SortBy::Key, SortBy::Version, SortBy::Created, SortBy::Modified, SortBy::Value].to_vec();
    let orders = vec![
        SortDirection::Ascending,
        SortDirection::Descending,
        SortDirection::AscendingWithinLimit,
    ];
    let sort = (select(by), select(orders)).prop_map(|(by, order)| Sort { by, order });
    let bound = || option::weighted(0.2, revision());
    let flag = || prop::bool::weighted(0.2);
    (
        keys(),
        prop_oneof![2 => Just(0_u64), 2 => 1_u64..4, 1 => Just(u64::MAX)],
        option::weighted(0.2, revision()),
        option::of(sort),
        (flag(), flag()),
        (bound(), bound(), bound(), bound()),
    )
        .prop_map(|(keys, limit, revision, sort, (keys_only, count_only), bounds)| Range {
            keys,
            limit,
            revision,
            sort,
            keys_only,
            count_only,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => put().prop_map(Op::Put),
        1 => delete().prop_map(Op::DeleteRange),
        2 => range().prop_map(Op::Range),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relations = [
        CompareRelation::Equal,
        CompareRelation::NotEqual,
        CompareRelation::Less,
        CompareRelation::Greater,
    ]
    .to_vec();
    let operand = prop_oneof![
        (0_i64..4).prop_map(|version| CompareOperand::Version(Version(version))),
        revision().prop_map(CompareOperand::Created),
        revision().prop_map(CompareOperand::Modified),
        value().prop_map(CompareOperand::Value),
    ];
    (keys(), select(relations), operand).prop_map(|(keys, relation, operand)| Compare {
        keys,
        relation,
        operand,
    })
}

fn txn(op: BoxedStrategy<Op>) -> impl Strategy<Value = Txn> {
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4))
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
}
