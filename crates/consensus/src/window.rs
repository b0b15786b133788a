//! Flow control towards one peer: a window that adapts to the capacity of the path.
//!
//! A sender must not queue more than the path to its peer takes within about a round trip: more data
//! delays everything after it, and overflows a bounded queue in the end. The window therefore measures
//! the path. It grows while acknowledgements return quickly, and shrinks, at most by half in a round
//! trip, when their delay shows a standing queue (as TCP Vegas and LEDBAT do) or when data was lost.
//! The path includes the peer's disk, since a peer acknowledges durable data. A disk syncs all pending
//! writes at once, so single delays vary by the time of a sync: only a queue that stands for a whole
//! round trip, by the least delay in it (as in CoDel), shrinks the window.
//!
//! After silence the window closes. The sender then sends one small request, a probe, on the lane of
//! the data, so the reply covers everything sent before it. It retransmits nothing before that reply.

use alloc::collections::VecDeque;
use core::cmp::{max, min};
use core::mem;
use core::time::Duration;
use synod_types::{Instant, Slot, Values};

/// Size of a new window in bytes, unless the limit is lower.
const INITIAL: usize = 1 << 20;

/// Lower bound of a window in bytes, unless the limit is lower.
const FLOOR: usize = 64 << 10;

/// Bytes of a frame beside its values: header, checksum, and the fields of the message.
const BATCH_OVERHEAD: usize = 128;

/// Bytes of a frame for each value: its end offset.
const VALUE_OVERHEAD: usize = 4;

/// Age up to which a measured round trip counts as recent; at most twice this.
const RECENT: Duration = Duration::from_secs(10);

/// Number of probes in one silence after which their interval no longer doubles.
const DOUBLINGS: u32 = 4;

/// Longest interval between two probes, unless the round trip itself is longer.
const LONGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of a [`SendWindow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WindowLimits {
    /// Unacknowledged batches.
    pub batches: usize,
    /// Largest size in bytes of frames. It must stay well below the bound of the transport's
    /// lane (16 MiB), or the lane drops what the window admits.
    pub bytes: usize,
    /// Queueing delay that the window accepts on top of the lowest recent round trip and a
    /// quarter of it.
    pub target_delay: Duration,
}

/// Unacknowledged batches to one peer, and the number of bytes that the path can take.
///
/// At least one batch may always be in flight, of any size. All time is an argument.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SendWindow {
    limits: WindowLimits,
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Bytes that may be in flight.
    size: usize,
    /// Size after the last reduction: up to here growth is fast.
    threshold: usize,
    /// Batches sent before this show a queue or a loss that the size reflects already.
    reduced: Instant,
    /// Start of the present round trip: it ends with the acknowledgement of a batch sent later.
    round: Instant,
    /// Least delay of the acknowledgements since then.
    least_delay: Duration,
    round_trip: RoundTrip,
    /// Last acknowledgement, probe, or start of a flight.
    progress: Instant,
    /// Probes since the last acknowledgement.
    probes: u32,
    /// True if the peer sends again after a silence.
    returned: bool,
}

/// One message with entries, in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Batch {
    last: Slot,
    bytes: usize,
    sent: Instant,
}

/// Measured time from a batch to its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct RoundTrip {
    estimate: Option<Estimate>,
    /// Lowest of the present period and of the one before.
    lowest: [Option<Duration>; 2],
    /// Start of the present period.
    since: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Estimate {
    mean: Duration,
    deviation: Duration,
}

impl SendWindow {
    /// Creates an empty window.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            batches: VecDeque::new(),
            bytes: 0,
            size: min(INITIAL, limits.bytes),
            threshold: limits.bytes,
            reduced: Instant::ZERO,
            round: Instant::ZERO,
            least_delay: Duration::MAX,
            round_trip: RoundTrip::default(),
            progress: Instant::ZERO,
            probes: 0,
            returned: false,
        }
    }

    /// Returns the size of a frame that carries `values`, to be counted in flight.
    #[must_use]
    pub fn frame_bytes(values: &Values) -> usize {
        values.byte_len() + values.len() * VALUE_OVERHEAD + BATCH_OVERHEAD
    }

    /// Returns whether nothing is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Returns the bytes in flight.
    #[must_use]
    pub fn bytes_in_flight(&self) -> usize {
        self.bytes
    }

    /// Returns the present size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Returns the largest size of a batch in bytes, unless a single value is larger: half of the window,
    /// so that one batch fills the path while the other is acknowledged.
    #[must_use]
    pub fn batch_bytes(&self) -> usize {
        // Rounded up: a window of one byte still admits a batch.
        self.size.div_ceil(2)
    }

    /// Returns whether another batch may be sent. While the peer is silent only probes may.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // One batch of any size may be in flight, or a long command would never leave.
        self.batches.is_empty()
            || (self.probes == 0
                && self.bytes < self.size
                && self.batches.len() < self.limits.batches)
    }

    /// Records a batch up to `last` whose frame has `bytes` bytes.
    pub fn sent(&mut self, now: Instant, last: Slot, bytes: usize) {
        // Idle time is no silence: a peer that owes no acknowledgement is not overdue.
        if self.batches.is_empty() {
            self.progress = now;
            self.returned = false;
        }
        self.batches.push_back(Batch { last, bytes, sent: now });
        self.bytes += bytes;
    }

    /// Records an acknowledgement of everything up to `through`, and adapts the size.
    pub fn acked(&mut self, now: Instant, through: Slot) {
        let (in_flight, probed) = (self.bytes, self.probes > 0);
        // An acknowledgement of no further batch measures nothing.
        let Some(newest) = self.remove(through) else { return };
        self.on_progress(now);
        let mut delay = now.since(newest.sent);
        if probed {
            // The first acknowledgement may have been lost, and the delay be that of an outage.
            // Such a measurement is bounded but not left out (Karn's rule): where the round trip
            // exceeds the first interval, there would never be another one.
            delay = min(delay, LONGEST_INTERVAL);
        }
        let lowest = self.round_trip.measured(now, delay);
        self.least_delay = min(self.least_delay, delay);
        if delay > self.accepted_delay(lowest) {
            // One late batch shows no standing queue yet, but that the path is nearly full.
            self.threshold = min(self.threshold, self.size);
        } else if in_flight > self.size / 2 {
            // Only a window that was in use has shown that the path has this capacity.
            self.grow(in_flight - self.bytes);
        }
        // A batch of this round trip is acknowledged, so the round trip has passed.
        if newest.sent >= self.round {
            self.end_round(now, lowest);
        }
    }

    /// Reduces the size if no acknowledgement of the last round trip came in time.
    fn end_round(&mut self, now: Instant, lowest: Duration) {
        self.round = now;
        // The least delay: one quick acknowledgement shows that the queue drained in between (CoDel).
        let delay = mem::replace(&mut self.least_delay, Duration::MAX);
        if delay <= self.accepted_delay(lowest) {
            return;
        }
        if self.size == self.floor() {
            // Such a small window causes no such queue: the path itself has become longer.
            self.round_trip.restart(now, delay);
            self.threshold = self.limits.bytes;
        } else {
            // The size that fits without a queue, less an eighth: `lowest` may include a queue itself.
            let scaled = self.size as u128 * 7 / 8 * lowest.as_nanos() / delay.as_nanos();
            self.reduce(now, usize::try_from(scaled).unwrap_or(self.size));
        }
    }

    /// Returns the longest delay that shows no standing queue. The lowest one is often that of a small
    /// batch on an idle path. Large batches take longer without any queue, as link and disk serve each
    /// of them whole and in turn; a quarter of the round trip allows for that.
    fn accepted_delay(&self, lowest: Duration) -> Duration {
        lowest + lowest / 4 + self.limits.target_delay
    }

    /// Removes the batches up to `through` without a measurement: the acknowledgement is for an earlier
    /// copy of them.
    pub fn settle(&mut self, now: Instant, through: Slot) {
        // Karn's rule: the time since the later copy was sent is not a round trip.
        if self.remove(through).is_some() {
            self.on_progress(now);
        }
    }

    /// Records that data in flight was lost: nothing is in flight any more, and the size halves.
    pub fn lost(&mut self, now: Instant) {
        // Once for each loss: batches sent before the last reduction do not reduce the size again.
        if self.batches.front().is_some_and(|oldest| oldest.sent >= self.reduced) {
            self.reduce(now, 0);
        }
        self.clear();
    }

    /// Removes everything in flight; the size stays.
    pub fn clear(&mut self) {
        self.batches.clear();
        self.bytes = 0;
        self.probes = 0;
        self.returned = false;
    }

    /// Returns whether acknowledgements are overdue, so that it is time for a probe.
    #[must_use]
    pub fn is_overdue(&self, now: Instant) -> bool {
        !self.batches.is_empty() && (self.returned || now.since(self.progress) >= self.interval())
    }

    /// Records that the peer sends again after a silence: the next probe is due at once, even if their
    /// interval has become long.
    pub fn peer_returned(&mut self) {
        self.returned = true;
    }

    /// Records a probe. The window is closed until the next acknowledgement.
    pub fn probed(&mut self, now: Instant) {
        self.returned = false;
        self.progress = now;
        self.probes = min(self.probes + 1, DOUBLINGS);
    }

    /// Returns the silence after which acknowledgements are overdue: the round trip with its deviation
    /// and the accepted queue, doubled with each probe (RFC 6298, §2 and §5.5).
    fn interval(&self) -> Duration {
        let target = self.limits.target_delay;
        let once = match self.round_trip.estimate {
            Some(Estimate { mean, deviation }) => mean + max(4 * deviation, target),
            None => target,
        };
        // Never shorter than the round trip: a probe would leave before the reply can be there.
        max(once, min(once * (1 << self.probes), LONGEST_INTERVAL))
    }

    fn on_progress(&mut self, now: Instant) {
        self.progress = now;
        self.probes = 0;
        self.returned = false;
    }

    /// Removes batches up to `through` and returns the newest of them.
    fn remove(&mut self, through: Slot) -> Option<Batch> {
        let mut newest = None;
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.last <= through) {
            self.bytes -= batch.bytes;
            newest = Some(batch);
        }
        newest
    }

    /// Doubles the size in a round trip up to the threshold, and adds an eighth beyond it.
    fn grow(&mut self, acked: usize) {
        let step = if self.size < self.threshold { acked } else { acked.div_ceil(8) };
        self.size = min(self.size + step, self.limits.bytes);
    }

    fn floor(&self) -> usize {
        min(FLOOR, self.limits.bytes)
    }

    /// Reduces the size to `size`, but at most by half.
    fn reduce(&mut self, now: Instant, size: usize) {
        self.size = max(max(size, self.size / 2), self.floor());
        self.threshold = self.size;
        // Batches in flight were sent under the old size, so their delays say nothing of the new one.
        self.reduced = now;
    }
}

impl RoundTrip {
    /// Discards the measurements before `delay`: the path has changed.
    fn restart(&mut self, now: Instant, delay: Duration) {
        self.lowest = [Some(delay), None];
        self.since = now;
    }

    /// Adds a measurement and returns the lowest recent one.
    fn measured(&mut self, now: Instant, delay: Duration) -> Duration {
        // Mean and deviation with the weights of RFC 6298, §2.
        self.estimate = Some(match self.estimate {
            None => Estimate { mean: delay, deviation: delay / 2 },
            Some(Estimate { mean, deviation }) => Estimate {
                mean: (7 * mean + delay) / 8,
                deviation: (3 * deviation + mean.abs_diff(delay)) / 4,
            },
        });
        if self.lowest[0].is_none() {
            self.since = now;
        }
        // Two periods: a minimum stays for a while, and one of a path that is gone expires.
        if now.since(self.since) >= RECENT {
            self.lowest = [None, self.lowest[0]];
            self.since = now;
        }
        let present = self.lowest[0].map_or(delay, |lowest| min(lowest, delay));
        self.lowest[0] = Some(present);
        self.lowest[1].map_or(present, |older| min(older, present))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const MAX: usize = 8 << 20;
    const TARGET: Duration = Duration::from_millis(50);
    const LIMITS: WindowLimits = WindowLimits { batches: 4096, bytes: MAX, target_delay: TARGET };

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    /// A first-in-first-out path: `rate` bytes a second, then `delay` until the acknowledgement arrives.
    struct Path {
        rate: u64,
        delay: Duration,
        free: Instant,
        acks: VecDeque<(Instant, Slot)>,
        longest_queue: Duration,
        carried: u64,
    }

    impl Path {
        fn new(rate: u64, delay: Duration) -> Self {
            let (free, acks) = (Instant::ZERO, VecDeque::new());
            Self { rate, delay, free, acks, longest_queue: Duration::ZERO, carried: 0 }
        }

        fn send(&mut self, now: Instant, last: Slot, bytes: usize) {
            self.free = max(self.free, now);
            self.longest_queue = max(self.longest_queue, self.free.since(now));
            let nanos = bytes as u64 * 1_000_000_000 / self.rate;
            self.free = self.free + Duration::from_nanos(nanos);
            self.acks.push_back((self.free + self.delay, last));
            self.carried += bytes as u64;
        }
    }

    /// Sends without pause until `end`; figures of the path cover the time from `from` on.
    fn saturate(
        window: &mut SendWindow,
        path: &mut Path,
        batch: usize,
        from: Instant,
        end: Instant,
    ) {
        let (mut now, mut last) = (path.free, Slot::ZERO);
        let mut measuring = false;
        while now < end {
            while window.has_room() {
                last = last.next();
                let bytes = min(batch, window.batch_bytes());
                window.sent(now, last, bytes);
                path.send(now, last, bytes);
                assert!(window.bytes_in_flight() < 2 * MAX);
            }
            let Some((arrival, through)) = path.acks.pop_front() else { return };
            now = arrival;
            assert!(!window.is_overdue(now) || !measuring, "a busy path is not silent");
            window.acked(now, through);
            if !measuring && now >= from {
                measuring = true;
                (path.carried, path.longest_queue) = (0, Duration::ZERO);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn saturated_path_is_filled_and_its_queue_bounded(
            megabytes in 1..400_u64,
            delay in 1..150_u64,
            batch in 4..1024_usize,
        ) {
            let (rate, delay) = (megabytes * 1_000_000, Duration::from_millis(delay));
            let (mut window, mut path) = (SendWindow::new(LIMITS), Path::new(rate, delay));
            saturate(&mut window, &mut path, batch << 10, at(20_000), at(60_000));
            let possible = min(rate, (MAX as f64 / delay.as_secs_f64()) as u64);
            let share = path.carried as f64 / 40.0 / possible as f64;
            prop_assert!(share > 0.7, "{share:.2} of what path and limit allow");
            // The target, and a margin: the lowest round trip drifts, the window overshoots by the growth
            // of one round trip, and the floor admits batches on any path.
            let floor = Duration::from_secs_f64(2.0 * FLOOR as f64 / rate as f64);
            let most = 4 * TARGET + delay / 2 + floor;
            prop_assert!(path.longest_queue < most, "{:?} of queue", path.longest_queue);
        }

        #[test]
        fn bytes_in_flight_are_those_of_unacknowledged_batches(
            ops in prop::collection::vec((0..6_u8, 1..2_000_000_usize, 0..40_u64), 1..200),
        ) {
            let (mut window, mut now) = (SendWindow::new(LIMITS), at(1));
            let (mut flight, mut last) = (Vec::<(Slot, usize)>::new(), Slot::ZERO);
            for (op, bytes, n) in ops {
                now = now + Duration::from_millis(n);
                match op {
                    0..=2 if window.has_room() => {
                        last = last.next();
                        flight.push((last, bytes));
                        window.sent(now, last, bytes);
                    }
                    0..=3 => {
                        let through = Slot(last.0.saturating_sub(n / 4));
                        flight.retain(|(last, _)| *last > through);
                        window.acked(now, through);
                    }
                    4 if window.is_overdue(now) => window.probed(now),
                    4 => {}
                    _ => {
                        flight.clear();
                        window.lost(now);
                    }
                }
                let sum: usize = flight.iter().map(|(_, bytes)| bytes).sum();
                prop_assert_eq!(window.bytes_in_flight(), sum);
                prop_assert_eq!(window.is_empty(), flight.is_empty());
                prop_assert!((FLOOR..=MAX).contains(&window.size()));
                prop_assert!(!flight.is_empty() || window.has_room(), "one batch always fits");
            }
        }
    }

    /// A link and then a disk that syncs all pending batches, up to `merged` bytes, at once. `delay` is
    /// that of both ways, and varies by a third.
    struct SlowDisk {
        link: u64,
        disk: u64,
        merged: usize,
        delay: Duration,
    }

    impl SlowDisk {
        /// Returns the bytes a second that pass if `window` sends batches of up to `batch` bytes without
        /// pause.
        fn throughput(&self, window: &mut SendWindow, batch: usize) -> u64 {
            let time =
                |bytes: usize, rate: u64| Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate);
            let (begin, end) = (at(10_000), at(50_000));
            let (mut now, mut last, mut carried) = (Instant::ZERO, Slot::ZERO, 0);
            let (mut link_free, mut disk_free) = (now, now);
            let (mut pending, mut acks) = (VecDeque::new(), VecDeque::new());
            while now < end {
                while window.has_room() {
                    last = last.next();
                    // The first batch is a small one on an idle path.
                    let bytes =
                        if last == Slot(1) { 100 } else { min(batch, window.batch_bytes()) };
                    window.sent(now, last, bytes);
                    link_free = max(link_free, now) + time(bytes, self.link);
                    let way = self.delay * (4 + (last.0 * 7 % 5) as u32) / 12;
                    pending.push_back((link_free + way, last, bytes));
                }
                let first = pending.front().map(|(arrival, ..)| max(*arrival, disk_free));
                let ack = acks.front().map(|(arrival, _)| *arrival);
                if let Some(sync) = first.filter(|sync| ack.is_none_or(|ack| *sync < ack)) {
                    let (mut bytes, mut through) = (0, Slot::ZERO);
                    while let Some((_, slot, more)) = pending.pop_front_if(|(arrival, _, more)| {
                        *arrival <= sync && (bytes == 0 || bytes + *more <= self.merged)
                    }) {
                        (bytes, through) = (bytes + more, slot);
                    }
                    disk_free = sync + time(bytes, self.disk);
                    acks.push_back((disk_free + self.delay / 2, through));
                    carried += if sync >= begin { bytes as u64 } else { 0 };
                } else if let Some((arrival, through)) = acks.pop_front() {
                    now = arrival;
                    window.acked(now, through);
                }
            }
            carried * 1_000_000_000 / end.since(begin).as_nanos() as u64
        }
    }

    #[test]
    fn disk_that_syncs_large_batches_is_kept_busy() {
        for (link, disk) in [(3_600, 2_300), (5_000, 4_500), (2_300, 3_600)] {
            for delay in [1, 20, 45, 60] {
                let (merged, delay) = (128 << 10, delay * MS);
                let path = SlowDisk { link: link * 1000, disk: disk * 1000, merged, delay };
                let mut window = SendWindow::new(LIMITS);
                let share = path.throughput(&mut window, 64 << 10) / 10 / min(link, disk);
                assert!(share >= 90, "{share} % of {link} and {disk} kB/s with {delay:?}");
            }
        }
    }

    #[test]
    fn path_that_becomes_faster_is_filled_again() {
        let (mut window, mut path) = (SendWindow::new(LIMITS), Path::new(1_000_000, 60 * MS));
        saturate(&mut window, &mut path, 64 << 10, at(1), at(10_000));
        assert!(window.size() < 256 << 10, "{} for 1 MB/s", window.size());
        path.rate = 200_000_000;
        window.clear();
        path.acks.clear();
        saturate(&mut window, &mut path, 64 << 10, at(1), at(16_000));
        assert!(window.size() > 6 << 20, "{} after 6 s of 200 MB/s", window.size());
    }

    #[test]
    fn path_that_becomes_longer_is_filled_again() {
        let (mut window, mut path) = (SendWindow::new(LIMITS), Path::new(50_000_000, MS));
        saturate(&mut window, &mut path, 64 << 10, at(1), at(1_000));
        path.delay = 100 * MS;
        window.clear();
        path.acks.clear();
        saturate(&mut window, &mut path, 64 << 10, at(1), at(4_000));
        assert!(window.size() > 4 << 20, "{} after 3 s", window.size());
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn unused_window_does_not_grow() {
        let mut window = SendWindow::new(LIMITS);
        for n in 1..1000 {
            window.sent(at(n), Slot(n), 1000);
            window.acked(at(n), Slot(n));
        }
        assert_eq!(window.size(), INITIAL);
    }

    #[test]
    fn one_round_trip_of_delay_reduces_once() {
        let mut window = SendWindow::new(LIMITS);
        window.sent(at(0), Slot(1), 100);
        window.acked(at(1), Slot(1));
        for n in 2..10 {
            window.sent(at(2), Slot(n), 1000);
        }
        for n in 2..10 {
            window.acked(at(100 + n), Slot(n));
        }
        assert_eq!(window.size(), INITIAL / 2);
    }

    #[test]
    fn silence_closes_the_window_and_probes_back_off() {
        let mut window = SendWindow::new(LIMITS);
        window.sent(at(0), Slot(1), 100);
        window.acked(at(20), Slot(1));
        assert!(!window.is_overdue(at(10_000)), "nothing is in flight");
        window.sent(at(100), Slot(2), 100);
        assert!(window.has_room());
        // 20 ms of round trip, and the target as its allowance.
        let mut now = at(170);
        for wait in [140, 280, 560, 1000, 1000] {
            assert!(!window.is_overdue(Instant(now.0 - 1)));
            assert!(window.is_overdue(now));
            window.probed(now);
            assert!(!window.has_room(), "only probes while the peer is silent");
            now = now + Duration::from_millis(wait);
        }
        window.probed(now);
        window.peer_returned();
        assert!(window.is_overdue(now), "a peer that returns gets a probe at once");
        window.acked(now, Slot(2));
        assert!(window.has_room() && !window.is_overdue(now + 100 * TARGET));
        let mean = window.round_trip.estimate.map(|estimate| estimate.mean);
        assert!(mean < Some(200 * MS), "an outage is no round trip: {mean:?}");
    }

    #[test]
    fn round_trip_longer_than_the_first_interval_is_measured() {
        let mut window = SendWindow::new(LIMITS);
        window.sent(at(0), Slot(1), 100);
        assert!(window.is_overdue(at(50)));
        window.probed(at(50));
        window.acked(at(150), Slot(1));
        window.sent(at(200), Slot(2), 100);
        assert!(!window.is_overdue(at(350)));
    }

    #[test]
    fn acknowledgements_keep_a_slow_peer_from_being_overdue() {
        let mut window = SendWindow::new(LIMITS);
        for n in 1..=20 {
            window.sent(at(0), Slot(n), 1000);
        }
        for n in 1..=20 {
            assert!(!window.is_overdue(at(40 * n)));
            window.acked(at(40 * n), Slot(n));
        }
    }

    #[test]
    fn acknowledgement_of_an_earlier_copy_is_not_measured() {
        let mut window = SendWindow::new(LIMITS);
        window.sent(at(100), Slot(1), 100);
        window.settle(at(101), Slot(1));
        assert!(window.is_empty());
        assert_eq!(window.round_trip.estimate, None);
    }

    #[test]
    fn batches_are_bounded_in_number() {
        let mut window = SendWindow::new(WindowLimits { batches: 2, ..LIMITS });
        window.sent(at(1), Slot(1), 1);
        assert!(window.has_room());
        window.sent(at(1), Slot(2), 1);
        assert!(!window.has_room());
        window.acked(at(2), Slot(1));
        assert!(window.has_room());
    }
}
