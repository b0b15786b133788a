//! Encoding of commands, queries and replies: a format byte, then postcard.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

/// Format of all encoded types of this crate. A change of any of them increments it, so that bytes of
/// another version are rejected instead of misread.
pub(crate) const FORMAT: u8 = 1;

/// Error for bytes that are not in the format of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are not of format {FORMAT} of the key-value store")]
pub struct FormatError;

pub(crate) fn encode<T: Serialize>(value: &T) -> Bytes {
    // A write to a vector cannot fail, and postcard supports every type of this crate.
    postcard::to_extend(value, vec![FORMAT])
        .expect("postcard encodes every type of this crate")
        .into()
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    let (format, body) = bytes.split_first().ok_or(FormatError)?;
    if *format != FORMAT {
        return Err(FormatError);
    }
    match postcard::take_from_bytes(body) {
        // Trailing bytes are rejected: `encode` writes none.
        Ok((value, [])) => Ok(value),
        _ => Err(FormatError),
    }
}
