//! Transmitters: a frame waits in its lane, then occupies the link for a time in proportion to its
//! size.

use super::lanes::Lanes;
use super::links::Link;
use super::message::MessageDraw;
use super::throughput::time_for;
use crate::plan::CapacityPlan;
use bytes::Bytes;
use std::time::Duration;
use synod_types::{Instant, Lane};

/// Idle timeout of a connection without acknowledgements: the shipped default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);

/// All transmitters of a network.
#[derive(Debug)]
pub(super) struct Transmitters {
    pub(super) transmitters: Vec<Transmitter>,
    /// Nodes that do not run.
    pub(super) down: Vec<bool>,
    pub(super) bandwidth: u64,
}

/// Transmitter of one link and its waiting frames.
#[derive(Debug)]
pub(super) struct Transmitter {
    pub(super) lanes: Lanes<QueuedFrame>,
    /// The frame in transmission, and the end of its transmission.
    pub(super) sending: Option<(QueuedFrame, Instant)>,
    /// Frames whose transmission was interrupted by a more urgent frame, and the remaining time of
    /// each. This models a connection that sends packets of the most urgent lane first.
    pub(super) paused: Vec<(QueuedFrame, Duration)>,
    /// True if the transmission ended while the link was blocked, so the frame must be transmitted
    /// again.
    pub(super) stalled: bool,
    /// Time since which the link is cut or the peer does not run.
    pub(super) blocked_since: Option<Instant>,
}

/// Frame that a node has sent.
#[derive(Clone, Debug)]
pub(crate) struct SentFrame {
    pub(crate) lane: Lane,
    /// Boot of the sender: if its crash loses messages in flight, frames of this boot are dropped.
    pub(crate) boot: u64,
    pub(crate) bytes: Bytes,
}

/// Frame that waits for its transmission, with its random draws.
#[derive(Debug)]
pub(super) struct QueuedFrame {
    pub(super) frame: SentFrame,
    pub(super) draw: MessageDraw,
}

/// Transmission on a link, and its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transmission {
    pub(crate) link: Link,
    pub(crate) end: Instant,
}

impl Transmitters {
    pub(super) fn new(nodes: usize, capacity: &CapacityPlan) -> Self {
        let transmitter = |_| Transmitter {
            lanes: Lanes::new(capacity.lanes),
            sending: None,
            paused: Vec::new(),
            stalled: false,
            blocked_since: None,
        };
        Self {
            transmitters: (0..nodes * nodes).map(transmitter).collect(),
            down: vec![false; nodes],
            bandwidth: capacity.bandwidth,
        }
    }
}

impl Transmitter {
    pub(super) fn is_offline(&self, now: Instant) -> bool {
        self.blocked_since.is_some_and(|since| now.since(since) >= IDLE_TIMEOUT)
    }

    /// Starts the next transmission, if none is running and the link is open. Returns its end.
    pub(super) fn start(&mut self, now: Instant, bandwidth: u64) -> Option<Instant> {
        if self.blocked_since.is_some() || (self.sending.is_some() && !self.stalled) {
            return None;
        }
        self.stalled = false;
        let whole = |queued: QueuedFrame| {
            let time = time_for(queued.frame.bytes.len() as u64, bandwidth);
            (queued, time)
        };
        let again = self.sending.take().map(|(queued, _)| whole(queued));
        let waiting = self.lanes.most_urgent();
        let resumed = || {
            self.paused.pop_if(|(queued, _)| waiting.is_none_or(|lane| queued.frame.lane <= lane))
        };
        let (queued, time) = again.or_else(resumed).or_else(|| {
            let (_, queued) = self.lanes.pop_urgent()?;
            Some(whole(queued))
        })?;
        let end = now + time;
        self.sending = Some((queued, end));
        Some(end)
    }

    /// Interrupts a transmission that is less urgent than a frame of `lane`.
    pub(super) fn interrupt(&mut self, now: Instant, lane: Lane) {
        let is_less_urgent = |(queued, _): &mut (QueuedFrame, Instant)| lane < queued.frame.lane;
        if !self.stalled
            && self.blocked_since.is_none()
            && let Some((queued, end)) = self.sending.take_if(is_less_urgent)
        {
            self.paused.push((queued, end.since(now)));
        }
    }
}
