//! Durations and their percentiles.

use std::time::Duration;

/// Durations, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Returns these durations, sorted.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether there are no durations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the nearest-rank percentile: the shortest duration that at least `percent` % of the
    /// durations do not exceed. Returns `None` if there are no durations.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let rank = (self.0.len() * percent.min(100)).div_ceil(100);
        self.0.get(rank.saturating_sub(1)).copied()
    }

    /// Returns the longest duration, if there are any.
    #[must_use]
    pub fn worst(&self) -> Option<Duration> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_the_nearest_rank() {
        let times = Times::new((1..=10).rev().map(Duration::from_millis).collect());
        let at = |percent| times.percentile(percent).map(|time| time.as_millis());
        assert_eq!([at(0), at(50), at(51), at(99)], [Some(1), Some(5), Some(6), Some(10)]);
        assert_eq!(times.worst(), times.percentile(100));
        assert_eq!(Times::default().percentile(50), None);
    }
}
