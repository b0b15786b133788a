//! Load runs: sustained load, one disturbance, and the recovery.
//!
//! A load run offers writes at a drawn fraction of the capacity of links and disks, whether or not
//! earlier ones have completed. After some seconds a burst or a temporary fault occurs. After its
//! end, throughput must return to nine tenths of its former value within twice the time in which
//! the spare capacity drains the backlog, plus margins. In the whole run, the bytes sent or written
//! per command must stay near their earlier values, so a cluster that retransmits more under
//! overload fails.

use crate::check::replies::OperationState;
use crate::rng::SimRng;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_types::Instant;

/// Interval over which acknowledged bytes are summed.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// Clients of a load run.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) rng: SimRng,
    /// Start of the load; `None` before it.
    pub(crate) since: Option<Instant>,
    pub(crate) is_over: bool,
    pub(crate) reads_until: Instant,
    /// Pending writes: their bytes and start.
    pub(crate) pending: BTreeMap<u64, (u64, Instant)>,
    /// Bytes of chosen values that took effect, even if their clients had timed out.
    pub(crate) chosen: u64,
    /// Bytes of values chosen again, which had no effect.
    pub(crate) repeated: u64,
    /// Bytes of all writes.
    pub(crate) offered: u64,
    /// Bytes of acknowledged writes.
    pub(crate) acknowledged: u64,
    /// Bytes of writes that were rejected or timed out.
    pub(crate) failed: u64,
    /// Acknowledged bytes in each [`SLICE`] since the start.
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
            pending: BTreeMap::new(),
            chosen: 0,
            repeated: 0,
            offered: 0,
            acknowledged: 0,
            failed: 0,
            slices: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// Records the end of a write; ignores other operations.
    pub(crate) fn ended(&mut self, now: Instant, id: u64, state: OperationState) {
        let Some((bytes, begun)) = self.pending.remove(&id) else { return };
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

    /// Returns the 99th percentile of the latency of writes acknowledged in these slices.
    pub(crate) fn latency_in(&self, from: usize, to: usize) -> Duration {
        let inside = self.latencies.iter().filter(|(slice, _)| (from..to).contains(slice));
        let mut all: Vec<_> = inside.map(|(_, latency)| *latency).collect();
        all.sort_unstable();
        all.get((all.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// Records a chosen value. `is_new` is true if it took effect.
    pub(crate) fn chose(&mut self, bytes: u64, is_new: bool) {
        match is_new {
            true => self.chosen += bytes,
            false => self.repeated += bytes,
        }
    }

    /// Returns the slice that contains a time.
    pub(crate) fn slice(&self, now: Instant) -> usize {
        let since = now.since(self.since.unwrap_or(now));
        usize::try_from(since.as_nanos() / SLICE.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Returns the bytes of pending writes.
    pub(crate) fn backlog(&self) -> u64 {
        self.offered - self.acknowledged - self.failed
    }

    /// Returns the bytes acknowledged in the slices `from..to`.
    pub(crate) fn acknowledged_in(&self, from: usize, to: usize) -> u64 {
        self.slices.iter().take(to).skip(from).sum()
    }
}

/// Results of a load run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFigures {
    /// The disturbance.
    pub disturbance: &'static str,
    /// Bytes a second of a link.
    pub bandwidth: u64,
    /// Bytes a second of a log's disk.
    pub disk: u64,
    /// Longest delay of a message, without queueing.
    pub delay: Duration,
    /// Acknowledged bytes of values a second before the disturbance.
    pub steady: u64,
    /// 99th percentiles of the write latency before and during the disturbance.
    pub latencies: [Duration; 2],
    /// Time from the end of the disturbance until every window has at least nine tenths of the
    /// throughput `steady`.
    pub recovered_after: Duration,
    /// Maximum of `recovered_after`.
    pub bound: Duration,
    /// Bytes sent in the whole run, in thousandths of one copy of each chosen value per other node.
    pub sent: u64,
    /// Bytes written to logs in the whole run, in thousandths of one copy of each chosen value per
    /// node.
    pub written: u64,
    /// Like `sent`, before the disturbance.
    pub steady_sent: u64,
    /// Like `written`, before the disturbance.
    pub steady_written: u64,
    /// Frames dropped because their lane was full.
    pub dropped: u64,
    /// Bytes of commands chosen again without effect, in thousandths of the bytes that took effect.
    pub repeated: u64,
    /// Increase of the highest ballot round (term) since the start of the measurement.
    pub rounds: u64,
    /// Bytes of all writes.
    pub offered: u64,
    /// Bytes of writes that were rejected or timed out.
    pub failed: u64,
}
