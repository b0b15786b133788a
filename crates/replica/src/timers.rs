//! Timers of a core, as deadlines with randomized durations.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::TimerChange;
use synod_types::Instant;

/// Deadlines of the timers that a core has set, and the RNG that draws their durations.
#[derive(Clone, Debug)]
pub(crate) struct Timers<T> {
    deadlines: BTreeMap<T, Instant>,
    rng: ChaCha8Rng,
}

impl<T: Copy + Ord> Timers<T> {
    pub(crate) fn new(seed: u64) -> Self {
        Self { deadlines: BTreeMap::new(), rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    pub(crate) fn change(&mut self, now: Instant, change: TimerChange<T>) {
        match change {
            TimerChange::Set(timer, after) => {
                // Drawn again each time (Raft §5.2): equal timeouts would split votes repeatedly.
                self.deadlines.insert(timer, now + draw(&after, &mut self.rng));
            }
            TimerChange::Cancel(timer) => {
                self.deadlines.remove(&timer);
            }
        }
    }

    /// Removes and returns the timer with the earliest deadline, if it is due.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let (timer, due) = self.deadlines.iter().min_by_key(|(_, due)| **due)?;
        if *due > now {
            return None;
        }
        let timer = *timer;
        // Removed before the core handles it, so that the core may set it again.
        self.deadlines.remove(&timer);
        Some(timer)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.deadlines.values().min().copied()
    }
}

/// Draws a duration from the range in whole microseconds; returns its start if the range is empty.
fn draw(range: &Range<Duration>, rng: &mut ChaCha8Rng) -> Duration {
    let width =
        u64::try_from(range.end.saturating_sub(range.start).as_micros()).unwrap_or(u64::MAX);
    // A fixed duration draws no random number, so that it does not change the draws of other timers.
    if width == 0 {
        range.start
    } else {
        range.start + Duration::from_micros(rng.next_u64() % width)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_cover_the_whole_range_and_nothing_beyond() {
        let (mut rng, ms) = (ChaCha8Rng::seed_from_u64(1), Duration::from_millis);
        let waits: Vec<_> = (0..200).map(|_| draw(&(ms(100)..ms(200)), &mut rng)).collect();
        assert!(waits.iter().all(|wait| (ms(100)..ms(200)).contains(wait)), "{waits:?}");
        for tenth in 10..20 {
            let part = ms(tenth * 10)..ms(tenth * 10 + 10);
            assert!(waits.iter().any(|wait| part.contains(wait)), "never within {part:?}");
        }
        assert_eq!(draw(&(ms(50)..ms(50)), &mut rng), ms(50));
    }
}
