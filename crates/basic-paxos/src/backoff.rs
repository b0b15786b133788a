//! Backoff after a lost ballot.

use core::ops::Range;
use core::time::Duration;

/// Truncated exponential backoff with full jitter.
///
/// Two proposers can outbid each other forever, because each Prepare makes acceptors reject the
/// other's Accept (PMS §2.4). This ends when one proposer sends nothing for as long as the other needs
/// for both phases. The bound doubles with each failure, so it exceeds that time on any network. The
/// wait is drawn from the WHOLE range below the bound: an adversarial schedule can defeat waits that it
/// can predict, but not random ones. (With delays that vary little, fixed waits end this crate's
/// duels as fast.)
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
    /// each failure, and at most `cap`.
    #[must_use]
    pub fn range(&self, round_trip: Duration, cap: Duration) -> Range<Duration> {
        // The exponent is bounded because a shift by 32 or more would overflow.
        let bound = round_trip.saturating_mul(1_u32 << self.failures.min(16));
        Duration::ZERO..bound.min(cap)
    }
}
