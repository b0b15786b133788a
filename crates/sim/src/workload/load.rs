//! Load runs: sustained load, one disturbance, and the way back.
//!
//! A load run offers writes at a drawn fraction of what links and disks carry, whether or not
//! earlier ones were answered. After some seconds a burst comes, or a fault that ends. From then on
//! throughput must be back at nine tenths of what it was within twice the time that the backlog
//! takes at the capacity that is left, and at no time may bytes be sent or written many times over.
//! A cluster that answers overload with more work fails this and nothing else.

use crate::check::answers::OperationState;
use crate::rng::SimRng;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_types::Instant;

/// Acknowledged bytes are added up over slices of this length.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// The clients of a load run.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) rng: SimRng,
    /// Time at which the load began; `None` while there is none.
    pub(crate) since: Option<Instant>,
    pub(crate) is_over: bool,
    pub(crate) reads_until: Instant,
    /// Writes that wait for an answer: their bytes, and when they began.
    pub(crate) open: BTreeMap<u64, (u64, Instant)>,
    /// Bytes of values chosen, also of those whose clients had given up.
    pub(crate) chosen: u64,
    /// Bytes of values chosen again, which had no effect.
    pub(crate) repeated: u64,
    /// Bytes of all writes.
    pub(crate) offered: u64,
    /// Bytes of those that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Bytes of those that were refused, or not answered in time.
    pub(crate) failed: u64,
    /// Acknowledged bytes by [`SLICE`] since the start.
    slices: Vec<u64>,
    /// Latency of each acknowledged write, and the slice in which it ended.
    latencies: Vec<(usize, Duration)>,
}

impl Load {
    pub(crate) fn new(rng: SimRng) -> Self {
        Self {
            rng,
            since: None,
            is_over: false,
            reads_until: Instant::ZERO,
            open: BTreeMap::new(),
            chosen: 0,
            repeated: 0,
            offered: 0,
            acknowledged: 0,
            failed: 0,
            slices: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// An operation ended.
    pub(crate) fn ended(&mut self, now: Instant, id: u64, state: OperationState) {
        let Some((bytes, begun)) = self.open.remove(&id) else { return };
        if !matches!(state, OperationState::Done(_)) {
            self.failed += bytes;
            return;
        }
        self.acknowledged += bytes;
        let slice = self.slice(now);
        if self.slices.len() <= slice {
            self.slices.resize(slice + 1, 0);
        }
        self.slices[slice] += bytes;
        self.latencies.push((slice, now.since(begun)));
    }

    /// The latency that 99 % of the writes kept that were acknowledged in these slices.
    pub(crate) fn latency_in(&self, from: usize, to: usize) -> Duration {
        let inside = self.latencies.iter().filter(|(slice, _)| (from..to).contains(slice));
        let mut all: Vec<_> = inside.map(|(_, latency)| *latency).collect();
        all.sort_unstable();
        all.get((all.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// A value was chosen; `is_new`: it took effect.
    pub(crate) fn chose(&mut self, bytes: u64, is_new: bool) {
        match is_new {
            true => self.chosen += bytes,
            false => self.repeated += bytes,
        }
    }

    /// The slice that a time is in.
    pub(crate) fn slice(&self, now: Instant) -> usize {
        let since = now.since(self.since.unwrap_or(now));
        usize::try_from(since.as_nanos() / SLICE.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Bytes that wait for an answer.
    pub(crate) fn backlog(&self) -> u64 {
        self.offered - self.acknowledged - self.failed
    }

    /// Bytes acknowledged in the slices from one on, up to another.
    pub(crate) fn acknowledged_in(&self, from: usize, to: usize) -> u64 {
        self.slices.iter().take(to).skip(from).sum()
    }
}

/// The figures of a load run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFigures {
    /// The disturbance.
    pub disturbance: &'static str,
    /// Bytes a second that a link and a disk carry.
    pub bandwidth: u64,
    /// See [`bandwidth`](Self::bandwidth).
    pub disk: u64,
    /// The longest time that a message is on its way, without waiting.
    pub delay: Duration,
    /// Acknowledged bytes of values a second before the disturbance.
    pub steady: u64,
    /// The latency that 99 % of the writes kept before the disturbance, and while it lasted.
    pub latencies: [Duration; 2],
    /// Time from the end of the disturbance to the last window with throughput below nine tenths of that.
    pub recovered_after: Duration,
    /// Bound of that time.
    pub bound: Duration,
    /// Bytes sent for each thousand bytes that the chosen values need: one copy for each
    /// other node.
    pub sent: u64,
    /// Bytes written to logs for each thousand bytes that they need: one copy for each node.
    pub written: u64,
    /// The same two before the disturbance.
    pub steady_sent: u64,
    /// See [`steady_sent`](Self::steady_sent).
    pub steady_written: u64,
    /// Frames dropped because their lane was full.
    pub dropped: u64,
    /// Bytes of commands that were chosen again, for each thousand bytes of those chosen first.
    pub repeated: u64,
    /// Rounds (terms) that passed.
    pub rounds: u64,
    /// Bytes of all writes.
    pub offered: u64,
    /// Bytes of writes that were refused or not answered in time.
    pub failed: u64,
}
