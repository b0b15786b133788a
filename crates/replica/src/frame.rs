//! Frames between nodes: a versioned, checksummed envelope and its payload.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | wire version |
//! | 4 | CRC-32 of the version and of all that follows, little-endian |
//! | varints | [`Envelope`] in postcard |
//! | rest | [`Payload`] in postcard |

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_consensus::Refusal;
use synod_types::{ClusterId, Epoch, GroupId, Incarnation, NodeId, Values};

/// The version of the frame that this program writes, and the only one it reads.
pub const WIRE_VERSION: u8 = 2;
const CHECKED: usize = 5;

/// Sender and group of a frame: the receiver drops frames of other groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The cluster.
    pub cluster: ClusterId,
    /// The group in it.
    pub group: GroupId,
    /// The group's configuration.
    pub epoch: Epoch,
    /// The sender; must be the one that the transport authenticated.
    pub from: NodeId,
    /// Incarnation of the sender's store.
    pub incarnation: Incarnation,
}

/// Content of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload<M> {
    /// A message of the protocol.
    Protocol(M),
    /// Requests of the sender's clients, for the leader.
    Forward(Values),
    /// Forwarded requests that the sender has: in its queue or in its log. As long as it leads they
    /// need not be sent again.
    Taken {
        /// Their numbers in the session of the node that forwarded them.
        requests: Vec<u64>,
    },
    /// Forwarded requests that were refused.
    Refused {
        /// Their numbers in the session of the node that forwarded them.
        requests: Vec<u64>,
        /// Reason of the refusal.
        why: Refusal,
    },
}

/// Error of bytes that are no frame of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Too short to be a frame.
    #[error("the frame is cut short")]
    Short,
    /// Another version of Synod speaks.
    #[error("the frame has wire version {0}, this program speaks {WIRE_VERSION}")]
    Version(u8),
    /// Damaged in transit.
    #[error("the frame's checksum does not fit")]
    Checksum,
    /// The checksum fits, the content does not.
    #[error("the frame's content cannot be read")]
    Content,
}

/// Writes a frame.
pub fn encode_frame<M: Serialize>(envelope: &Envelope, payload: &Payload<M>) -> Bytes {
    let frame = vec![WIRE_VERSION, 0, 0, 0, 0];
    let frame = postcard::to_extend(envelope, frame).expect("an envelope always encodes");
    let mut frame = postcard::to_extend(payload, frame).expect("a payload always encodes");
    let sum = checksum(&frame).to_le_bytes();
    frame[1..CHECKED].copy_from_slice(&sum);
    frame.into()
}

/// Reads a frame.
///
/// # Errors
/// If the bytes are anything but a whole frame of this version.
pub fn decode_frame<M: DeserializeOwned>(
    frame: &[u8],
) -> Result<(Envelope, Payload<M>), FrameError> {
    if frame.len() <= CHECKED {
        return Err(FrameError::Short);
    }
    if frame[0] != WIRE_VERSION {
        return Err(FrameError::Version(frame[0]));
    }
    // Before anything is decoded: damage must not reach the decoder.
    if frame[1..CHECKED] != checksum(frame).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    let (envelope, rest) =
        postcard::take_from_bytes(&frame[CHECKED..]).map_err(|_| FrameError::Content)?;
    match postcard::take_from_bytes(rest) {
        // Trailing bytes mean a sender with other types.
        Ok((payload, [])) => Ok((envelope, payload)),
        _ => Err(FrameError::Content),
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // The checksum itself, in between, is left out.
    hasher.update(&frame[..1]);
    hasher.update(&frame[CHECKED..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::Value;

    fn sample() -> Bytes {
        let envelope = Envelope {
            cluster: ClusterId(7),
            group: GroupId(0),
            epoch: Epoch(1),
            from: NodeId(2),
            incarnation: Incarnation(300),
        };
        let values = [Value::Noop, Value::Command(Bytes::from_static(b"x"))].into_iter().collect();
        encode_frame::<u8>(&envelope, &Payload::Forward(values))
    }

    #[test]
    fn the_bytes_are_fixed() {
        let bytes = [
            2, 210, 223, 72, 203, 7, 0, 1, 2, 172, 2, 1, 15, 0, 1, 120, 1, 0, 0, 0, 3, 0, 0, 0, 2,
            0, 0, 0,
        ];
        assert_eq!(sample()[..], bytes[..]);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused() {
        let frame = sample();
        assert!(decode_frame::<u8>(&frame).is_ok());
        for at in 0..frame.len() {
            assert!(decode_frame::<u8>(&frame[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = frame.to_vec();
                damaged[at] ^= 1 << bit;
                assert!(decode_frame::<u8>(&damaged).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut frame = sample().to_vec();
        frame[0] = 9;
        assert_eq!(decode_frame::<u8>(&frame), Err(FrameError::Version(9)));
    }
}
