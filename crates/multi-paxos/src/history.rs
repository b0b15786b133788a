//! Comparison of histories: no node mixes the chosen slots of two histories.
//!
//! A quorum that loses its disks can choose other values for slots that a survivor has applied. Then each
//! side would append later slots of the other to its own log. So messages about chosen slots state a
//! digest of their sender's history, and receivers compare it with their logs.
//!
//! **Invariant:** a node moves its commit index by a peer's message only if the peer's history through
//! that index was compared with its own. Replies ([`Message::Learned`], [`Message::Known`], reports)
//! state the digest through the slot before them. A leader's commit index counts while this node
//! [agrees](Agreement) with it.
//!
//! Values that are merely accepted prove nothing: the proposer of a stale Accept may not have learnt the
//! slots chosen since. So only statements about chosen slots are compared, and an Accept that contradicts
//! the log is ignored without further consequence.

use crate::core::{Fx, ignore};
use crate::message::Learned;
use crate::{Message, MultiPaxos};
use core::cmp::{max, min};
use synod_consensus::{Comparison, Contradiction, HistoryDigest, IgnoreReason, Run};
use synod_types::{Ballot, NodeId, Slot};

/// Values sent to a contradicting peer, in bytes: some no-ops, or one command.
const MAX_EVIDENCE_BYTES: usize = 64;

/// Part of the log that agrees with a leader's: the leader's history through some slot was compared, and
/// the slots after it were accepted under its ballot without a gap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Agreement {
    ballot: Ballot,
    through: Slot,
}

impl Agreement {
    /// Records that the leader of `ballot` has the same history through this slot.
    pub(crate) fn record(&mut self, ballot: Ballot, through: Slot) {
        // Another leader: agreement begins with what was compared with its history.
        let known = if self.ballot == ballot { self.through } else { Slot::ZERO };
        *self = Self { ballot, through: max(known, through) };
    }

    /// Records that these slots were accepted from the leader.
    pub(crate) fn extend(&mut self, run: &Run<Ballot>) {
        if self.ballot == run.stamp && run.first <= self.through.next() {
            self.through = max(self.through, run.last());
        }
    }

    /// Records that chosen values of another node were written from this slot on.
    pub(crate) fn truncate(&mut self, from: Slot) {
        self.through = min(self.through, from.prev());
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    fn covers(&self, ballot: Ballot, commit: Slot) -> bool {
        self.ballot == ballot && self.through >= commit
    }
}

impl MultiPaxos {
    /// Compares the history that a message states with this node's log. Returns whether the message
    /// counts; messages of a peer with another history do not.
    pub(crate) fn compare_history(
        &mut self,
        from: NodeId,
        message: &Message,
        fx: &mut Fx<'_>,
    ) -> bool {
        if from == self.config.id() {
            return true;
        }
        let (log, commit) = (self.acceptor.log(), self.learner.commit());
        let is_view = matches!(message, Message::Heartbeat(_) | Message::HeartbeatReply(_));
        // A longer history cannot be compared here: the peer compares when this node states its own.
        let stated = message.statement().filter(|(through, _)| *through <= commit);
        let differs = match stated.map(|(through, digest)| digest.compare(log, through)) {
            Some(Comparison::Differs { from }) => Some(from),
            Some(Comparison::Equal | Comparison::NoCommand) if is_view => {
                // A view covers the sender's whole history, which may have been wiped since.
                self.contradicting.remove(&from);
                None
            }
            _ => self.contradicting.contains(&from).then_some(commit),
        };
        let Some(slot) = differs else { return true };
        self.contradicted(from, slot, fx);
        if is_view {
            self.send_evidence(from, slot, fx);
        }
        false
    }

    /// Handles a contradiction: another value is chosen at the peer in this slot or one near it. This node
    /// stops, unless the remaining nodes make both quorums; then the peer is ignored.
    pub(crate) fn contradicted(&mut self, by: NodeId, slot: Slot, fx: &mut Fx<'_>) {
        debug_assert_ne!(by, self.config.id(), "a node's history contradicts itself");
        self.contradicting.insert(by);
        let quorum = self.config.quorum();
        let others = |node| !self.contradicting.contains(&node);
        // The remaining nodes can elect and choose without the contradicting peers.
        if quorum.is_first(others) && quorum.is_second(others) {
            ignore(by, IgnoreReason::Contradiction, fx);
        } else {
            fx.contradicted(Contradiction { slot, by });
        }
    }

    /// Sends chosen values that the peer's history contradicts.
    fn send_evidence(&self, to: NodeId, slot: Slot, fx: &mut Fx<'_>) {
        // A peer with fewer chosen slots cannot compare this node's statements. Sent in reply to views
        // only: evidence in reply to evidence would loop.
        let (log, commit) = (self.acceptor.log(), self.learner.commit());
        if let Some(run) = self.acceptor.chosen(slot, commit, MAX_EVIDENCE_BYTES) {
            let digest = HistoryDigest::of(log, slot.prev());
            fx.send(to, Message::Learned(Learned { run, commit, digest }));
        }
    }

    /// Returns whether this node's history is that of the leader of the promised ballot.
    pub(crate) fn agrees(&self) -> bool {
        self.agreement.covers(self.acceptor.promised(), self.learner.commit())
    }

    /// Records that the owner of the promised ballot has replied with chosen values, through the commit
    /// index.
    pub(crate) fn record_agreement(&mut self, from: NodeId) {
        let promised = self.acceptor.promised();
        if promised.node == from {
            self.agreement.record(promised, self.learner.commit());
        }
    }

    /// Learns from the leader of `ballot` that all slots through `through` are chosen.
    pub(crate) fn learn_from_leader(&mut self, ballot: Ballot, through: Slot, fx: &mut Fx<'_>) {
        // A leader with another history may name slots whose values differ from those held here.
        if self.agreement.covers(ballot, self.learner.commit()) {
            self.learn(ballot, through, fx);
            self.agreement.record(ballot, self.learner.commit());
        }
    }

    /// Returns the first slot of a run, up to the commit index, in which another value is chosen.
    pub(crate) fn contradiction(&self, run: &Run<Ballot>) -> Option<Slot> {
        let (log, last) = (self.acceptor.log(), min(run.last(), self.learner.commit()));
        let slots = (run.first.0..=last.0).map(Slot);
        slots.zip(run.values.iter()).find_map(|(slot, theirs)| {
            log.get(slot).is_some_and(|(_, mine)| mine != theirs).then_some(slot)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_types::Values;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(2) }
    }

    fn run(first: u64, round: u64, len: usize) -> Run<Ballot> {
        let values = (0..len).map(|_| synod_types::Value::Noop).collect::<Values>();
        Run { first: Slot(first), stamp: ballot(round), values }
    }

    /// Slots compared with the leader of 3.2, and whether its commit index 10 counts.
    #[test]
    fn agreement_covers_what_was_compared_and_accepted_without_a_gap() {
        type Case = (&'static str, u64, &'static [(u64, u64, usize)], bool);
        let cases: [Case; 9] = [
            ("all of it", 10, &[], true),
            ("more", 12, &[], true),
            ("less", 9, &[], false),
            ("what it lacks is accepted", 8, &[(9, 3, 2)], true),
            ("one after the other", 8, &[(9, 3, 1), (10, 3, 1)], true),
            ("in the other order", 8, &[(10, 3, 1), (9, 3, 1)], false),
            ("with a gap", 7, &[(9, 3, 2)], false),
            ("over what was compared", 8, &[(5, 3, 6)], true),
            ("under another ballot", 8, &[(9, 2, 2)], false),
        ];
        for (name, compared, accepted, expected) in cases {
            let mut agreement = Agreement::default();
            agreement.record(ballot(3), Slot(compared));
            accepted.iter().for_each(|it| agreement.extend(&run(it.0, it.1, it.2)));
            assert_eq!(agreement.covers(ballot(3), Slot(10)), expected, "{name}");
            assert!(!agreement.covers(ballot(4), Slot(0)), "{name}");
            agreement.truncate(Slot(10));
            assert!(!agreement.covers(ballot(3), Slot(10)), "{name}: learnt from another node");
            agreement.record(ballot(4), Slot(1));
            assert!(!agreement.covers(ballot(4), Slot(2)), "{name}: it starts again");
        }
    }
}
