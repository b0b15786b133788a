//! Commands, queries and replies as bytes: a format byte, then postcard.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The format of everything this crate encodes. Raised when any encoded type changes, so that
/// bytes of another version are refused instead of misread.
pub(crate) const FORMAT: u8 = 1;

/// Bytes that came from outside are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not of format {FORMAT} of the key-value store")]
pub struct Malformed;

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Writing into a vector has no way to fail: every length is known and every type is our own.
    postcard::to_extend(value, vec![FORMAT]).expect("plain data always encodes").into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    let (format, body) = bytes.split_first().ok_or(Malformed)?;
    if *format != FORMAT {
        return Err(Malformed);
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(Malformed),
    }
}
