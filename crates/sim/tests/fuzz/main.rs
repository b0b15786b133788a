//! Fuzzing of bytes that arrive from outside, and of cores with faulty peers.
//!
//! Every test generates inputs for ten seconds; `FUZZ_SECONDS` sets another time, as does `make
//! fuzz`. The tests run in parallel. A failure prints a seed; `ARBTEST_SEED=0x...` replays that
//! input.

mod bytes;
mod cores;
mod input;

use arbitrary::{Result, Unstructured};
use arbtest::arbitrary;
use std::time::Duration;

/// Tests a property on random inputs of up to 20 kB until the time is over.
pub fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |it| it.parse().expect("seconds"));
    arbtest::arbtest(property).budget(Duration::from_secs(seconds)).size_max(20_000).run();
}

/// Returns the bytes with some of them changed, as a faulty or hostile sender would: bytes
/// replaced, removed or duplicated, or a length that is far too large.
pub fn mutated(bytes: &[u8], u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    for _ in 0..u.int_in_range(0..=4)? {
        let at = u.choose_index(bytes.len() + 1)?;
        match u.int_in_range(0..=6)? {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, u.arbitrary()?),
            2 => {
                let end = at + u.choose_index(bytes.len() - at + 1)?;
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => {
                // The largest varints of postcard: 2^32 - 1 and 2^64 - 1.
                let huge: &[u8] = match u.arbitrary()? {
                    true => &[255, 255, 255, 255, 15],
                    false => &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                };
                let end = bytes.len().min(at + 1);
                bytes.splice(at..end, huge.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    // Small changes give neighbours: the next term, the previous slot.
                    *byte = match u.int_in_range(0..=3)? {
                        0 => byte.wrapping_add(1),
                        1 => byte.wrapping_sub(1),
                        2 => u.int_in_range(0..=4)?,
                        _ => u.arbitrary()?,
                    };
                }
            }
        }
    }
    Ok(bytes)
}

/// Returns the peak memory of this process, in MiB; 0 if it is unknown.
fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let number = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}

/// Asserts a bound of the peak memory. A decoder that trusts a length field would exceed it.
pub fn assert_memory_is_bounded() {
    let peak = peak_mebibytes();
    assert!(peak < 3_000, "peak memory {peak} MiB");
}
