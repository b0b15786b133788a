//! The one source of chance.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::ops::Range;
use std::time::Duration;

/// Dice of a seed. No floating point: the same draw in debug and release, on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

/// One in a million.
pub(crate) const MILLION: u32 = 1_000_000;

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// A number from the range; its start if it is empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Whether something happens that happens `per_million` times in a million.
    pub(crate) fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(u64::from(MILLION)) < u64::from(per_million)
    }

    /// Whether something happens that happens `percent` times in a hundred.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.chance(percent * (MILLION / 100))
    }

    /// A duration from the range, to the nanosecond; its start if it is empty.
    pub(crate) fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.within(nanos(range.start)..nanos(range.end)))
    }

    /// A duration below `bound` that is mostly short: half of them below a quarter of it.
    pub(crate) fn mostly_short(&mut self, bound: Duration) -> Duration {
        let whole = Duration::ZERO..bound;
        self.duration(&whole).min(self.duration(&whole))
    }

    /// One of the items.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Puts the items into any order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut dice = Dice::new(7);
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[dice.within(10..14) as usize - 10] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(dice.within(5..5), 5);
        assert!(!dice.chance(0) && dice.chance(MILLION));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u64> = (0..50).collect();
        Dice::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
