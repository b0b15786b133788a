//! Limits that a seed draws, small enough to be reached in a run.
//!
//! With the default limits no simulated log exceeds one message, no window fills and no request is
//! rejected as busy, so the code that splits messages, waits and resumes would never run. Therefore
//! each seed draws its limits; each limit is small in half of the seeds.

use crate::rng::SimRng;
use std::fmt;
use std::ops::Range;
use std::time::Duration;
use synod_consensus::Bounds;
use synod_replica::ReplicaSettings;

/// Longest padding of a value. A command holds at most two values and a few other bytes; it is
/// shorter than the smallest [`Bounds::open_bytes`] that is drawn.
pub(crate) const MAX_PADDING: u64 = 600;
const LEAST_OPEN_BYTES: u64 = 2048;
/// Maximum time in which the windows transmit all open slots, so that clients do not wait longer.
const MAX_OPEN_TIME_MS: u64 = 3000;
/// Longest round trip, both disks included, at which the smallest windows carry the load of the
/// clients.
const SHORT_ROUND_TRIP_MS: u64 = 40;

/// Limits and quorum sizes of a simulated cluster.
#[derive(Clone, Debug)]
pub struct LimitsPlan {
    /// Limits of the protocol.
    pub bounds: Bounds,
    /// Limits of the driver.
    pub driver: DriverLimits,
}

/// Limits of a driver: see the fields of [`ReplicaSettings`] of the same names.
#[derive(Clone, Debug)]
pub struct DriverLimits {
    /// Maximum bytes of requests in one frame to another node.
    pub forward_bytes: usize,
    /// Bytes of commands in flight to a leader.
    pub forward_window: usize,
    /// Requests in flight at a node.
    pub max_outstanding: usize,
    /// Bytes of pending commands of other nodes at a leader.
    pub remote_proposal_bytes: usize,
    /// Bytes that are not durable, above which a leader accepts no more commands.
    pub unwritten_bytes: usize,
    /// Bytes that are not durable, above which frames are dropped.
    pub flood_bytes: usize,
    /// Bytes handed to the state machine and not yet applied.
    pub unapplied_bytes: usize,
    /// Slots handed to the state machine and not yet applied.
    pub unapplied_slots: usize,
    /// Messages to peers that wait for the disk.
    pub held_messages: usize,
}

impl LimitsPlan {
    /// Draws limits. Each is small in half of the seeds, but large enough for the load: the amount
    /// in flight must grow with the round trip. Three seeds in ten draw quorums of any sizes that
    /// intersect, where the protocol has such settings.
    pub(crate) fn draw(rng: &mut SimRng, nodes: u64, round_trip: Duration) -> Self {
        let round_trip = u64::try_from(round_trip.as_millis()).unwrap_or(u64::MAX);
        let scale = 1 + round_trip / SHORT_ROUND_TRIP_MS;
        let mut limit = |small: Range<u64>, large: usize| match rng.percent(50) {
            true => usize::try_from(rng.within(small) * scale).unwrap_or(large).min(large),
            false => large,
        };
        let mut bounds = Bounds {
            message_bytes: limit(80..800, 1 << 20),
            window_messages: limit(2..9, 256),
            // A window counts the overhead of a frame, too.
            window_bytes: limit(1000..8000, 16 << 20),
            open_slots: limit(8..65, 65_536),
            open_bytes: limit(LEAST_OPEN_BYTES..32 << 10, 64 << 20),
            quorums: None,
        };
        let messages = bounds.window_messages.saturating_mul(bounds.message_bytes);
        let windows = usize::try_from(MAX_OPEN_TIME_MS / round_trip.max(1)).unwrap_or(usize::MAX);
        let passes = bounds.window_bytes.min(messages).saturating_mul(windows);
        bounds.open_bytes = bounds.open_bytes.min(passes.max(LEAST_OPEN_BYTES as usize));
        let driver = DriverLimits {
            forward_bytes: limit(80..2000, 256 << 10),
            forward_window: limit(1000..8000, 4 << 20),
            max_outstanding: limit(20..100, 100_000),
            remote_proposal_bytes: limit(2000..16_000, 32 << 20),
            unwritten_bytes: limit(1000..8000, 4 << 20),
            flood_bytes: limit(8000..64_000, 64 << 20),
            unapplied_bytes: limit(500..4000, 4 << 20),
            unapplied_slots: limit(4..64, 16_384),
            held_messages: limit(8..64, 4096),
        };
        if rng.percent(30) {
            bounds.quorums = Some(draw_quorums(rng, nodes));
        }
        Self { bounds, driver }
    }

    /// Applies the limits to a driver's settings.
    pub(crate) fn adjust(&self, settings: &mut ReplicaSettings) {
        let driver = &self.driver;
        settings.forward_bytes = driver.forward_bytes;
        settings.forward_window = driver.forward_window;
        settings.max_outstanding = driver.max_outstanding;
        settings.remote_proposal_bytes = driver.remote_proposal_bytes;
        settings.unwritten_bytes = driver.unwritten_bytes;
        settings.flood_bytes = driver.flood_bytes;
        settings.unapplied_bytes = driver.unapplied_bytes;
        settings.unapplied_slots = driver.unapplied_slots as u64;
        settings.held_messages = driver.held_messages;
    }
}

impl fmt::Display for LimitsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounds, driver } = self;
        let Bounds { message_bytes, window_messages, window_bytes, .. } = bounds;
        let Bounds { open_slots, open_bytes, quorums, .. } = bounds;
        write!(
            f,
            "limits: messages of {message_bytes} bytes, windows of {window_messages} messages and \
             {window_bytes} bytes, {open_slots} open slots of {open_bytes} bytes, {driver:?}"
        )?;
        match quorums {
            None => Ok(()),
            Some((first, second)) => {
                write!(f, ", quorums of {first} (phase 1) and {second} (phase 2)")
            }
        }
    }
}

/// Draws sizes of intersecting quorums; in one case of four the phase-1 quorum is larger than
/// necessary.
fn draw_quorums(rng: &mut SimRng, nodes: u64) -> (usize, usize) {
    let second = 1 + rng.below(nodes);
    let least = nodes + 1 - second;
    let first = if rng.percent(25) { rng.within(least..nodes + 1) } else { least };
    let size = |count| usize::try_from(count).expect("the number of nodes exceeds usize");
    (size(first), size(second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_basic_paxos::BasicPaxos;
    use synod_consensus::{Protocol, Quorum};
    use synod_multi_paxos::MultiPaxos;
    use synod_raft::Raft;
    use synod_types::{Membership, NodeId};

    #[test]
    fn every_drawn_limit_is_valid_for_every_protocol() {
        for (seed, nodes) in (0..300).flat_map(|seed| [1, 3, 5].map(|nodes| (seed, nodes))) {
            let members = Membership::new((1..=nodes).map(NodeId), []).unwrap();
            let bounds = LimitsPlan::draw(&mut SimRng::new(seed), nodes, Duration::ZERO).bounds;
            let raft = synod_raft::Config::new(NodeId(1), members.clone()).unwrap();
            assert!(Raft::bounded(raft, &bounds).is_some(), "{bounds:?}");
            let multi = synod_multi_paxos::Config::new(NodeId(1), members.clone()).unwrap();
            let multi = MultiPaxos::bounded(multi, &bounds).expect("the drawn limits are valid");
            let basic = synod_basic_paxos::Config::new(NodeId(1), members.clone()).unwrap();
            let basic = BasicPaxos::bounded(basic, &bounds).expect("the drawn limits are valid");
            assert_eq!(basic.limits().catch_up_bytes, bounds.message_bytes);
            assert_eq!(multi.limits().chunk_bytes, bounds.message_bytes);
            if let Some((first, second)) = bounds.quorums {
                let drawn = Quorum::flexible(&members, first, second).unwrap();
                assert_eq!(MultiPaxos::quorum(&multi, &members), drawn);
                assert_eq!(BasicPaxos::quorum(&basic, &members), drawn);
            }
        }
    }

    #[test]
    fn small_and_large_limits_and_all_kinds_of_quorums_are_drawn() {
        let drawn: Vec<_> = (0..300)
            .map(|seed| LimitsPlan::draw(&mut SimRng::new(seed), 3, Duration::ZERO))
            .collect();
        let small = |is_small: &dyn Fn(&LimitsPlan) -> bool| {
            let count = drawn.iter().filter(|plan| is_small(plan)).count();
            assert!((100..200).contains(&count), "{count} of 300");
        };
        small(&|plan| plan.bounds.message_bytes < 1000);
        small(&|plan| plan.bounds.window_messages < 10);
        small(&|plan| plan.bounds.window_bytes < 8000);
        small(&|plan| plan.bounds.open_slots < 100);
        small(&|plan| plan.bounds.open_bytes < 32 << 10);
        small(&|plan| plan.driver.forward_bytes < 2000);
        small(&|plan| plan.driver.max_outstanding < 100);
        small(&|plan| plan.driver.forward_window < 8000);
        small(&|plan| plan.driver.remote_proposal_bytes < 16_000);
        small(&|plan| plan.driver.unwritten_bytes < 8000);
        small(&|plan| plan.driver.flood_bytes < 64_000);
        small(&|plan| plan.driver.unapplied_bytes < 4000);
        small(&|plan| plan.driver.unapplied_slots < 64);
        small(&|plan| plan.driver.held_messages < 64);
        for sizes in [(1, 3), (2, 2), (3, 1), (3, 2), (3, 3)] {
            assert!(drawn.iter().any(|plan| plan.bounds.quorums == Some(sizes)), "{sizes:?}");
        }
    }
}
