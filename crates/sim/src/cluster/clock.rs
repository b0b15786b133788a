//! One node's clock, which is not the simulation's.

use std::time::Duration;
use synod_types::Instant;

const MILLION: u128 = 1_000_000;

/// The clock of a node.
///
/// It may run fast or slow, and jump. When it jumps back, drivers take it to stand still until it
/// has caught up: that is what an operating system's monotonic clock does at worst.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// At this time of the simulation
    since: Instant,
    /// it showed this,
    shown: Instant,
    /// and since then it gains so many parts of a million; or loses, if negative.
    gains: i32,
    /// The latest time that it showed before it jumped back.
    latest: Instant,
}

impl Clock {
    /// A clock that shows the simulation's own time.
    pub(crate) fn new() -> Self {
        Self { since: Instant::ZERO, shown: Instant::ZERO, gains: 0, latest: Instant::ZERO }
    }

    /// Returns the time that it shows.
    pub(crate) fn read(&self, now: Instant) -> Instant {
        let passed = now.since(self.since);
        if self.gains == 0 {
            return self.shown + passed;
        }
        let nanos = passed.as_nanos() * self.pace() / MILLION;
        self.shown + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns the first time of the simulation at which it shows `local` or more, if nothing changes it;
    /// `since` its last change, if it showed that before.
    pub(crate) fn when(&self, local: Instant) -> Instant {
        let left = local.since(self.shown);
        if self.gains == 0 {
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

    /// From now on it gains so many parts of a million.
    pub(crate) fn drift(&mut self, now: Instant, gains: i32) {
        self.set(now, self.read(now));
        self.gains = gains;
    }

    /// From now on it is right about how fast time passes, and ahead of all that it ever showed.
    pub(crate) fn mend(&mut self, now: Instant) {
        self.drift(now, 0);
        self.shown = self.shown.max(self.latest);
    }

    fn set(&mut self, now: Instant, shown: Instant) {
        (self.since, self.shown) = (now, shown);
    }

    /// Returns its advance in a million.
    fn pace(&self) -> u128 {
        (1_000_000 + i128::from(self.gains)).max(1).unsigned_abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn drift_continues_from_the_present_reading() {
        let mut clock = Clock::new();
        assert_eq!(clock.read(at(10)), at(10));
        clock.drift(at(10), -100_000);
        assert_eq!(clock.read(at(20)), at(19));
        clock.drift(at(20), 500_000);
        assert_eq!(clock.read(at(22)), at(22));
        clock.mend(at(22));
        assert_eq!(clock.read(at(30)), at(30));
    }

    #[test]
    fn when_returns_the_first_time_of_a_reading() {
        let mut clock = Clock::new();
        for gains in [0, 7, -7, 199_999, -199_999] {
            clock.drift(at(5), gains);
            for nanos in [0, 1, 2, 999, 1_000_001, 3_333_333_333] {
                let local = clock.read(at(5)) + Duration::from_nanos(nanos);
                let when = clock.when(local);
                assert!(clock.read(when) >= local, "{gains} {nanos}");
                assert!(when == at(5) || clock.read(Instant(when.0 - 1)) < local);
            }
        }
    }

    #[test]
    fn mended_clock_is_ahead_of_all_its_readings() {
        let mut clock = Clock::new();
        clock.jump_ahead(at(1), Duration::from_secs(5));
        assert_eq!(clock.read(at(2)), at(7));
        clock.jump_back(at(2), Duration::from_secs(3));
        assert_eq!((clock.read(at(2)), clock.read(at(3))), (at(4), at(5)));
        clock.mend(at(3));
        assert_eq!(clock.read(at(4)), at(8));
        clock.jump_back(at(4), Duration::from_secs(100));
        assert_eq!(clock.read(at(4)), Instant::ZERO);
    }
}
