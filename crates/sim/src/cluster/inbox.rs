//! Rounds of a driver whose thread takes time: events queue up, and one round takes many.
//!
//! This follows the node's loop: signals of its own threads first, then frames by lane, then
//! clients' calls, each up to a bound, then the time to wake, and one `take` for all of them.
//!
//! One thing differs. A frame that finds its lane of the inbox full is dropped here. In the node it
//! waits in the connection: the peer's lane fills next, and drops frames there. Both bound what
//! waits at a receiver, and both lose frames under overload; here they are lost after the link has
//! carried them.

use super::network::lanes::{LaneBounds, Lanes};
use bytes::Bytes;
use std::collections::VecDeque;
use synod_replica::Event;
use synod_types::{Instant, Lane, NodeId};

/// Events of one kind that a round takes at most, as in the node.
const ROUND: usize = 1024;

/// An event for a driver.
pub(crate) enum InboxEvent {
    /// Its disk or its apply side reports.
    Signal(Event),
    Frame(Lane, NodeId, Bytes),
    /// A client's request or read.
    Call(Event),
    /// The time that it named has come.
    Wake,
}

/// Events that wait for a driver.
pub(crate) struct Inbox {
    signals: VecDeque<Event>,
    frames: Lanes<(NodeId, Bytes)>,
    calls: VecDeque<Event>,
    /// Time at which its next round begins, if one is to.
    pub(crate) due: Option<Instant>,
    /// Its thread is at its last round until then.
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

    /// Queues an event. Returns how many frames were dropped for want of room.
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
