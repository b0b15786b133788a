//! Check of chosen slots: each has one value, which stays on the disks of a quorum.
//!
//! The nodes of the quorum that chose a value keep it: they accept nothing of an older round, and
//! in newer rounds the value is the same. Any other node may overwrite its copy by a late message
//! of an older round. So after the first report of a slot, the disks of some phase-2 quorum hold
//! its value, under any stamp (a learnt copy counts), or have compacted it. A corrupted or lost
//! disk counts with its last content, because no protocol can prevent that loss. Checked whenever a
//! write becomes durable.

use super::node_set::NodeSet;
use crate::check::digest::of_value;
use crate::violation::{Checked, ViolationKind, violation};
use crate::workload::kv::Command;
use synod_consensus::{Protocol, Quorum, RunLog, Stamp, Write};
use synod_replica::{Request, RequestKind};
use synod_types::{NodeId, Slot, ValueRef};

/// A node and its current round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NodeRound {
    pub(crate) node: NodeId,
    pub(crate) round: u64,
}

/// Every slot that any node ever reported as chosen.
#[derive(Debug)]
pub(crate) struct Chosen {
    quorum: Quorum,
    slots: Vec<ChosenSlot>,
    /// Slots whose value a disk has just lost.
    dropped: Vec<Slot>,
}

/// Chosen slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChosenSlot {
    pub(crate) digest: u64,
    /// Round of the first reporter at its report.
    pub(crate) round: u64,
    /// First reporter.
    pub(crate) by: NodeId,
    /// Nodes whose disks hold it.
    holders: NodeSet,
}

impl Chosen {
    /// Returns a checker without chosen slots. `quorum` defines when a slot is chosen.
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self { quorum, slots: Vec::new(), dropped: Vec::new() }
    }

    /// Returns the last chosen slot.
    pub(crate) fn last(&self) -> Slot {
        Slot(self.slots.len() as u64)
    }

    pub(crate) fn at(&self, slot: Slot) -> Option<&ChosenSlot> {
        self.slots.get(usize::try_from(slot.0).ok()?.checked_sub(1)?)
    }

    /// Checks a slot that a node reports as chosen. Returns whether it is the first report.
    pub(crate) fn report<'a, S: Stamp>(
        &mut self,
        reporter: NodeRound,
        slot: Slot,
        value: &ValueRef<'_>,
        disks: impl Iterator<Item = (NodeId, &'a RunLog<S>)>,
    ) -> Result<bool, Box<crate::Violation>> {
        let NodeRound { node, round } = reporter;
        let holders = NodeSet::default();
        let mut record = ChosenSlot { digest: of_value(value), round, by: node, holders };
        if let Some(known) = self.at(slot) {
            if known.digest == record.digest {
                return Ok(false);
            }
            let text =
                format!("slot {slot}: {node:?} reports a different value, {}", describe(value));
            return Err(violation(ViolationKind::Disagreement, [known.by, node], text));
        }
        if slot != self.last().next() {
            let text = format!(
                "{node:?} reports slot {slot} as chosen, but slot {} is next",
                self.last().next()
            );
            return Err(violation(ViolationKind::Disagreement, [node], text));
        }
        for (node, log) in disks {
            record.holders.set(node, record.is_held_by(slot, log));
        }
        if !self.is_kept(&record) {
            let text = format!(
                "{node:?} reports slot {slot}, {}, as chosen, but only the disks of {:?} hold it",
                describe(value),
                record.holders.iter().collect::<Vec<_>>()
            );
            return Err(violation(ViolationKind::NotOnQuorum, [node], text));
        }
        self.slots.push(record);
        Ok(true)
    }

    fn is_kept(&self, record: &ChosenSlot) -> bool {
        self.quorum.is_second(|node| record.holders.has(node))
    }

    /// Records a write that is on a node's disk now. The node also holds slots up to `floor` as a
    /// snapshot. Call [`check_kept`](Self::check_kept) after all writes of one sync.
    pub(crate) fn synced<P: Protocol>(&mut self, node: NodeId, write: &Write<P>, floor: Slot) {
        match write {
            Write::HardState(_) => {}
            Write::Put(run) => {
                let skip = usize::try_from((floor.0 + 1).saturating_sub(run.first.0));
                let values = run.values.iter().enumerate().skip(skip.unwrap_or(usize::MAX));
                for (index, value) in values {
                    let slot = run.first.plus(index);
                    if slot > self.last() {
                        break;
                    }
                    self.hold(node, slot, Some(of_value(&value)));
                }
            }
            Write::TruncateFrom(first) => {
                let gone = first.0.max(floor.0 + 1)..=self.last().0;
                gone.for_each(|slot| self.hold(node, Slot(slot), None));
            }
            Write::Compact(base) => {
                let count = usize::try_from(base.through.0).unwrap_or(usize::MAX);
                let compacted = self.slots.iter_mut().take(count);
                compacted.for_each(|record| record.holders.set(node, true));
            }
        }
    }

    /// Records the log with which a node starts. More writes may have become durable than were
    /// reported.
    pub(crate) fn reload<S: Stamp>(&mut self, node: NodeId, log: &RunLog<S>) {
        for slot in (log.base().0 + 1..=self.last().0).map(Slot) {
            self.hold(node, slot, log.get(slot).map(|(_, value)| of_value(&value)));
        }
    }

    /// Records the value on a node's disk at a chosen slot.
    fn hold(&mut self, node: NodeId, slot: Slot, held: Option<u64>) {
        let index = usize::try_from(slot.0 - 1).expect("a chosen slot");
        let record = &mut self.slots[index];
        let is_held = held == Some(record.digest);
        if record.holders.has(node) && !is_held {
            self.dropped.push(slot);
        }
        record.holders.set(node, is_held);
    }

    /// Checks that a quorum still holds each slot whose value a disk has lost in the last sync.
    pub(crate) fn check_kept(&mut self, node: NodeId) -> Checked {
        for slot in std::mem::take(&mut self.dropped) {
            let Some(record) = self.at(slot).filter(|record| !self.is_kept(record)) else {
                continue;
            };
            let text = format!(
                "{node:?} no longer holds slot {slot}, which {:?} reported as chosen: only the \
                 disks of {:?} hold it now",
                record.by,
                record.holders.iter().collect::<Vec<_>>()
            );
            return Err(violation(ViolationKind::NotOnQuorum, [node, record.by], text));
        }
        Ok(())
    }

    /// Checks that a write of a later round does not change a chosen value.
    pub(crate) fn check_write(&self, writer: NodeRound, slot: Slot, digest: u64) -> Checked {
        let NodeRound { node, round } = writer;
        match self.at(slot) {
            Some(record) if record.digest != digest && record.round < round => {
                let text = format!(
                    "in round {round}, {node:?} overwrites slot {slot}, which {:?} reported as \
                     chosen in round {}",
                    record.by, record.round
                );
                Err(violation(ViolationKind::Overwritten, [node, record.by], text))
            }
            _ => Ok(()),
        }
    }
}

impl ChosenSlot {
    pub(crate) fn is_held_by<S: Stamp>(&self, slot: Slot, log: &RunLog<S>) -> bool {
        slot <= log.base() || log.get(slot).is_some_and(|(_, held)| of_value(&held) == self.digest)
    }
}

/// Describes a value of the log.
pub(crate) fn describe(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Noop => "no-op".into(),
        ValueRef::Members(members) => format!("members {:?}", members.voters()),
        ValueRef::Stop(members) => format!("stop for {:?}", members.voters()),
        ValueRef::Command(bytes) => match Request::decode(bytes).map(|request| request.body) {
            Some(RequestKind::Barrier) => "read barrier".into(),
            Some(RequestKind::Command(body)) => {
                Command::decode(body).map_or("foreign command".into(), |it| it.to_string())
            }
            None => "foreign command".into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_consensus::Run;
    use synod_types::{Membership, Term, Values};

    fn log(values: &[&[u8]]) -> RunLog<Term> {
        let mut log = RunLog::default();
        for (index, value) in values.iter().enumerate() {
            let values = Values::command_only(value);
            log.put(Run { first: Slot(1).plus(index), stamp: Term(1), values });
        }
        log
    }

    fn three() -> Chosen {
        Chosen::new(Quorum::majority(&Membership::new((1..=3).map(NodeId), []).unwrap()))
    }

    fn report(
        chosen: &mut Chosen,
        slot: u64,
        value: &[u8],
        logs: &[RunLog<Term>],
    ) -> Result<bool, ViolationKind> {
        let disks = (1..).map(NodeId).zip(logs);
        let value = ValueRef::Command(value);
        let reporter = NodeRound { node: NodeId(1), round: 1 };
        let report = chosen.report(reporter, Slot(slot), &value, disks);
        report.map_err(|found| found.kind)
    }

    #[test]
    fn slot_is_chosen_once_and_needs_a_majority() {
        let mut chosen = three();
        let logs = [log(&[b"a", b"x"]), log(&[b"a"]), log(&[])];
        assert_eq!(report(&mut chosen, 1, b"a", &logs), Ok(true));
        assert_eq!(report(&mut chosen, 1, b"a", &[]), Ok(false), "already reported");
        assert_eq!(report(&mut chosen, 1, b"b", &logs), Err(ViolationKind::Disagreement));
        assert_eq!(report(&mut chosen, 3, b"c", &logs), Err(ViolationKind::Disagreement));
        assert_eq!(report(&mut chosen, 2, b"x", &logs), Err(ViolationKind::NotOnQuorum));
    }

    #[test]
    fn protocol_defines_the_quorum() {
        let five = Membership::new((1..=5).map(NodeId), []).unwrap();
        let mut chosen = Chosen::new(Quorum::flexible(&five, 4, 2).unwrap());
        let logs = [log(&[b"a", b"b"]), log(&[b"a"]), log(&[]), log(&[]), log(&[])];
        assert_eq!(report(&mut chosen, 1, b"a", &logs), Ok(true));
        assert_eq!(report(&mut chosen, 2, b"b", &logs), Err(ViolationKind::NotOnQuorum));
    }

    #[test]
    fn chosen_slot_is_not_overwritten_in_a_later_round() {
        let mut chosen = three();
        report(&mut chosen, 1, b"a", &[log(&[b"a"]), log(&[b"a"])]).unwrap();
        let (same, other) = (of_value(&ValueRef::Command(b"a")), of_value(&ValueRef::Noop));
        let write = |round, digest| {
            chosen.check_write(NodeRound { node: NodeId(2), round }, Slot(1), digest)
        };
        assert!(write(2, same).is_ok());
        assert!(write(1, other).is_ok(), "a late write of the same round or an older one");
        assert_eq!(write(2, other).unwrap_err().kind, ViolationKind::Overwritten);
    }

    #[test]
    fn loss_of_a_chosen_value_from_a_quorum_of_disks_is_found() {
        type Write = synod_consensus::Write<synod_raft::Raft>;
        let put = |value: &[u8]| {
            let values = Values::command_only(value);
            Write::Put(Run { first: Slot(1), stamp: Term(1), values })
        };
        let lost = |writes: &[(u64, Write)]| {
            let mut chosen = three();
            report(&mut chosen, 1, b"a", &[log(&[b"a"]), log(&[b"a"]), log(&[])]).unwrap();
            let mut judge = |(node, write): &(u64, Write)| {
                chosen.synced(NodeId(*node), write, Slot::ZERO);
                chosen.check_kept(NodeId(*node)).map_err(|found| found.kind)
            };
            writes.iter().try_for_each(&mut judge)
        };
        let gone = Err(ViolationKind::NotOnQuorum);
        assert_eq!(lost(&[(1, Write::TruncateFrom(Slot(1)))]), gone);
        assert_eq!(lost(&[(2, put(b"b"))]), gone);
        assert_eq!(lost(&[(2, put(b"a")), (2, Write::TruncateFrom(Slot(2)))]), Ok(()));
        assert_eq!(lost(&[(3, put(b"a")), (1, put(b"b"))]), Ok(()), "two others hold it");
        let base = synod_consensus::Base { through: Slot(1), ..Default::default() };
        assert_eq!(lost(&[(3, Write::Compact(base)), (1, put(b"b"))]), Ok(()), "compacted");
    }
}
