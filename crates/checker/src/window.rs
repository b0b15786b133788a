//! The operations that still have to take effect, in the order of their events: a list from which
//! an operation is lifted when it does, and into which it is put back when the search retreats.

use crate::compile::Must;

/// No entry: the end of the list.
const NONE: u32 = u32::MAX;

/// The begins and ends of all operations that have not taken effect.
#[derive(Debug)]
pub(crate) struct Window {
    /// For each event its operation, and whether it is its end. The last one is the head.
    events: Vec<(usize, bool)>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Where the events of each operation are.
    places: Vec<(u32, u32)>,
}

impl Window {
    pub(crate) fn new(musts: &[Must]) -> Self {
        let begins = musts.iter().enumerate().map(|(op, must)| (must.begin, op, false));
        let ends = musts.iter().enumerate().map(|(op, must)| (must.end, op, true));
        let mut order: Vec<_> = begins.chain(ends).collect();
        order.sort_unstable();
        let events: Vec<_> = order.into_iter().map(|(_, op, is_end)| (op, is_end)).collect();
        let mut places = vec![(0, 0); musts.len()];
        for (at, (op, is_end)) in (0_u32..).zip(&events) {
            let place = if *is_end { &mut places[*op].1 } else { &mut places[*op].0 };
            *place = at;
        }
        let head = u32::try_from(events.len()).expect("fewer events than fit into memory");
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

    /// The events of all operations that are left: each with its operation, and whether it is
    /// the end of it.
    pub(crate) fn events(&self) -> impl Iterator<Item = (usize, bool)> {
        let mut at = self.next[self.events.len()];
        std::iter::from_fn(move || {
            let event = *self.events.get(at as usize)?;
            at = self.next[at as usize];
            Some(event)
        })
    }

    /// The operation that must take effect next of all: the first to end.
    pub(crate) fn first_end(&self) -> Option<usize> {
        self.events().find(|(_, is_end)| *is_end).map(|(op, _)| op)
    }

    /// The operations that can take effect now: no other one has ended before their begin.
    pub(crate) fn candidates(&self) -> impl Iterator<Item = usize> {
        self.events().take_while(|(_, is_end)| !is_end).map(|(op, _)| op)
    }

    /// An operation has taken effect.
    pub(crate) fn lift(&mut self, op: usize) {
        let (begin, end) = self.places[op];
        self.unlink(begin);
        self.unlink(end);
    }

    /// The operation that was lifted last has not taken effect after all.
    pub(crate) fn restore(&mut self, op: usize) {
        let (begin, end) = self.places[op];
        self.link(end);
        self.link(begin);
    }

    fn unlink(&mut self, at: u32) {
        let (before, behind) = (self.previous[at as usize], self.next[at as usize]);
        self.next[before as usize] = behind;
        if behind != NONE {
            self.previous[behind as usize] = before;
        }
    }

    fn link(&mut self, at: u32) {
        let (before, behind) = (self.previous[at as usize], self.next[at as usize]);
        self.next[before as usize] = at;
        if behind != NONE {
            self.previous[behind as usize] = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Action;

    fn must(begin: usize, end: usize) -> Must {
        Must { action: Action::Read { key: 0, want: 0 }, begin, end, hint: None, record: 0 }
    }

    #[test]
    fn an_operation_may_take_effect_while_none_has_ended_before_its_begin() {
        let mut window = Window::new(&[must(0, 3), must(1, 2), must(4, 5)]);
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
    fn nothing_to_do_is_an_empty_window() {
        assert_eq!(Window::new(&[]).events().count(), 0);
    }
}
