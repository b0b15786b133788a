//! Frames on their way from one node to another.

use crate::check::claims;
use crate::cluster::inbox::Incoming;
use crate::cluster::network::{Fate, Transmission};
use crate::cluster::{Cluster, Happening};
use crate::faults::kind::Fault;
use crate::faults::schedule::Mishap;
use crate::trace::fault_text::mishap_in_words;
use crate::trace::frame_in_words;
use crate::violation::{Checked, ViolationKind, violation};
use bytes::Bytes;
use synod_consensus::Protocol;
use synod_replica::{Driver, Event};
use synod_types::{Lane, NodeId};

impl<P: Protocol> Cluster<P> {
    /// A frame leaves a node's driver.
    pub(crate) fn send(&mut self, from: usize, to: NodeId, lane: Lane, frame: Bytes) -> Checked {
        let sender = &self.nodes[from];
        claims::check(sender.id, to, &frame, &sender.disk.synced)?;
        if !self.members.contains(to) {
            return Ok(());
        }
        let link = (from, Self::index(to));
        let life = self.nodes[from].life;
        if self.plan.capacity.is_some() {
            self.line_of(link, "..", &frame);
            let (plan, director) = (&self.plan, &mut self.director);
            let parcel = (lane, life, frame);
            let (dropped, started) = self.network.queue(self.now, link, parcel, plan, director);
            self.traffic.dropped += dropped as u64;
            self.schedule_transmission(started);
            return Ok(());
        }
        self.traffic.count_frame(&frame);
        let fate = self.network.send(self.now, link, &self.plan, &mut self.director);
        self.carry(link, (lane, life, frame), fate);
        Ok(())
    }

    /// A frame has left on a link whose bytes take time.
    pub(crate) fn on_transmitted(&mut self, link: (usize, usize)) -> Checked {
        let transmitted = self.network.transmitted(self.now, link, &mut self.director);
        let Some((parcel, fate, next)) = transmitted else { return Ok(()) };
        self.traffic.count_frame(&parcel.frame);
        self.carry(link, (parcel.lane, parcel.life, parcel.frame), fate);
        self.schedule_transmission(next);
        Ok(())
    }

    /// Links that were cut, or led to a dead node, transmit what waits for them.
    pub(crate) fn restart_links(&mut self) {
        for started in self.network.restart_wires(self.now) {
            self.schedule_transmission(Some(started));
        }
    }

    fn schedule_transmission(&mut self, started: Option<Transmission>) {
        if let Some(((from, to), end)) = started {
            self.queue.push(end, Happening::Transmitted { from, to });
        }
    }

    /// Has a frame arrive as it is to.
    fn carry(
        &mut self,
        (from, to): (usize, usize),
        (lane, life, frame): (Lane, u64, Bytes),
        fate: Fate,
    ) {
        let arrow = if fate.arrivals[0].is_some() { "->" } else { "-x" };
        self.line_of((from, to), arrow, &frame);
        for mishap in fate.mishaps {
            let words = || frame_in_words::<P>(&frame);
            self.journal.event(|| mishap_in_words(mishap, (from, to), &words()));
            // Replays and flipped bits count where they arrive.
            if !matches!(mishap, Mishap::Replayed(_) | Mishap::Flipped(_)) {
                self.count(mishap.fault());
            }
        }
        if let Some(at) = fate.replay {
            self.queue.push(at, Happening::Replay { from, to, lane, frame: frame.clone() });
        }
        let mut flipped = fate.flipped;
        for at in fate.arrivals.into_iter().flatten() {
            let intact = flipped.is_none();
            let frame = flipped.take().map_or_else(|| frame.clone(), |bit| flip(&frame, bit));
            self.queue.push(at, Happening::Deliver { from, life, to, lane, frame, intact });
        }
    }

    fn line_of(&mut self, (from, to): (usize, usize), arrow: &str, frame: &Bytes) {
        let (from, to) = (self.nodes[from].id, self.nodes[to].id);
        self.journal.line(|| format!("{from:?} {arrow} {to:?} {}", frame_in_words::<P>(frame)));
    }

    /// A message arrives.
    pub(crate) fn on_frame(
        &mut self,
        (from, to): (usize, usize),
        lane: Lane,
        frame: Bytes,
    ) -> Checked {
        let from = self.nodes[from].id;
        if self.plan.capacity.is_some() {
            self.enqueue(to, Incoming::Frame(lane, from, frame));
            return Ok(());
        }
        self.drive_now(to, Event::Frame { from, frame })
    }

    /// A message arrives of which a bit was flipped under way: the receiver must notice.
    pub(crate) fn on_damaged_frame(&mut self, from: usize, to: usize, frame: Bytes) -> Checked {
        let caught = |this: &Self| {
            let running = this.nodes[to].running.as_ref();
            running.map(|running| running.replica.counters().frames_malformed)
        };
        let Some(before) = caught(self) else { return Ok(()) };
        self.count(Fault::Corruption);
        let from = self.nodes[from].id;
        self.drive_now(to, Event::Frame { from, frame })?;
        if caught(self) == Some(before + 1) {
            return Ok(());
        }
        let text = "takes a frame of which a bit was flipped under way".to_string();
        Err(violation(ViolationKind::DamageUnnoticed, [self.nodes[to].id], text))
    }

    /// A message that arrived long ago, or was lost, arrives once more.
    pub(crate) fn on_replay(&mut self, link: (usize, usize), lane: Lane, frame: Bytes) -> Checked {
        if !self.troubled || !self.nodes[link.1].is_up() {
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
