//! Conversion of wire messages to requests of the store.

use crate::error::{INVALID_SORT, KEY_NOT_FOUND, VALUE_PROVIDED, not_supported};
use crate::proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request;
use synod_kv::{
    Compare, CompareOperand, CompareRelation, DeleteRange, KeyRange, Op, Put, Range, Revision,
    Sort, SortBy, SortDirection, Txn, Version,
};
use tonic::Status;

/// Converts a read.
pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    let bound = |revision| (revision != 0).then_some(Revision(revision));
    Ok(Range {
        keys: KeyRange::from_etcd(request.key, request.range_end),
        limit: u64::try_from(request.limit).unwrap_or(0),
        revision: (request.revision > 0).then_some(Revision(request.revision)),
        sort: sort(request.sort_order, request.sort_target)?,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: bound(request.min_mod_revision),
        max_mod_revision: bound(request.max_mod_revision),
        min_create_revision: bound(request.min_create_revision),
        max_create_revision: bound(request.max_create_revision),
    })
}

/// Converts a put.
pub(crate) fn put(request: pb::PutRequest) -> Result<Put, Status> {
    if request.lease != 0 || request.ignore_lease {
        return Err(not_supported("a lease in a put"));
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument(VALUE_PROVIDED));
    }
    let value = (!request.ignore_value).then_some(request.value);
    Ok(Put { key: request.key, value, prev_kv: request.prev_kv })
}

/// Converts a delete.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    let keys = KeyRange::from_etcd(request.key, request.range_end);
    DeleteRange { keys, prev_kv: request.prev_kv }
}

/// Converts a transaction.
pub(crate) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    let ops = |list: Vec<pb::RequestOp>| list.into_iter().map(op).collect::<Result<_, _>>();
    Ok(Txn {
        compares: request.compare.into_iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(request.success)?,
        failure: ops(request.failure)?,
    })
}

/// Returns whether a transaction may be executed on the state of this node alone: all its operations are
/// serializable reads.
pub(crate) fn is_serializable(request: &pb::TxnRequest) -> bool {
    request
        .success
        .iter()
        .chain(&request.failure)
        .all(|op| matches!(&op.request, Some(Request::RequestRange(range)) if range.serializable))
}

fn op(op: pb::RequestOp) -> Result<Op, Status> {
    match op.request {
        Some(Request::RequestRange(request)) => range(request).map(Op::Range),
        Some(Request::RequestPut(request)) => put(request).map(Op::Put),
        Some(Request::RequestDeleteRange(request)) => Ok(Op::DeleteRange(delete_range(request))),
        Some(Request::RequestTxn(_)) => Err(not_supported("a transaction inside a transaction")),
        None => Err(Status::invalid_argument(KEY_NOT_FOUND)),
    }
}

fn sort(order: i32, target: i32) -> Result<Option<Sort>, Status> {
    let invalid = |_| Status::invalid_argument(INVALID_SORT);
    let order = SortOrder::try_from(order).map_err(invalid)?;
    let by = match SortTarget::try_from(target).map_err(invalid)? {
        SortTarget::Key => SortBy::Key,
        SortTarget::Version => SortBy::Version,
        SortTarget::Create => SortBy::Created,
        SortTarget::Mod => SortBy::Modified,
        SortTarget::Value => SortBy::Value,
    };
    Ok(match (order, by) {
        // The order of the store: without a sort, a read with a limit need not load all keys.
        (SortOrder::None | SortOrder::Ascend, SortBy::Key) => None,
        // As in etcd, a target without an order sorts only the keys within the limit.
        (SortOrder::None, by) => Some(Sort { by, order: SortDirection::AscendingWithinLimit }),
        (SortOrder::Ascend, by) => Some(Sort { by, order: SortDirection::Ascending }),
        (SortOrder::Descend, by) => Some(Sort { by, order: SortDirection::Descending }),
    })
}

fn compare(compare: pb::Compare) -> Result<Compare, Status> {
    let relation = match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => CompareRelation::Equal,
        Ok(CompareResult::NotEqual) => CompareRelation::NotEqual,
        Ok(CompareResult::Less) => CompareRelation::Less,
        Ok(CompareResult::Greater) => CompareRelation::Greater,
        Err(_) => {
            return Err(Status::invalid_argument("synod: unknown operator (result) in a compare"));
        }
    };
    // As in etcd, an operand for another target than the named one is ignored, and counts as zero or empty.
    let given = compare.target_union;
    let operand = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => CompareOperand::Version(match given {
            Some(TargetUnion::Version(version)) => Version(version),
            _ => Version(0),
        }),
        Ok(CompareTarget::Create) => CompareOperand::Created(match given {
            Some(TargetUnion::CreateRevision(revision)) => Revision(revision),
            _ => Revision(0),
        }),
        Ok(CompareTarget::Mod) => CompareOperand::Modified(match given {
            Some(TargetUnion::ModRevision(revision)) => Revision(revision),
            _ => Revision(0),
        }),
        Ok(CompareTarget::Value) => CompareOperand::Value(match given {
            Some(TargetUnion::Value(value)) => value,
            _ => bytes::Bytes::new(),
        }),
        Ok(CompareTarget::Lease) => return Err(not_supported("a lease in a compare")),
        Err(_) => return Err(Status::invalid_argument("synod: unknown target in a compare")),
    };
    Ok(Compare { keys: KeyRange::from_etcd(compare.key, compare.range_end), relation, operand })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn rejected<T: std::fmt::Debug>(result: Result<T, Status>) -> (Code, String) {
        let status = result.unwrap_err();
        (status.code(), status.message().to_string())
    }

    fn unsupported(feature: &str) -> (Code, String) {
        (Code::Unimplemented, format!("synod: {feature} is not supported"))
    }

    #[test]
    fn limits_and_revisions_below_one_are_ignored() {
        let request = pb::RangeRequest { limit: -1, revision: -1, ..Default::default() };
        let range = range(request).unwrap();
        assert_eq!((range.limit, range.revision), (0, None));
        assert_eq!((range.min_mod_revision, range.max_create_revision), (None, None));
    }

    #[test]
    fn sort_target_without_order_ascends_within_the_limit() {
        let of = |order: SortOrder, target: SortTarget| sort(order as i32, target as i32).unwrap();
        let by = |by, order| Some(Sort { by, order });
        assert_eq!(of(SortOrder::None, SortTarget::Key), None);
        assert_eq!(of(SortOrder::Ascend, SortTarget::Key), None);
        assert_eq!(
            of(SortOrder::Descend, SortTarget::Key),
            by(SortBy::Key, SortDirection::Descending)
        );
        let within = by(SortBy::Modified, SortDirection::AscendingWithinLimit);
        assert_eq!(of(SortOrder::None, SortTarget::Mod), within);
        let whole = by(SortBy::Modified, SortDirection::Ascending);
        assert_eq!(of(SortOrder::Ascend, SortTarget::Mod), whole);
        assert_eq!(
            of(SortOrder::Descend, SortTarget::Value),
            by(SortBy::Value, SortDirection::Descending)
        );
        for (order, target) in [(3, 0), (0, 5), (-1, -1)] {
            let expected = (Code::InvalidArgument, INVALID_SORT.to_string());
            assert_eq!(rejected(sort(order, target)), expected);
        }
    }

    #[test]
    fn put_with_a_lease_or_with_value_and_ignore_value_is_rejected() {
        let lease = pb::PutRequest { lease: 7, ..Default::default() };
        assert_eq!(rejected(put(lease)), unsupported("a lease in a put"));
        let ignore = pb::PutRequest { ignore_lease: true, ..Default::default() };
        assert_eq!(rejected(put(ignore)), unsupported("a lease in a put"));
        let both = pb::PutRequest { ignore_value: true, value: "v".into(), ..Default::default() };
        assert_eq!(rejected(put(both)), (Code::InvalidArgument, VALUE_PROVIDED.to_string()));
        let keep = pb::PutRequest { ignore_value: true, ..Default::default() };
        assert_eq!(put(keep).unwrap().value, None);
        assert_eq!(put(pb::PutRequest::default()).unwrap().value, Some("".into()));
    }

    #[test]
    fn nested_transaction_is_rejected() {
        let of = |request| {
            txn(pb::TxnRequest { success: vec![pb::RequestOp { request }], ..Default::default() })
        };
        let nested = Some(Request::RequestTxn(pb::TxnRequest::default()));
        assert_eq!(rejected(of(nested)), unsupported("a transaction inside a transaction"));
        assert_eq!(rejected(of(None)), (Code::InvalidArgument, KEY_NOT_FOUND.to_string()));
    }

    #[test]
    fn compare_without_operand_uses_zero() {
        let of = |target: CompareTarget, target_union| {
            let target = target as i32;
            compare(pb::Compare { target, target_union, ..Default::default() })
                .map(|compare| compare.operand)
        };
        let version = Some(TargetUnion::Version(3));
        let given = of(CompareTarget::Version, version.clone()).unwrap();
        assert_eq!(given, CompareOperand::Version(Version(3)));
        assert_eq!(of(CompareTarget::Mod, version).unwrap(), CompareOperand::Modified(Revision(0)));
        assert_eq!(of(CompareTarget::Value, None).unwrap(), CompareOperand::Value("".into()));
        assert_eq!(rejected(of(CompareTarget::Lease, None)), unsupported("a lease in a compare"));
        for (result, target) in [(9, 0), (0, 9)] {
            let odd = pb::Compare { result, target, ..Default::default() };
            assert_eq!(rejected(compare(odd)).0, Code::InvalidArgument);
        }
    }

    #[test]
    fn transaction_is_serializable_only_if_every_read_is() {
        let read = |serializable| {
            let range = pb::RangeRequest { serializable, ..Default::default() };
            pb::RequestOp { request: Some(Request::RequestRange(range)) }
        };
        let of = |success, failure| {
            is_serializable(&pb::TxnRequest { success, failure, ..Default::default() })
        };
        assert!(of(vec![read(true)], vec![read(true)]));
        assert!(!of(vec![read(true)], vec![read(false)]));
        let put = Some(Request::RequestPut(pb::PutRequest::default()));
        assert!(!of(vec![pb::RequestOp { request: put }], Vec::new()));
    }
}
