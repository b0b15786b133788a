//! Monotonic clock of a replica: the only source of its time.

use synod_types::Instant;

/// Monotonic clock in the driver's unit: nanoseconds since [`Clock::start`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Returns a clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Returns the present time.
    #[must_use]
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// Converts a time for tokio's timers. Returns `None` if they cannot represent it.
    pub(crate) fn to_tokio(self, at: Instant) -> Option<tokio::time::Instant> {
        self.start.checked_add(at - Instant::ZERO).map(tokio::time::Instant::from_std)
    }
}
