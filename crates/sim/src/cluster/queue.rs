//! The queue of events, in order of time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use synod_types::Instant;

/// A priority queue over time; what is due at one instant comes out as it went in, behind it what
/// is to come last at its instant.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    order: u64,
}

/// Set in the order of what comes last at its instant.
const LAST: u64 = 1 << 63;

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    order: u64,
    what: T,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, what: T) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order, what }));
    }

    /// Comes after all else of its instant, so that where it comes does not depend on when it was
    /// put in.
    pub(crate) fn push_last(&mut self, at: Instant, what: T) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order | LAST, what }));
    }

    /// Returns the time of the next event.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_ordered_by_time_and_then_by_insertion() {
        let mut queue = Queue::new();
        for (at, what) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.push(Instant(at), what);
        }
        assert_eq!(queue.next(), Some(Instant(1)));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn last_event_waits_for_all_others_of_its_instant() {
        let mut queue = Queue::new();
        queue.push_last(Instant(1), "c");
        queue.push_last(Instant(1), "d");
        queue.push(Instant(2), "e");
        queue.push(Instant(1), "a");
        assert_eq!(queue.pop(), Some((Instant(1), "a")));
        queue.push(Instant(1), "b");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, what)| what).collect();
        assert_eq!(order, ["b", "c", "d", "e"]);
    }
}
