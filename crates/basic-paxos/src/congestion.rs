//! Congestion window: the bound of a node's open proposals.

use synod_types::Slot;

/// Initial window.
const INITIAL_WINDOW: usize = 16;

/// Smallest window. With long round trips even nodes with little to propose lose slots, and they need
/// this many open proposals for their throughput.
const MIN_WINDOW: usize = 8;

/// Open proposals up to which slots left open by others are finished, even if the window is smaller.
/// These slots block the log, and a crash leaves many of them. A larger bound would make a node that
/// returns under load cause too many retransmissions of values.
const MIN_FINISHING_WINDOW: usize = 32;

/// Bound of a node's open proposals that adapts to contention: additive increase with each slot
/// won, multiplicative decrease when slots are lost, as in TCP (Jacobson, "Congestion Avoidance and
/// Control").
///
/// Nodes with many commands propose for the same slots. One node wins each slot, and the messages of
/// the others are wasted. A node with fewer open slots loses fewer before it receives the other nodes'
/// messages for them. A lone proposer soon reaches the limit of open slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CongestionWindow {
    size: usize,
    /// Last slot in use at the last decrease. Losses up to it belong to that decrease.
    counted_through: Slot,
}

impl Default for CongestionWindow {
    fn default() -> Self {
        Self { size: INITIAL_WINDOW, counted_through: Slot(0) }
    }
}

impl CongestionWindow {
    /// Returns whether one more proposal may be opened beside `open` others.
    pub(crate) fn has_room(&self, open: usize) -> bool {
        open < self.size
    }

    /// Returns whether one more slot left open by others may be finished beside `open` proposals.
    pub(crate) fn has_room_to_finish(&self, open: usize) -> bool {
        open < self.size.max(MIN_FINISHING_WINDOW)
    }

    /// Grows after a slot was won while `open` proposals were open; `most` is the largest window.
    pub(crate) fn won(&mut self, open: usize, most: usize) {
        debug_assert!(self.size > 0, "a window of zero would never grow");
        // An unused window shows nothing about contention (as in RFC 2861), so it does not grow.
        if open > self.size / 2 {
            self.size = (self.size + 1).min(most.max(1));
        }
    }

    /// Shrinks after a slot was lost to another node; `last` is the last slot in use.
    pub(crate) fn lost(&mut self, slot: Slot, last: Slot) {
        // Slots that were open together are lost to one burst of a rival: one halving for all of them.
        if slot > self.counted_through {
            self.size = (self.size / 2).max(MIN_WINDOW);
            self.counted_through = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(size: usize) -> CongestionWindow {
        CongestionWindow { size, counted_through: Slot(0) }
    }

    #[test]
    fn lone_proposer_grows_to_the_window() {
        let mut window = CongestionWindow::default();
        for _ in 0..1000 {
            window.won(window.size, 128);
        }
        assert!(window.has_room(127) && !window.has_room(128));
    }

    #[test]
    fn unused_window_does_not_grow() {
        let mut window = window(16);
        window.won(8, 128);
        assert_eq!(window.size, 16);
        window.won(9, 128);
        assert_eq!(window.size, 17);
    }

    #[test]
    fn slots_lost_together_halve_the_window_once() {
        let mut window = window(64);
        for slot in 1..=16 {
            window.lost(Slot(slot), Slot(20));
        }
        assert_eq!(window.size, 32);
        window.lost(Slot(21), Slot(30));
        assert_eq!(window.size, 16);
    }

    #[test]
    fn losses_leave_a_few_proposals() {
        let mut window = window(MIN_WINDOW + 1);
        for slot in 1..=9 {
            window.lost(Slot(slot), Slot(slot));
        }
        assert!(window.has_room(MIN_WINDOW - 1) && !window.has_room(MIN_WINDOW));
    }
}
