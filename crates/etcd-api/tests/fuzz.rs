//! Fuzzing the API: whatever a client posts, it is answered or refused, and what is refused has
//! changed nothing.
//!
//! Ten seconds, or as many as `FUZZ_SECONDS` says. A failure prints a seed; `ARBTEST_SEED=0x...`
//! plays that input again.

mod common;

use arbtest::arbitrary::{Result, Unstructured};
use axum::Router;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use common::Memory;
use prost::Message;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb as pb;
use tonic::codegen::{Service, http};

use pb::compare::TargetUnion;
use pb::request_op::Request as OpRequest;

fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |it| it.parse().expect("seconds"));
    arbtest::arbtest(property).budget(Duration::from_secs(seconds)).size_max(20_000).run();
}

/// Few keys, so that requests meet.
fn key(u: &mut Unstructured<'_>) -> Result<Bytes> {
    Ok(match u.int_in_range(0..=7)? {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        2 => Bytes::from(u.arbitrary::<Vec<u8>>()?),
        _ => Bytes::from(vec![u.int_in_range(b'a'..=b'd')?]),
    })
}

fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    Ok(match u.int_in_range(0..=9)? {
        0 => *u.choose(&[i64::MIN, -1, i64::MAX])?,
        1 => u.arbitrary()?,
        2..=4 => u.int_in_range(1..=5)?,
        _ => 0,
    })
}

/// A member of an enum, or at times none.
fn choice(u: &mut Unstructured<'_>, most: i32) -> Result<i32> {
    Ok(if u.ratio(1, 20)? { u.arbitrary()? } else { u.int_in_range(0..=most)? })
}

fn range(u: &mut Unstructured<'_>) -> Result<pb::RangeRequest> {
    Ok(pb::RangeRequest {
        key: key(u)?,
        range_end: key(u)?,
        limit: number(u)?,
        revision: number(u)?,
        sort_order: choice(u, 2)?,
        sort_target: choice(u, 4)?,
        serializable: u.arbitrary()?,
        keys_only: u.arbitrary()?,
        count_only: u.ratio(1, 4)?,
        min_mod_revision: number(u)?,
        max_mod_revision: number(u)?,
        min_create_revision: number(u)?,
        max_create_revision: number(u)?,
    })
}

fn put(u: &mut Unstructured<'_>) -> Result<pb::PutRequest> {
    Ok(pb::PutRequest {
        key: key(u)?,
        value: key(u)?,
        lease: if u.ratio(1, 20)? { number(u)? } else { 0 },
        prev_kv: u.arbitrary()?,
        ignore_value: u.ratio(1, 10)?,
        ignore_lease: u.ratio(1, 20)?,
    })
}

fn delete_range(u: &mut Unstructured<'_>) -> Result<pb::DeleteRangeRequest> {
    Ok(pb::DeleteRangeRequest { key: key(u)?, range_end: key(u)?, prev_kv: u.arbitrary()? })
}

fn compare(u: &mut Unstructured<'_>) -> Result<pb::Compare> {
    let with = match u.int_in_range(0..=4)? {
        0 => Some(TargetUnion::Version(number(u)?)),
        1 => Some(TargetUnion::CreateRevision(number(u)?)),
        2 => Some(TargetUnion::ModRevision(number(u)?)),
        3 => Some(TargetUnion::Value(key(u)?)),
        _ => None,
    };
    Ok(pb::Compare {
        result: choice(u, 3)?,
        target: choice(u, 3)?,
        key: key(u)?,
        range_end: if u.ratio(1, 5)? { key(u)? } else { Bytes::new() },
        target_union: with,
    })
}

fn ops(u: &mut Unstructured<'_>, depth: u32) -> Result<Vec<pb::RequestOp>> {
    let mut ops = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let request = Some(match u.int_in_range(0..=30)? {
            0 if depth > 0 => OpRequest::RequestTxn(txn(u, depth - 1)?),
            1..=10 => OpRequest::RequestRange(range(u)?),
            11..=15 => OpRequest::RequestDeleteRange(delete_range(u)?),
            _ => OpRequest::RequestPut(put(u)?),
        });
        ops.push(pb::RequestOp { request: if u.ratio(1, 50)? { None } else { request } });
    }
    Ok(ops)
}

fn txn(u: &mut Unstructured<'_>, depth: u32) -> Result<pb::TxnRequest> {
    let mut compares = Vec::new();
    for _ in 0..u.int_in_range(0..=2)? {
        compares.push(compare(u)?);
    }
    Ok(pb::TxnRequest { compare: compares, success: ops(u, depth)?, failure: ops(u, depth)? })
}

/// A request as it is posted: a flag, a length, and the message; whole, or with some bytes changed,
/// put in or cut off.
fn posted(message: &impl Message, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = message.encode_to_vec();
    let changes = if u.arbitrary()? { 0 } else { u.int_in_range(1..=4)? };
    for _ in 0..changes {
        let at = u.choose_index(bytes.len() + 1)?;
        match u.int_in_range(0..=3)? {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u.arbitrary()?),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = byte.wrapping_add(1)),
        }
    }
    let lies = u.ratio(1, 50)?;
    let length = if lies { u.arbitrary()? } else { bytes.len() as u32 };
    let flag = if lies { u.arbitrary()? } else { 0 };
    Ok([&[flag][..], &length.to_be_bytes(), &bytes].concat())
}

/// The message in what was posted, as long as it claims to be.
fn read<M: Message + Default>(posted: &[u8]) -> Option<M> {
    let (head, rest) = posted.split_at(5);
    let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
    M::decode(rest.get(..length as usize)?).ok()
}

/// What waits for nothing is there at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("the store in memory keeps nobody waiting"),
    }
}

/// Posts a request; the message that answers it, if it was not refused.
fn answer<M: Message + Default>(api: &mut Router, path: &str, posted: Vec<u8>) -> Option<M> {
    let request = http::Request::post(path).header("content-type", "application/grpc");
    let request = request.body(Body::from(posted)).expect("a request");
    let response = at_once(api.call(request)).expect("a route always answers");
    assert_eq!(response.status(), 200, "gRPC has codes of its own");
    let body = at_once(to_bytes(response.into_body(), usize::MAX)).expect("the whole answer");
    (!body.is_empty()).then(|| M::decode(&body[5..]).expect("what is answered can be read"))
}

/// The revision in a header that every answer has.
fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// Posts one request; the revision in the answer, if it was not refused.
fn one_request(api: &mut Router, u: &mut Unstructured<'_>) -> Result<Option<i64>> {
    let service = "/etcdserverpb.KV";
    Ok(match u.int_in_range(0..=9)? {
        0..=1 => {
            let asked = posted(&range(u)?, u)?;
            let read = read(&asked);
            let told: Option<pb::RangeResponse> = answer(api, &format!("{service}/Range"), asked);
            told.map(|told| {
                let pb::RangeRequest { limit, count_only, .. } = read.expect("it was answered");
                let keys = told.kvs.len() as i64;
                assert!(keys == 0 || !count_only && (keys <= limit || limit <= 0), "{told:?}");
                revision(told.header)
            })
        }
        2..=4 => {
            let asked = posted(&put(u)?, u)?;
            let told: Option<pb::PutResponse> = answer(api, &format!("{service}/Put"), asked);
            told.map(|told| revision(told.header))
        }
        5 => {
            let asked = posted(&delete_range(u)?, u)?;
            let path = format!("{service}/DeleteRange");
            let told: Option<pb::DeleteRangeResponse> = answer(api, &path, asked);
            told.map(|told| {
                assert!(told.prev_kvs.len() as i64 <= told.deleted, "{told:?}");
                revision(told.header)
            })
        }
        6..=8 => {
            let asked = posted(&txn(u, 2)?, u)?;
            let read: Option<pb::TxnRequest> = read(&asked);
            let told: Option<pb::TxnResponse> = answer(api, &format!("{service}/Txn"), asked);
            told.map(|told| {
                let read = read.expect("it was answered");
                let done = if told.succeeded { read.success } else { read.failure };
                assert_eq!(told.responses.len(), done.len(), "an answer for each step");
                revision(told.header)
            })
        }
        _ => {
            let request = pb::AlarmRequest { action: choice(u, 2)?, ..Default::default() };
            let asked = posted(&request, u)?;
            let path = "/etcdserverpb.Maintenance/Alarm";
            answer::<pb::AlarmResponse>(api, path, asked).map(|told| revision(told.header))
        }
    })
}

#[test]
fn every_request_is_answered_or_changes_nothing() {
    fuzz(|u| {
        let mut api = synod_etcd_api::router(Arc::new(Memory::default()));
        let mut newest = 1;
        for _ in 0..20 {
            let told = one_request(&mut api, u)?;
            // A request is one revision at most, and one that is refused is none.
            assert!(told.is_none_or(|told| (newest..=newest + 1).contains(&told)), "{told:?}");
            newest = told.unwrap_or(newest);
        }
        Ok(())
    });
}
