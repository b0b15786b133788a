//! Encoding of records: a version byte, the record in postcard, and a CRC-32 over the key and both.
//!
//! The checksum covers the key, so that an intact record under another key is detected, too.

use crate::{LogOp, StoredRun};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_types::{ClusterId, GroupId, Incarnation, NodeId, Slot, Values};

/// Newest supported format of folders and records.
pub(crate) const FORMAT: u32 = 1;

/// First byte of a record: the format in which it was written.
const VERSION: u8 = FORMAT as u8;

/// Size of a checksum in bytes.
const CHECKSUM: usize = size_of::<u32>();

/// Key of [`Meta`].
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
pub(crate) const META_KEY: &[u8] = b"m";

/// Owner and boot count of a store.
#[cfg_attr(not(feature = "rocksdb"), allow(dead_code))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) cluster: ClusterId,
    pub(crate) node: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) boot: u64,
}

/// Head of a group, rewritten with every batch of the group. Hard state, base and the bounds of the
/// journal are one record, so that they cannot contradict each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) hard_state: Option<Bytes>,
    pub(crate) base: Option<(Slot, Bytes)>,
    /// Sequence number of the journal's first operation.
    pub(crate) first: u64,
    /// Sequence number of the next operation.
    pub(crate) next: u64,
}

/// One operation of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    Put { first: Slot, stamp: Bytes, values: Values },
    TruncateFrom(Slot),
}

impl Op {
    /// Converts an operation of the journal. The buffers are shared, not copied.
    ///
    /// # Panics
    /// If the operation is a hard state or a base, which are stored in the head.
    pub(crate) fn of(op: &LogOp) -> Self {
        match op {
            LogOp::TruncateFrom(slot) => Self::TruncateFrom(*slot),
            LogOp::Put(run) => {
                Self::Put { first: run.first, stamp: run.stamp.clone(), values: run.values.clone() }
            }
            LogOp::HardState(_) | LogOp::Compact { .. } => {
                unreachable!("the journal has only puts and truncations")
            }
        }
    }
}

impl From<Op> for LogOp {
    fn from(op: Op) -> Self {
        match op {
            Op::Put { first, stamp, values } => Self::Put(StoredRun { first, stamp, values }),
            Op::TruncateFrom(slot) => Self::TruncateFrom(slot),
        }
    }
}

/// Returns the key of a group's head.
pub(crate) fn head_key(group: GroupId) -> [u8; 9] {
    let mut key = [b'g'; 9];
    // Big-endian, so that keys are in the order of their numbers.
    key[1..].copy_from_slice(&group.0.to_be_bytes());
    key
}

/// Returns the key of an operation in a group's journal.
pub(crate) fn op_key(group: GroupId, sequence: u64) -> [u8; 17] {
    let mut key = [b'j'; 17];
    key[1..9].copy_from_slice(&group.0.to_be_bytes());
    key[9..].copy_from_slice(&sequence.to_be_bytes());
    key
}

/// Returns the first key after a group's journal.
pub(crate) fn journal_end(group: GroupId) -> [u8; 18] {
    // One byte longer than the key of the last operation, so above it and below the next group's keys.
    let mut key = [0; 18];
    key[..17].copy_from_slice(&op_key(group, u64::MAX));
    key
}

/// Reason why a record cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadRecord {
    /// The bytes differ from the record that was written under this key.
    Damaged,
    /// The record was written in a newer format.
    TooNew(u32),
}

/// Encodes a record for `key` and replaces the content of `out` by it. Values are copied once.
pub(crate) fn seal(key: &[u8], record: &impl Serialize, out: &mut Vec<u8>) {
    out.clear();
    out.push(VERSION);
    // The buffer moves through postcard and back, so that a writer reuses its capacity.
    let mut bytes = postcard::to_extend(record, std::mem::take(out))
        .expect("postcard encodes every record type, and a vector always grows");
    let checksum = checksum(key, &bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    *out = bytes;
}

/// Decodes a record that [`seal`] encoded for the same key.
pub(crate) fn unseal<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, BadRecord> {
    // The checksum comes first: a flipped version byte is damage, not a newer format.
    let (body, stored) = value.split_last_chunk::<CHECKSUM>().ok_or(BadRecord::Damaged)?;
    if u32::from_le_bytes(*stored) != checksum(key, body) {
        return Err(BadRecord::Damaged);
    }
    let (version, payload) = body.split_first().ok_or(BadRecord::Damaged)?;
    match *version {
        VERSION => {}
        newer if newer > VERSION => return Err(BadRecord::TooNew(newer.into())),
        _ => return Err(BadRecord::Damaged),
    }
    match postcard::take_from_bytes(payload) {
        // Trailing bytes are damage: `seal` writes none.
        Ok((record, [])) => Ok(record),
        _ => Err(BadRecord::Damaged),
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::{Debug, Write};
    use synod_types::Value;

    fn sealed(key: &[u8], record: &impl Serialize) -> Vec<u8> {
        let mut out = vec![0xEE; 3];
        seal(key, record, &mut out);
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    fn sample() -> (Meta, Head, Op, Op) {
        let meta = Meta {
            cluster: ClusterId(3),
            node: NodeId(2),
            incarnation: Incarnation(0x1234),
            boot: 5,
        };
        let head = Head {
            hard_state: Some(b"hs".to_vec().into()),
            base: Some((Slot(300), b"b".to_vec().into())),
            first: 7,
            next: 9,
        };
        let values: Values =
            [Value::Noop, Value::Command(b"x".to_vec().into())].into_iter().collect();
        let put = Op::Put { first: Slot(301), stamp: vec![4].into(), values };
        (meta, head, put, Op::TruncateFrom(Slot(302)))
    }

    /// Existing stores must stay readable: these bytes may change only together with [`FORMAT`].
    #[test]
    fn record_encoding_does_not_change() {
        let (meta, head, put, truncate) = sample();
        let group = GroupId(1);
        let key = op_key(group, 7);
        assert_eq!(hex(&key), "6a00000000000000010000000000000007");
        assert_eq!(hex(&head_key(group)), "670000000000000001");
        assert_eq!(hex(&sealed(META_KEY, &meta)), "010302b4240540d02d12");
        assert_eq!(hex(&sealed(&head_key(group), &head)), "010102687301ac02016207092bdbfd7a");
        assert_eq!(
            hex(&sealed(&key, &put)),
            "0100ad0201040f000178010000000300000002000000c56979a1"
        );
        assert_eq!(hex(&sealed(&key, &truncate)), "0101ae02255d59eb");
    }

    /// Checks that a record is decoded, and that each flipped bit, each truncation and another key are
    /// detected.
    fn check_record<T: Debug + PartialEq + Serialize + DeserializeOwned>(key: &[u8], record: &T) {
        let value = sealed(key, record);
        assert_eq!(unseal::<T>(key, &value).as_ref(), Ok(record));
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bad = value.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(unseal::<T>(key, &bad), Err(BadRecord::Damaged), "byte {at} bit {bit}");
            }
            let truncated = unseal::<T>(key, &value[..at]);
            assert_eq!(truncated, Err(BadRecord::Damaged), "truncated at byte {at}");
        }
        assert_eq!(unseal::<T>(b"other key", &value), Err(BadRecord::Damaged), "under another key");
    }

    #[test]
    fn every_flip_truncation_and_misplaced_record_is_detected() {
        let (meta, head, put, truncate) = sample();
        check_record(META_KEY, &meta);
        check_record(&head_key(GroupId(1)), &head);
        check_record(&op_key(GroupId(1), 7), &put);
        check_record(&op_key(GroupId(1), 8), &truncate);
    }

    #[test]
    fn record_of_a_newer_format_is_reported_as_too_new() {
        let mut body = vec![VERSION + 1, 1, 2, 3];
        let sum = checksum(b"k", &body);
        body.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(unseal::<Meta>(b"k", &body), Err(BadRecord::TooNew(FORMAT + 1)));
    }

    #[test]
    fn record_with_trailing_bytes_is_damaged() {
        let mut body = sealed(b"k", &Slot(1));
        body.truncate(body.len() - CHECKSUM);
        body.push(0);
        let sum = checksum(b"k", &body);
        body.extend_from_slice(&sum.to_le_bytes());
        assert_eq!(unseal::<Slot>(b"k", &body), Err(BadRecord::Damaged));
    }

    #[test]
    fn journal_keys_are_ordered_by_group_and_sequence() {
        let keys = [
            op_key(GroupId(1), 0),
            op_key(GroupId(1), 255),
            op_key(GroupId(1), 256),
            op_key(GroupId(1), u64::MAX),
            op_key(GroupId(2), 0),
            op_key(GroupId(u64::MAX), 0),
        ];
        assert!(keys.is_sorted());
        assert!(keys[3].as_slice() < journal_end(GroupId(1)).as_slice());
        assert!(journal_end(GroupId(1)).as_slice() < keys[4].as_slice());
    }
}
