//! The conversion of the store's answers to wire messages.

use crate::error::kv_status;
use crate::proto::{etcdserverpb as pb, mvccpb};
use pb::response_op::Response;
use synod_kv::{
    DeleteRangeAnswer, KeyValue, OpAnswer, OpReply, PutAnswer, RangeAnswer, Reply, ReplyBody,
    Revision, TxnAnswer,
};
use tonic::Status;

/// Returns the answer in a reply, if it has the expected kind.
pub(crate) fn expect<T>(reply: Reply, pick: fn(ReplyBody) -> Option<T>) -> Result<T, Status> {
    let answer = reply.answer.map_err(kv_status)?;
    pick(answer).ok_or_else(|| Status::internal("synod: the store answered another question"))
}

/// Converts the answer to a read.
pub(crate) fn range(header: pb::ResponseHeader, answer: RangeAnswer) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: count(answer.count),
    }
}

/// Converts the answer to a put.
pub(crate) fn put(header: pb::ResponseHeader, answer: PutAnswer) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: answer.prev.map(key_value) }
}

/// Converts the answer to a delete.
pub(crate) fn delete_range(
    header: pb::ResponseHeader,
    answer: DeleteRangeAnswer,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: count(answer.deleted),
        prev_kvs: answer.prev_kvs.into_iter().map(key_value).collect(),
    }
}

/// Converts the answer to a transaction.
pub(crate) fn txn(header: pb::ResponseHeader, answer: TxnAnswer) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: answer.replies.into_iter().map(response_op).collect(),
    }
}

/// Converts an inner reply. Its header has the revision only; the outer header has the rest.
fn response_op(reply: OpReply) -> pb::ResponseOp {
    let Revision(revision) = reply.revision;
    let header = pb::ResponseHeader { revision, ..Default::default() };
    let response = match reply.answer {
        OpAnswer::Range(answer) => Response::ResponseRange(range(header, answer)),
        OpAnswer::Put(answer) => Response::ResponsePut(put(header, answer)),
        OpAnswer::DeleteRange(answer) => {
            Response::ResponseDeleteRange(delete_range(header, answer))
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

/// Converts a count, saturating. No store in memory reaches the maximum.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
