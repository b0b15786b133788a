//! Transfer times at a limited throughput.

use std::time::Duration;

/// Returns the time to transfer `bytes` at `per_second` bytes a second.
pub(crate) fn time_for(bytes: u64, per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}
