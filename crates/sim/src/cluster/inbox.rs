//! Rounds of a driver whose thread takes time: events queue up, and one round takes many.
//!
//! This follows the node's loop: signals of its own threads first, then frames by lane, then
//! clients' calls, each up to a bound, then the time to wake, and one `take` for all of them.
//!
//! One thing differs. A frame that finds its lane of the inbox full is dropped here. In the node it
//! waits in the connection: the peer's lane fills next, and drops frames there. Both bound what
//! waits at a receiver, and both lose frames under overload; here they are lost after the link has
//! carried them.

use crate::cluster::network::{LaneBounds, Lanes, time_for};
use crate::cluster::{Cluster, Happening};
use crate::violation::Checked;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_replica::{Driver, Event};
use synod_types::{Instant, Lane, NodeId};

/// Events of one kind that a round takes at most, as in the node.
const ROUND: usize = 1024;

/// What comes in for a driver.
pub(crate) enum Incoming {
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
    /// When its next round begins, if one is to.
    pub(crate) due: Option<Instant>,
    /// Its thread is at its last round until then.
    busy_until: Instant,
}

impl Inbox {
    fn new(bounds: LaneBounds) -> Self {
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
    fn push(&mut self, incoming: Incoming) -> usize {
        match incoming {
            Incoming::Signal(event) => self.signals.push_back(event),
            Incoming::Call(event) => self.calls.push_back(event),
            Incoming::Frame(lane, from, frame) => {
                return self.frames.offer(lane, frame.len(), (from, frame));
            }
            Incoming::Wake => {}
        }
        0
    }

    /// Takes the events of one round.
    fn take_round(&mut self, most_bytes: u64) -> Vec<Event> {
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

    fn is_empty(&self) -> bool {
        self.signals.is_empty() && self.frames.is_empty() && self.calls.is_empty()
    }
}

impl<P: Protocol> Cluster<P> {
    /// A node's driver takes an event: at once, or with its next round.
    pub(crate) fn drive(&mut self, node: usize, event: Event) -> Checked {
        if self.plan.capacity.is_none() {
            return self.drive_now(node, event);
        }
        self.enqueue(
            node,
            match event {
                Event::Wake => Incoming::Wake,
                Event::Frame { from, frame } => Incoming::Frame(Lane::Control, from, frame),
                event @ (Event::Request { .. } | Event::Read { .. }) => Incoming::Call(event),
                event => Incoming::Signal(event),
            },
        );
        Ok(())
    }

    /// Queues an event for a driver whose thread takes time.
    pub(crate) fn enqueue(&mut self, node: usize, incoming: Incoming) {
        let this = &mut self.nodes[node];
        let Some(capacity) = self.plan.capacity.as_ref() else { return };
        let Some(running) = this.running.as_mut() else { return };
        let inbox = running.inbox.get_or_insert_with(|| Inbox::new(capacity.lanes));
        self.traffic.dropped += inbox.push(incoming) as u64;
        if inbox.due.is_none() {
            let at = self.now.max(inbox.busy_until);
            inbox.due = Some(at);
            self.queue.push(at, Happening::Round { node, life: this.life });
        }
    }

    /// A driver's thread begins a round.
    pub(crate) fn on_round(&mut self, node: usize, life: u64) -> Checked {
        let this = &mut self.nodes[node];
        let Some(capacity) = self.plan.capacity.as_ref() else { return Ok(()) };
        let Some(running) = this.running.as_mut().filter(|_| this.life == life) else {
            return Ok(());
        };
        let Some(inbox) = running.inbox.as_mut().filter(|inbox| inbox.due == Some(self.now)) else {
            return Ok(());
        };
        let local = this.clock.read(self.now);
        let events = inbox.take_round(capacity.round_bytes);
        let bytes = events.iter().map(event_bytes).sum();
        let cost = capacity.step_each * (1 + events.len() as u32) + time_for(bytes, capacity.step);
        inbox.busy_until = self.now + cost.max(Duration::from_nanos(1));
        inbox.due = (!inbox.is_empty()).then_some(inbox.busy_until);
        if let Some(at) = inbox.due {
            self.queue.push(at, Happening::Round { node, life });
        }
        for event in events {
            running.replica.handle(local, event);
        }
        // After all that was queued: a heartbeat that waits must not lose against its timeout.
        if this.wake.is_some_and(|wake| wake <= local) {
            this.wake = None;
            running.replica.handle(local, Event::Wake);
        }
        self.settle(node)
    }
}

fn event_bytes(event: &Event) -> u64 {
    match event {
        Event::Frame { frame, .. } => frame.len() as u64,
        Event::Request { command, .. } => command.len() as u64,
        _ => 0,
    }
}
