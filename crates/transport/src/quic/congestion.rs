//! Congestion control that tolerates random loss.
//!
//! Cubic interprets every lost packet as a full queue. On a path with a round trip of 60 ms that loses
//! one packet in a hundred at random, it transfers a quarter of a megabyte a second, whatever the
//! capacity of the path. This controller ignores losses up to a share of the bytes sent, as BBR version 2
//! does. A full queue drops far more than that, and then Cubic reacts.

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn_proto::RttEstimator;
use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

/// Reciprocal of the tolerated loss rate: the loss of up to one byte in this many is ignored.
const TOLERATED_ONE_IN: u64 = 50;
/// Number of bytes sent over which losses are counted: at least this many, and at most twice as many.
/// It is large enough to average out random loss, and small enough that the losses of a full queue exceed
/// the tolerated rate within one or two round trips.
const WINDOW: u64 = 1 << 20;

/// Factory of the congestion controller of each connection.
#[derive(Debug, Default)]
pub(super) struct LossTolerant(Arc<CubicConfig>);

impl ControllerFactory for LossTolerant {
    fn build(self: Arc<Self>, now: Instant, mtu: u16) -> Box<dyn Controller> {
        let cubic = Arc::clone(&self.0).build(now, mtu);
        // Starts as if a whole window had been sent without loss: one early loss must not exceed the rate.
        Box::new(LossFilter { cubic, sent: WINDOW, lost: 0 })
    }
}

/// Cubic with a filter that hides tolerated losses.
struct LossFilter {
    cubic: Box<dyn Controller>,
    sent: u64,
    lost: u64,
}

impl Controller for LossFilter {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.sent += bytes;
        if self.sent >= 2 * WINDOW {
            self.sent /= 2;
            self.lost /= 2;
        }
        self.cubic.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.cubic.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.cubic.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.lost += lost_bytes;
        // A mark of a router (ECN) signals a full queue without loss.
        let is_marked = lost_bytes == 0;
        if is_marked || is_persistent_congestion || self.lost * TOLERATED_ONE_IN > self.sent {
            self.cubic.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
        }
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.cubic.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        self.cubic.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { cubic: self.cubic.clone_box(), ..*self })
    }

    fn initial_window(&self) -> u64 {
        self.cubic.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u64 = 1200;

    /// Returns a controller after 10,000 packets of which one in `lost_of` was lost, and its first
    /// window.
    fn after_losses(lost_of: u64) -> (Box<dyn Controller>, u64) {
        let now = Instant::now();
        let mut controller = Arc::new(LossTolerant::default()).build(now, PACKET as u16);
        let first = controller.window();
        for packet in 1..=10_000 {
            controller.on_sent(now, PACKET, packet);
            if packet % lost_of == 0 {
                controller.on_congestion_event(now, now, false, PACKET);
            }
        }
        (controller, first)
    }

    #[test]
    fn window_is_constant_while_one_packet_in_a_hundred_is_lost() {
        let (mut controller, first) = after_losses(100);
        assert_eq!(controller.window(), first);
        let now = Instant::now();
        controller.on_congestion_event(now, now, false, 0);
        assert!(controller.window() < first, "a congestion mark takes effect at once");
    }

    #[test]
    fn window_shrinks_when_one_packet_in_twenty_is_lost() {
        let (controller, first) = after_losses(20);
        assert!(controller.window() < first);
    }
}
