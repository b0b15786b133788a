//! The remaining operations, in the order of their events.
//!
//! This is the doubly linked list of Wing and Gong's algorithm: an operation is lifted from the list when
//! it takes effect, and put back when the search backtracks, both in constant time.

use crate::problem::Completed;

/// No event: the forward link of the last event, and the backward link of the head.
const NONE: u32 = u32::MAX;

/// The starts and ends of all remaining operations, as a doubly linked list.
#[derive(Debug)]
pub(super) struct Window {
    /// The operation of each event, and whether the event is its end.
    events: Vec<(usize, bool)>,
    /// The links forward. The element after those of all events is the head of the list.
    next: Vec<u32>,
    /// The links back.
    previous: Vec<u32>,
    /// The indices of the start and the end of each operation in `events`.
    places: Vec<(u32, u32)>,
}

impl Window {
    /// Creates the list with the events of all operations.
    pub(super) fn new(completed: &[Completed]) -> Self {
        let begins = completed.iter().enumerate().map(|(op, it)| (it.begin, op, false));
        let ends = completed.iter().enumerate().map(|(op, it)| (it.end, op, true));
        let mut order: Vec<_> = begins.chain(ends).collect();
        order.sort_unstable();
        let events: Vec<_> = order.into_iter().map(|(_, op, is_end)| (op, is_end)).collect();
        let mut places = vec![(0, 0); completed.len()];
        for (at, (op, is_end)) in (0_u32..).zip(&events) {
            let place = if *is_end { &mut places[*op].1 } else { &mut places[*op].0 };
            *place = at;
        }
        let head = u32::try_from(events.len()).expect("the number of events should be below 2^32");
        let mut next: Vec<_> = (1..=head).chain([0]).collect();
        let mut previous: Vec<_> = [head].into_iter().chain(0..head).collect();
        if let Some(last) = next.iter_mut().rev().nth(1) {
            *last = NONE;
        } else {
            next[0] = NONE;
        }
        previous[head as usize] = NONE;
        Self { events, next, previous, places }
    }

    /// Returns the events of all remaining operations in order: the operation, and true if it is its end.
    pub(super) fn events(&self) -> impl Iterator<Item = (usize, bool)> {
        let mut at = self.next[self.events.len()];
        std::iter::from_fn(move || {
            let event = *self.events.get(at as usize)?;
            at = self.next[at as usize];
            Some(event)
        })
    }

    /// Returns the remaining operation that ends first, and must take effect before that.
    pub(super) fn first_end(&self) -> Option<usize> {
        self.events().find(|(_, is_end)| *is_end).map(|(op, _)| op)
    }

    /// Returns the candidates: the operations that begin before the first remaining end.
    pub(super) fn candidates(&self) -> impl Iterator<Item = usize> {
        self.events().take_while(|(_, is_end)| !is_end).map(|(op, _)| op)
    }

    /// Removes an operation that takes effect.
    pub(super) fn lift(&mut self, op: usize) {
        let (begin, end) = self.places[op];
        self.unlink(begin);
        self.unlink(end);
    }

    /// Puts back the operation that was lifted last.
    pub(super) fn restore(&mut self, op: usize) {
        let (begin, end) = self.places[op];
        self.link(end);
        self.link(begin);
    }

    fn unlink(&mut self, at: u32) {
        let (before, after) = (self.previous[at as usize], self.next[at as usize]);
        self.next[before as usize] = after;
        if after != NONE {
            self.previous[after as usize] = before;
        }
    }

    fn link(&mut self, at: u32) {
        let (before, after) = (self.previous[at as usize], self.next[at as usize]);
        self.next[before as usize] = at;
        if after != NONE {
            self.previous[after as usize] = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Action;

    fn completed(begin: usize, end: usize) -> Completed {
        Completed { action: Action::Read { key: 0, want: 0 }, begin, end, hint: None, record: 0 }
    }

    #[test]
    fn candidates_are_the_operations_that_no_other_one_precedes_in_real_time() {
        let mut window = Window::new(&[completed(0, 3), completed(1, 2), completed(4, 5)]);
        assert_eq!(window.candidates().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(window.first_end(), Some(1));
        window.lift(1);
        assert_eq!(window.candidates().collect::<Vec<_>>(), [0]);
        window.lift(0);
        assert_eq!(window.candidates().collect::<Vec<_>>(), [2]);
        window.lift(2);
        assert_eq!((window.first_end(), window.events().count()), (None, 0));
        for op in [2, 0, 1] {
            window.restore(op);
        }
        assert_eq!(window.candidates().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(window.events().count(), 6);
    }

    #[test]
    fn window_without_operations_is_empty() {
        assert_eq!(Window::new(&[]).events().count(), 0);
    }
}
