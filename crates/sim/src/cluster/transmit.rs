//! Transmission of frames between nodes.

use super::Cluster;
use super::event::SimEvent;
use super::inbox::InboxEvent;
use super::network::links::Link;
use super::network::message::MessageFate;
use super::network::transmitter::SentFrame;
use super::world::World;
use crate::check::claims;
use crate::faults::kind::Fault;
use crate::faults::schedule::MessageFault;
use crate::trace::fault_text::describe_message_fault;
use crate::trace::messages::describe_frame;
use crate::violation::{Checked, ViolationKind, violation};
use bytes::Bytes;
use synod_consensus::Protocol;
use synod_replica::{Driver, Event};
use synod_types::{Lane, NodeId};

impl<P: Protocol> Cluster<P> {
    /// Sends a frame of a node's driver.
    pub(crate) fn send(&mut self, from: usize, to: NodeId, lane: Lane, frame: Bytes) -> Checked {
        let sender = &self.world.nodes[from];
        claims::check(sender.id, to, &frame, &sender.disk.synced)?;
        if !self.world.members.contains(to) {
            return Ok(());
        }
        let link = Link { from, to: World::<P>::index(to) };
        let frame = SentFrame { lane, boot: self.world.nodes[from].boot, bytes: frame };
        if self.world.plan.capacity.is_some() {
            self.world.trace_frame(link, "..", &frame.bytes);
            let (plan, fault_source) = (&self.world.plan, &mut self.faults.source);
            let (dropped, started) =
                self.world.network.queue(self.world.now, link, frame, plan, fault_source);
            self.world.traffic.dropped += dropped as u64;
            self.world.schedule_transmission(started);
            return Ok(());
        }
        self.world.traffic.count_frame(&frame.bytes);
        let fate = self.world.network.send(
            self.world.now,
            link,
            &self.world.plan,
            &mut self.faults.source,
        );
        self.schedule_arrivals(link, frame, fate);
        Ok(())
    }

    /// Handles the end of a transmission on a link with limited bandwidth.
    pub(crate) fn on_transmitted(&mut self, link: Link) -> Checked {
        let transmitted =
            self.world.network.transmitted(self.world.now, link, &mut self.faults.source);
        let Some((frame, fate, next)) = transmitted else { return Ok(()) };
        self.world.traffic.count_frame(&frame.bytes);
        self.schedule_arrivals(link, frame, fate);
        self.world.schedule_transmission(next);
        Ok(())
    }

    /// Queues the arrivals of a frame.
    fn schedule_arrivals(&mut self, link: Link, frame: SentFrame, fate: MessageFate) {
        let arrow = if fate.arrivals[0].is_some() { "->" } else { "-x" };
        self.world.trace_frame(link, arrow, &frame.bytes);
        for message_fault in fate.message_faults {
            let text = || describe_frame::<P>(&frame.bytes);
            self.world
                .trace
                .record_key_event(|| describe_message_fault(message_fault, link, &text()));
            // Replays and flipped bits count when they arrive.
            if !matches!(message_fault, MessageFault::Replayed(_) | MessageFault::Corrupted(_)) {
                self.count(message_fault.fault());
            }
        }
        if let Some(at) = fate.replay {
            self.world.queue.push(at, SimEvent::ReplayFrame { link, frame: frame.clone() });
        }
        let mut flipped = fate.flipped;
        for at in fate.arrivals.into_iter().flatten() {
            let intact = flipped.is_none();
            let mut frame = frame.clone();
            if let Some(bit) = flipped.take() {
                frame.bytes = flip_bit(&frame.bytes, bit);
            }
            self.world.queue.push(at, SimEvent::DeliverFrame { link, frame, intact });
        }
    }

    /// Handles an arriving frame.
    pub(crate) fn on_frame(&mut self, link: Link, frame: SentFrame) -> Checked {
        let from = self.world.nodes[link.from].id;
        if self.world.plan.capacity.is_some() {
            self.world.enqueue(link.to, InboxEvent::Frame(frame.lane, from, frame.bytes));
            return Ok(());
        }
        self.handle_event_now(link.to, Event::Frame { from, frame: frame.bytes })
    }

    /// Handles an arriving frame with a bit flipped in flight, which the receiver must detect.
    pub(crate) fn on_corrupted_frame(&mut self, link: Link, frame: Bytes) -> Checked {
        let Link { from, to } = link;
        let rejected = |this: &Self| {
            let running = this.world.nodes[to].running.as_ref();
            running.map(|running| running.replica.counters().frames_malformed)
        };
        let Some(before) = rejected(self) else { return Ok(()) };
        self.count(Fault::Corruption);
        let from = self.world.nodes[from].id;
        self.handle_event_now(to, Event::Frame { from, frame })?;
        if rejected(self) == Some(before + 1) {
            return Ok(());
        }
        let text = "a frame with a bit flipped in flight was accepted".to_string();
        Err(violation(ViolationKind::CorruptionUndetected, [self.world.nodes[to].id], text))
    }

    /// Handles the replay of a message that was sent long ago.
    pub(crate) fn on_replay(&mut self, link: Link, frame: SentFrame) -> Checked {
        if !self.faults.is_active || !self.world.nodes[link.to].is_up() {
            return Ok(());
        }
        self.count(Fault::Replay);
        self.on_frame(link, frame)
    }
}

/// Returns the frame with one bit flipped.
fn flip_bit(frame: &Bytes, bit: u32) -> Bytes {
    let mut corrupted = frame.to_vec();
    let bit = bit as usize % (corrupted.len() * 8).max(1);
    if let Some(byte) = corrupted.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    corrupted.into()
}
