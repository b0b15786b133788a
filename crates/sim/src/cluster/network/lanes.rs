//! The transport's queues: four lanes, each bounded by frames and by bytes.
//!
//! The shipped queues need an async runtime and cannot run in a simulation. This model follows
//! their rules; tests of both use the cases in `tests/fixtures/lanes.txt`.

use std::collections::VecDeque;
use synod_types::Lane;

/// Maximum number of frames, the newest ones, that a lane keeps while there is no connection.
const OFFLINE_FRAMES: usize = 64;

/// One frame in this many comes from the least urgent non-empty lane.
const LEAST_URGENT_INTERVAL: u64 = 16;

const LANES: usize = Lane::ALL.len();

/// Bounds of each lane of each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneBounds {
    /// Maximum number of waiting frames.
    pub frames: usize,
    /// Maximum number of waiting bytes. An empty lane accepts any single frame.
    pub bytes: usize,
}

/// Waiting frames, by lane.
#[derive(Debug)]
pub(crate) struct Lanes<T> {
    bounds: LaneBounds,
    lanes: [LaneQueue<T>; LANES],
    taken: u64,
}

#[derive(Debug)]
struct LaneQueue<T> {
    frames: VecDeque<(usize, T)>,
    bytes: usize,
}

impl<T> Default for LaneQueue<T> {
    fn default() -> Self {
        Self { frames: VecDeque::new(), bytes: 0 }
    }
}

impl<T> LaneQueue<T> {
    fn has_room(&self, size: usize, bounds: LaneBounds) -> bool {
        self.frames.is_empty()
            || (self.frames.len() < bounds.frames
                && self.bytes.saturating_add(size) <= bounds.bytes)
    }

    fn push(&mut self, size: usize, item: T) {
        self.bytes += size;
        self.frames.push_back((size, item));
    }

    fn pop(&mut self) -> Option<(usize, T)> {
        let (size, item) = self.frames.pop_front()?;
        self.bytes -= size;
        Some((size, item))
    }
}

impl<T> Lanes<T> {
    pub(crate) fn new(bounds: LaneBounds) -> Self {
        Self { bounds, lanes: Default::default(), taken: 0 }
    }

    /// Queues a frame and returns the number of dropped frames. While connected, a full lane drops
    /// the new frame, so that the waiting frames stay consecutive.
    pub(crate) fn offer(&mut self, lane: Lane, size: usize, item: T) -> usize {
        let bounds = self.bounds;
        let lane = &mut self.lanes[index(lane)];
        if !lane.has_room(size, bounds) {
            return 1;
        }
        lane.push(size, item);
        0
    }

    /// Queues a frame while there is no connection, and drops the oldest frames to make room for
    /// it.
    pub(crate) fn offer_offline(&mut self, lane: Lane, size: usize, item: T) -> usize {
        let bounds = self.bounds;
        let lane = &mut self.lanes[index(lane)];
        let most = OFFLINE_FRAMES.min(bounds.frames.max(1));
        let mut dropped = 0;
        while lane.frames.len() >= most || !lane.has_room(size, bounds) {
            if lane.pop().is_none() {
                break;
            }
            dropped += 1;
        }
        lane.push(size, item);
        dropped
    }

    /// Takes the next frame to transmit: the most urgent lane first.
    pub(crate) fn pop_urgent(&mut self) -> Option<(usize, T)> {
        self.lanes.iter_mut().find_map(LaneQueue::pop)
    }

    /// Returns the most urgent lane in which a frame waits.
    pub(crate) fn most_urgent(&self) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| !self.lanes[index(*lane)].frames.is_empty())
    }

    /// Takes the next frame for the driver: the most urgent lane first, and one frame in sixteen
    /// from the least urgent lane.
    pub(crate) fn pop_fair(&mut self) -> Option<(usize, T)> {
        let least_urgent_first = self.taken % LEAST_URGENT_INTERVAL == LEAST_URGENT_INTERVAL - 1;
        let popped = match least_urgent_first {
            true => self.lanes.iter_mut().rev().find_map(LaneQueue::pop),
            false => self.pop_urgent(),
        }?;
        self.taken += 1;
        Some(popped)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.frames.is_empty())
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.bounds);
    }
}

/// Returns a lane's position in the order of urgency.
fn index(lane: Lane) -> usize {
    match lane {
        Lane::Control => 0,
        Lane::Log => 1,
        Lane::Forward => 2,
        Lane::Bulk => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each line of the fixture holds the bounds, the connection, the offered frames as
    /// `lane*count:size`, and the frames dropped and kept. The transport's own tests read the same
    /// file.
    #[test]
    fn lanes_behave_as_the_queues_of_the_transport() {
        for case in include_str!("../../../tests/fixtures/lanes.txt").lines() {
            let Some(case) = Case::parse(case) else { continue };
            let mut lanes = Lanes::new(case.bounds);
            let mut dropped = 0;
            for (number, (lane, size)) in case.offered.iter().enumerate() {
                dropped += match case.online {
                    true => lanes.offer(*lane, *size, number),
                    false => lanes.offer_offline(*lane, *size, number),
                };
            }
            let kept: Vec<_> = std::iter::from_fn(|| lanes.pop_urgent()).collect();
            let kept: Vec<_> = kept.into_iter().map(|(_, number)| number).collect();
            assert_eq!((dropped, kept), (case.dropped, case.kept), "{}", case.text);
        }
    }

    #[test]
    fn one_frame_in_sixteen_comes_from_the_least_urgent_lane() {
        let mut lanes = Lanes::new(LaneBounds { frames: 100, bytes: 4096 });
        for number in 0..40 {
            assert_eq!(lanes.offer(Lane::Control, 8, number), 0);
            assert_eq!(lanes.offer(Lane::Bulk, 8, 100 + number), 0);
        }
        let taken: Vec<_> = (0..40).filter_map(|_| lanes.pop_fair()).map(|(_, n)| n).collect();
        assert_eq!(taken.iter().filter(|number| **number >= 100).count(), 2);
        assert!(taken[..15].iter().all(|number| *number < 100));
        assert_eq!(taken[15], 100);
    }

    struct Case {
        text: String,
        bounds: LaneBounds,
        online: bool,
        offered: Vec<(Lane, usize)>,
        dropped: usize,
        kept: Vec<usize>,
    }

    impl Case {
        /// Format: `frames bytes online|offline | lane*count:size ... | dropped | kept ...`
        fn parse(text: &str) -> Option<Self> {
            if text.is_empty() || text.starts_with('#') {
                return None;
            }
            let parts: Vec<_> = text.split('|').map(str::trim).collect();
            let head: Vec<_> = parts[0].split(' ').collect();
            let number = |text: &str| text.parse::<usize>().expect("a number");
            let offered = parts[1].split(' ').flat_map(|word| {
                let (lane, rest) = word.split_once('*').expect("a lane");
                let (count, size) = rest.split_once(':').expect("a size");
                let lane = match lane {
                    "control" => Lane::Control,
                    "log" => Lane::Log,
                    "forward" => Lane::Forward,
                    _ => Lane::Bulk,
                };
                std::iter::repeat_n((lane, number(size)), number(count))
            });
            let kept = parts[3].split(' ').flat_map(|word| match word.split_once("..") {
                Some((first, end)) => number(first)..number(end),
                None => number(word)..number(word) + 1,
            });
            Some(Self {
                text: text.into(),
                bounds: LaneBounds { frames: number(head[0]), bytes: number(head[1]) },
                online: head[2] == "online",
                offered: offered.collect(),
                dropped: number(parts[2]),
                kept: kept.collect(),
            })
        }
    }
}
