//! Conversion between a protocol's types and the bytes of a log store.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use synod_consensus::{Base, Protocol, Run, Saved, Write};
use synod_storage::{LogOp, StoredRun};

/// Error of a record that this protocol did not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored {0} cannot be read: another protocol or a newer version wrote it")]
pub struct DecodeError(pub &'static str);

/// Encodes a core's write as an operation of the log store.
#[must_use]
pub fn encode_write<P: Protocol>(write: &Write<P>) -> LogOp {
    match write {
        Write::HardState(hard_state) => LogOp::HardState(encode(hard_state)),
        Write::Put(run) => LogOp::Put(StoredRun {
            first: run.first,
            stamp: encode(&run.stamp),
            values: run.values.clone(),
        }),
        Write::TruncateFrom(slot) => LogOp::TruncateFrom(*slot),
        Write::Compact(base) => LogOp::Compact { through: base.through, base: encode(base) },
    }
}

/// Decodes a stored operation.
///
/// # Errors
/// If the bytes are of another protocol or a newer version.
pub fn decode_op<P: Protocol>(op: &LogOp) -> Result<Write<P>, DecodeError> {
    Ok(match op {
        LogOp::HardState(bytes) => Write::HardState(decode(bytes, "hard state")?),
        LogOp::Put(run) => Write::Put(Run {
            first: run.first,
            stamp: decode(&run.stamp, "log entry")?,
            values: run.values.clone(),
        }),
        LogOp::TruncateFrom(slot) => Write::TruncateFrom(*slot),
        LogOp::Compact { base, .. } => Write::Compact(decode::<Base<P::Stamp>>(base, "log base")?),
    })
}

/// Decodes all records that a log store holds of a group.
///
/// # Errors
/// If any record is of another protocol or a newer version.
pub fn decode_saved<P: Protocol>(
    stored: &synod_storage::StoredGroup,
) -> Result<Saved<P>, DecodeError> {
    let mut saved = Saved::default();
    if let Some(bytes) = &stored.hard_state {
        saved.hard_state = decode(bytes, "hard state")?;
    }
    if let Some((_, bytes)) = &stored.base {
        // The journal's operations apply on top of the base.
        saved.apply(&Write::Compact(decode(bytes, "log base")?));
    }
    for op in &stored.journal {
        saved.apply(&decode_op(op)?);
    }
    Ok(saved)
}

fn encode<T: Serialize>(value: &T) -> Bytes {
    postcard::to_allocvec(value).expect("a record always encodes").into()
}

fn decode<T: DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T, DecodeError> {
    match postcard::take_from_bytes(bytes) {
        // Trailing bytes show that a record of another type was written.
        Ok((value, [])) => Ok(value),
        _ => Err(DecodeError(what)),
    }
}
