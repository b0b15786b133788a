//! The API over a real connection, through the generated clients.

mod common;

use common::{Memory, serve};
use std::sync::Arc;
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::{BackendError, Consistency, MAX_REQUEST_BYTES};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use pb::alarm_request::AlarmAction;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request as OpRequest;
use pb::response_op::Response as OpResponse;

async fn connect() -> (Arc<Memory>, Channel) {
    let (backend, address) = serve().await;
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    (backend, channel.connect().await.unwrap())
}

fn put(key: &'static str, value: &'static str) -> pb::PutRequest {
    pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn get(key: &'static str) -> pb::RangeRequest {
    pb::RangeRequest { key: key.into(), ..Default::default() }
}

fn code_and_text(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id: 0xc1, member_id: 2, revision, raft_term: 7 })
}

#[tokio::test]
async fn every_reply_has_a_header_with_member_and_revision() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel.clone());
    assert_eq!(kv.range(get("a")).await.unwrap().into_inner().header, header(1));
    assert_eq!(kv.put(put("a", "1")).await.unwrap().into_inner().header, header(2));
    let delete = pb::DeleteRangeRequest { key: "x".into(), ..Default::default() };
    assert_eq!(kv.delete_range(delete).await.unwrap().into_inner().header, header(2));
    let txn = kv.txn(pb::TxnRequest::default()).await.unwrap().into_inner();
    assert_eq!((txn.header, txn.succeeded), (header(2), true));

    let mut cluster = ClusterClient::new(channel.clone());
    let members = cluster.member_list(pb::MemberListRequest::default()).await.unwrap().into_inner();
    assert_eq!(members.header, header(2));
    let mut maintenance = MaintenanceClient::new(channel);
    let alarms = maintenance.alarm(pb::AlarmRequest::default()).await.unwrap().into_inner();
    assert_eq!((alarms.header, alarms.alarms.len()), (header(2), 0));
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.header, status.leader, status.raft_applied_index), (header(2), 2, 2));
}

#[tokio::test]
async fn inner_replies_of_a_transaction_have_its_revision() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel);
    let op = |request| pb::RequestOp { request: Some(request) };
    let success = vec![
        op(OpRequest::RequestRange(get("a"))),
        op(OpRequest::RequestPut(put("a", "1"))),
        op(OpRequest::RequestDeleteRange(pb::DeleteRangeRequest {
            key: "x".into(),
            ..Default::default()
        })),
    ];
    let txn = pb::TxnRequest { success, ..Default::default() };
    let reply = kv.txn(txn).await.unwrap().into_inner();
    assert_eq!(reply.header, header(2));
    let inner: Vec<_> = reply
        .responses
        .into_iter()
        .map(|op| match op.response.unwrap() {
            OpResponse::ResponseRange(reply) => reply.header,
            OpResponse::ResponsePut(reply) => reply.header,
            OpResponse::ResponseDeleteRange(reply) => reply.header,
            OpResponse::ResponseTxn(_) => panic!("transactions are flat"),
        })
        .map(|header| header.unwrap().revision)
        .collect();
    assert_eq!(inner, [1, 2, 2]);
}

#[tokio::test]
async fn unsupported_method_is_rejected_by_name() {
    let (_backend, channel) = connect().await;
    let methods = [
        ("etcdserverpb.KV", "Compact"),
        ("etcdserverpb.Cluster", "MemberAdd"),
        ("etcdserverpb.Maintenance", "Snapshot"),
        ("etcdserverpb.Maintenance", "Defragment"),
        ("etcdserverpb.Watch", "Watch"),
        ("etcdserverpb.Lease", "LeaseGrant"),
        ("etcdserverpb.Auth", "AuthEnable"),
        ("v3lockpb.Lock", "Lock"),
        ("v3electionpb.Election", "Campaign"),
    ];
    for (service, method) in methods {
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::try_from(format!("/{service}/{method}")).unwrap();
        let codec = ProstCodec::<pb::StatusRequest, pb::StatusResponse>::default();
        let request = Request::new(pb::StatusRequest {});
        let status = grpc.unary(request, path, codec).await.unwrap_err();
        let text = format!("synod: {method} is not supported");
        assert_eq!(code_and_text(&status), (Code::Unimplemented, &text[..]));
    }
}

#[tokio::test]
async fn unsupported_feature_of_a_method_is_rejected_by_name() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel.clone());
    let status = kv.put(pb::PutRequest { lease: 1, ..put("a", "1") }).await.unwrap_err();
    let expected = (Code::Unimplemented, "synod: a lease in a put is not supported");
    assert_eq!(code_and_text(&status), expected);

    kv.put(put("a", "1")).await.unwrap();
    kv.put(put("a", "2")).await.unwrap();
    let old = pb::RangeRequest { revision: 2, ..get("a") };
    let status = kv.range(old).await.unwrap_err();
    let expected = (Code::Unimplemented, "synod: a read of an older revision is not supported");
    assert_eq!(code_and_text(&status), expected);

    let mut maintenance = MaintenanceClient::new(channel);
    for (action, name) in
        [(AlarmAction::Activate, "ACTIVATE"), (AlarmAction::Deactivate, "DEACTIVATE")]
    {
        let request = pb::AlarmRequest { action: action as i32, ..Default::default() };
        let status = maintenance.alarm(request).await.unwrap_err();
        let text = format!("synod: Alarm {name} is not supported");
        assert_eq!(code_and_text(&status), (Code::Unimplemented, &text[..]));
    }
}

#[tokio::test]
async fn invalid_request_is_rejected_before_it_reaches_the_backend() {
    let (backend, channel) = connect().await;
    let mut kv = KvClient::new(channel);
    // From now on, a request that reaches the backend fails with this error.
    backend.fail_with(BackendError::Internal("reached".into()));
    let status = kv.put(put("", "1")).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::InvalidArgument, "etcdserver: key is not provided"));
    let status = kv.range(get("")).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::InvalidArgument, "etcdserver: key is not provided"));

    let op = || pb::RequestOp { request: Some(OpRequest::RequestPut(put("a", "1"))) };
    let txn = |count| pb::TxnRequest { success: vec![op(); count], ..Default::default() };
    let status = kv.txn(txn(2)).await.unwrap_err();
    let expected = (Code::InvalidArgument, "etcdserver: duplicate key given in txn request");
    assert_eq!(code_and_text(&status), expected);
    let status = kv.txn(txn(129)).await.unwrap_err();
    let expected = (Code::InvalidArgument, "etcdserver: too many operations in txn request");
    assert_eq!(code_and_text(&status), expected);
}

#[tokio::test]
async fn too_large_request_is_rejected() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel);
    // The message has 7 other bytes: three for the key, a tag, and three for the length of the value.
    let of = |size: usize| pb::PutRequest { value: vec![b'x'; size - 7].into(), ..put("a", "") };
    kv.put(of(MAX_REQUEST_BYTES)).await.unwrap();
    let status = kv.put(of(MAX_REQUEST_BYTES + 1)).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::InvalidArgument, "etcdserver: request is too large"));
    let status = kv.put(of(2 * MAX_REQUEST_BYTES)).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "rejected before decoding: {status}");
    assert_eq!(
        kv.range(get("a")).await.unwrap().into_inner().count,
        1,
        "the connection is still open"
    );
}

#[tokio::test]
async fn read_has_the_requested_consistency() {
    let (backend, channel) = connect().await;
    let mut kv = KvClient::new(channel.clone());
    let local = || pb::RangeRequest { serializable: true, ..get("a") };
    kv.range(get("a")).await.unwrap();
    kv.range(local()).await.unwrap();
    let op = |range| pb::RequestOp { request: Some(OpRequest::RequestRange(range)) };
    for range in [get("a"), local()] {
        let txn = pb::TxnRequest { success: vec![op(range)], ..Default::default() };
        kv.txn(txn).await.unwrap();
    }
    let mut cluster = ClusterClient::new(channel);
    for linearizable in [true, false] {
        cluster.member_list(pb::MemberListRequest { linearizable }).await.unwrap();
    }
    use Consistency::{Linearizable, Serializable};
    let expected = [Linearizable, Serializable].repeat(3);
    assert_eq!(backend.take_consistencies(), expected);
}

#[tokio::test]
async fn request_that_requires_a_leader_is_rejected_without_one() {
    let (backend, channel) = connect().await;
    let mut kv = KvClient::new(channel.clone());
    let requiring = || {
        let mut request = Request::new(get("a"));
        request.metadata_mut().insert("hasleader", "true".parse().unwrap());
        request
    };
    kv.range(requiring()).await.unwrap();

    backend.set_leader(false);
    kv.range(get("a")).await.unwrap();
    let status = kv.range(requiring()).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::Unavailable, "etcdserver: no leader"));

    let mut maintenance = MaintenanceClient::new(channel);
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_string()]));
}

#[tokio::test]
async fn backend_errors_are_returned_to_the_client() {
    let (backend, channel) = connect().await;
    let mut kv = KvClient::new(channel);
    backend.fail_with(BackendError::TimedOut);
    let status = kv.put(put("a", "1")).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::Unavailable, "etcdserver: request timed out"));
    backend.fail_with(BackendError::Busy);
    let status = kv.range(get("a")).await.unwrap_err();
    assert_eq!(code_and_text(&status), (Code::ResourceExhausted, "etcdserver: too many requests"));
}

#[tokio::test]
async fn large_replies_arrive_complete() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel).max_decoding_message_size(1 << 30);
    for key in 0..300 {
        let (key, value) = (format!("key {key:03}").into(), vec![7; 10_000].into());
        kv.put(pb::PutRequest { key, value, ..Default::default() }).await.unwrap();
    }
    let all = || pb::RangeRequest { key: "k".into(), range_end: "l".into(), ..Default::default() };
    let whole = kv.range(all()).await.unwrap().into_inner();
    assert_eq!((whole.header, whole.kvs.len(), whole.count), (header(301), 300, 300));
    assert!(whole.kvs.iter().all(|kv| kv.value.len() == 10_000));
    let read = pb::RequestOp { request: Some(OpRequest::RequestRange(all())) };
    let success = vec![read.clone(), read];
    let txn = pb::TxnRequest { success, ..Default::default() };
    let txn = kv.txn(txn).await.unwrap().into_inner();
    for response in txn.responses {
        let Some(OpResponse::ResponseRange(range)) = response.response else { panic!("a range") };
        assert_eq!(range.kvs, whole.kvs);
    }
    let (key, range_end) = ("k".into(), "l".into());
    let delete = pb::DeleteRangeRequest { key, range_end, prev_kv: true };
    let deleted = kv.delete_range(delete).await.unwrap().into_inner();
    assert_eq!((deleted.header, deleted.deleted), (header(302), 300));
    assert_eq!(deleted.prev_kvs, whole.kvs);
}

#[tokio::test]
async fn transaction_with_too_large_a_reply_is_rejected_without_effect() {
    let (_backend, channel) = connect().await;
    let mut kv = KvClient::new(channel);
    let value = vec![7; 1 << 20].into();
    let large = pb::PutRequest { key: "a".into(), value, ..Default::default() };
    kv.put(large).await.unwrap();
    let op = |request| pb::RequestOp { request: Some(request) };
    let mut success = vec![op(OpRequest::RequestPut(put("b", "1")))];
    success.extend((0..127).map(|_| op(OpRequest::RequestRange(get("a")))));
    let txn = pb::TxnRequest { success, ..Default::default() };
    let rejected = kv.txn(txn).await.unwrap_err();
    let expected = "synod: the reply is too large: read fewer keys at once, in pages with a limit";
    assert_eq!(code_and_text(&rejected), (Code::ResourceExhausted, expected));
    let after = kv.range(get("b")).await.unwrap().into_inner();
    assert_eq!((after.header, after.count), (header(2), 0));
}
