//! Errors with etcd's codes and texts. Clients compare the texts, and decide by the code whether to retry.

use crate::BackendError;
use synod_kv::KvError;
use tonic::{Code, Status};

/// Error of a put that sets a value and also asks to keep the old one (`ignore_value`).
pub(crate) const VALUE_PROVIDED: &str = "etcdserver: value is provided";
/// Error of a range with an unknown order.
pub(crate) const INVALID_SORT: &str = "etcdserver: invalid sort option";
/// Error of a key that does not exist. Like etcd, the API also returns it for an empty operation in a
/// transaction.
pub(crate) const KEY_NOT_FOUND: &str = "etcdserver: key not found";

const KEY_NOT_PROVIDED: &str = "etcdserver: key is not provided";
const TOO_MANY_OPS: &str = "etcdserver: too many operations in txn request";
const DUPLICATE_KEY: &str = "etcdserver: duplicate key given in txn request";
const FUTURE_REVISION: &str = "etcdserver: mvcc: required revision is a future revision";

/// Returns the error of an unsupported feature, with its name.
pub(crate) fn not_supported(feature: &str) -> Status {
    Status::unimplemented(format!("synod: {feature} is not supported"))
}

/// Converts an error of the node.
pub(crate) fn backend_status(error: &BackendError) -> Status {
    use BackendError as E;
    let code = match error {
        E::NoLeader | E::LeaderChanged | E::Learner | E::Stopped => Code::Unavailable,
        E::TimedOut | E::LeaderFailed | E::ConnectionLost => Code::Unavailable,
        E::Busy | E::ReadBudget => Code::ResourceExhausted,
        E::TooLarge => Code::InvalidArgument,
        E::Corrupt => Code::DataLoss,
        E::Internal(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

/// Converts an error of the store.
pub(crate) fn kv_status(error: KvError) -> Status {
    match error {
        KvError::EmptyKey => Status::invalid_argument(KEY_NOT_PROVIDED),
        KvError::KeyNotFound => Status::invalid_argument(KEY_NOT_FOUND),
        KvError::TooManyOps => Status::invalid_argument(TOO_MANY_OPS),
        KvError::DuplicateKey => Status::invalid_argument(DUPLICATE_KEY),
        KvError::FutureRevision => Status::out_of_range(FUTURE_REVISION),
        KvError::ReplyTooLarge => Status::resource_exhausted(format!("synod: {error}")),
        KvError::HistoricRevision => not_supported("a read of an older revision"),
        // The remaining errors are those of malformed or misrouted requests. The API encodes requests itself
        // and proposes writes as commands, so they are bugs of the node.
        other => Status::internal(format!("synod: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_errors_have_etcds_codes_and_texts() {
        let cases = [
            (BackendError::NoLeader, Code::Unavailable, "etcdserver: no leader"),
            (BackendError::LeaderChanged, Code::Unavailable, "etcdserver: leader changed"),
            (BackendError::TimedOut, Code::Unavailable, "etcdserver: request timed out"),
            (
                BackendError::LeaderFailed,
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to previous leader failure",
            ),
            (
                BackendError::ConnectionLost,
                Code::Unavailable,
                "etcdserver: request timed out, possibly due to connection lost",
            ),
            (BackendError::Busy, Code::ResourceExhausted, "etcdserver: too many requests"),
            (
                BackendError::ReadBudget,
                Code::ResourceExhausted,
                "synod: too many bytes of replies are in memory: retry, or read in pages with a \
                 limit",
            ),
            (BackendError::TooLarge, Code::InvalidArgument, "etcdserver: request is too large"),
            (BackendError::Learner, Code::Unavailable, "etcdserver: rpc not supported for learner"),
            (BackendError::Stopped, Code::Unavailable, "etcdserver: server stopped"),
            (BackendError::Corrupt, Code::DataLoss, "etcdserver: corrupt cluster"),
            (BackendError::Internal("disk".into()), Code::Internal, "synod: disk"),
        ];
        for (error, code, text) in cases {
            let status = backend_status(&error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }

    #[test]
    fn store_errors_have_etcds_codes_and_texts() {
        let cases = [
            (KvError::EmptyKey, Code::InvalidArgument, "etcdserver: key is not provided"),
            (KvError::KeyNotFound, Code::InvalidArgument, "etcdserver: key not found"),
            (
                KvError::TooManyOps,
                Code::InvalidArgument,
                "etcdserver: too many operations in txn request",
            ),
            (
                KvError::DuplicateKey,
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            (
                KvError::FutureRevision,
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            (
                KvError::HistoricRevision,
                Code::Unimplemented,
                "synod: a read of an older revision is not supported",
            ),
            (
                KvError::ReplyTooLarge,
                Code::ResourceExhausted,
                "synod: the reply is too large: read fewer keys at once, in pages with a limit",
            ),
            (KvError::Malformed, Code::Internal, "synod: malformed request"),
        ];
        for (error, code, text) in cases {
            let status = kv_status(error);
            assert_eq!((status.code(), status.message()), (code, text));
        }
    }
}
