//! Fuzzing the reader of frames: it is the first to see what a peer sends.
//!
//! Ten seconds, or as many as `FUZZ_SECONDS` says. A failure prints a seed; `ARBTEST_SEED=0x...`
//! plays that input again.

use super::{FIRST_BUFFER, FrameReader, encode};
use arbtest::arbitrary::{Result, Unstructured};
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;

fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |it| it.parse().expect("seconds"));
    arbtest::arbtest(property).budget(Duration::from_secs(seconds)).size_max(20_000).run();
}

/// What a peer that keeps the rules sends: frames, the large ones among them uncopied.
fn frames(u: &mut Unstructured<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut frames = Vec::new();
    for _ in 0..u.int_in_range(0..=20)? {
        let most = if u.ratio(1, 10)? { limit } else { limit.min(500) };
        frames.push(Bytes::from(vec![u.arbitrary::<u8>()?; u.int_in_range(0..=most)?]));
    }
    let mut pieces = Vec::new();
    encode(&mut frames, &mut pieces);
    Ok(pieces.concat())
}

/// What a peer may send that keeps none: lengths that fit what follows, and lengths that do not.
fn nonsense(u: &mut Unstructured<'_>, limit: usize) -> Result<Vec<u8>> {
    let mut stream = Vec::new();
    for _ in 0..u.int_in_range(0..=20)? {
        let there = u.int_in_range(0..=200_usize)?;
        let announced = match u.int_in_range(0..=19)? {
            0 => u.arbitrary::<u32>()?,
            1 => limit as u32 + u.int_in_range(0..=1)?,
            _ => there as u32,
        };
        stream.extend(announced.to_be_bytes());
        stream.extend(u.bytes(there.min(u.len()))?);
    }
    Ok(stream)
}

/// The frames that a stream holds, and whether it goes on behind them: a header beyond the limit
/// ends it.
fn read_whole(mut stream: &[u8], limit: usize) -> (Vec<&[u8]>, bool) {
    let mut frames = Vec::new();
    while let Some((header, rest)) = stream.split_first_chunk() {
        let length = u32::from_be_bytes(*header) as usize;
        if length > limit {
            return (frames, false);
        }
        let Some((frame, behind)) = rest.split_at_checked(length) else { break };
        frames.push(frame);
        stream = behind;
    }
    (frames, true)
}

/// However a stream is cut on its way, and whatever it says, the frames come out that it holds; a
/// reader has memory for what arrived, and none for what was announced.
#[test]
fn a_stream_is_cut_into_the_frames_that_it_holds() {
    fuzz(|u| {
        let limit = *u.choose(&[0, 1, 100, 5_000, 200_000, 1 << 30])?;
        let kind = u.int_in_range(0..=2)?;
        let stream = match kind {
            0 => frames(u, limit.min(200_000))?,
            1 => nonsense(u, limit)?,
            _ => u.bytes(u.len() / 2)?.to_vec(),
        };
        let (mut reader, mut read) = (FrameReader::new(limit), VecDeque::new());
        let (mut rest, mut goes_on) = (&stream[..], true);
        while goes_on && !rest.is_empty() {
            let (part, behind) = rest.split_at(u.int_in_range(1..=rest.len().min(3_000))?);
            goes_on = reader.feed(part, &mut read).is_ok();
            rest = behind;
            let fed = stream.len() - rest.len();
            let most = FIRST_BUFFER.max(2 * fed);
            assert!(reader.frame.capacity() <= most, "{} for {fed}", reader.frame.capacity());
        }
        let (whole, whole_goes_on) = read_whole(&stream, limit);
        assert_eq!((read.iter().map(|it| &it[..]).collect(), goes_on), (whole, whole_goes_on));
        assert!(kind != 0 || goes_on && reader.frame.is_empty(), "nothing is left of whole frames");
        Ok(())
    });
}
