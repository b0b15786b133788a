//! Frames on links with limited bandwidth.

use super::Network;
use super::links::Link;
use super::message::MessageFate;
use super::transmitter::{QueuedFrame, SentFrame, Transmission};
use crate::faults::source::FaultSource;
use crate::plan::Plan;
use synod_types::Instant;

impl Network {
    /// Queues a frame for transmission. Returns the number of frames dropped because their lane is
    /// full, and the transmission that starts now, if one does.
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        link: Link,
        frame: SentFrame,
        plan: &Plan,
        fault_source: &mut FaultSource,
    ) -> (usize, Option<Transmission>) {
        let draw = self.draw(link, plan, fault_source);
        let index = self.index(link);
        let Some(transmitters) = self.transmitters.as_mut() else { return (0, None) };
        let transmitter = &mut transmitters.transmitters[index];
        let (lane, size) = (frame.lane, frame.bytes.len());
        let queued = QueuedFrame { frame, draw };
        let dropped = match transmitter.is_offline(now) {
            true => transmitter.lanes.offer_offline(lane, size, queued),
            false => transmitter.lanes.offer(lane, size, queued),
        };
        transmitter.interrupt(now, lane);
        let started = transmitter.start(now, transmitters.bandwidth);
        (dropped, started.map(|end| Transmission { link, end }))
    }

    /// Ends a transmission. Returns the frame with its fate, and the next transmission. A frame
    /// whose link is cut is kept and transmitted again later, as the transport's connection
    /// retransmits until its idle timeout.
    pub(crate) fn transmitted(
        &mut self,
        now: Instant,
        link: Link,
        fault_source: &mut FaultSource,
    ) -> Option<(SentFrame, MessageFate, Option<Transmission>)> {
        let index = self.index(link);
        let transmitters = self.transmitters.as_mut()?;
        let transmitter = &mut transmitters.transmitters[index];
        // The sender has crashed since, or the transmission was restarted.
        transmitter.sending.as_ref().filter(|(_, end)| *end == now)?;
        if transmitter.blocked_since.is_some() {
            transmitter.stalled = true;
            return None;
        }
        let (queued, _) = transmitter.sending.take()?;
        let next = transmitter.start(now, transmitters.bandwidth);
        let fate = self.depart(now, link, &queued.draw, fault_source);
        Some((queued.frame, fate, next.map(|end| Transmission { link, end })))
    }

    /// Drops a crashed node's queued frames and marks the node as unreachable.
    pub(crate) fn node_crashed(&mut self, now: Instant, node: usize) {
        let nodes = self.nodes;
        let Some(transmitters) = self.transmitters.as_mut() else { return };
        transmitters.down[node] = true;
        for to in 0..nodes {
            let transmitter = &mut transmitters.transmitters[node * nodes + to];
            transmitter.lanes.clear();
            (transmitter.sending, transmitter.stalled) = (None, false);
            transmitter.paused.clear();
        }
        self.record_blocked_links(now);
    }

    /// Marks a node as reachable.
    pub(crate) fn node_started(&mut self, node: usize) {
        if let Some(transmitters) = self.transmitters.as_mut() {
            transmitters.down[node] = false;
        }
    }

    /// Records when links became blocked.
    pub(super) fn record_blocked_links(&mut self, now: Instant) {
        let nodes = self.nodes;
        let Some(transmitters) = self.transmitters.as_mut() else { return };
        for (index, (transmitter, link)) in
            transmitters.transmitters.iter_mut().zip(&self.links).enumerate()
        {
            if link.cuts > 0 || transmitters.down[index % nodes] {
                transmitter.blocked_since.get_or_insert(now);
            }
        }
    }

    /// Starts transmissions on links that are open again. If the connection has timed out
    /// meanwhile, the frame in transmission is lost.
    pub(crate) fn restart_transmitters(&mut self, now: Instant) -> Vec<Transmission> {
        let nodes = self.nodes;
        let mut started = Vec::new();
        let Some(transmitters) = self.transmitters.as_mut() else { return started };
        for (index, (transmitter, link)) in
            transmitters.transmitters.iter_mut().zip(&self.links).enumerate()
        {
            let to = index % nodes;
            if link.cuts > 0 || transmitters.down[to] || transmitter.blocked_since.is_none() {
                continue;
            }
            if transmitter.is_offline(now) && transmitter.stalled {
                (transmitter.sending, transmitter.stalled) = (None, false);
                transmitter.paused.clear();
            }
            transmitter.blocked_since = None;
            let end = transmitter.start(now, transmitters.bandwidth);
            let link = Link { from: index / nodes, to };
            started.extend(end.map(|end| Transmission { link, end }));
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::network::lanes::LaneBounds;
    use crate::cluster::network::links::links;
    use crate::plan::CapacityPlan;
    use crate::rng::SimRng;
    use std::time::Duration;
    use synod_types::Lane;

    const LINK: Link = Link { from: 0, to: 1 };

    /// Two nodes and a link with a bandwidth of 1000 bytes a second.
    struct Pair {
        plan: Plan,
        network: Network,
        fault_source: FaultSource,
        /// Ends of transmissions.
        ends: Vec<Instant>,
    }

    impl Pair {
        fn new() -> Self {
            let mut plan = Plan::healthy(2);
            let mut capacity = CapacityPlan::of(1000, 1000);
            capacity.lanes = LaneBounds { frames: 100, bytes: 1000 };
            plan.capacity = Some(capacity);
            let network = Network::new(2, &plan, &mut SimRng::new(5));
            Self { plan, network, fault_source: FaultSource::random(2), ends: Vec::new() }
        }

        fn queue(&mut self, ms: u64, lane: Lane, byte: u8, size: usize) -> usize {
            let frame = SentFrame { lane, boot: 1, bytes: vec![byte; size].into() };
            let (plan, fault_source) = (&self.plan, &mut self.fault_source);
            let (dropped, started) = self.network.queue(at(ms), LINK, frame, plan, fault_source);
            self.ends.extend(started.map(|it| it.end));
            dropped
        }

        /// Returns the frames that leave up to a time, and the time of each.
        fn until(&mut self, ms: u64) -> Vec<(u8, Instant)> {
            let mut left = Vec::new();
            while let Some(end) = self.ends.pop_if(|end| *end <= at(ms)) {
                let transmitted = self.network.transmitted(end, LINK, &mut self.fault_source);
                let Some((frame, fate, next)) = transmitted else { continue };
                assert!(fate.arrivals[0].is_some_and(|arrival| arrival > end));
                left.push((frame.bytes[0], end));
                self.ends.extend(next.map(|it| it.end));
            }
            left
        }

        fn restart(&mut self, ms: u64) {
            let started = self.network.restart_transmitters(at(ms));
            self.ends.extend(started.into_iter().map(|it| it.end));
        }
    }

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    #[test]
    fn control_frame_overtakes_log_frames_and_interrupts_the_one_in_transmission() {
        let mut pair = Pair::new();
        for byte in 1..=3 {
            assert_eq!(pair.queue(0, Lane::Log, byte, 100), 0);
        }
        assert_eq!(pair.queue(40, Lane::Control, 9, 10), 0);
        let left = pair.until(1000);
        assert_eq!(left, [(9, at(50)), (1, at(110)), (2, at(210)), (3, at(310))]);
    }

    #[test]
    fn full_lane_drops_the_new_frame() {
        let mut pair = Pair::new();
        let dropped: usize = (0..12).map(|byte| pair.queue(0, Lane::Log, byte, 100)).sum();
        assert_eq!(dropped, 1, "one frame is in transmission and ten are queued");
        let left: Vec<_> = pair.until(5000).into_iter().map(|(byte, _)| byte).collect();
        assert_eq!(left, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn short_cut_loses_no_frame_and_long_cut_keeps_the_newest_frames() {
        for (cut, kept) in [(1000, (0..90).collect::<Vec<_>>()), (3000, (26..90).collect())] {
            let mut pair = Pair::new();
            (0..60).for_each(|byte| _ = pair.queue(0, Lane::Log, byte, 10));
            let links = pair.network.cut(at(5), &links(&[0], &[1]));
            assert!(pair.until(5 + cut - 10).is_empty());
            (60..90).for_each(|byte| _ = pair.queue(5 + cut - 5, Lane::Log, byte, 10));
            pair.network.heal_cut(&links);
            pair.restart(5 + cut);
            let left: Vec<_> = pair.until(20_000).into_iter().map(|(byte, _)| byte).collect();
            assert_eq!(left, kept, "after {cut} ms");
        }
    }

    #[test]
    fn crashed_node_loses_its_queued_frames() {
        let mut pair = Pair::new();
        (0..5).for_each(|byte| _ = pair.queue(0, Lane::Log, byte, 100));
        pair.network.node_crashed(at(50), 0);
        assert!(pair.until(10_000).is_empty());
        pair.network.node_started(0);
        pair.restart(100);
        pair.queue(100, Lane::Log, 7, 100);
        assert_eq!(pair.until(10_000), [(7, at(200))]);
    }
}
