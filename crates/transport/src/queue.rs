//! The queues of a transport: the outbox of frames to one peer, and the inbox of received frames.
//!
//! Both have a separate queue for each lane, so that a full lane does not affect another. Each lane is
//! bounded in frames and in bytes.

use crate::TransportLimits;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use synod_types::{Lane, NodeId};
use tokio::sync::Notify;

/// One in this many received frames is taken from the least urgent non-empty lane: a stream of urgent
/// frames may delay a snapshot, but must not starve it.
const LOWEST_LANE_PERIOD: u64 = 16;

/// Locks a mutex. Ignores poisoning: no critical section of this crate panics halfway through a change.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of lanes.
const LANES: usize = Lane::ALL.len();

/// Returns the index of a lane in an array with one element per lane, the most urgent first.
pub(crate) fn lane_index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Log => 1,
        Lane::Forward => 2,
        Lane::Bulk => 3,
    }
}

/// Frames in order, with their total size.
struct Queue<T> {
    frames: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Queue<T> {
    /// Returns whether there is room for a frame of `size` bytes. An empty queue accepts any frame:
    /// otherwise a frame larger than the limit in bytes could never be sent.
    fn has_room(&self, size: usize, limits: &TransportLimits) -> bool {
        self.frames.is_empty()
            || (self.frames.len() < limits.queue_frames
                && self.bytes.saturating_add(size) <= limits.queue_bytes)
    }

    fn push(&mut self, item: T, size: usize) {
        self.frames.push_back(item);
        self.bytes += size;
    }
}

/// The queues of received frames, from all peers.
pub(crate) struct Inbox {
    limits: TransportLimits,
    arrived: Mutex<Arrived>,
    readable: Notify,
    #[cfg_attr(not(feature = "quic"), allow(dead_code, reason = "only QUIC applies backpressure"))]
    writable: [Notify; LANES],
}

#[derive(Default)]
struct Arrived {
    lanes: [Queue<(NodeId, Bytes)>; LANES],
    taken: u64,
    closed: bool,
}

impl Arrived {
    /// Removes the next frame: from the most urgent non-empty lane, or, every [`LOWEST_LANE_PERIOD`]
    /// frames, from the least urgent.
    fn pop(&mut self) -> Option<(usize, (NodeId, Bytes))> {
        let has_frames = |lane: &usize| !self.lanes[*lane].frames.is_empty();
        let lowest_first = self.taken % LOWEST_LANE_PERIOD == LOWEST_LANE_PERIOD - 1;
        let mut lanes = 0..LANES;
        let lane =
            if lowest_first { lanes.rev().find(has_frames) } else { lanes.find(has_frames) }?;
        let queue = &mut self.lanes[lane];
        let (from, frame) = queue.frames.pop_front()?;
        queue.bytes -= frame.len();
        self.taken += 1;
        Some((lane, (from, frame)))
    }
}

impl Inbox {
    pub(crate) fn new(limits: TransportLimits) -> Self {
        Self {
            limits,
            arrived: Mutex::default(),
            readable: Notify::new(),
            writable: Default::default(),
        }
    }

    /// Adds a frame. Returns false, and drops the frame, if its lane is full or the inbox is closed.
    pub(crate) fn offer(&self, lane: Lane, from: NodeId, frame: Bytes) -> bool {
        let mut arrived = lock(&self.arrived);
        let queue = &mut arrived.lanes[lane_index(lane)];
        let size = frame.len();
        if !queue.has_room(size, &self.limits) || arrived.closed {
            return false;
        }
        arrived.lanes[lane_index(lane)].push((from, frame), size);
        drop(arrived);
        self.readable.notify_one();
        true
    }

    /// Moves frames to their lane, in order, while it has room. Returns whether the inbox is open.
    #[cfg(feature = "quic")]
    fn offer_all(&self, lane: Lane, from: NodeId, frames: &mut VecDeque<Bytes>) -> bool {
        let mut arrived = lock(&self.arrived);
        if arrived.closed {
            return false;
        }
        let queue = &mut arrived.lanes[lane_index(lane)];
        while frames.front().is_some_and(|frame| queue.has_room(frame.len(), &self.limits)) {
            let Some(frame) = frames.pop_front() else { break };
            let size = frame.len();
            queue.push((from, frame), size);
        }
        drop(arrived);
        self.readable.notify_one();
        true
    }

    /// Moves all frames to their lane, and waits while it has no room. Returns false if the inbox is
    /// closed.
    #[cfg(feature = "quic")]
    pub(crate) async fn push_all(
        &self,
        lane: Lane,
        from: NodeId,
        frames: &mut VecDeque<Bytes>,
    ) -> bool {
        let writable = &self.writable[lane_index(lane)];
        let mut open = self.offer_all(lane, from, frames);
        while open && !frames.is_empty() {
            let mut room = std::pin::pin!(writable.notified());
            room.as_mut().enable();
            open = self.offer_all(lane, from, frames);
            if open && !frames.is_empty() {
                room.await;
            } else {
                // The lane may still have room for another waiting task.
                writable.notify_one();
            }
        }
        open
    }

    /// Returns the next frame, or `None` if the inbox is closed and empty. Cancel-safe.
    pub(crate) async fn recv(&self) -> Option<(NodeId, Bytes)> {
        loop {
            let mut notified = std::pin::pin!(self.readable.notified());
            if let Some(end) = self.try_recv() {
                return end;
            }
            notified.as_mut().enable();
            // A frame may have arrived between the check and the registration.
            if let Some(end) = self.try_recv() {
                return end;
            }
            notified.await;
        }
    }

    /// Returns `Some(Some(frame))` if there is a frame, `Some(None)` if the inbox is closed and empty, and
    /// `None` if a frame may still arrive.
    fn try_recv(&self) -> Option<Option<(NodeId, Bytes)>> {
        let mut arrived = lock(&self.arrived);
        let Some((lane, item)) = arrived.pop() else {
            return arrived.closed.then_some(None);
        };
        let more = arrived.lanes.iter().any(|queue| !queue.frames.is_empty());
        drop(arrived);
        self.writable[lane].notify_one();
        if more {
            // One notification may have announced several frames, for which other tasks wait.
            self.readable.notify_one();
        }
        Some(Some(item))
    }

    /// Rejects further frames, and wakes all waiting tasks.
    pub(crate) fn close(&self) {
        lock(&self.arrived).closed = true;
        self.readable.notify_waiters();
        self.writable.iter().for_each(Notify::notify_waiters);
    }
}

#[cfg(feature = "quic")]
pub(crate) use outbox::Outbox;

#[cfg(feature = "quic")]
mod outbox {
    use super::{LANES, Queue, lane_index, lock};
    use crate::TransportLimits;
    use bytes::Bytes;
    use std::sync::Mutex;
    use synod_types::Lane;
    use tokio::sync::Notify;

    /// The number of frames that a lane keeps while there is no connection: the newest ones. The protocols
    /// have retransmitted older ones by the time a connection is restored.
    pub(crate) const OFFLINE_FRAMES: usize = 64;

    /// The queues of frames to one peer.
    pub(crate) struct Outbox {
        limits: TransportLimits,
        lanes: [Outgoing; LANES],
    }

    #[derive(Default)]
    struct Outgoing {
        waiting: Mutex<Waiting>,
        ready: Notify,
    }

    #[derive(Default)]
    struct Waiting {
        queue: Queue<Bytes>,
        online: bool,
    }

    impl Outbox {
        pub(crate) fn new(limits: TransportLimits) -> Self {
            Self { limits, lanes: Default::default() }
        }

        /// Queues a frame, and returns the number of frames dropped for lack of room. With a connection, the
        /// new frame is dropped, so that the frames in the queue have no gap. Without one, the oldest frames
        /// are dropped.
        pub(crate) fn offer(&self, lane: Lane, frame: Bytes) -> u64 {
            let outgoing = &self.lanes[lane_index(lane)];
            let mut waiting = lock(&outgoing.waiting);
            let mut dropped = 0;
            if waiting.online {
                if !waiting.queue.has_room(frame.len(), &self.limits) {
                    return 1;
                }
            } else {
                let max_frames = OFFLINE_FRAMES.min(self.limits.queue_frames.max(1));
                while waiting.queue.frames.len() >= max_frames
                    || !waiting.queue.has_room(frame.len(), &self.limits)
                {
                    let Some(oldest) = waiting.queue.frames.pop_front() else { break };
                    waiting.queue.bytes -= oldest.len();
                    dropped += 1;
                }
            }
            let size = frame.len();
            waiting.queue.push(frame, size);
            drop(waiting);
            outgoing.ready.notify_one();
            dropped
        }

        /// Sets whether there is a connection.
        pub(crate) fn set_online(&self, online: bool) {
            for outgoing in &self.lanes {
                lock(&outgoing.waiting).online = online;
            }
        }

        /// Waits for frames of a lane and moves them to the end of `batch`: at least one frame, and further
        /// ones up to a total of `max_bytes`.
        pub(crate) async fn drain(&self, lane: Lane, max_bytes: usize, batch: &mut Vec<Bytes>) {
            let outgoing = &self.lanes[lane_index(lane)];
            loop {
                let mut notified = std::pin::pin!(outgoing.ready.notified());
                notified.as_mut().enable();
                if lock(&outgoing.waiting).drain_into(max_bytes, batch) {
                    return;
                }
                notified.await;
            }
        }
    }

    impl Waiting {
        /// Moves frames to the end of `batch` as [`Outbox::drain`] does. Returns whether there were any.
        fn drain_into(&mut self, max_bytes: usize, batch: &mut Vec<Bytes>) -> bool {
            let mut drained = 0;
            while let Some(frame) = self.queue.frames.front() {
                if drained > 0 && drained + frame.len() > max_bytes {
                    break;
                }
                drained += frame.len().max(1);
                self.queue.bytes -= frame.len();
                batch.extend(self.queue.frames.pop_front());
            }
            drained > 0
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const LIMITS: TransportLimits =
            TransportLimits { max_frame: 1024, queue_frames: 100, queue_bytes: 4096 };

        fn frame(byte: u8, size: usize) -> Bytes {
            vec![byte; size].into()
        }

        #[tokio::test]
        async fn offline_queue_keeps_the_newest_frames_and_online_queue_the_oldest() {
            let outbox = Outbox::new(LIMITS);
            let mut batch = Vec::new();
            let dropped: u64 = (0..70).map(|n| outbox.offer(Lane::Log, frame(n, 1))).sum();
            assert_eq!(dropped, 6);
            outbox.drain(Lane::Log, usize::MAX, &mut batch).await;
            assert_eq!((batch.len(), batch[0][0]), (OFFLINE_FRAMES, 6));

            outbox.set_online(true);
            batch.clear();
            let dropped: u64 = (0..120).map(|n| outbox.offer(Lane::Log, frame(n, 1))).sum();
            assert_eq!(dropped, 20);
            outbox.drain(Lane::Log, usize::MAX, &mut batch).await;
            assert_eq!((batch.len(), batch[0][0], batch[99][0]), (100, 0, 99));
        }

        #[tokio::test]
        async fn queued_bytes_are_bounded_and_released() {
            let outbox = Outbox::new(LIMITS);
            outbox.set_online(true);
            for round in 0..3 {
                let dropped: u64 = (0..5).map(|n| outbox.offer(Lane::Bulk, frame(n, 1000))).sum();
                assert_eq!(dropped, 1, "round {round}: four times 1000 bytes fit into 4096");
                let mut batch = Vec::new();
                outbox.drain(Lane::Bulk, 2000, &mut batch).await;
                assert_eq!(batch.len(), 2);
                outbox.drain(Lane::Bulk, 1, &mut batch).await;
                assert_eq!(batch.len(), 3, "at least one frame, however large");
                outbox.drain(Lane::Bulk, 2000, &mut batch).await;
                assert_eq!(batch.len(), 4);
            }
        }

        /// The simulator models these queues. Each line of the table has the limits and the connection's
        /// state, the offered frames, the number of dropped frames, and the frames that are sent, the most
        /// urgent lane first.
        #[tokio::test]
        async fn lanes_agree_with_the_simulators_model() {
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let table = include_str!("../../sim/tests/fixtures/lanes.txt");
            for case in table.lines().filter(|line| !line.starts_with('#')) {
                let parts: Vec<_> = case.split('|').map(str::trim).collect();
                let [head, offered, dropped, kept] = parts[..] else { continue };
                let head: Vec<_> = head.split(' ').collect();
                let (queue_frames, queue_bytes) = (number(head[0]), number(head[1]));
                let outbox = Outbox::new(TransportLimits { queue_frames, queue_bytes, ..LIMITS });
                outbox.set_online(head[2] == "online");
                let (mut lost, mut next) = (0, 0);
                for word in offered.split(' ') {
                    let (lane, rest) = word.split_once('*').expect("a lane");
                    let (count, size) = rest.split_once(':').expect("a size");
                    let lane = Lane::ALL[["control", "log", "forward", "bulk"]
                        .iter()
                        .position(|name| *name == lane)
                        .expect("a lane")];
                    for _ in 0..number(count) {
                        lost += outbox.offer(lane, frame(next, number(size)));
                        next += 1;
                    }
                }
                let mut left = Vec::new();
                for lane in Lane::ALL {
                    while lock(&outbox.lanes[lane_index(lane)].waiting).drain_into(1, &mut left) {}
                }
                let left: Vec<_> = left.iter().map(|frame| usize::from(frame[0])).collect();
                let kept: Vec<_> = kept
                    .split(' ')
                    .flat_map(|word| match word.split_once("..") {
                        Some((first, end)) => number(first)..number(end),
                        None => number(word)..number(word) + 1,
                    })
                    .collect();
                assert_eq!((lost, left), (number(dropped) as u64, kept), "{case}");
            }
        }

        #[test]
        fn full_lane_does_not_affect_other_lanes() {
            let outbox = Outbox::new(LIMITS);
            outbox.set_online(true);
            while outbox.offer(Lane::Bulk, frame(0, 512)) == 0 {}
            assert_eq!(outbox.offer(Lane::Control, frame(1, 512)), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LIMITS: TransportLimits =
        TransportLimits { max_frame: 1024, queue_frames: 100, queue_bytes: 4096 };

    fn frame(byte: u8) -> Bytes {
        vec![byte; 8].into()
    }

    #[tokio::test]
    async fn urgent_lanes_come_first_and_the_least_urgent_is_not_starved() {
        let inbox = Inbox::new(LIMITS);
        for n in 0..40 {
            assert!(inbox.offer(Lane::Control, NodeId(1), frame(n)));
            assert!(inbox.offer(Lane::Bulk, NodeId(2), frame(n)));
        }
        let mut from = Vec::new();
        for _ in 0..40 {
            from.push(inbox.recv().await.map(|(from, _)| from.0));
        }
        assert_eq!(from.iter().filter(|from| **from == Some(2)).count(), 2);
        assert_eq!(from[..15], [Some(1); 15]);
    }

    #[tokio::test]
    async fn frames_before_close_are_received() {
        let inbox = Inbox::new(LIMITS);
        assert!(inbox.offer(Lane::Log, NodeId(1), frame(1)));
        inbox.close();
        assert!(!inbox.offer(Lane::Log, NodeId(1), frame(2)));
        assert_eq!(inbox.recv().await, Some((NodeId(1), frame(1))));
        assert_eq!(inbox.recv().await, None);
    }

    #[tokio::test]
    async fn close_wakes_a_waiting_reader() {
        let inbox = Arc::new(Inbox::new(LIMITS));
        let reader = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move { inbox.recv().await }
        });
        tokio::task::yield_now().await;
        inbox.close();
        assert_eq!(reader.await.ok(), Some(None));
    }

    #[cfg(feature = "quic")]
    #[tokio::test]
    async fn writers_wait_for_room_and_lose_no_frame() {
        let limits = TransportLimits { queue_frames: 2, ..LIMITS };
        let inbox = Arc::new(Inbox::new(limits));
        let writers: Vec<_> = (0..5)
            .map(|writer| {
                let inbox = Arc::clone(&inbox);
                tokio::spawn(async move {
                    for n in (0..20).step_by(5) {
                        let mut frames = (n..n + 5).map(frame).collect();
                        assert!(inbox.push_all(Lane::Log, NodeId(writer), &mut frames).await);
                    }
                })
            })
            .collect();
        let mut next = [0; 5];
        for _ in 0..100 {
            let (from, got) = inbox.recv().await.expect("not closed");
            assert_eq!(got[0], next[from.0 as usize], "in order for each writer");
            next[from.0 as usize] += 1;
        }
        for writer in writers {
            writer.await.expect("writer ends");
        }
    }
}
