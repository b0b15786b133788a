//! Client requests to one node.

use super::wait_for;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_etcd_api::proto::etcdserverpb as pb;
use synod_etcd_api::proto::etcdserverpb::kv_client::KvClient;
use synod_node::http;
use synod_node::server::NodeReport;
use tonic::transport::{Channel, Endpoint};

/// Returns a client that connects at its first request, and reconnects when necessary.
pub(crate) fn connect(port: u16, timeout: Duration) -> KvClient<Channel> {
    KvClient::new(channel(port, timeout)).max_decoding_message_size(1 << 30)
}

/// Returns a channel that connects at its first request, and reconnects when necessary.
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

/// Reads a key; `None` if it does not exist.
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

/// Deletes a key; returns whether it existed.
pub(crate) async fn delete(
    client: &mut KvClient<Channel>,
    key: &str,
) -> Result<bool, tonic::Status> {
    let request = pb::DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    Ok(client.delete_range(request).await?.into_inner().deleted > 0)
}

/// Outcome of a compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SwapOutcome {
    Swapped,
    /// The key had this value instead.
    Mismatch(Option<String>),
}

/// In one transaction, sets a key if it has the value `old` (with `None`, if it does not exist), and reads
/// it otherwise.
pub(crate) async fn swap(
    client: &mut KvClient<Channel>,
    key: &str,
    old: Option<&str>,
    new: &str,
) -> Result<SwapOutcome, tonic::Status> {
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
        return Ok(SwapOutcome::Swapped);
    }
    let found = reply.responses.into_iter().next().and_then(|op| op.response);
    let Some(pb::response_op::Response::ResponseRange(found)) = found else {
        return Err(tonic::Status::internal("the reply to a read is of another kind"));
    };
    Ok(SwapOutcome::Mismatch(found.kvs.first().map(|kv| super::text(&kv.value))))
}

/// Fetches a page of a node, such as `/readyz`.
pub(crate) fn page(port: u16, path: &str) -> http::Page {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let address = format!("127.0.0.1:{port}");
    runtime.block_on(http::get(&address, path, Duration::from_secs(5))).expect("a page")
}

/// Reads all keys from one node alone (serializable).
pub(crate) async fn read_all_local(port: u16) -> BTreeMap<String, String> {
    all(port, true).await.expect("a serializable read needs no quorum")
}

/// Reads all keys through one node (linearizable); `None` if that fails.
pub(crate) fn read_all(port: u16) -> Option<BTreeMap<String, String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(all(port, false)).ok()
}

async fn all(port: u16, serializable: bool) -> Result<BTreeMap<String, String>, tonic::Status> {
    let (key, range_end) = (vec![0].into(), vec![0].into());
    let request = pb::RangeRequest { key, range_end, serializable, ..Default::default() };
    let reply = connect(port, Duration::from_secs(60)).range(request).await?.into_inner();
    Ok(reply.kvs.iter().map(|kv| (super::text(&kv.key), super::text(&kv.value))).collect())
}

/// Returns a node's status report; `None` if it does not reply.
pub(crate) fn status(port: u16) -> Option<NodeReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let page = runtime.block_on(http::get(
        &format!("127.0.0.1:{port}"),
        "/status",
        Duration::from_secs(5),
    ));
    serde_json::from_str(&page.ok()?.body).ok()
}

/// Waits until all nodes have the same applied slot, and returns it. Panics if two nodes with the same
/// applied slot have different digests.
pub(crate) fn wait_until_equal(ports: &[u16], limit: Duration) -> u64 {
    wait_for("all nodes have the same applied slot", limit, || {
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
