//! The event queue, ordered by time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use synod_types::Instant;

/// Priority queue over time. Items of one instant are popped in insertion order; those pushed
/// [last](Self::push_last) come after all others of their instant.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    order: u64,
}

/// Set in the order of items that come last at their instant.
const LAST: u64 = 1 << 63;

#[derive(Debug)]
struct Entry<T> {
    at: Instant,
    order: u64,
    item: T,
}

impl<T> Queue<T> {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), order: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, item: T) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order, item }));
    }

    /// Queues an item that comes after all others of its instant, so that its position does not
    /// depend on the time of insertion.
    pub(crate) fn push_last(&mut self, at: Instant, item: T) {
        self.order += 1;
        self.heap.push(Reverse(Entry { at, order: self.order | LAST, item }));
    }

    /// Returns the time of the next event.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, T)> {
        self.heap.pop().map(|Reverse(entry)| (entry.at, entry.item))
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
        for (at, item) in [(5, "c"), (1, "a"), (5, "d"), (2, "b")] {
            queue.push(Instant(at), item);
        }
        assert_eq!(queue.next(), Some(Instant(1)));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, item)| item).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }

    #[test]
    fn last_item_comes_after_all_others_of_its_instant() {
        let mut queue = Queue::new();
        queue.push_last(Instant(1), "c");
        queue.push_last(Instant(1), "d");
        queue.push(Instant(2), "e");
        queue.push(Instant(1), "a");
        assert_eq!(queue.pop(), Some((Instant(1), "a")));
        queue.push(Instant(1), "b");
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|(_, item)| item).collect();
        assert_eq!(order, ["b", "c", "d", "e"]);
    }
}
