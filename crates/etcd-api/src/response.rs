//! The store's answers, turned into what goes over the wire.

use crate::error::kv_status;
use crate::proto::{etcdserverpb as pb, mvccpb};
use pb::response_op::Response;
use synod_kv::{
    DeleteRangeAnswer, KeyValue, OpAnswer, OpReply, PutAnswer, RangeAnswer, Reply, ReplyBody,
    Revision, TxnAnswer,
};
use tonic::Status;

/// The answer inside a reply, if the store gave the kind that was asked for.
pub(crate) fn expect<T>(reply: Reply, pick: fn(ReplyBody) -> Option<T>) -> Result<T, Status> {
    let answer = reply.answer.map_err(kv_status)?;
    pick(answer).ok_or_else(|| Status::internal("synod: the store answered another question"))
}

/// The answer to a read.
pub(crate) fn range(header: pb::ResponseHeader, answer: RangeAnswer) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: answer.kvs.into_iter().map(key_value).collect(),
        more: answer.more,
        count: count(answer.count),
    }
}

/// The answer to a write.
pub(crate) fn put(header: pb::ResponseHeader, answer: PutAnswer) -> pb::PutResponse {
    pb::PutResponse { header: Some(header), prev_kv: answer.prev.map(key_value) }
}

/// The answer to a delete.
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

/// The answer to a transaction.
pub(crate) fn txn(header: pb::ResponseHeader, answer: TxnAnswer) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: answer.succeeded,
        responses: answer.replies.into_iter().map(response_op).collect(),
    }
}

/// An inner response tells the revision alone; who answered stands in the outer header.
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

/// A count as it stands on the wire. No store in memory comes near the end.
pub(crate) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
