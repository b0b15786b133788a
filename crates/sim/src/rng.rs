//! Random number generator of the simulator.

use std::ops::Range;
use std::time::Duration;

/// RNG of a seed (SplitMix64). No floating point: draws are equal in debug and release, on every
/// machine.
///
/// [Splitting](Self::split) an RNG is cheap. So each link, each disk and the arrivals of clients
/// have their own RNG, and draws from one do not affect the others: removing a fault from a run
/// changes only what follows from that fault.
#[derive(Clone, Debug)]
pub(crate) struct SimRng(u64);

/// The unit of [chances](SimRng::chance): parts per million.
pub(crate) const MILLION: u32 = 1_000_000;

impl SimRng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(mix(seed))
    }

    /// Splits off an RNG whose draws do not affect this one.
    pub(crate) fn split(&mut self) -> Self {
        Self(mix(self.word() ^ 0x5851_f42d_4c95_7f2d))
    }

    pub(crate) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Returns a number below `bound`; 0 if `bound` is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.word()) * u128::from(bound);
        (wide >> 64) as u64
    }

    /// Returns a number from the range; its start if it is empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// Returns true with a probability of `per_million` in a million.
    pub(crate) fn chance(&mut self, per_million: u32) -> bool {
        per_million > 0 && self.below(u64::from(MILLION)) < u64::from(per_million)
    }

    /// Returns true with a probability of `percent` in a hundred.
    pub(crate) fn percent(&mut self, percent: u32) -> bool {
        self.chance(percent * (MILLION / 100))
    }

    /// Returns a duration from the range, to the nanosecond; its start if it is empty.
    pub(crate) fn duration(&mut self, range: &Range<Duration>) -> Duration {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.within(nanos(range.start)..nanos(range.end)))
    }

    /// Returns a duration below `bound`, mostly short: half of the draws are below 30 % of it.
    pub(crate) fn mostly_short(&mut self, bound: Duration) -> Duration {
        let whole = Duration::ZERO..bound;
        self.duration(&whole).min(self.duration(&whole))
    }

    /// Returns one of the items.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    /// Permutes the items at random.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// The finaliser of SplitMix64.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_from_a_split_rng_do_not_affect_others() {
        let (mut one, mut other) = (SimRng::new(7), SimRng::new(7));
        let (mut idle, mut busy) = (one.split(), other.split());
        for _ in 0..100 {
            busy.word();
        }
        assert_eq!(one.word(), other.word());
        assert_ne!(idle.word(), one.word());
        let words: std::collections::BTreeSet<_> = (0..1000).map(|_| one.split().word()).collect();
        assert_eq!(words.len(), 1000);
    }

    #[test]
    fn draws_stay_in_their_range_and_reach_its_ends() {
        let mut rng = SimRng::new(7);
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[rng.within(10..14) as usize - 10] = true;
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(rng.within(5..5), 5);
        assert!(!rng.chance(0) && rng.chance(MILLION));
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u64> = (0..50).collect();
        SimRng::new(3).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
