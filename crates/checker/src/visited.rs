//! The configurations that a search has been in, so that it enters none twice.

use crate::compile::Must;
use crate::machine::State;
use std::collections::BTreeMap;

/// A set of operations that are under way at one time, each by the seat that it has meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seats {
    low: u64,
    /// The seats from 64 on; empty where 64 seats are enough.
    high: Box<[u64]>,
}

impl Seats {
    /// An empty set that has room for so many.
    pub(crate) fn empty(seats: usize) -> Self {
        let words = seats.saturating_sub(64).div_ceil(64);
        Self { low: 0, high: vec![0; words].into() }
    }

    pub(crate) fn insert(&mut self, seat: usize) {
        match seat.checked_sub(64) {
            None => self.low |= 1 << seat,
            Some(seat) => self.high[seat / 64] |= 1 << (seat % 64),
        }
    }

    fn is_within(&self, other: &Self) -> bool {
        let mut high = self.high.iter().zip(&other.high);
        self.low & !other.low == 0 && high.all(|(mine, theirs)| mine & !theirs == 0)
    }
}

/// Gives each operation a seat that is free while it is under way; and how many seats that takes.
pub(crate) fn seats(musts: &[Must]) -> (Vec<usize>, usize) {
    let mut free = std::collections::BTreeSet::new();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut count = 0;
    let mut seats = Vec::with_capacity(musts.len());
    for must in musts {
        while let Some(first) = taken.first_entry().filter(|first| *first.key() < must.begin) {
            free.insert(first.remove());
        }
        let seat = free.pop_first().unwrap_or_else(|| {
            count += 1;
            count - 1
        });
        taken.insert(must.end, seat);
        seats.push(seat);
    }
    (seats, count)
}

/// Where a search may go on from, but for what is in its [`Variant`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) state: State,
    /// The operations under way that change the state and have not taken effect, but for writes.
    pub(crate) changes: Seats,
}

/// What else there is to a configuration.
#[derive(Debug)]
pub(crate) struct Variant {
    /// The observations and writes under way that must still take effect: the fewer the better.
    pub(crate) duties: Seats,
    /// The writes under way that still can: the more the better.
    pub(crate) spares: Seats,
    /// The keys that the next operation may be about: the more the better.
    pub(crate) open: u64,
    /// How many operations with unknown end have taken effect, of each kind that is counted: the
    /// fewer the better.
    pub(crate) uses: Box<[u32]>,
}

impl Variant {
    /// Whether whatever leads on from the other one leads on from this one as well.
    fn is_no_worse(&self, other: &Self) -> bool {
        let mut uses = self.uses.iter().zip(&other.uses);
        self.duties.is_within(&other.duties)
            && other.spares.is_within(&self.spares)
            && other.open & !self.open == 0
            && uses.all(|(mine, theirs)| mine <= theirs)
    }
}

/// The configurations by the operation that has to take effect next.
#[derive(Debug)]
pub(crate) struct Visited {
    places: Vec<BTreeMap<Place, Vec<Variant>>>,
    pub(crate) count: usize,
}

impl Visited {
    pub(crate) fn new(musts: usize) -> Self {
        Self { places: (0..musts).map(|_| BTreeMap::new()).collect(), count: 0 }
    }

    /// Enters a configuration; `false` if the search has been there, or in one that is no worse.
    pub(crate) fn enter(&mut self, next: usize, place: Place, variant: Variant) -> bool {
        let variants = self.places[next].entry(place).or_default();
        if variants.iter().any(|known| known.is_no_worse(&variant)) {
            return false;
        }
        let before = variants.len();
        variants.retain(|known| !variant.is_no_worse(known));
        if variants.is_empty() {
            // Most places keep to one variant, and a list makes room for four of its own accord.
            variants.reserve_exact(1);
        }
        variants.push(variant);
        self.count = self.count + variants.len() - before;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Action;

    fn set(members: &[usize]) -> Seats {
        let mut set = Seats::empty(200);
        members.iter().for_each(|seat| set.insert(*seat));
        set
    }

    #[test]
    fn a_seat_is_free_again_when_its_operation_has_ended() {
        let must = |begin, end| Must {
            action: Action::Read { key: 0, want: 0 },
            begin,
            end,
            hint: None,
            record: 0,
        };
        let musts = [must(0, 2), must(1, 5), must(3, 4), must(6, 7)];
        assert_eq!(seats(&musts), (vec![0, 1, 0, 0], 2));
    }

    #[test]
    fn no_configuration_is_entered_twice_nor_a_worse_one() {
        let mut visited = Visited::new(2);
        let mut enter = |next, open, duties: &[usize], spares: &[usize], uses: [u32; 2]| {
            let place = Place { state: 3, changes: set(&[1, 190]) };
            let (duties, spares, uses) = (set(duties), set(spares), uses.into());
            let is_new = visited.enter(next, place, Variant { duties, spares, open, uses });
            (is_new, visited.count)
        };
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (true, 1));
        assert_eq!(enter(0, 3, &[70], &[3], [1, 1]), (false, 1), "the same");
        assert_eq!(enter(0, 3, &[70, 199], &[3], [1, 1]), (false, 1), "more to do");
        assert_eq!(enter(0, 3, &[70], &[], [1, 1]), (false, 1), "less at hand");
        assert_eq!(enter(0, 2, &[70], &[3], [1, 1]), (false, 1), "fewer keys");
        assert_eq!(enter(0, 3, &[70], &[3], [0, 2]), (true, 2), "neither better nor worse");
        assert_eq!(enter(0, 3, &[], &[], [1, 1]), (true, 3), "neither better nor worse");
        assert_eq!(enter(0, 4, &[], &[3, 4], [0, 1]), (true, 4), "neither better nor worse");
        assert_eq!(enter(0, 7, &[], &[3, 4], [0, 1]), (true, 1), "better than all");
        assert_eq!(enter(1, 0, &[], &[], [9, 9]), (true, 2), "elsewhere");
    }
}
