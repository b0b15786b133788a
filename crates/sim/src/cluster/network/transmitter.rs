//! Transmitters: a frame waits in its lane, then takes time by its bytes to leave.

use super::lanes::Lanes;
use super::{Draw, Fate, Network};
use crate::faults::schedule::Director;
use crate::plan::{CapacityPlan, Plan};
use bytes::Bytes;
use std::time::Duration;
use synod_types::{Instant, Lane};

/// A connection whose peer has not answered for this long is given up: the shipped default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// All transmitters of a network.
#[derive(Debug)]
pub(super) struct Wires {
    wires: Vec<Wire>,
    /// Nodes that do not run.
    down: Vec<bool>,
    bandwidth: u64,
}

/// One link's transmitter and the frames that wait for it.
#[derive(Debug)]
struct Wire {
    lanes: Lanes<Parcel>,
    /// The frame that is being transmitted, and until when.
    sending: Option<(Parcel, Instant)>,
    /// Frames whose transmission a more urgent one has interrupted, and the time that each still
    /// takes: packets of all lanes share a connection, the urgent ones first.
    paused: Vec<(Parcel, Duration)>,
    /// Its transmission ended while the link was cut: it is transmitted again.
    stalled: bool,
    /// Since when the peer cannot be reached.
    blocked_since: Option<Instant>,
}

/// A frame on its way to a link.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) frame: Bytes,
    pub(crate) lane: Lane,
    /// The sender's life: frames of an earlier one may be void.
    pub(crate) life: u64,
    draw: Draw,
}

/// A transmission that ends at a time.
pub(crate) type Transmission = ((usize, usize), Instant);

impl Wires {
    pub(super) fn new(nodes: usize, capacity: &CapacityPlan) -> Self {
        let wire = |_| Wire {
            lanes: Lanes::new(capacity.lanes),
            sending: None,
            paused: Vec::new(),
            stalled: false,
            blocked_since: None,
        };
        Self {
            wires: (0..nodes * nodes).map(wire).collect(),
            down: vec![false; nodes],
            bandwidth: capacity.bandwidth,
        }
    }
}

impl Wire {
    fn is_offline(&self, now: Instant) -> bool {
        self.blocked_since.is_some_and(|since| now.since(since) >= IDLE_TIMEOUT)
    }

    /// Starts the next transmission, if none is running and the link is open. Returns its end.
    fn start(&mut self, now: Instant, bandwidth: u64) -> Option<Instant> {
        if self.blocked_since.is_some() || (self.sending.is_some() && !self.stalled) {
            return None;
        }
        self.stalled = false;
        let whole = |parcel: Parcel| {
            let time = time_for(parcel.frame.len() as u64, bandwidth);
            (parcel, time)
        };
        let again = self.sending.take().map(|(parcel, _)| whole(parcel));
        let waiting = self.lanes.most_urgent();
        let resumed =
            || self.paused.pop_if(|(parcel, _)| waiting.is_none_or(|lane| parcel.lane <= lane));
        let (parcel, time) = again.or_else(resumed).or_else(|| {
            let (_, parcel) = self.lanes.pop_urgent()?;
            Some(whole(parcel))
        })?;
        let end = now + time;
        self.sending = Some((parcel, end));
        Some(end)
    }

    /// Interrupts a transmission that is less urgent than a frame of `lane`.
    fn interrupt(&mut self, now: Instant, lane: Lane) {
        let is_less_urgent = |(parcel, _): &mut (Parcel, Instant)| lane < parcel.lane;
        if !self.stalled
            && self.blocked_since.is_none()
            && let Some((parcel, end)) = self.sending.take_if(is_less_urgent)
        {
            self.paused.push((parcel, end.since(now)));
        }
    }
}

/// The time that so many bytes take at so many bytes a second.
pub(crate) fn time_for(bytes: u64, per_second: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Network {
    /// Queues a frame for transmission. Returns how many frames were dropped for want of room, and
    /// the transmission that starts now, if one does.
    pub(crate) fn queue(
        &mut self,
        now: Instant,
        link: (usize, usize),
        (lane, life, frame): (Lane, u64, Bytes),
        plan: &Plan,
        director: &mut Director,
    ) -> (usize, Option<Transmission>) {
        let draw = self.draw(link, plan, director);
        let index = self.index(link.0, link.1);
        let Some(wires) = self.wires.as_mut() else { return (0, None) };
        let wire = &mut wires.wires[index];
        let size = frame.len();
        let parcel = Parcel { frame, lane, life, draw };
        let dropped = match wire.is_offline(now) {
            true => wire.lanes.offer_offline(lane, size, parcel),
            false => wire.lanes.offer(lane, size, parcel),
        };
        wire.interrupt(now, lane);
        (dropped, wire.start(now, wires.bandwidth).map(|end| (link, end)))
    }

    /// A transmission ends. Returns the frame with its fate, and the next transmission. A frame
    /// that was transmitted into a cut link is kept and transmitted again, as the transport's
    /// connection does until it is given up.
    pub(crate) fn transmitted(
        &mut self,
        now: Instant,
        link: (usize, usize),
        director: &mut Director,
    ) -> Option<(Parcel, Fate, Option<Transmission>)> {
        let index = self.index(link.0, link.1);
        let wires = self.wires.as_mut()?;
        let wire = &mut wires.wires[index];
        // The sender has died since, or the transmission began again.
        wire.sending.as_ref().filter(|(_, end)| *end == now)?;
        if wire.blocked_since.is_some() {
            wire.stalled = true;
            return None;
        }
        let (parcel, _) = wire.sending.take()?;
        let next = wire.start(now, wires.bandwidth).map(|end| (link, end));
        let fate = self.leave(now, link, &parcel.draw, director);
        Some((parcel, fate, next))
    }

    /// A node has died: what it had queued is gone, and its peers cannot reach it.
    pub(crate) fn node_died(&mut self, now: Instant, node: usize) {
        let nodes = self.nodes;
        let Some(wires) = self.wires.as_mut() else { return };
        wires.down[node] = true;
        for to in 0..nodes {
            let wire = &mut wires.wires[node * nodes + to];
            wire.lanes.clear();
            (wire.sending, wire.stalled) = (None, false);
            wire.paused.clear();
        }
        self.note_blocked(now);
    }

    /// A node has started.
    pub(crate) fn node_started(&mut self, node: usize) {
        if let Some(wires) = self.wires.as_mut() {
            wires.down[node] = false;
        }
    }

    /// Records since when links are blocked.
    pub(super) fn note_blocked(&mut self, now: Instant) {
        let nodes = self.nodes;
        let Some(wires) = self.wires.as_mut() else { return };
        for (index, (wire, link)) in wires.wires.iter_mut().zip(&self.links).enumerate() {
            if link.cuts > 0 || wires.down[index % nodes] {
                wire.blocked_since.get_or_insert(now);
            }
        }
    }

    /// Starts transmissions on links that are open again. A connection that was given up
    /// meanwhile has lost the frame that it was transmitting.
    pub(crate) fn restart_wires(&mut self, now: Instant) -> Vec<Transmission> {
        let nodes = self.nodes;
        let mut started = Vec::new();
        let Some(wires) = self.wires.as_mut() else { return started };
        for (index, (wire, link)) in wires.wires.iter_mut().zip(&self.links).enumerate() {
            let to = index % nodes;
            if link.cuts > 0 || wires.down[to] || wire.blocked_since.is_none() {
                continue;
            }
            if wire.is_offline(now) && wire.stalled {
                (wire.sending, wire.stalled) = (None, false);
                wire.paused.clear();
            }
            wire.blocked_since = None;
            let end = wire.start(now, wires.bandwidth);
            started.extend(end.map(|end| ((index / nodes, to), end)));
        }
        started
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::network::{LaneBounds, links};
    use crate::rng::Dice;

    const LINK: (usize, usize) = (0, 1);

    /// Two nodes, and a link that carries a thousand bytes a second.
    struct Pair {
        plan: Plan,
        network: Network,
        director: Director,
        /// Ends of transmissions.
        ends: Vec<Instant>,
    }

    impl Pair {
        fn new() -> Self {
            let mut plan = Plan::calm(2);
            let mut capacity = CapacityPlan::of(1000, 1000);
            capacity.lanes = LaneBounds { frames: 100, bytes: 1000 };
            plan.capacity = Some(capacity);
            let network = Network::new(2, &plan, &mut Dice::new(5));
            Self { plan, network, director: Director::drawing(2), ends: Vec::new() }
        }

        fn queue(&mut self, ms: u64, lane: Lane, byte: u8, size: usize) -> usize {
            let frame = Bytes::from(vec![byte; size]);
            let (plan, director) = (&self.plan, &mut self.director);
            let (dropped, started) =
                self.network.queue(at(ms), LINK, (lane, 1, frame), plan, director);
            self.ends.extend(started.map(|(_, end)| end));
            dropped
        }

        /// The frames that leave up to a time, and when.
        fn until(&mut self, ms: u64) -> Vec<(u8, Instant)> {
            let mut left = Vec::new();
            while let Some(end) = self.ends.pop_if(|end| *end <= at(ms)) {
                let transmitted = self.network.transmitted(end, LINK, &mut self.director);
                let Some((parcel, fate, next)) = transmitted else { continue };
                assert!(fate.arrivals[0].is_some_and(|arrival| arrival > end));
                left.push((parcel.frame[0], end));
                self.ends.extend(next.map(|(_, end)| end));
            }
            left
        }

        fn restart(&mut self, ms: u64) {
            let started = self.network.restart_wires(at(ms));
            self.ends.extend(started.into_iter().map(|(_, end)| end));
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
    fn a_full_lane_drops_the_new_frame() {
        let mut pair = Pair::new();
        let dropped: usize = (0..12).map(|byte| pair.queue(0, Lane::Log, byte, 100)).sum();
        assert_eq!(dropped, 1, "one is being transmitted, ten wait");
        let left: Vec<_> = pair.until(5000).into_iter().map(|(byte, _)| byte).collect();
        assert_eq!(left, (0..11).collect::<Vec<_>>());
    }

    #[test]
    fn a_short_cut_loses_nothing_and_a_long_one_all_but_the_newest() {
        for (cut, kept) in [(1000, (0..90).collect::<Vec<_>>()), (3000, (26..90).collect())] {
            let mut pair = Pair::new();
            (0..60).for_each(|byte| _ = pair.queue(0, Lane::Log, byte, 10));
            let links = pair.network.cut(at(5), &links(&[0], &[1]));
            assert!(pair.until(5 + cut - 10).is_empty());
            (60..90).for_each(|byte| _ = pair.queue(5 + cut - 5, Lane::Log, byte, 10));
            pair.network.mend(&links);
            pair.restart(5 + cut);
            let left: Vec<_> = pair.until(20_000).into_iter().map(|(byte, _)| byte).collect();
            assert_eq!(left, kept, "after {cut} ms");
        }
    }

    #[test]
    fn a_node_that_dies_loses_what_it_had_queued() {
        let mut pair = Pair::new();
        (0..5).for_each(|byte| _ = pair.queue(0, Lane::Log, byte, 100));
        pair.network.node_died(at(50), 0);
        assert!(pair.until(10_000).is_empty());
        pair.network.node_started(0);
        pair.restart(100);
        pair.queue(100, Lane::Log, 7, 100);
        assert_eq!(pair.until(10_000), [(7, at(200))]);
    }
}
