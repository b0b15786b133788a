//! Bound of a node's open proposals.

use synod_types::Slot;

/// Open proposals at first.
const INITIAL: usize = 16;

/// Open proposals that losses leave: with long round trips, nodes that have little to propose lose
/// slots, too, and need so many for their throughput.
const LEAST: usize = 8;

/// Open proposals up to which slots that others have left open are finished, however small the window.
/// Everything waits for these slots, and after crashes many are open at a time; with more, a node that
/// returns under load has too many values sent again.
const FINISHING: usize = 32;

/// Bound of a node's open proposals that adapts to contention: additive increase with each slot
/// won, multiplicative decrease when slots are lost, as in TCP (Jacobson, "Congestion Avoidance and
/// Control").
///
/// Nodes that have much to propose choose the same slots, one node wins each, and what the others
/// sent for them was for nothing. The fewer slots a node tries at a time, the fewer are lost before
/// it sees which ones the others use. A node that proposes alone is soon bounded by the window only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CongestionWindow {
    size: usize,
    /// Losses up to this slot belong to the last decrease: their proposals were open then.
    counted_through: Slot,
}

impl Default for CongestionWindow {
    fn default() -> Self {
        Self { size: INITIAL, counted_through: Slot(0) }
    }
}

impl CongestionWindow {
    /// Returns whether one more proposal may be opened beside so many.
    pub(crate) fn has_room(&self, open: usize) -> bool {
        open < self.size
    }

    /// Returns whether one more slot that others have left open may be finished beside so many.
    pub(crate) fn has_room_to_finish(&self, open: usize) -> bool {
        open < self.size.max(FINISHING)
    }

    /// Grows after a slot was won while so many proposals were open, if the window is in use.
    pub(crate) fn won(&mut self, open: usize, most: usize) {
        debug_assert!(self.size > 0, "a window of zero would never grow");
        if open > self.size / 2 {
            self.size = (self.size + 1).min(most.max(1));
        }
    }

    /// Shrinks after a slot was lost to another node; `last` is the last slot in use.
    pub(crate) fn lost(&mut self, slot: Slot, last: Slot) {
        if slot > self.counted_through {
            self.size = (self.size / 2).max(LEAST);
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
        let mut window = window(LEAST + 1);
        for slot in 1..=9 {
            window.lost(Slot(slot), Slot(slot));
        }
        assert!(window.has_room(LEAST - 1) && !window.has_room(LEAST));
    }
}
