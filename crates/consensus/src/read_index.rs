//! Linearizable reads without an entry in the log (Raft §8, thesis §6.4, "ReadIndex"): what a leader
//! and a follower keep of the reads that wait.
//!
//! A read may be served from any state that contains all writes acknowledged before it arrived. A
//! leader has such a slot at hand, but may have been replaced without having received of it. So it notes the
//! slot when the read arrives, and then asks the voters whether they still follow it, once for all
//! reads that wait: a *round*. If a quorum answers, no successor had been elected when the round began,
//! and so no other node had chosen anything by then.
//!
//! **Invariant: a round that began before a read arrived does not count for it.** Its answers say
//! nothing about the time after it began, in which another leader may have acknowledged a write.
//!
//! An answer to a round needs no disk. A voter that has voted for a successor answers under the higher
//! term or ballot from that moment on, and its answer does not count here. A vote that a crash takes
//! back never left the voter.

use crate::Quorum;
use alloc::collections::{BTreeMap, VecDeque};
use synod_types::{Ballot, NodeId, ReadId, Slot};

/// Reads that may wait in a core; more are refused. A driver bundles its clients' reads, so hardly
/// more wait than it has rounds within a round trip.
const MAX_WAITING: usize = 1024;

/// Rounds that may be in flight. Further reads wait for the first of them to end, and share a round.
const MAX_ROUNDS: u64 = 16;

/// Reads that wait at a leader, its own and those that followers have sent it.
///
/// ```
/// use synod_consensus::{Quorum, ReadRounds};
/// use synod_types::{Membership, NodeId, ReadId, Slot};
///
/// let (me, peer) = (NodeId(1), NodeId(2));
/// let quorum = Quorum::majority(&Membership::new((1..=3).map(NodeId), [])?);
/// let mut reads = ReadRounds::default();
/// assert!(reads.add(me, ReadId(1), Slot(7)));
/// let round = reads.begin().expect("a read waits");
/// assert!(reads.add(me, ReadId(2), Slot(8)), "it comes too late for the round");
/// assert!(reads.on_ack(peer, round));
/// let confirmed: Vec<_> = reads.confirm(me, &quorum).map(|read| (read.id, read.index)).collect();
/// assert_eq!(confirmed, [(ReadId(1), Slot(7))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadRounds {
    /// Number of the latest round.
    number: u64,
    /// In the order of their arrival.
    waiting: VecDeque<WaitingRead>,
    /// Latest round that each peer has acknowledged.
    acked: BTreeMap<NodeId, u64>,
}

/// A read that waits at a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WaitingRead {
    /// Node whose read it is.
    pub reader: NodeId,
    /// Id that this node gave it.
    pub id: ReadId,
    /// Slot from which it may be served, once a quorum confirms it.
    pub index: Slot,
    /// First round that began after it arrived.
    round: u64,
}

impl ReadRounds {
    /// Adds a read that has just arrived and may be served from `index` on if this node still leads.
    /// Returns false if too many wait.
    #[must_use]
    pub fn add(&mut self, reader: NodeId, id: ReadId, index: Slot) -> bool {
        let has_room = self.waiting.len() < MAX_WAITING;
        if has_room {
            // Not the present round: see the invariant above.
            let round = self.number + 1;
            self.waiting.push_back(WaitingRead { reader, id, index, round });
        }
        has_room
    }

    /// Begins a round if a read waits for one. Returns its number, which its messages carry.
    #[must_use]
    pub fn begin(&mut self) -> Option<u64> {
        let newest = self.waiting.back()?.round;
        if newest <= self.number || self.in_flight() >= MAX_ROUNDS {
            return None;
        }
        self.number += 1;
        Some(self.number)
    }

    /// Returns the number of the latest round if a read waits for its end, so that heartbeats repeat
    /// it: messages get lost. Otherwise 0, which counts for no read.
    #[must_use]
    pub fn open_round(&self) -> u64 {
        if self.in_flight() > 0 { self.number } else { 0 }
    }

    fn in_flight(&self) -> u64 {
        self.waiting.front().map_or(0, |oldest| (self.number + 1).saturating_sub(oldest.round))
    }

    /// Records that a peer acknowledged a round under this leader's own term or ballot. An answer to a
    /// later round counts for all earlier ones. Returns false if there was no such round.
    #[must_use]
    pub fn on_ack(&mut self, from: NodeId, round: u64) -> bool {
        if round > self.number {
            return false;
        }
        // Answers arrive late, twice and out of order: the latest round counts.
        let acked = self.acked.entry(from).or_default();
        *acked = round.max(*acked);
        true
    }

    /// Removes the reads for which a quorum, the leader `me` included, has acknowledged a round.
    pub fn confirm(
        &mut self,
        me: NodeId,
        quorum: &Quorum,
    ) -> impl Iterator<Item = WaitingRead> + use<'_> {
        let acked = |node| self.acked.get(&node).copied().unwrap_or(0);
        // A quorum of phase 2 shares a voter with each quorum that could elect a successor.
        let is_confirmed = |round: u64| {
            round <= self.number && quorum.is_second(|node| node == me || acked(node) >= round)
        };
        let (mut count, mut confirmed) = (0, 0);
        for read in &self.waiting {
            if read.round > confirmed && !is_confirmed(read.round) {
                break;
            }
            (count, confirmed) = (count + 1, read.round);
        }
        self.waiting.drain(..count)
    }

    /// Removes all reads, because this node does not lead any more.
    pub fn drain(&mut self) -> impl Iterator<Item = WaitingRead> + use<'_> {
        self.waiting.drain(..)
    }

    /// Asserts what holds between any two inputs.
    pub fn check_invariants(&self) {
        assert!(self.waiting.len() <= MAX_WAITING, "too many reads wait");
        assert!(self.waiting.iter().is_sorted_by_key(|read| read.round), "reads are in order");
        assert!(self.waiting.iter().all(|read| read.round <= self.number + 1), "future round");
        assert!(self.acked.values().all(|round| *round <= self.number), "answer to no round");
        assert!(self.in_flight() <= MAX_ROUNDS, "too many rounds are in flight");
    }
}

/// Reads of a node that does not lead, on their way to the leader that it follows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadRelay {
    /// In the order of their arrival.
    waiting: VecDeque<ReadId>,
    /// Leader that was asked for all that wait; none if some have arrived since.
    asked: Option<Ballot>,
}

/// Result of a [flush](ReadRelay::flush).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayAction {
    /// Nothing is to be done.
    None,
    /// Ask the leader. The request names this read, the latest.
    Ask(ReadId),
    /// Refuse these reads: there is no leader to ask.
    Refuse(VecDeque<ReadId>),
}

impl ReadRelay {
    /// Adds a read that has just arrived. Returns false if too many wait.
    #[must_use]
    pub fn add(&mut self, id: ReadId) -> bool {
        let has_room = self.waiting.len() < MAX_WAITING;
        if has_room {
            self.waiting.push_back(id);
            self.asked = None;
        }
        has_room
    }

    /// Returns what to do about the reads that wait, while `leader` leads: one request for all that
    /// came since the last one, and one for all to a new leader.
    pub fn flush(&mut self, leader: Option<Ballot>) -> RelayAction {
        match (self.waiting.back(), leader) {
            (None, _) => RelayAction::None,
            (Some(_), None) => RelayAction::Refuse(core::mem::take(&mut self.waiting)),
            (Some(latest), Some(_)) if self.asked != leader => {
                self.asked = leader;
                RelayAction::Ask(*latest)
            }
            (Some(_), Some(_)) => RelayAction::None,
        }
    }

    /// Removes the reads that the answer to a request settles: the one that the request named, and all
    /// that arrived before it.
    ///
    /// It does not matter which leader answers, nor whether this node still follows it: the leader fixed
    /// the slot after it received the request, so after these reads had arrived, and a quorum confirmed
    /// that it led then. What matters is that the name is not that of a read before a restart, or the
    /// slot would be older than the read: see [`Input::Read`](crate::Input::Read).
    pub fn answered(&mut self, id: ReadId) -> impl Iterator<Item = ReadId> + use<'_> {
        let count = self.waiting.iter().position(|waiting| *waiting == id).map_or(0, |at| at + 1);
        self.waiting.drain(..count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;
    use synod_types::Membership;

    const ME: NodeId = NodeId(1);

    fn quorum(nodes: u64) -> Quorum {
        Quorum::majority(&Membership::new((1..=nodes).map(NodeId), []).unwrap())
    }

    fn confirmed(reads: &mut ReadRounds, quorum: &Quorum) -> Vec<u64> {
        reads.confirm(ME, quorum).map(|read| read.id.0).collect()
    }

    #[test]
    fn round_that_began_before_a_read_does_not_count_for_it() {
        let (mut reads, quorum) = (ReadRounds::default(), quorum(3));
        assert!(reads.add(ME, ReadId(1), Slot(1)));
        assert_eq!(reads.begin(), Some(1));
        assert_eq!(reads.begin(), None, "one round for all that wait");
        assert!(reads.add(ME, ReadId(2), Slot(1)));
        assert!(reads.on_ack(NodeId(2), 1));
        assert_eq!(confirmed(&mut reads, &quorum), [1]);
        assert_eq!(reads.open_round(), 0, "no read waits for it");
        assert_eq!(reads.begin(), Some(2));
        assert!(reads.on_ack(NodeId(2), 1), "once more");
        assert_eq!(confirmed(&mut reads, &quorum), [] as [u64; 0]);
        assert!(!reads.on_ack(NodeId(3), 3), "there is no such round");
        assert!(reads.on_ack(NodeId(3), 2));
        assert_eq!(confirmed(&mut reads, &quorum), [2]);
    }

    #[test]
    fn later_round_confirms_earlier_reads() {
        let (mut reads, quorum) = (ReadRounds::default(), quorum(5));
        for id in 1..=3 {
            assert!(reads.add(ME, ReadId(id), Slot(id)));
            assert_eq!(reads.begin(), Some(id));
        }
        assert!(reads.on_ack(NodeId(2), 3) && reads.on_ack(NodeId(2), 1));
        assert_eq!(confirmed(&mut reads, &quorum), [] as [u64; 0], "two of five");
        assert!(reads.on_ack(NodeId(3), 2));
        assert_eq!(confirmed(&mut reads, &quorum), [1, 2]);
        assert_eq!(reads.open_round(), 3);
        assert!(reads.on_ack(NodeId(3), 3));
        assert_eq!(confirmed(&mut reads, &quorum), [3]);
    }

    #[test]
    fn leader_alone_is_a_quorum_of_one_and_learners_are_in_none() {
        let members = Membership::new([ME], [NodeId(2), NodeId(3)]).unwrap();
        let (mut reads, quorum) = (ReadRounds::default(), Quorum::majority(&members));
        assert!(reads.add(ME, ReadId(1), Slot(1)));
        assert_eq!(confirmed(&mut reads, &quorum), [] as [u64; 0], "no round has begun");
        assert_eq!(reads.begin(), Some(1));
        assert_eq!(confirmed(&mut reads, &quorum), [1]);
        let two = Quorum::majority(&Membership::new([ME, NodeId(4)], [NodeId(2)]).unwrap());
        assert!(reads.add(ME, ReadId(2), Slot(1)) && reads.begin() == Some(2));
        assert!(reads.on_ack(NodeId(2), 2));
        assert_eq!(confirmed(&mut reads, &two), [] as [u64; 0]);
    }

    #[test]
    fn waiting_reads_and_rounds_in_flight_are_bounded() {
        let mut reads = ReadRounds::default();
        let mut rounds = 0;
        for id in 0..2 * MAX_WAITING as u64 {
            let has_room = reads.add(ME, ReadId(id), Slot(1));
            assert_eq!(has_room, id < MAX_WAITING as u64);
            rounds += u64::from(reads.begin().is_some());
            reads.check_invariants();
        }
        assert_eq!(rounds, MAX_ROUNDS);
        assert!(reads.on_ack(NodeId(2), MAX_ROUNDS));
        assert_eq!(confirmed(&mut reads, &quorum(3)).len(), MAX_ROUNDS as usize);
        assert_eq!(reads.begin(), Some(MAX_ROUNDS + 1), "one for all that are left");
        assert!(reads.on_ack(NodeId(2), MAX_ROUNDS + 1));
        let left = confirmed(&mut reads, &quorum(3)).len();
        assert_eq!(left, MAX_WAITING - MAX_ROUNDS as usize);
        let mut relay = ReadRelay::default();
        assert!((0..MAX_WAITING as u64).all(|id| relay.add(ReadId(id))));
        assert!(!relay.add(ReadId(9999)));
    }

    #[test]
    fn follower_asks_once_for_all_and_again_a_new_leader() {
        let leader = |round| Some(Ballot { round, node: NodeId(2) });
        let mut relay = ReadRelay::default();
        assert_eq!(relay.flush(leader(1)), RelayAction::None);
        assert!(relay.add(ReadId(1)) && relay.add(ReadId(2)));
        assert_eq!(relay.flush(leader(1)), RelayAction::Ask(ReadId(2)));
        assert_eq!(relay.flush(leader(1)), RelayAction::None);
        assert!(relay.add(ReadId(3)));
        assert_eq!(relay.flush(leader(1)), RelayAction::Ask(ReadId(3)));
        assert_eq!(relay.answered(ReadId(7)).count(), 0, "of an earlier life");
        assert!(relay.answered(ReadId(2)).eq([ReadId(1), ReadId(2)]));
        assert_eq!(relay.answered(ReadId(2)).count(), 0, "twice");
        assert_eq!(relay.flush(leader(2)), RelayAction::Ask(ReadId(3)));
        assert_eq!(relay.flush(None), RelayAction::Refuse([ReadId(3)].into()));
        assert_eq!(relay.flush(None), RelayAction::None);
    }

    proptest! {
        /// Against the definition: a read is confirmed once a quorum has acknowledged a round that
        /// began after it arrived.
        #[test]
        fn reads_are_confirmed_by_rounds_after_them(
            steps in prop::collection::vec((0..3_u8, 2..6_u64, 0..9_u64), 0..60),
        ) {
            let (mut reads, quorum) = (ReadRounds::default(), quorum(5));
            // The rounds begun before each read, and the acknowledgements so far.
            let (mut begun, mut before, mut acks) = (0, Vec::new(), Vec::new());
            let mut done = 0;
            for (kind, node, back) in steps {
                match kind {
                    0 => {
                        prop_assert!(reads.add(ME, ReadId(before.len() as u64), Slot(1)));
                        before.push(begun);
                    }
                    1 => begun = reads.begin().unwrap_or(begun),
                    _ if begun > back => {
                        prop_assert!(reads.on_ack(NodeId(node), begun - back));
                        acks.push((node, begun - back));
                    }
                    _ => {}
                }
                reads.check_invariants();
                for id in confirmed(&mut reads, &quorum) {
                    prop_assert_eq!(id, done, "in order");
                    done += 1;
                }
                let is_due = |read: usize| {
                    let has = |node: &u64| {
                        acks.iter().any(|(from, round)| from == node && *round > before[read])
                    };
                    begun > before[read] && (2..6).filter(has).count() >= 2
                };
                for read in 0..before.len() {
                    prop_assert_eq!((read as u64) < done, is_due(read), "read {}", read);
                }
            }
        }
    }
}
