//! Frames on a stream: four bytes of length, big-endian, then the frame.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// Size of the length before every frame, in bytes.
pub(super) const HEADER: usize = 4;

/// Maximum size in bytes of a frame that is copied into a piece together with others. A larger frame is a
/// piece of its own, without a copy.
const MAX_COPIED: usize = 4 << 10;

/// Size in bytes at which a piece of copied frames is complete.
const PIECE: usize = 64 << 10;

/// Initial capacity of a frame's buffer in bytes, if the announced length is not smaller.
const FIRST_BUFFER: usize = 4 << 10;

/// Encodes frames as pieces of a stream, and clears `frames`.
pub(super) fn encode(frames: &mut Vec<Bytes>, pieces: &mut Vec<Bytes>) {
    let small =
        frames.iter().filter(|frame| frame.len() <= MAX_COPIED).map(Bytes::len).sum::<usize>();
    let mut piece =
        BytesMut::with_capacity((small + HEADER * frames.len()).min(PIECE + MAX_COPIED));
    for frame in frames.drain(..) {
        // The caller's limit keeps frames far below 4 GiB.
        piece.put_u32(frame.len() as u32);
        if frame.len() <= MAX_COPIED {
            piece.extend_from_slice(&frame);
        } else {
            pieces.push(piece.split().freeze());
            pieces.push(frame);
        }
        if piece.len() >= PIECE {
            pieces.push(piece.split().freeze());
        }
    }
    if !piece.is_empty() {
        pieces.push(piece.freeze());
    }
}

/// Error of an announced frame above the limit. The stream cannot be read any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame length {announced} exceeds the limit of {limit} bytes")]
pub(super) struct FrameTooLarge {
    announced: usize,
    limit: usize,
}

/// Decoder of a stream of frames. It allocates memory only for data that has arrived, never for an
/// announced length: at most [`FIRST_BUFFER`], or twice the arrived part of the frame.
pub(super) struct FrameReader {
    limit: usize,
    header: [u8; HEADER],
    header_len: usize,
    frame: Vec<u8>,
    /// The length of the frame that is being read, once its header is complete.
    length: Option<usize>,
}

impl FrameReader {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, header: [0; HEADER], header_len: 0, frame: Vec::new(), length: None }
    }

    /// Decodes more data, and appends the complete frames to `frames`.
    pub(super) fn feed(
        &mut self,
        mut arrived: &[u8],
        frames: &mut VecDeque<Bytes>,
    ) -> Result<(), FrameTooLarge> {
        loop {
            let length = match self.length {
                Some(length) => length,
                None => match self.read_header(&mut arrived)? {
                    Some(length) => length,
                    None => return Ok(()),
                },
            };
            let part = arrived.split_off(..arrived.len().min(length - self.frame.len()));
            self.append(part.unwrap_or_default(), length);
            if self.frame.len() < length {
                return Ok(());
            }
            self.length = None;
            frames.push_back(Bytes::from(std::mem::take(&mut self.frame)));
        }
    }

    /// Returns the announced length, once it is complete and within the limit.
    fn read_header(&mut self, arrived: &mut &[u8]) -> Result<Option<usize>, FrameTooLarge> {
        let part = arrived.split_off(..arrived.len().min(HEADER - self.header_len));
        for byte in part.unwrap_or_default() {
            self.header[self.header_len] = *byte;
            self.header_len += 1;
        }
        if self.header_len < HEADER {
            return Ok(None);
        }
        let length = u32::from_be_bytes(self.header) as usize;
        if length > self.limit {
            return Err(FrameTooLarge { announced: length, limit: self.limit });
        }
        self.header_len = 0;
        self.length = Some(length);
        Ok(self.length)
    }

    fn append(&mut self, part: &[u8], length: usize) {
        let needed = self.frame.len() + part.len();
        if needed > self.frame.capacity() {
            // At most the frame's length, so that a complete frame holds no unused memory.
            let capacity = (self.frame.capacity() * 2).max(FIRST_BUFFER).max(needed).min(length);
            self.frame.reserve_exact(capacity - self.frame.len());
        }
        self.frame.extend_from_slice(part);
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100_000;

    fn stream_of(frames: &[Bytes]) -> Vec<u8> {
        let mut pieces = Vec::new();
        encode(&mut frames.to_vec(), &mut pieces);
        pieces.concat()
    }

    #[test]
    fn truncated_stream_yields_only_complete_frames() {
        let frames = [Bytes::from("one"), Bytes::new(), Bytes::from("three")];
        let stream = stream_of(&frames);
        let ends = [7, 11, 20];
        for cut in 0..stream.len() {
            let (mut reader, mut read) = (FrameReader::new(LIMIT), VecDeque::new());
            reader.feed(&stream[..cut], &mut read).expect("no frame is too large");
            let whole = ends.iter().filter(|end| **end <= cut).count();
            assert_eq!(read, &frames[..whole], "cut at {cut}");
        }
    }

    #[test]
    fn oversize_frame_is_rejected_by_its_header_alone() {
        for announced in [LIMIT + 1, u32::MAX as usize] {
            let (mut reader, mut read) = (FrameReader::new(LIMIT), VecDeque::new());
            let header = (announced as u32).to_be_bytes();
            assert_eq!(reader.feed(&header[..3], &mut read), Ok(()));
            let error = FrameTooLarge { announced, limit: LIMIT };
            assert_eq!(reader.feed(&header[3..], &mut read), Err(error));
            assert_eq!((read.len(), reader.frame.capacity()), (0, 0));
        }
    }

    #[test]
    fn memory_follows_arrived_data_and_not_the_announced_length() {
        let (mut reader, mut read) = (FrameReader::new(1 << 30), VecDeque::new());
        reader.feed(&(1_u32 << 30).to_be_bytes(), &mut read).expect("within the limit");
        assert_eq!(reader.frame.capacity(), 0, "no byte of the frame has arrived");
        for arrived in (1..=64).map(|kilobytes| kilobytes * 1024) {
            reader.feed(&[0; 1024], &mut read).expect("within the limit");
            let most = FIRST_BUFFER.max(2 * arrived);
            assert!(reader.frame.capacity() <= most, "{} for {arrived}", reader.frame.capacity());
        }
    }
}
