//! Conversion of the store's results to wire messages.

use crate::error::kv_status;
use crate::proto::{etcdserverpb as pb, mvccpb};
use pb::response_op::Response;
use synod_kv::{
    DeleteRangeResult, KeyValue, OpReply, OpResult, PutResult, RangeResult, Reply, ReplyBody,
    Revision, TxnResult,
};
use tonic::Status;

/// Returns the result in a reply. Fails if the reply is an error, or not of the expected kind.
pub(crate) fn expect<T>(reply: Reply, pick: fn(ReplyBody) -> Option<T>) -> Result<T, Status> {
    let result = reply.result.map_err(kv_status)?;
    pick(result)
        .ok_or_else(|| Status::internal("synod: the store's reply does not match the request"))
}

/// Converts the result of a read.
pub(crate) fn range(header: pb::ResponseHeader, result: RangeResult) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: result.kvs.into_iter().map(key_value).collect(),
        more: result.more,
        count: count(result.count),
    }
}

/// Converts the result of a put.
pub(crate) fn put(header: pb::ResponseHeader, result: PutResult) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: result.prev.map(key_value) }
}

/// Converts the result of a delete.
pub(crate) fn delete_range(
    header: pb::ResponseHeader,
    result: DeleteRangeResult,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: count(result.deleted),
        prev_kvs: result.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// Converts the result of a transaction.
pub(crate) fn txn(header: pb::ResponseHeader, result: TxnResult) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: result.succeeded,
        responses: result.replies.into_iter().map(response_op).collect(),
    }
}

/// Converts the reply to an operation of a transaction. As in etcd, its header has only the revision.
fn response_op(reply: OpReply) -> pb::ResponseOp {
    let Revision(revision) = reply.revision;
    let header = pb::ResponseHeader { revision, ..Default::default() };
    let response = match reply.result {
        OpResult::Range(result) => Response::ResponseRange(range(header, result)),
        OpResult::Put(result) => Response::ResponsePut(put(header, result)),
        OpResult::DeleteRange(result) => {
            Response::ResponseDeleteRange(delete_range(header, result))
        }
    };
    pb::ResponseOp { response: Some(response) }
}

fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision.0,
        mod_revision: kv.mod_revision.0,
        version: kv.version.0,
        value: kv.value,
        lease: 0,
    }
}

/// Converts a count. Saturates, but no store in memory reaches the maximum.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
