//! Backoff after a lost ballot.

use core::ops::Range;
use core::time::Duration;

/// Truncated exponential backoff with full jitter.
///
/// Two proposers that each answer the other's ballot with a higher one can go on for ever: each
/// Prepare spoils the other's Accept. What ends it is that one of them is quiet for as long as the
/// other needs. The bound doubles, so however slow the network is, it gets there; and the wait is
/// drawn from the WHOLE range below the bound, because a network whose delays happen to fit can spoil
/// waits that are known beforehand, and none can fit random ones. With delays that only vary a
/// little randomness gains nothing: in this crate's duels, waits of the full bound end them as soon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Counts a failed attempt.
    pub fn fail(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// Returns the number of failed attempts.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Returns the range to draw the next wait from: up to a round trip (disks included) doubled for
    /// each failure, and never beyond `cap`.
    #[must_use]
    pub fn range(&self, round_trip: Duration, cap: Duration) -> Range<Duration> {
        let bound = round_trip.saturating_mul(1_u32 << self.failures.min(16));
        Duration::ZERO..bound.min(cap)
    }
}
