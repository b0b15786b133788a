//! The only place where a replica reads the time.

use synod_types::Instant;

/// This process's monotonic clock, as the driver counts it: nanoseconds since the clock was made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// The time.
    #[must_use]
    pub(crate) fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    /// The moment as the runtime's timers count it; `None` if it lies beyond what they can count.
    pub(crate) fn to_tokio(self, at: Instant) -> Option<tokio::time::Instant> {
        self.start.checked_add(at - Instant::ZERO).map(tokio::time::Instant::from_std)
    }
}
