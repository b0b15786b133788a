//! Round-trip time estimate.

use core::time::Duration;

/// Smoothed round-trip time, both disks included. All waits are multiples of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RoundTrip {
    estimate: Duration,
    is_measured: bool,
}

impl RoundTrip {
    /// Creates an estimate without a measurement.
    pub(crate) fn guess(estimate: Duration) -> Self {
        Self { estimate, is_measured: false }
    }

    pub(crate) fn estimate(self) -> Duration {
        self.estimate
    }

    /// Returns whether the estimate contains a measurement.
    pub(crate) fn is_measured(self) -> bool {
        self.is_measured
    }

    /// Adds a sample with a weight of 1/8, as TCP does (RFC 6298, 2).
    pub(crate) fn measure(&mut self, sample: Duration, max: Duration) {
        // A round trip in a simulator may take no time. Waits of zero would end in a busy loop.
        let sample = sample.clamp(Duration::from_micros(50).min(max), max);
        self.estimate = (self.estimate * 7 + sample) / 8;
        self.is_measured = true;
        debug_assert!(!self.estimate.is_zero(), "waits are multiples of a round trip");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_is_bounded_by_the_longest_wait() {
        let max = Duration::from_micros(1);
        let mut round_trip = RoundTrip::guess(max);
        round_trip.measure(Duration::from_secs(1), max);
        assert_eq!((round_trip.estimate(), round_trip.is_measured()), (max, true));
    }
}
