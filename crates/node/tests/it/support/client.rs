//! Clients of one node.

use super::wait_for;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use synod_node::http;
use synod_node::server::NodeReport;
use tonic::transport::{Channel, Endpoint};

/// A client that connects when it is first used, and again whenever it must.
pub(crate) fn connect(port: u16, timeout: Duration) -> KvClient<Channel> {
    KvClient::new(channel(port, timeout)).max_decoding_message_size(1 << 30)
}

/// What such a client speaks through.
pub(crate) fn channel(port: u16, timeout: Duration) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).expect("an address");
    let endpoint = endpoint.connect_timeout(Duration::from_secs(1)).timeout(timeout);
    endpoint.tcp_nodelay(true).connect_lazy()
}

pub(crate) async fn put(
    client: &mut KvClient<Channel>,
    key: &str,
    value: &str,
) -> Result<(), tonic::Status> {
    let request = pb::PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        ..Default::default()
    };
    client.put(request).await.map(drop)
}

/// The value of a key, as fresh as asked; `None` if there is no such key.
pub(crate) async fn get(
    client: &mut KvClient<Channel>,
    key: &str,
    serializable: bool,
) -> Result<Option<String>, tonic::Status> {
    let request =
        pb::RangeRequest { key: key.to_owned().into(), serializable, ..Default::default() };
    let reply = client.range(request).await?.into_inner();
    Ok(reply.kvs.first().map(|kv| super::text(&kv.value)))
}

/// Takes a key away; says whether it was there.
pub(crate) async fn delete(
    client: &mut KvClient<Channel>,
    key: &str,
) -> Result<bool, tonic::Status> {
    let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    Ok(client.delete_range(request).await?.into_inner().deleted > 0)
}

/// What became of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Swapped {
    Yes,
    /// It held something else.
    No(Option<String>),
}

/// Gives a key a value if it holds the old one, or is not there; else reads it, all at once.
pub(crate) async fn swap(
    client: &mut KvClient<Channel>,
    key: &str,
    old: Option<&str>,
    new: &str,
) -> Result<Swapped, tonic::Status> {
    use pb::compare::{CompareResult, CompareTarget, TargetUnion};
    let (target, union) = match old {
        Some(old) => (CompareTarget::Value, TargetUnion::Value(old.to_owned().into())),
        None => (CompareTarget::Version, TargetUnion::Version(0)),
    };
    let key: bytes::Bytes = key.to_owned().into();
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..Default::default()
    };
    let op = |request| pb::RequestOp { request: Some(request) };
    let put =
        pb::PutRequest { key: key.clone(), value: new.to_owned().into(), ..Default::default() };
    let get = pb::RangeRequest { key, ..Default::default() };
    let request = pb::TxnRequest {
        compare: vec![compare],
        success: vec![op(pb::request_op::Request::RequestPut(put))],
        failure: vec![op(pb::request_op::Request::RequestRange(get))],
    };
    let reply = client.txn(request).await?.into_inner();
    if reply.succeeded {
        return Ok(Swapped::Yes);
    }
    let found = reply.responses.into_iter().next().and_then(|op| op.response);
    let Some(pb::response_op::Response::ResponseRange(found)) = found else {
        return Err(tonic::Status::internal("a read is answered with something else"));
    };
    Ok(Swapped::No(found.kvs.first().map(|kv| super::text(&kv.value))))
}

/// A page of a node, such as `/readyz`.
pub(crate) fn page(port: u16, path: &str) -> http::Page {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = format!("127.0.0.1:{port}");
    runtime.block_on(http::get(&address, path, Duration::from_secs(5))).expect("a page")
}

/// All that a node itself holds.
pub(crate) async fn everything(port: u16) -> BTreeMap<String, String> {
    all(port, true).await.expect("a node answers for itself")
}

/// All that the cluster holds, asked of one node; `None` while that cannot be told.
pub(crate) fn agreed(port: u16) -> Option<BTreeMap<String, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(all(port, false)).ok()
}

async fn all(port: u16, serializable: bool) -> Result<BTreeMap<String, String>, tonic::Status> {
    let (key, range_end) = (vec![0].into(), vec![0].into());
    let request = pb::RangeRequest { key, range_end, serializable, ..Default::default() };
    let reply = connect(port, Duration::from_secs(60)).range(request).await?.into_inner();
    Ok(reply.kvs.iter().map(|kv| (super::text(&kv.key), super::text(&kv.value))).collect())
}

/// What a node knows of itself; `None` if it does not answer.
pub(crate) fn status(port: u16) -> Option<NodeReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let page = runtime.block_on(http::get(
        &format!("127.0.0.1:{port}"),
        "/status",
        Duration::from_secs(5),
    ));
    serde_json::from_str(&page.ok()?.body).ok()
}

/// Waits until all nodes have applied equally far, with equal digests; they must be equal
/// whenever two nodes have applied equally far.
pub(crate) fn wait_until_equal(ports: &[u16], patience: Duration) -> u64 {
    wait_for("all nodes have applied equally far", patience, || {
        let reports: Option<Vec<_>> = ports.iter().map(|port| status(*port)).collect();
        let reports = reports?;
        for (one, other) in reports.iter().zip(&reports[1..]) {
            if one.applied == other.applied {
                assert_eq!(one.digest, other.digest, "the states differ: {reports:#?}");
            }
        }
        let first = &reports[0];
        reports.iter().all(|report| report.applied == first.applied).then_some(first.applied)
    })
}
