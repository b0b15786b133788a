//! Commands, queries and replies as bytes: a format byte, then postcard.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// The format of all encoded types of this crate. It is incremented when any of them changes, so that
/// bytes of another version are rejected instead of misread.
pub(crate) const FORMAT: u8 = 1;

/// Error of bytes in another format than this version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not of format {FORMAT} of the key-value store")]
pub struct FormatError;

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // Writing into a vector cannot fail: every length is known and every type is our own.
    postcard::to_extend(value, vec![FORMAT]).expect("plain data always encodes").into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    let (format, body) = bytes.split_first().ok_or(FormatError)?;
    if *format != FORMAT {
        return Err(FormatError);
    }
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        _ => Err(FormatError),
    }
}
