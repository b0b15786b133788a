//! Frames on their way from one node to another.

use super::Cluster;
use super::event::SimEvent;
use super::inbox::InboxEvent;
use super::network::message::MessageFate;
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
    /// A frame leaves a node's driver.
    pub(crate) fn send(&mut self, from: usize, to: NodeId, lane: Lane, frame: Bytes) -> Checked {
        let sender = &self.world.nodes[from];
        claims::check(sender.id, to, &frame, &sender.disk.synced)?;
        if !self.world.members.contains(to) {
            return Ok(());
        }
        let link = (from, World::<P>::index(to));
        let boot = self.world.nodes[from].boot;
        if self.world.plan.capacity.is_some() {
            self.world.trace_frame(link, "..", &frame);
            let (plan, fault_source) = (&self.world.plan, &mut self.faults.source);
            let queued = (lane, boot, frame);
            let (dropped, started) =
                self.world.network.queue(self.world.now, link, queued, plan, fault_source);
            self.world.traffic.dropped += dropped as u64;
            self.world.schedule_transmission(started);
            return Ok(());
        }
        self.world.traffic.count_frame(&frame);
        let fate = self.world.network.send(
            self.world.now,
            link,
            &self.world.plan,
            &mut self.faults.source,
        );
        self.carry(link, (lane, boot, frame), fate);
        Ok(())
    }

    /// A frame has left on a link whose bytes take time.
    pub(crate) fn on_transmitted(&mut self, link: (usize, usize)) -> Checked {
        let transmitted =
            self.world.network.transmitted(self.world.now, link, &mut self.faults.source);
        let Some((queued, fate, next)) = transmitted else { return Ok(()) };
        self.world.traffic.count_frame(&queued.frame);
        self.carry(link, (queued.lane, queued.boot, queued.frame), fate);
        self.world.schedule_transmission(next);
        Ok(())
    }

    /// Has a frame arrive as it is to.
    fn carry(
        &mut self,
        (from, to): (usize, usize),
        (lane, boot, frame): (Lane, u64, Bytes),
        fate: MessageFate,
    ) {
        let arrow = if fate.arrivals[0].is_some() { "->" } else { "-x" };
        self.world.trace_frame((from, to), arrow, &frame);
        for message_fault in fate.message_faults {
            let words = || describe_frame::<P>(&frame);
            self.world
                .trace
                .record_key_event(|| describe_message_fault(message_fault, (from, to), &words()));
            // Replays and flipped bits count where they arrive.
            if !matches!(message_fault, MessageFault::Replayed(_) | MessageFault::Corrupted(_)) {
                self.count(message_fault.fault());
            }
        }
        if let Some(at) = fate.replay {
            self.world
                .queue
                .push(at, SimEvent::ReplayFrame { from, to, lane, frame: frame.clone() });
        }
        let mut flipped = fate.flipped;
        for at in fate.arrivals.into_iter().flatten() {
            let intact = flipped.is_none();
            let frame = flipped.take().map_or_else(|| frame.clone(), |bit| flip(&frame, bit));
            self.world
                .queue
                .push(at, SimEvent::DeliverFrame { from, boot, to, lane, frame, intact });
        }
    }

    /// A message arrives.
    pub(crate) fn on_frame(
        &mut self,
        (from, to): (usize, usize),
        lane: Lane,
        frame: Bytes,
    ) -> Checked {
        let from = self.world.nodes[from].id;
        if self.world.plan.capacity.is_some() {
            self.world.enqueue(to, InboxEvent::Frame(lane, from, frame));
            return Ok(());
        }
        self.handle_event_now(to, Event::Frame { from, frame })
    }

    /// A message arrives of which a bit was flipped in flight: the receiver must detect it.
    pub(crate) fn on_damaged_frame(&mut self, from: usize, to: usize, frame: Bytes) -> Checked {
        let caught = |this: &Self| {
            let running = this.world.nodes[to].running.as_ref();
            running.map(|running| running.replica.counters().frames_malformed)
        };
        let Some(before) = caught(self) else { return Ok(()) };
        self.count(Fault::Corruption);
        let from = self.world.nodes[from].id;
        self.handle_event_now(to, Event::Frame { from, frame })?;
        if caught(self) == Some(before + 1) {
            return Ok(());
        }
        let text = "takes a frame of which a bit was flipped in flight".to_string();
        Err(violation(ViolationKind::DamageUnnoticed, [self.world.nodes[to].id], text))
    }

    /// A message that arrived long ago, or was lost, arrives once more.
    pub(crate) fn on_replay(&mut self, link: (usize, usize), lane: Lane, frame: Bytes) -> Checked {
        if !self.faults.is_active || !self.world.nodes[link.1].is_up() {
            return Ok(());
        }
        self.count(Fault::Replay);
        self.on_frame(link, lane, frame)
    }
}

/// The frame with one bit flipped.
fn flip(frame: &Bytes, bit: u32) -> Bytes {
    let mut damaged = frame.to_vec();
    let bit = bit as usize % (damaged.len() * 8).max(1);
    if let Some(byte) = damaged.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
    damaged.into()
}
