//! A node's clock, which may differ from simulated time.

use std::time::Duration;
use synod_types::Instant;

const MILLION: u128 = 1_000_000;

/// Clock of a node.
///
/// It may run fast or slow, and jump. When it jumps back, drivers treat time as standing still
/// until it has caught up, which is the worst that an operating system's monotonic clock does.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Simulated time of the last change.
    since: Instant,
    /// Time that the clock showed then.
    shown: Instant,
    /// Drift since then, in parts per million; negative if the clock runs slow.
    drift_ppm: i32,
    /// Latest time that it showed before it jumped back.
    latest: Instant,
}

impl Clock {
    /// Returns a clock that shows simulated time.
    pub(crate) fn new() -> Self {
        Self { since: Instant::ZERO, shown: Instant::ZERO, drift_ppm: 0, latest: Instant::ZERO }
    }

    /// Returns the time that the clock shows.
    pub(crate) fn read(&self, now: Instant) -> Instant {
        let passed = now.since(self.since);
        if self.drift_ppm == 0 {
            return self.shown + passed;
        }
        let nanos = passed.as_nanos() * self.pace() / MILLION;
        self.shown + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the first simulated time at which the clock shows `local` or more, if nothing
    /// changes it. Returns the time of the last change if the clock showed it already then.
    pub(crate) fn when(&self, local: Instant) -> Instant {
        let left = local.since(self.shown);
        if self.drift_ppm == 0 {
            return self.since + left;
        }
        let nanos = (left.as_nanos() * MILLION).div_ceil(self.pace());
        self.since + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    pub(crate) fn jump_ahead(&mut self, now: Instant, by: Duration) {
        self.set(now, self.read(now) + by);
    }

    pub(crate) fn jump_back(&mut self, now: Instant, by: Duration) {
        let shown = self.read(now);
        self.latest = self.latest.max(shown);
        self.set(now, Instant::ZERO + shown.since(Instant::ZERO).saturating_sub(by));
    }

    /// Lets the clock drift by so many parts per million from now on.
    pub(crate) fn drift(&mut self, now: Instant, drift_ppm: i32) {
        self.set(now, self.read(now));
        self.drift_ppm = drift_ppm;
    }

    /// Ends the drift. The clock continues after the latest time that it ever showed.
    pub(crate) fn repair(&mut self, now: Instant) {
        self.drift(now, 0);
        self.shown = self.shown.max(self.latest);
    }

    fn set(&mut self, now: Instant, shown: Instant) {
        (self.since, self.shown) = (now, shown);
    }

    /// Returns the time that the clock advances in a million units of simulated time.
    fn pace(&self) -> u128 {
        (1_000_000 + i128::from(self.drift_ppm)).max(1).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn drift_continues_from_the_current_reading() {
        let mut clock = Clock::new();
        assert_eq!(clock.read(at(10)), at(10));
        clock.drift(at(10), -100_000);
        assert_eq!(clock.read(at(20)), at(19));
        clock.drift(at(20), 500_000);
        assert_eq!(clock.read(at(22)), at(22));
        clock.repair(at(22));
        assert_eq!(clock.read(at(30)), at(30));
    }

    #[test]
    fn when_returns_the_earliest_time_at_which_the_clock_shows_a_reading() {
        let mut clock = Clock::new();
        for drift_ppm in [0, 7, -7, 199_999, -199_999] {
            clock.drift(at(5), drift_ppm);
            for nanos in [0, 1, 2, 999, 1_000_001, 3_333_333_333] {
                let local = clock.read(at(5)) + Duration::from_nanos(nanos);
                let when = clock.when(local);
                assert!(clock.read(when) >= local, "{drift_ppm} {nanos}");
                assert!(when == at(5) || clock.read(Instant(when.0 - 1)) < local);
            }
        }
    }

    #[test]
    fn repaired_clock_is_ahead_of_all_earlier_readings() {
        let mut clock = Clock::new();
        clock.jump_ahead(at(1), Duration::from_secs(5));
        assert_eq!(clock.read(at(2)), at(7));
        clock.jump_back(at(2), Duration::from_secs(3));
        assert_eq!((clock.read(at(2)), clock.read(at(3))), (at(4), at(5)));
        clock.repair(at(3));
        assert_eq!(clock.read(at(4)), at(8));
        clock.jump_back(at(4), Duration::from_secs(100));
        assert_eq!(clock.read(at(4)), Instant::ZERO);
    }
}
