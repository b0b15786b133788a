//! Safety checker: records the votes, chosen values and leaders of a cluster, and checks the rules that concern
//! several nodes.

use crate::node::{LoggedWrite, StepEvent, brief};
use crate::rule::{Checked, Rule, RuleViolation, violated};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeBounds;
use synod_consensus::{Protocol, Quorum, Refusal, Role, Run, RunLog, Stamp, Status, Write};
use synod_types::{Ballot, NodeId, ReadId, Slot, Values};

/// Votes, chosen values and leaders of an execution so far.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SafetyChecker<P: Protocol> {
    /// All values that were ever written, with the nodes that voted for them durably.
    written: BTreeMap<(Slot, P::Stamp), VotedValue>,
    chosen: BTreeMap<Slot, Chosen>,
    leaders: BTreeMap<Ballot, NodeId>,
    reads: ReadChecker,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct VotedValue {
    value: Values,
    votes: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chosen {
    value: Values,
    /// Lowest ballot at which the value is known to be chosen.
    at: Ballot,
}

impl<P: Protocol> SafetyChecker<P> {
    pub fn new() -> Self {
        let (written, chosen, leaders) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { written, chosen, leaders, reads: ReadChecker::default() }
    }

    /// Returns the number of chosen slots.
    pub fn count(&self) -> usize {
        self.chosen.len()
    }

    /// Returns whether two ballots wrote to one slot.
    pub fn has_competition(&self) -> bool {
        let slots: Vec<_> = self.written.keys().map(|(slot, _)| *slot).collect();
        slots.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Checks the writes and reports of a step of a node.
    pub fn check_step<'a>(
        &mut self,
        node: NodeId,
        events: &[StepEvent<P>],
        quorum: &Quorum,
        disks: impl Iterator<Item = (NodeId, DiskView<'a, P::Stamp>)> + Clone,
    ) -> Checked {
        events.iter().try_for_each(|event| match event {
            StepEvent::Put(_, run) if !is_chosen_mark(run.stamp) => self.record_write(node, run),
            StepEvent::Put(round, run) | StepEvent::Chosen(round, run) => {
                if matches!(event, StepEvent::Chosen(..)) {
                    self.reads.reported = run.last().max(self.reads.reported);
                }
                self.check_report(node, *round, run, quorum, disks.clone())
            }
        })
    }

    /// Counts the votes among writes that have become durable.
    pub fn count_votes(
        &mut self,
        node: NodeId,
        writes: &[LoggedWrite<P>],
        quorum: &Quorum,
    ) -> Checked {
        writes.iter().filter(|it| it.is_vote).try_for_each(|logged| match &logged.write {
            Write::Put(run) => self.record_vote(node, run, quorum),
            _ => Ok(()),
        })
    }

    /// Records and checks a write of a node before it is durable.
    pub fn record_write(&mut self, node: NodeId, run: &Run<P::Stamp>) -> Checked {
        for (slot, value) in slots(run) {
            if is_chosen_mark(run.stamp) {
                continue;
            }
            if let Some(chosen) = self.chosen.get(&slot) {
                chosen.check_write(node, slot, run.stamp, &value)?;
            }
            let new = VotedValue { value: value.clone(), votes: BTreeSet::new() };
            let known = self.written.entry((slot, run.stamp)).or_insert(new);
            if known.value != value {
                let (one, two) = (brief(&known.value.get(0)), brief(&value.get(0)));
                let text = format!(
                    "slot {slot} at {:?} holds {one}, but {node:?} writes {two}",
                    run.stamp
                );
                return Err(violated(Rule::OneValuePerStamp, text));
            }
        }
        Ok(())
    }

    /// Records a durable vote of a node.
    pub fn record_vote(&mut self, node: NodeId, run: &Run<P::Stamp>, quorum: &Quorum) -> Checked {
        for (slot, value) in slots(run) {
            let Some(voted) = self.written.get_mut(&(slot, run.stamp)) else { continue };
            voted.votes.insert(node);
            if quorum.is_second(|node| voted.votes.contains(&node)) {
                let at = run.stamp.ballot();
                self.choose(slot, Chosen { value, at }, "a quorum voted for")?;
            }
        }
        Ok(())
    }

    /// Records and checks values that a node in `round` reports as chosen. Where stamps are ballots, a quorum must
    /// have voted for the value at one ballot. In Raft an entry of an earlier term is chosen together with a later
    /// one (§5.4.2): it must be on the disks of a quorum.
    pub fn check_report<'a>(
        &mut self,
        node: NodeId,
        round: u64,
        run: &Run<P::Stamp>,
        quorum: &Quorum,
        disks: impl Iterator<Item = (NodeId, DiskView<'a, P::Stamp>)> + Clone,
    ) -> Checked {
        for (slot, value) in slots(run) {
            if !self.chosen.contains_key(&slot) {
                let holders = holders(slot, &value, disks.clone());
                if P::Stamp::NAMES_PROPOSER || !quorum.is_second(|node| holders.contains(&node)) {
                    let what = brief(&value.get(0));
                    let text = format!(
                        "{node:?} reports slot {slot}, {what}, as chosen, but no quorum has voted for \
                         it; it is on the disks of {holders:?}"
                    );
                    return Err(violated(Rule::ChosenOnQuorum, text));
                }
            }
            // An entry of an earlier term is chosen in the term of the reporter (Raft §5.4.2).
            let at = match !P::Stamp::NAMES_PROPOSER {
                true => Ballot { round, node: NodeId(0) },
                false => Ballot::CHOSEN,
            };
            self.choose(slot, Chosen { value, at }, &format!("{node:?} reports"))?;
        }
        Ok(())
    }

    fn choose(&mut self, slot: Slot, new: Chosen, by: &str) -> Checked {
        match self.chosen.get_mut(&slot) {
            Some(known) if known.value == new.value => known.at = known.at.min(new.at),
            Some(known) => {
                let (one, two) = (brief(&known.value.get(0)), brief(&new.value.get(0)));
                let text = format!("slot {slot}: {one} is already chosen, but {by} {two}");
                return Err(violated(Rule::Agreement, text));
            }
            None => {
                let written = self.written.range((slot, P::Stamp::default())..);
                for ((_, stamp), voted) in written.take_while(|it| it.0.0 == slot) {
                    new.check_write(NodeId(0), slot, *stamp, &voted.value)?;
                }
                self.chosen.insert(slot, new);
            }
        }
        Ok(())
    }

    /// Checks that the chosen values of these slots are on the disks of a quorum.
    pub fn check_disks<'a>(
        &self,
        slots: impl RangeBounds<Slot>,
        quorum: &Quorum,
        disks: impl Iterator<Item = (NodeId, DiskView<'a, P::Stamp>)> + Clone,
    ) -> Checked {
        for (slot, chosen) in self.chosen.range(slots) {
            let holders = holders(*slot, &chosen.value, disks.clone());
            if !quorum.is_second(|node| holders.contains(&node)) {
                let what = brief(&chosen.value.get(0));
                let text = format!(
                    "slot {slot}: {what} was chosen, but only the disks of {holders:?} hold it"
                );
                return Err(violated(Rule::ChosenOnQuorum, text));
            }
        }
        Ok(())
    }

    /// Records the leader of a ballot. Returns whether the node leads this ballot for the first time.
    pub fn observe_leader(
        &mut self,
        node: NodeId,
        status: &Status,
    ) -> Result<bool, Box<RuleViolation>> {
        if status.role != Role::Leader {
            return Ok(false);
        }
        let mut ballot = status.ballot;
        if !P::Stamp::NAMES_PROPOSER {
            ballot.node = NodeId(0);
        }
        match self.leaders.insert(ballot, node) {
            None => Ok(true),
            Some(leader) if leader == node => Ok(false),
            Some(leader) => {
                let text =
                    format!("both {leader:?} and {node:?} are leaders of ballot {}", status.ballot);
                Err(violated(Rule::OneLeader, text))
            }
        }
    }

    /// Returns whether [`observe_leader`](Self::observe_leader) would change nothing. The caller then need not
    /// copy a shared checker.
    pub fn has_recorded_leader(&self, node: NodeId, status: &Status) -> bool {
        let mut ballot = status.ballot;
        if !P::Stamp::NAMES_PROPOSER {
            ballot.node = NodeId(0);
        }
        status.role != Role::Leader || self.leaders.get(&ballot) == Some(&node)
    }

    /// Checks that the leader of `round` holds all values that were chosen in earlier rounds.
    pub fn check_leader(&self, node: NodeId, round: u64, disk: DiskView<'_, P::Stamp>) -> Checked {
        if P::Stamp::NAMES_PROPOSER {
            return Ok(());
        }
        for (slot, chosen) in self.chosen.iter().filter(|(_, chosen)| chosen.at.round < round) {
            if !disk.holds(*slot, &chosen.value) {
                let text = format!(
                    "{node:?} leads term {round}, but its log lacks slot {slot}, {}, chosen in term {}",
                    brief(&chosen.value.get(0)),
                    chosen.at.round
                );
                return Err(violated(Rule::LeaderCompleteness, text));
            }
        }
        Ok(())
    }
}

/// Reads that wait for a slot, and what they must not miss.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct ReadChecker {
    /// Last slot that any node has reported as chosen: a client may have its answer.
    reported: Slot,
    /// Number of reads so far.
    begun: u64,
    /// Reads that wait, and what was reported when they arrived.
    waiting: BTreeMap<(NodeId, ReadId), Slot>,
    served: usize,
}

impl<P: Protocol> SafetyChecker<P> {
    /// A client's read reaches a node. Returns its id.
    pub fn begin_read(&mut self, node: NodeId) -> ReadId {
        self.reads.begun += 1;
        let id = ReadId(self.reads.begun);
        self.reads.waiting.insert((node, id), self.reads.reported);
        id
    }

    /// A node crashes: its clients receive no answer.
    pub fn drop_reads(&mut self, node: NodeId) {
        self.reads.waiting.retain(|(reader, _), _| *reader != node);
    }

    /// Returns the number of reads that were answered with a slot.
    pub fn served(&self) -> usize {
        self.reads.served
    }

    /// Checks a core's answer to a read: a state through its slot lacks nothing that was reported before
    /// the read.
    pub fn check_read(
        &mut self,
        node: NodeId,
        id: ReadId,
        answer: &Result<Slot, Refusal>,
    ) -> Checked {
        let Some(before) = self.reads.waiting.remove(&(node, id)) else { return Ok(()) };
        let Ok(slot) = answer else { return Ok(()) };
        self.reads.served += 1;
        if *slot >= before {
            return Ok(());
        }
        let text = format!(
            "{node:?} may serve a read from slot {slot}, but slot {before} was reported as chosen \
             before the read"
        );
        Err(violated(Rule::FreshReads, text))
    }
}

impl Chosen {
    /// Checks that a write at a ballot above that of the chosen value writes this value. `node` is the writer, or
    /// 0 if the value was written before it was known which one is chosen.
    fn check_write<S: Stamp>(&self, node: NodeId, slot: Slot, stamp: S, value: &Values) -> Checked {
        let is_later = stamp.ballot() > self.at;
        if !is_later || *value == self.value {
            return Ok(());
        }
        let by = if node == NodeId(0) { String::new() } else { format!(" by {node:?}") };
        let text = format!(
            "slot {slot}: {} is chosen at {}, but {} is written{by} at {stamp:?}",
            brief(&self.value.get(0)),
            self.at,
            brief(&value.get(0))
        );
        Err(violated(Rule::NotOverwritten, text))
    }
}

/// Returns whether the stamp marks a value that was learnt as chosen.
pub(crate) fn is_chosen_mark<S: Stamp>(stamp: S) -> bool {
    stamp.ballot() == Ballot::CHOSEN
}

/// Returns the slots of a run, each with its value.
pub(crate) fn slots<S: Copy>(run: &Run<S>) -> impl Iterator<Item = (Slot, Values)> + '_ {
    (0..run.values.len()).map(|at| (run.first.plus(at), run.values.slice(at, at + 1)))
}

/// Durable slots of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskView<'a, S> {
    pub log: &'a RunLog<S>,
    /// Last slot of the durable state.
    pub snapshot: Slot,
}

impl<'a, S: Stamp> DiskView<'a, S> {
    /// Creates the view of a disk without a snapshot beyond the base of its log.
    pub fn of(log: &'a RunLog<S>) -> Self {
        Self { log, snapshot: log.base() }
    }

    fn holds(&self, slot: Slot, value: &Values) -> bool {
        let held = || self.log.get(slot).is_some_and(|(_, held)| held == value.get(0));
        slot <= self.snapshot || held()
    }
}

/// Returns the nodes whose disks hold a value in a slot.
fn holders<'a, S: Stamp>(
    slot: Slot,
    value: &Values,
    disks: impl Iterator<Item = (NodeId, DiskView<'a, S>)>,
) -> Vec<NodeId> {
    disks.filter(|(_, disk)| disk.holds(slot, value)).map(|(node, _)| node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_consensus::{Quorum, RunLog, Saved};
    use synod_raft::Raft;
    use synod_types::{Membership, Term};

    fn quorum() -> Quorum {
        Quorum::majority(&Membership::new((1..=3).map(NodeId), []).unwrap())
    }

    fn run(slot: u64, term: u64, command: &[u8]) -> Run<Term> {
        Run { first: Slot(slot), stamp: Term(term), values: Values::command_only(command) }
    }

    fn disk(runs: &[Run<Term>]) -> Saved<Raft> {
        let mut log = RunLog::default();
        runs.iter().for_each(|run| log.put(run.clone()));
        Saved { log, ..Saved::default() }
    }

    fn violated_rule(checked: Checked) -> Option<Rule> {
        checked.err().map(|violation| violation.rule)
    }

    /// Returns a checker in which n1 and n2 voted for `run`.
    fn chosen(run: &Run<Term>) -> SafetyChecker<Raft> {
        let mut checker = SafetyChecker::new();
        checker.record_write(NodeId(1), run).unwrap();
        checker.record_vote(NodeId(1), run, &quorum()).unwrap();
        assert_eq!(checker.count(), 0, "one vote is not a quorum");
        checker.record_vote(NodeId(1), run, &quorum()).unwrap();
        assert_eq!(checker.count(), 0, "a repeated vote counts once");
        checker.record_vote(NodeId(2), run, &quorum()).unwrap();
        assert_eq!(checker.count(), 1);
        checker
    }

    #[test]
    fn second_chosen_value_and_report_without_a_quorum_are_violations() {
        let mut checker = chosen(&run(1, 1, b"a"));
        let disks = [disk(&[run(1, 1, b"a")]), disk(&[run(1, 1, b"a")]), disk(&[])];
        let disks = || (1..).map(NodeId).zip(disks.iter().map(|disk| DiskView::of(&disk.log)));
        let report = |checker: &mut SafetyChecker<Raft>, run: &Run<Term>| {
            violated_rule(checker.check_report(NodeId(3), 1, run, &quorum(), disks()))
        };
        assert_eq!(report(&mut checker, &run(1, 1, b"a")), None);
        assert_eq!(report(&mut checker, &run(1, 1, b"b")), Some(Rule::Agreement));
        assert_eq!(report(&mut checker, &run(2, 1, b"b")), Some(Rule::ChosenOnQuorum));
    }

    #[test]
    fn read_before_what_was_reported_is_found() {
        let mut checker = chosen(&run(2, 1, b"a"));
        let log = disk(&[run(1, 1, b"a"), run(2, 1, b"a")]);
        let disks = || (1..=3).map(|id| (NodeId(id), DiskView::of(&log.log)));
        let early = [(); 2].map(|()| checker.begin_read(NodeId(3)));
        assert_eq!(violated_rule(checker.check_read(NodeId(3), early[0], &Ok(Slot(0)))), None);
        let report = [StepEvent::Chosen(1, run(2, 1, b"a"))];
        checker.check_step(NodeId(2), &report, &quorum(), disks()).unwrap();
        assert_eq!(
            violated_rule(checker.check_read(NodeId(3), early[1], &Ok(Slot(0)))),
            None,
            "before"
        );
        for (answer, found) in
            [(Ok(Slot(2)), None), (Ok(Slot(1)), Some(Rule::FreshReads)), (Err(Refusal::Busy), None)]
        {
            let id = checker.begin_read(NodeId(1));
            assert_eq!(violated_rule(checker.check_read(NodeId(1), id, &answer)), found);
        }
        assert_eq!(checker.served(), 4);
        let lost = checker.begin_read(NodeId(1));
        checker.drop_reads(NodeId(1));
        assert_eq!(violated_rule(checker.check_read(NodeId(1), lost, &Ok(Slot(0)))), None);
    }

    #[test]
    fn chosen_value_lost_from_a_quorum_is_a_violation() {
        let checker = chosen(&run(1, 1, b"a"));
        let (full, other) = (disk(&[run(1, 1, b"a")]), disk(&[run(1, 2, b"b")]));
        let check = |disks: [&Saved<Raft>; 3]| {
            let disks = disks.map(|disk| DiskView::of(&disk.log));
            violated_rule(checker.check_disks(.., &quorum(), (1..).map(NodeId).zip(disks)))
        };
        assert_eq!(check([&full, &other, &full]), None);
        assert_eq!(check([&full, &other, &other]), Some(Rule::ChosenOnQuorum));
    }

    #[test]
    fn write_of_another_value_at_a_later_term_is_a_violation() {
        let mut checker = chosen(&run(1, 2, b"a"));
        assert_eq!(
            violated_rule(checker.record_write(NodeId(3), &run(1, 1, b"b"))),
            None,
            "an earlier term"
        );
        assert_eq!(violated_rule(checker.record_write(NodeId(3), &run(1, 3, b"a"))), None);
        let found = violated_rule(checker.record_write(NodeId(3), &run(1, 4, b"b")));
        assert_eq!(found, Some(Rule::NotOverwritten));
        let found = violated_rule(checker.record_write(NodeId(3), &run(1, 3, b"b")));
        assert_eq!(found, Some(Rule::NotOverwritten));
    }

    #[test]
    fn value_chosen_below_a_ballot_that_wrote_another_value_is_a_violation() {
        let mut checker = SafetyChecker::<Raft>::new();
        for run in [run(1, 1, b"a"), run(1, 2, b"b")] {
            checker.record_write(NodeId(1), &run).unwrap();
        }
        checker.record_vote(NodeId(1), &run(1, 1, b"a"), &quorum()).unwrap();
        let found = violated_rule(checker.record_vote(NodeId(2), &run(1, 1, b"a"), &quorum()));
        assert_eq!(found, Some(Rule::NotOverwritten));
    }

    #[test]
    fn second_value_at_one_stamp_is_a_violation() {
        let mut checker = SafetyChecker::<Raft>::new();
        checker.record_write(NodeId(1), &run(1, 1, b"a")).unwrap();
        let found = violated_rule(checker.record_write(NodeId(2), &run(1, 1, b"b")));
        assert_eq!(found, Some(Rule::OneValuePerStamp));
    }

    #[test]
    fn second_leader_and_leader_without_chosen_values_are_violations() {
        let mut checker = chosen(&run(1, 1, b"a"));
        let status = |round, node| Status {
            role: Role::Leader,
            ballot: Ballot { round, node: NodeId(node) },
            leader: None,
            commit: Slot::ZERO,
            last: Slot::ZERO,
            base: Slot::ZERO,
            progress: Vec::new(),
        };
        assert_eq!(checker.observe_leader(NodeId(1), &status(1, 1)), Ok(true));
        assert_eq!(
            checker.observe_leader(NodeId(1), &status(1, 1)),
            Ok(false),
            "the same leader again"
        );
        let found = checker.observe_leader(NodeId(2), &status(1, 2)).map(drop);
        assert_eq!(violated_rule(found), Some(Rule::OneLeader));
        let (full, empty) = (disk(&[run(1, 1, b"a")]), disk(&[]));
        assert_eq!(
            violated_rule(checker.check_leader(NodeId(3), 2, DiskView::of(&full.log))),
            None
        );
        assert_eq!(
            violated_rule(checker.check_leader(NodeId(3), 1, DiskView::of(&empty.log))),
            None,
            "not chosen in an earlier term"
        );
        let found = violated_rule(checker.check_leader(NodeId(3), 2, DiskView::of(&empty.log)));
        assert_eq!(found, Some(Rule::LeaderCompleteness));
    }
}
