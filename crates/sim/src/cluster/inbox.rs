//! Inbox of a driver whose throughput is limited: events wait in it, and each round takes many.
//!
//! Follows the node's loop: signals of its own threads first, then frames by lane, then client
//! calls, each up to a bound, then the timer, and one `take` for all of them.
//!
//! One difference: if a lane of the inbox is full, the simulator drops the arriving frame. In the
//! node the frame waits in the connection (backpressure), so the sender's lane fills and drops
//! frames. Both bound the receiver's queue and drop frames under overload, but the simulator does
//! so after transmission.

use super::network::lanes::{LaneBounds, Lanes};
use bytes::Bytes;
use std::collections::VecDeque;
use synod_replica::Event;
use synod_types::{Instant, Lane, NodeId};

/// Maximum number of events of one kind in a round, as in the node.
const ROUND: usize = 1024;

/// Event for a driver.
pub(crate) enum InboxEvent {
    /// Report of the node's disk or apply thread.
    Signal(Event),
    Frame(Lane, NodeId, Bytes),
    /// Request or read of a client.
    Call(Event),
    /// A timer of the driver is due.
    Wake,
}

/// Events that wait for a driver.
pub(crate) struct Inbox {
    signals: VecDeque<Event>,
    frames: Lanes<(NodeId, Bytes)>,
    calls: VecDeque<Event>,
    /// Time at which the next round begins, if one is queued.
    pub(crate) due: Option<Instant>,
    /// End of the last round: the thread is busy until then.
    pub(crate) busy_until: Instant,
}

impl Inbox {
    pub(crate) fn new(bounds: LaneBounds) -> Self {
        Self {
            signals: VecDeque::new(),
            frames: Lanes::new(bounds),
            calls: VecDeque::new(),
            due: None,
            busy_until: Instant::ZERO,
        }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Queues an event. Returns the number of frames dropped because their lane is full.
    pub(crate) fn push(&mut self, event: InboxEvent) -> usize {
        match event {
            InboxEvent::Signal(event) => self.signals.push_back(event),
            InboxEvent::Call(event) => self.calls.push_back(event),
            InboxEvent::Frame(lane, from, frame) => {
                return self.frames.offer(lane, frame.len(), (from, frame));
            }
            InboxEvent::Wake => {}
        }
        0
    }

    /// Takes the events of one round.
    pub(crate) fn take_round(&mut self, most_bytes: u64) -> Vec<Event> {
        let signals = self.signals.len().min(ROUND);
        let mut events: Vec<_> = self.signals.drain(..signals).collect();
        let mut bytes = 0;
        for _ in 0..ROUND {
            let Some((size, (from, frame))) = self.frames.pop_fair() else { break };
            events.push(Event::Frame { from, frame });
            bytes += size as u64;
            if bytes >= most_bytes {
                break;
            }
        }
        let calls = self.calls.len().min(ROUND);
        events.extend(self.calls.drain(..calls));
        events
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.signals.is_empty() && self.frames.is_empty() && self.calls.is_empty()
    }
}
