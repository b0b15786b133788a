//! Checks of writes to logs, and of those that become durable.
//!
//! Keeps every value that was ever written to a slot, with its stamp and the nodes whose disks have
//! held it. Where stamps are ballots, a slot is **chosen** exactly when a phase-2 quorum of disks
//! has held one value under one ballot: each of these copies is an acceptance, and remains one when
//! its node votes again, fails, or loses its disk. So the check detects a choice before any node
//! does, and judges by stamps alone ("Paxos Made Simple" §2.2):
//!
//! - no other value has a higher ballot than the chosen one, whether written before the choice or
//!   after it;
//! - a value has the stamp [`Ballot::CHOSEN`] only if it is chosen;
//! - nodes report only chosen values.
//!
//! Terms guarantee less: an entry of an older term on a majority of disks may still be replaced
//! (Raft §5.4.2). Where stamps are terms, the rules are those of [`Chosen`]: by the round in which
//! a slot was first reported.

use super::chosen::{Chosen, NodeRound};
use super::node_set::NodeSet;
use crate::check::digest::of_value;
use crate::violation::{Checked, ViolationKind, violation};
use synod_consensus::{HardState, Protocol, Quorum, Run, RunLog, Stamp, Write};
use synod_types::{Ballot, NodeId, Slot};

/// Checks that a slot has one value under one stamp, on every node (log matching, in general form),
/// that hard states never go back, and that ballots choose one value per slot.
#[derive(Debug)]
pub(crate) struct Logs<P: Protocol> {
    quorum: Quorum,
    slots: Vec<SlotRecord<P::Stamp>>,
    /// Last hard state that each node wrote.
    hard_states: Vec<P::HardState>,
}

/// Every value that was ever written to one slot.
#[derive(Clone, Debug, Default)]
struct SlotRecord<S> {
    copies: Vec<Copies<S>>,
    /// Chosen value, under the lowest ballot that chose it.
    choice: Option<BallotValue>,
}

/// Value under a ballot, by its digest.
#[derive(Clone, Copy, Debug)]
struct BallotValue {
    ballot: Ballot,
    digest: u64,
}

/// One value under one stamp.
#[derive(Clone, Copy, Debug)]
struct Copies<S> {
    stamp: S,
    digest: u64,
    /// Nodes whose disks have held it.
    holders: NodeSet,
}

impl<P: Protocol> Logs<P> {
    pub(crate) fn new(nodes: usize, quorum: Quorum) -> Self {
        Self { quorum, slots: Vec::new(), hard_states: vec![P::HardState::default(); nodes] }
    }

    /// Resets a node that has lost its unsynced writes.
    pub(crate) fn reset_to_synced(&mut self, node: usize, synced: &P::HardState) {
        self.hard_states[node] = synced.clone();
    }

    /// Checks a write that a node emits in `round`.
    pub(crate) fn check(
        &mut self,
        node: usize,
        round: u64,
        write: &Write<P>,
        chosen: &Chosen,
    ) -> Checked {
        let id = NodeId(node as u64 + 1);
        match write {
            Write::HardState(newer) => {
                let older = &mut self.hard_states[node];
                if !newer.may_follow(older) {
                    let text = format!("{id:?} wrote {newer:?} after {older:?}");
                    return Err(violation(ViolationKind::HardStateRegressed, [id], text));
                }
                *older = newer.clone();
                Ok(())
            }
            Write::Put(run) => self.check_run(NodeRound { node: id, round }, run, chosen),
            Write::TruncateFrom(_) | Write::Compact(_) => Ok(()),
        }
    }

    /// Checks the slots that a node writes.
    pub(crate) fn check_run(
        &mut self,
        writer: NodeRound,
        run: &Run<P::Stamp>,
        chosen: &Chosen,
    ) -> Checked {
        let id = writer.node;
        let ballot = ballot_of(&run.stamp);
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let digest = of_value(&value);
            let record = self.at(slot);
            match ballot {
                Some(ballot) => record.check_ballot(id, slot, BallotValue { ballot, digest })?,
                None => chosen.check_write(writer, slot, digest)?,
            }
            match record.copies.iter().find(|copies| copies.stamp == run.stamp) {
                Some(copies) if copies.digest != digest => {
                    let text =
                        format!("slot {slot} has two different values under {:?}", run.stamp);
                    return Err(violation(ViolationKind::LogMismatch, [id], text));
                }
                Some(_) => {}
                None => {
                    let (stamp, holders) = (run.stamp, NodeSet::default());
                    record.copies.push(Copies { stamp, digest, holders });
                }
            }
        }
        Ok(())
    }

    /// Records slots that are on a node's disk now: under a ballot, each is an acceptance.
    pub(crate) fn synced(&mut self, id: NodeId, run: &Run<P::Stamp>) -> Checked {
        let Some(ballot) = ballot_of(&run.stamp).filter(|ballot| *ballot != Ballot::CHOSEN) else {
            return Ok(());
        };
        let quorum = self.quorum.clone();
        for (index, value) in run.values.iter().enumerate() {
            let slot = run.first.plus(index);
            let record = self.at(slot);
            let digest = of_value(&value);
            let same = |copies: &&mut Copies<_>| copies.stamp == run.stamp;
            let Some(copies) = record.copies.iter_mut().find(same) else { continue };
            if copies.holders.has(id) {
                continue;
            }
            copies.holders.set(id, true);
            let holders = copies.holders;
            if quorum.is_second(|node| holders.has(node)) {
                record.choose(id, slot, BallotValue { ballot, digest })?;
            }
        }
        Ok(())
    }

    /// Records the log with which a node starts; more of it may have become durable than was
    /// reported.
    pub(crate) fn reload(&mut self, id: NodeId, log: &RunLog<P::Stamp>) -> Checked {
        log.runs().try_for_each(|run| self.synced(id, run))
    }

    /// Checks that a quorum has accepted, under some ballot, a value that a node reports as chosen.
    /// Does nothing where stamps are terms.
    pub(crate) fn check_report(&mut self, id: NodeId, slot: Slot, digest: u64) -> Checked {
        let record = self.at(slot);
        if !record.copies.iter().any(|copies| ballot_of(&copies.stamp).is_some()) {
            return Ok(());
        }
        record.check_ballot(id, slot, BallotValue { ballot: Ballot::CHOSEN, digest })
    }

    fn at(&mut self, slot: Slot) -> &mut SlotRecord<P::Stamp> {
        let index = usize::try_from(slot.0).expect("a slot in memory");
        if self.slots.len() <= index {
            let empty = || SlotRecord { copies: Vec::new(), choice: None };
            self.slots.resize_with(index + 1, empty);
        }
        &mut self.slots[index]
    }
}

impl<S: Stamp> SlotRecord<S> {
    /// Checks a value that a node writes under a ballot, or as chosen.
    fn check_ballot(&self, id: NodeId, slot: Slot, written: BallotValue) -> Checked {
        let BallotValue { ballot, digest } = written;
        match self.choice {
            Some(chosen) if chosen.digest == digest => Ok(()),
            Some(chosen) if chosen.ballot < ballot => {
                let text = format!(
                    "{id:?} writes a different value under {ballot} at slot {slot}, chosen under {}",
                    chosen.ballot
                );
                Err(violation(ViolationKind::Overwritten, [id], text))
            }
            None if ballot == Ballot::CHOSEN => {
                let holders = self.holders_of(digest);
                let text = format!(
                    "{id:?} reports slot {slot} as chosen, but no ballot has its value on the disks \
                     of a quorum: {}",
                    holders.join(", ")
                );
                Err(violation(ViolationKind::NotOnQuorum, [id], text))
            }
            _ => Ok(()),
        }
    }

    /// Records that a quorum has accepted a value under a ballot.
    fn choose(&mut self, id: NodeId, slot: Slot, accepted: BallotValue) -> Checked {
        let BallotValue { mut ballot, digest } = accepted;
        if let Some(other) = self.choice {
            if other.digest != digest {
                let text = format!(
                    "slot {slot} has different chosen values under {} and under {ballot}",
                    other.ballot
                );
                return Err(violation(ViolationKind::Disagreement, [id], text));
            }
            ballot = ballot.min(other.ballot);
        }
        self.choice = Some(BallotValue { ballot, digest });
        for copies in &self.copies {
            let ballot = ballot_of(&copies.stamp).unwrap_or_default();
            self.check_ballot(id, slot, BallotValue { ballot, digest: copies.digest })?;
        }
        Ok(())
    }

    fn holders_of(&self, digest: u64) -> Vec<String> {
        let same = self.copies.iter().filter(|copies| copies.digest == digest);
        same.map(|Copies { stamp, holders, .. }| {
            format!("{:?} under {stamp:?}", holders.iter().collect::<Vec<_>>())
        })
        .collect()
    }
}

/// Returns a stamp as a ballot; `None` if stamps are terms.
fn ballot_of<S: Stamp>(stamp: &S) -> Option<Ballot> {
    S::NAMES_PROPOSER.then(|| stamp.ballot())
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_basic_paxos::BasicPaxos;
    use synod_multi_paxos::MultiPaxos;
    use synod_types::{Membership, Values};

    /// Returns new checkers for three nodes, of which two form a quorum.
    fn three<P: Protocol>() -> (Logs<P>, Chosen) {
        let quorum = Quorum::majority(&Membership::new((1..=3).map(NodeId), []).unwrap());
        (Logs::new(3, quorum.clone()), Chosen::new(quorum))
    }

    fn at(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    /// Writes one slot and syncs each write at once: node, ballot, value.
    fn written<P: Protocol<Stamp = Ballot>>(
        writes: &[(u64, Ballot, &str)],
    ) -> Result<(Logs<P>, Chosen), ViolationKind> {
        let (mut logs, chosen) = three();
        for (node, stamp, value) in writes {
            let values = Values::command_only(value.as_bytes());
            let run = Run { first: Slot(1), stamp: *stamp, values };
            let id = NodeId(*node);
            // Nodes of basic Paxos have no round.
            let writer = NodeRound { node: id, round: 0 };
            logs.check_run(writer, &run, &chosen).map_err(|found| found.kind)?;
            logs.synced(id, &run).map_err(|found| found.kind)?;
        }
        Ok((logs, chosen))
    }

    fn verdict(writes: &[(u64, Ballot, &str)]) -> Result<(), ViolationKind> {
        let basic = written::<BasicPaxos>(writes).map(|_| ());
        assert_eq!(written::<MultiPaxos>(writes).map(|_| ()), basic);
        basic
    }

    #[test]
    fn no_other_value_has_a_higher_ballot_than_the_chosen_one() {
        let chosen = [(1, at(1), "a"), (2, at(1), "a")];
        let then = |write| [&chosen[..], &[write]].concat();
        assert_eq!(verdict(&then((3, at(2), "a"))), Ok(()));
        assert_eq!(verdict(&then((3, at(0), "b"))), Ok(()), "a late write");
        assert_eq!(verdict(&then((3, at(2), "b"))), Err(ViolationKind::Overwritten));
        assert_eq!(verdict(&then((3, Ballot::CHOSEN, "b"))), Err(ViolationKind::Overwritten));
        let before = [(1, at(1), "a"), (3, at(2), "b"), (2, at(1), "a")];
        assert_eq!(verdict(&before), Err(ViolationKind::Overwritten), "written before the choice");
    }

    #[test]
    fn acceptances_of_two_ballots_do_not_add_up() {
        let apart = [(1, at(1), "a"), (2, at(2), "a")];
        assert_eq!(verdict(&apart), Ok(()));
        let learned = [apart[0], apart[1], (3, Ballot::CHOSEN, "a")];
        assert_eq!(verdict(&learned), Err(ViolationKind::NotOnQuorum));
        let (mut logs, _) = written::<BasicPaxos>(&apart).unwrap();
        let digest = of_value(&synod_types::ValueRef::Command(b"a"));
        let report = logs.check_report(NodeId(3), Slot(1), digest);
        assert_eq!(report.unwrap_err().kind, ViolationKind::NotOnQuorum);
        // An acceptance counts even if its node has accepted under a higher ballot since.
        let kept = [(1, at(1), "a"), (1, at(2), "a"), (2, at(1), "a"), (3, Ballot::CHOSEN, "a")];
        assert_eq!(verdict(&kept), Ok(()));
    }

    #[test]
    fn second_chosen_value_of_a_slot_is_found() {
        let twice = [(1, at(3), "a"), (2, at(3), "a"), (1, at(1), "b"), (3, at(1), "b")];
        assert_eq!(verdict(&twice), Err(ViolationKind::Disagreement));
        assert_eq!(verdict(&[(1, at(1), "a"), (2, at(1), "b")]), Err(ViolationKind::LogMismatch));
    }
}
