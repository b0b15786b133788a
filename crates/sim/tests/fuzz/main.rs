//! Fuzzing: bytes that arrive from outside, and cores that hear nonsense from their peers.
//!
//! Every test makes up inputs for ten seconds; `FUZZ_SECONDS` names another time, and `make fuzz`
//! sets it. The tests run side by side, so that all of them take little longer than one. A failure
//! prints a seed; `ARBTEST_SEED=0x...` plays that input again.

mod bytes;
mod cores;
mod input;

use arbitrary::{Result, Unstructured};
use arbtest::arbitrary;
use std::time::Duration;

/// Tries a property on inputs of all sizes until the time is over.
pub fn fuzz(property: impl FnMut(&mut Unstructured<'_>) -> Result<()>) {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(10, |it| it.parse().expect("seconds"));
    arbtest::arbtest(property).budget(Duration::from_secs(seconds)).size_max(20_000).run();
}

/// Bytes with some of them changed, as a faulty or hostile sender would: a few other bytes, some
/// cut or doubled, or a length that promises far more than there is.
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
                // The longest numbers of postcard: 2^32 - 1 and 2^64 - 1.
                let huge: &[u8] = match u.arbitrary()? {
                    true => &[255, 255, 255, 255, 15],
                    false => &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1],
                };
                let end = bytes.len().min(at + 1);
                bytes.splice(at..end, huge.iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    // Small steps make neighbours: the next term, one slot less.
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

/// How much memory this process ever had, in MiB; 0 where that is not known.
fn peak_mebibytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let number = peak.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) / 1024
}

/// A length that is trusted would ask for gigabytes.
pub fn assert_memory_is_bounded() {
    let peak = peak_mebibytes();
    assert!(peak < 3_000, "this process had {peak} MiB");
}
