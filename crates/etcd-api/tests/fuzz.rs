//! Fuzzing of the API: any request gets a reply or an error, and failed requests change nothing.
//!
//! Runs for ten seconds, or for `FUZZ_SECONDS`. A failure prints a seed; `ARBTEST_SEED=0x...`
//! replays that input.

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

/// Returns one of few keys, so that requests conflict.
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

/// Returns a value of an enum, or sometimes an invalid one.
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

/// Returns the body of a request: a flag, a length, and the message; intact, or with some bytes
/// changed, inserted or removed.
fn request_body(message: &impl Message, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
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
    let is_invalid = u.ratio(1, 50)?;
    let length = if is_invalid { u.arbitrary()? } else { bytes.len() as u32 };
    let flag = if is_invalid { u.arbitrary()? } else { 0 };
    Ok([&[flag][..], &length.to_be_bytes(), &bytes].concat())
}

/// Decodes the message in a body, up to its announced length.
fn read<M: Message + Default>(body: &[u8]) -> Option<M> {
    let (head, rest) = body.split_at(5);
    let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
    M::decode(rest.get(..length as usize)?).ok()
}

/// Polls a future that must be ready at once.
fn ready_now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(ready) => ready,
        Poll::Pending => panic!("the store in memory never waits"),
    }
}

/// Posts a request. Returns the reply, or `None` after an error.
fn post<M: Message + Default>(api: &mut Router, path: &str, body: Vec<u8>) -> Option<M> {
    let request = http::Request::post(path).header("content-type", "application/grpc");
    let request = request.body(Body::from(body)).expect("a request");
    let response = ready_now(api.call(request)).expect("a route never fails");
    assert_eq!(response.status(), 200, "gRPC has its own codes");
    let body = ready_now(to_bytes(response.into_body(), usize::MAX)).expect("the whole reply");
    (!body.is_empty()).then(|| M::decode(&body[5..]).expect("the reply can be decoded"))
}

/// Returns the revision in a header, which every reply has.
fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every reply has a header").revision
}

/// Posts one request. Returns the revision in the reply, or `None` after an error.
fn one_request(api: &mut Router, u: &mut Unstructured<'_>) -> Result<Option<i64>> {
    let service = "/etcdserverpb.KV";
    Ok(match u.int_in_range(0..=9)? {
        0..=1 => {
            let body = request_body(&range(u)?, u)?;
            let read = read(&body);
            let reply: Option<pb::RangeResponse> = post(api, &format!("{service}/Range"), body);
            reply.map(|reply| {
                let pb::RangeRequest { limit, count_only, .. } = read.expect("it has a reply");
                let keys = reply.kvs.len() as i64;
                assert!(keys == 0 || !count_only && (keys <= limit || limit <= 0), "{reply:?}");
                revision(reply.header)
            })
        }
        2..=4 => {
            let body = request_body(&put(u)?, u)?;
            let reply: Option<pb::PutResponse> = post(api, &format!("{service}/Put"), body);
            reply.map(|reply| revision(reply.header))
        }
        5 => {
            let body = request_body(&delete_range(u)?, u)?;
            let path = format!("{service}/DeleteRange");
            let reply: Option<pb::DeleteRangeResponse> = post(api, &path, body);
            reply.map(|reply| {
                assert!(reply.prev_kvs.len() as i64 <= reply.deleted, "{reply:?}");
                revision(reply.header)
            })
        }
        6..=8 => {
            let body = request_body(&txn(u, 2)?, u)?;
            let read: Option<pb::TxnRequest> = read(&body);
            let reply: Option<pb::TxnResponse> = post(api, &format!("{service}/Txn"), body);
            reply.map(|reply| {
                let read = read.expect("it has a reply");
                let done = if reply.succeeded { read.success } else { read.failure };
                assert_eq!(reply.responses.len(), done.len(), "a response for each operation");
                revision(reply.header)
            })
        }
        _ => {
            let request = pb::AlarmRequest { action: choice(u, 2)?, ..Default::default() };
            let body = request_body(&request, u)?;
            let path = "/etcdserverpb.Maintenance/Alarm";
            post::<pb::AlarmResponse>(api, path, body).map(|reply| revision(reply.header))
        }
    })
}

#[test]
fn every_request_gets_a_reply_or_changes_nothing() {
    fuzz(|u| {
        let mut api = synod_etcd_api::router(Arc::new(Memory::default()));
        let mut newest = 1;
        for _ in 0..20 {
            let revision = one_request(&mut api, u)?;
            // A request adds at most one revision, and a failed one none.
            assert!(
                revision.is_none_or(|revision| (newest..=newest + 1).contains(&revision)),
                "{revision:?}"
            );
            newest = revision.unwrap_or(newest);
        }
        Ok(())
    });
}
