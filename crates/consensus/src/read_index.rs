//! Pending linearizable reads of a leader and of a follower, which are not written to the log (Raft §8,
//! thesis §6.4, "ReadIndex").
//!
//! A read may be served from any state that contains all writes that were acknowledged before the read
//! arrived. A leader knows a slot of such a state, unless another leader has replaced it without its
//! knowledge. So it records the slot when the read arrives, and then sends a message to
//! each voter, once for all pending reads: a *round*. If a quorum replies, no successor had been elected when
//! the round began, so no other node had chosen a value by then.
//!
//! **Invariant: a round that began before a read arrived does not count for it.** Replies to it do not
//! exclude that another leader was elected after the round began and acknowledged a write before the read.
//!
//! A reply to a round does not wait for the disk. A voter that has voted for a successor replies under the
//! higher term or ballot from then on, and such a reply does not count. A vote that a crash undoes has
//! never left the voter.

use crate::Quorum;
use alloc::collections::{BTreeMap, VecDeque};
use synod_types::{Ballot, NodeId, ReadId, Slot};

/// Maximum number of pending reads in a core; more are refused. A driver bundles its clients' reads, so
/// few are pending: about as many as it has rounds within a round trip.
const MAX_PENDING: usize = 1024;

/// Maximum number of rounds in flight. Further reads wait until the first of them ends, and share a round.
const MAX_ROUNDS: u64 = 16;

/// Pending reads of a leader: its own and those of its followers.
///
/// ```
/// use synod_consensus::{Quorum, ReadRounds};
/// use synod_types::{Membership, NodeId, ReadId, Slot};
///
/// let (me, peer) = (NodeId(1), NodeId(2));
/// let quorum = Quorum::majority(&Membership::new((1..=3).map(NodeId), [])?);
/// let mut reads = ReadRounds::default();
/// assert!(reads.add(me, ReadId(1), Slot(7)));
/// let round = reads.begin().expect("a read is pending");
/// assert!(reads.add(me, ReadId(2), Slot(8)), "it arrives after the round began");
/// assert!(reads.on_ack(peer, round));
/// let confirmed: Vec<_> = reads.confirm(me, &quorum).map(|read| (read.id, read.index)).collect();
/// assert_eq!(confirmed, [(ReadId(1), Slot(7))]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadRounds {
    /// Number of the latest round.
    number: u64,
    /// Pending reads, in the order of their arrival.
    pending: VecDeque<PendingRead>,
    /// Latest round that each peer has acknowledged.
    acked: BTreeMap<NodeId, u64>,
}

/// Pending read of a leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PendingRead {
    /// Node that serves the read.
    pub reader: NodeId,
    /// Id of the read on that node.
    pub id: ReadId,
    /// Slot from which it may be served, once a quorum has confirmed the leader.
    pub index: Slot,
    /// First round that begins after its arrival.
    round: u64,
}

impl ReadRounds {
    /// Adds a read that has just arrived, and may be served from `index` on if this node still leads.
    /// Returns false if too many are pending.
    #[must_use]
    pub fn add(&mut self, reader: NodeId, id: ReadId, index: Slot) -> bool {
        // Backpressure: without a quorum no read is confirmed, and the list would grow.
        let has_room = self.pending.len() < MAX_PENDING;
        if has_room {
            // Not the latest round, which may have begun before: see the invariant above.
            let round = self.number + 1;
            self.pending.push_back(PendingRead { reader, id, index, round });
        }
        has_room
    }

    /// Begins a round if a read needs one. Returns its number, which its messages carry.
    #[must_use]
    pub fn begin(&mut self) -> Option<u64> {
        // Reads are in the order of their rounds, so the newest one decides.
        let newest = self.pending.back()?.round;
        if newest <= self.number || self.in_flight() >= MAX_ROUNDS {
            return None;
        }
        self.number += 1;
        Some(self.number)
    }

    /// Returns the number of the latest round, if a read depends on it, for heartbeats to repeat: messages
    /// may be lost. Otherwise 0, which confirms no read.
    #[must_use]
    pub fn open_round(&self) -> u64 {
        if self.in_flight() > 0 { self.number } else { 0 }
    }

    /// Returns the number of rounds from the first that a pending read depends on.
    fn in_flight(&self) -> u64 {
        self.pending.front().map_or(0, |oldest| (self.number + 1).saturating_sub(oldest.round))
    }

    /// Records that a peer acknowledged a round under this leader's own term or ballot. A reply to a
    /// later round counts for all earlier ones. Returns false if there was no such round.
    #[must_use]
    pub fn on_ack(&mut self, from: NodeId, round: u64) -> bool {
        if round > self.number {
            return false;
        }
        // Replies arrive late, twice and out of order: the latest round counts.
        let acked = self.acked.entry(from).or_default();
        *acked = round.max(*acked);
        true
    }

    /// Removes the reads for which a quorum, the leader `me` included, has acknowledged a round.
    pub fn confirm(
        &mut self,
        me: NodeId,
        quorum: &Quorum,
    ) -> impl Iterator<Item = PendingRead> + use<'_> {
        let acked = |node| self.acked.get(&node).copied().unwrap_or(0);
        // A quorum of phase 2 shares a voter with each quorum that could elect a successor.
        let is_confirmed = |round: u64| {
            round <= self.number && quorum.is_second(|node| node == me || acked(node) >= round)
        };
        let (mut count, mut confirmed) = (0, 0);
        for read in &self.pending {
            // Many reads share a round, which is checked once.
            if read.round > confirmed && !is_confirmed(read.round) {
                break;
            }
            (count, confirmed) = (count + 1, read.round);
        }
        self.pending.drain(..count)
    }

    /// Removes all reads, because this node no longer leads.
    pub fn drain(&mut self) -> impl Iterator<Item = PendingRead> + use<'_> {
        self.pending.drain(..)
    }

    /// Asserts the invariants, which hold before and after each input.
    pub fn check_invariants(&self) {
        assert!(self.pending.len() <= MAX_PENDING, "{} reads are pending", self.pending.len());
        assert!(self.pending.iter().is_sorted_by_key(|read| read.round), "reads are in order");
        assert!(self.pending.iter().all(|read| read.round <= self.number + 1), "future round");
        assert!(self.acked.values().all(|round| *round <= self.number), "reply to a future round");
        assert!(self.in_flight() <= MAX_ROUNDS, "{} rounds are in flight", self.in_flight());
    }
}

/// Pending reads of a follower, which requests a slot for them from its leader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReadRelay {
    /// Pending reads, in the order of their arrival.
    pending: VecDeque<ReadId>,
    /// Leader that received a request for all of them; `None` if a read has arrived since.
    requested: Option<Ballot>,
}

/// Result of a [flush](ReadRelay::flush).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayAction {
    /// No action.
    None,
    /// Request to the leader, which names this read, the latest.
    Request(ReadId),
    /// Refusal of these reads, since there is no leader.
    Refuse(VecDeque<ReadId>),
}

impl ReadRelay {
    /// Adds a read that has just arrived. Returns false if too many are pending.
    #[must_use]
    pub fn add(&mut self, id: ReadId) -> bool {
        let has_room = self.pending.len() < MAX_PENDING;
        if has_room {
            self.pending.push_back(id);
            // A leader fixes the slot for reads that arrived before its request, not for later ones.
            self.requested = None;
        }
        has_room
    }

    /// Returns the action for the pending reads while `leader` leads: one request for all reads since the
    /// last one, and one for all reads to a new leader.
    pub fn flush(&mut self, leader: Option<Ballot>) -> RelayAction {
        match (self.pending.back(), leader) {
            (None, _) => RelayAction::None,
            (Some(_), None) => RelayAction::Refuse(core::mem::take(&mut self.pending)),
            // A predecessor may have crashed with the earlier requests.
            (Some(latest), Some(_)) if self.requested != leader => {
                self.requested = leader;
                RelayAction::Request(*latest)
            }
            (Some(_), Some(_)) => RelayAction::None,
        }
    }

    /// Removes the reads for which a reply is valid: the one that its request named, and all that arrived
    /// before it.
    ///
    /// The reply is valid from any leader, even if this node no longer follows it: the leader recorded the
    /// slot after it received the request, so after these reads had arrived, and a quorum confirmed that it
    /// led then. But `id` must not be that of a read before a restart: the slot would be older than the
    /// read, see [`Input::Read`](crate::Input::Read).
    pub fn on_reply(&mut self, id: ReadId) -> impl Iterator<Item = ReadId> + use<'_> {
        // A reply that arrives twice finds no read, since ids are not used again.
        let count = self.pending.iter().position(|pending| *pending == id).map_or(0, |at| at + 1);
        self.pending.drain(..count)
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
        assert_eq!(reads.begin(), None, "one round for all pending reads");
        assert!(reads.add(ME, ReadId(2), Slot(1)));
        assert!(reads.on_ack(NodeId(2), 1));
        assert_eq!(confirmed(&mut reads, &quorum), [1]);
        assert_eq!(reads.open_round(), 0, "no read depends on it");
        assert_eq!(reads.begin(), Some(2));
        assert!(reads.on_ack(NodeId(2), 1), "a repeated acknowledgement");
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
    fn single_voter_is_a_quorum_and_learners_are_in_none() {
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
    fn pending_reads_and_rounds_in_flight_are_bounded() {
        let mut reads = ReadRounds::default();
        let mut rounds = 0;
        for id in 0..2 * MAX_PENDING as u64 {
            let has_room = reads.add(ME, ReadId(id), Slot(1));
            assert_eq!(has_room, id < MAX_PENDING as u64);
            rounds += u64::from(reads.begin().is_some());
            reads.check_invariants();
        }
        assert_eq!(rounds, MAX_ROUNDS);
        assert!(reads.on_ack(NodeId(2), MAX_ROUNDS));
        assert_eq!(confirmed(&mut reads, &quorum(3)).len(), MAX_ROUNDS as usize);
        assert_eq!(reads.begin(), Some(MAX_ROUNDS + 1), "one for all remaining reads");
        assert!(reads.on_ack(NodeId(2), MAX_ROUNDS + 1));
        let left = confirmed(&mut reads, &quorum(3)).len();
        assert_eq!(left, MAX_PENDING - MAX_ROUNDS as usize);
        let mut relay = ReadRelay::default();
        assert!((0..MAX_PENDING as u64).all(|id| relay.add(ReadId(id))));
        assert!(!relay.add(ReadId(9999)));
    }

    #[test]
    fn follower_sends_one_request_for_all_reads_and_repeats_it_to_a_new_leader() {
        let leader = |round| Some(Ballot { round, node: NodeId(2) });
        let mut relay = ReadRelay::default();
        assert_eq!(relay.flush(leader(1)), RelayAction::None);
        assert!(relay.add(ReadId(1)) && relay.add(ReadId(2)));
        assert_eq!(relay.flush(leader(1)), RelayAction::Request(ReadId(2)));
        assert_eq!(relay.flush(leader(1)), RelayAction::None);
        assert!(relay.add(ReadId(3)));
        assert_eq!(relay.flush(leader(1)), RelayAction::Request(ReadId(3)));
        assert_eq!(relay.on_reply(ReadId(7)).count(), 0, "a read before a restart");
        assert!(relay.on_reply(ReadId(2)).eq([ReadId(1), ReadId(2)]));
        assert_eq!(relay.on_reply(ReadId(2)).count(), 0, "a repeated reply");
        assert_eq!(relay.flush(leader(2)), RelayAction::Request(ReadId(3)));
        assert_eq!(relay.flush(None), RelayAction::Refuse([ReadId(3)].into()));
        assert_eq!(relay.flush(None), RelayAction::None);
    }

    proptest! {
        /// The definition: a read is confirmed once a quorum has acknowledged a round that began after its
        /// arrival.
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
