//! Fuzzing of the frame decoder, the first code after TLS that processes a peer's data.
//!
//! Runs for ten seconds, or for `FUZZ_SECONDS`. A failure prints a seed; `ARBTEST_SEED=0x...`
//! replays that input.

use super::{FIRST_BUFFER, FrameReader, encode};
use arbtest::arbitrary::{Result, Unstructured};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |it| it.parse().expect("seconds"));
    arbtest::arbtest(property).budget(Duration::from_secs(seconds)).size_max(20_000).run();
}

/// Generates a valid stream: frames, including large uncopied ones.
fn frames(u: &mut Unstructured<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut frames = Vec::new();
    for _ in 0..u.int_in_range(0..=20)? {
        let max = if u.ratio(1, 10)? { limit } else { limit.min(500) };
        frames.push(Bytes::from(vec![u.arbitrary::<u8>()?; u.int_in_range(0..=max)?]));
    }
    let mut pieces = Vec::new();
    encode(&mut frames, &mut pieces);
    Ok(pieces.concat())
}

/// Generates a stream that may be invalid: some announced lengths do not match the data.
fn invalid_stream(u: &mut Unstructured<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut stream = Vec::new();
    for _ in 0..u.int_in_range(0..=20)? {
        let present = u.int_in_range(0..=200_usize)?;
        let announced = match u.int_in_range(0..=19)? {
            0 => u.arbitrary::<u32>()?,
            1 => limit as u32 + u.int_in_range(0..=1)?,
            _ => present as u32,
        };
        stream.extend(announced.to_be_bytes());
        stream.extend(u.bytes(present.min(u.len()))?);
    }
    Ok(stream)
}

/// Returns the frames of a stream, and whether it is valid: a header above the limit ends it.
fn read_whole(mut stream: &[u8], limit: usize) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        if length > limit {
            return (frames, false);
        }
        let Some((frame, after)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        stream = after;
    }
    (frames, true)
}

/// For any stream and any split of it, the decoder returns its frames, and allocates memory for arrived
/// data only.
#[test]
fn stream_is_decoded_into_its_frames_however_it_is_split() {
    fuzz(|u| {
        let limit = *u.choose(&[0, 1, 100, 5_000, 200_000, 1 << 30])?;
        let kind = u.int_in_range(0..=2)?;
        let stream = match kind {
            0 => frames(u, limit.min(200_000))?,
            1 => invalid_stream(u, limit)?,
            _ => u.bytes(u.len() / 2)?.to_vec(),
        };
        let (mut reader, mut read) = (FrameReader::new(limit), VecDeque::new());
        let (mut rest, mut is_valid) = (&stream[..], true);
        while is_valid && !rest.is_empty() {
            let (part, after) = rest.split_at(u.int_in_range(1..=rest.len().min(3_000))?);
            is_valid = reader.feed(part, &mut read).is_ok();
            rest = after;
            let fed = stream.len() - rest.len();
            let most = FIRST_BUFFER.max(2 * fed);
            assert!(reader.frame.capacity() <= most, "{} for {fed}", reader.frame.capacity());
        }
        let (whole, whole_is_valid) = read_whole(&stream, limit);
        assert_eq!((read.iter().map(|it| &it[..]).collect(), is_valid), (whole, whole_is_valid));
        assert!(
            kind != 0 || is_valid && reader.frame.is_empty(),
            "no bytes are left after the last frame"
        );
        Ok(())
    });
}
