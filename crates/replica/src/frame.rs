//! Wire format of frames between nodes: a version, a checksum, an envelope and a payload.
//!
//! | bytes | content |
//! |---|---|
//! | 1 | wire version |
//! | 4 | CRC-32 of the version and of all bytes after this field, little-endian |
//! | varints | [`Envelope`] in postcard |
//! | rest | [`Payload`] in postcard |

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use synod_consensus::Refusal;
use synod_types::{ClusterId, Epoch, GroupId, Incarnation, NodeId, Values};

/// Wire version of the frames that this program writes, and the only one that it reads.
pub const WIRE_VERSION: u8 = 2;
/// Length of the version and the checksum, in bytes.
const HEADER: usize = 5;

/// Sender and group of a frame. Receivers drop frames of other clusters, groups and epochs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Id of the cluster.
    pub cluster: ClusterId,
    /// Id of the group in the cluster.
    pub group: GroupId,
    /// Epoch of the group's configuration.
    pub epoch: Epoch,
    /// Sender. It must be the peer that the transport authenticated.
    pub from: NodeId,
    /// Incarnation of the sender's store.
    pub incarnation: Incarnation,
}

/// Content of a frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload<M> {
    /// Message of the protocol.
    Protocol(M),
    /// Requests of the sender's clients, for the leader.
    Forward(Values),
    /// Acknowledgement of forwarded requests that are in the sender's queue or log. They need no
    /// retry while it leads.
    Acknowledged {
        /// Numbers of the requests in the session of the node that forwarded them.
        requests: Vec<u64>,
    },
    /// Refusal of forwarded requests.
    Refused {
        /// Numbers of the requests in the session of the node that forwarded them.
        requests: Vec<u64>,
        /// Reason of the refusal.
        why: Refusal,
    },
}

/// Error of bytes that are not a frame of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The frame is shorter than its header.
    #[error("the frame is truncated")]
    Short,
    /// The frame has another wire version.
    #[error("the frame has wire version {0}, this program supports only version {WIRE_VERSION}")]
    Version(u8),
    /// The frame was damaged in transit.
    #[error("the frame's checksum does not match its content")]
    Checksum,
    /// The checksum matches, but the envelope or the payload cannot be decoded.
    #[error("the frame's content cannot be decoded")]
    Content,
}

/// Encodes a frame.
pub fn encode_frame<M: Serialize>(envelope: &Envelope, payload: &Payload<M>) -> Bytes {
    // The checksum is filled in last, because it covers the encoded content.
    let frame = vec![WIRE_VERSION, 0, 0, 0, 0];
    let frame = postcard::to_extend(envelope, frame).expect("an envelope always encodes");
    let mut frame = postcard::to_extend(payload, frame).expect("a payload always encodes");
    let sum = checksum(&frame).to_le_bytes();
    frame[1..HEADER].copy_from_slice(&sum);
    frame.into()
}

/// Decodes a frame.
///
/// # Errors
/// If the bytes are not one whole frame of this version.
pub fn decode_frame<M: DeserializeOwned>(
    frame: &[u8],
) -> Result<(Envelope, Payload<M>), FrameError> {
    if frame.len() <= HEADER {
        return Err(FrameError::Short);
    }
    if frame[0] != WIRE_VERSION {
        return Err(FrameError::Version(frame[0]));
    }
    // Checked first, so that damaged bytes do not reach the decoder.
    if frame[1..HEADER] != checksum(frame).to_le_bytes() {
        return Err(FrameError::Checksum);
    }
    let (envelope, rest) =
        postcard::take_from_bytes(&frame[HEADER..]).map_err(|_| FrameError::Content)?;
    match postcard::take_from_bytes(rest) {
        // Trailing bytes show that the sender encoded other types.
        Ok((payload, [])) => Ok((envelope, payload)),
        _ => Err(FrameError::Content),
    }
}

fn checksum(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    // The checksum covers the version and the content, but not its own four bytes.
    hasher.update(&frame[..1]);
    hasher.update(&frame[HEADER..]);
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
    fn encoding_of_a_frame_is_stable() {
        let bytes = [
            2, 210, 223, 72, 203, 7, 0, 1, 2, 172, 2, 1, 15, 0, 1, 120, 1, 0, 0, 0, 3, 0, 0, 0, 2,
            0, 0, 0,
        ];
        assert_eq!(sample()[..], bytes[..]);
    }

    #[test]
    fn any_flipped_bit_or_truncation_is_rejected() {
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
    fn error_names_the_other_wire_version() {
        let mut frame = sample().to_vec();
        frame[0] = 9;
        assert_eq!(decode_frame::<u8>(&frame), Err(FrameError::Version(9)));
    }
}
