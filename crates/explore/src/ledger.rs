//! What must hold: votes, chosen values and leaders, as an observer who sees every disk keeps them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use synod_consensus::{Protocol, Quorum, Role, Run, Saved, Stamp, Status};
use synod_types::{Ballot, NodeId, Slot, ValueRef, Values};

/// What must always hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// One slot has one chosen value: what nodes report, and what quorums voted for durably.
    Agreement,
    /// What is chosen stands on the disks of a quorum, from then on for ever.
    OnQuorum,
    /// Above the ballot in which a value was chosen no other value is ever written to its slot.
    NotOverwritten,
    /// One slot under one stamp has one value, on every node.
    OneValueAStamp,
    /// One ballot has one leader; where stamps are terms, one term.
    OneLeader,
    /// Where stamps are terms: a leader holds all that was chosen in earlier terms.
    LeaderComplete,
    /// A node neither removes a slot that it has applied nor writes another value there.
    AppliedStays,
    /// Terms, votes and promises never go back.
    HardState,
    /// What leaves a node is true of its synced disk.
    Claims,
    /// A node reports chosen slots in order and without a gap.
    Order,
    /// The state may be made durable only as far as the log is.
    Durable,
    /// A node starts from whatever its disk may hold after a crash.
    Recovery,
    /// No assertion of a core fails.
    NoPanic,
    /// Nodes do not keep each other busy for ever.
    Quiet,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Agreement => "agreement",
            Self::OnQuorum => "chosen means on a quorum",
            Self::NotOverwritten => "what is chosen is not overwritten",
            Self::OneValueAStamp => "one value a stamp",
            Self::OneLeader => "one leader a ballot",
            Self::LeaderComplete => "a leader holds what was chosen",
            Self::AppliedStays => "what is applied stays",
            Self::HardState => "a hard state never goes back",
            Self::Claims => "what is said is on disk",
            Self::Order => "chosen in order",
            Self::Durable => "the state never passes the log",
            Self::Recovery => "a node starts from its disk",
            Self::NoPanic => "no panic",
            Self::Quiet => "nodes come to rest",
        })
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Which one.
    pub rule: Rule,
    /// What was seen.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.text)
    }
}

pub(crate) type Checked = Result<(), Box<Violation>>;

pub(crate) fn violated(rule: Rule, text: String) -> Box<Violation> {
    Box::new(Violation { rule, text })
}

/// What an observer who sees everything remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ledger<P: Protocol> {
    /// Every value that was ever written, and who voted for it durably.
    written: BTreeMap<(Slot, P::Stamp), Ticked>,
    chosen: BTreeMap<Slot, Chosen>,
    leaders: BTreeMap<Ballot, NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Ticked {
    value: Values,
    votes: BTreeSet<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Chosen {
    value: Values,
    /// The lowest ballot at which it is known to be chosen.
    at: Ballot,
}

impl<P: Protocol> Ledger<P> {
    pub fn new() -> Self {
        Self { written: BTreeMap::new(), chosen: BTreeMap::new(), leaders: BTreeMap::new() }
    }

    /// How many slots are chosen.
    pub fn count(&self) -> usize {
        self.chosen.len()
    }

    /// Whether two ballots wrote to one slot.
    pub fn has_competition(&self) -> bool {
        let slots: Vec<_> = self.written.keys().map(|(slot, _)| *slot).collect();
        slots.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// A node hands out a write, and no disk has it yet.
    pub fn writes(&mut self, node: NodeId, run: &Run<P::Stamp>) -> Checked {
        for (slot, value) in slots(run) {
            if is_chosen_mark(run.stamp) {
                continue;
            }
            if let Some(chosen) = self.chosen.get(&slot) {
                chosen.check_write(node, (slot, run.stamp), &value)?;
            }
            let fresh = Ticked { value: value.clone(), votes: BTreeSet::new() };
            let known = self.written.entry((slot, run.stamp)).or_insert(fresh);
            if known.value != value {
                let (one, two) = (brief(&known.value), brief(&value));
                let text = format!(
                    "slot {slot} under {:?} holds {one}, and {node:?} writes {two}",
                    run.stamp
                );
                return Err(violated(Rule::OneValueAStamp, text));
            }
        }
        Ok(())
    }

    /// A vote of a node is durable.
    pub fn votes(&mut self, node: NodeId, run: &Run<P::Stamp>, quorum: &Quorum) -> Checked {
        for (slot, value) in slots(run) {
            let Some(ticked) = self.written.get_mut(&(slot, run.stamp)) else { continue };
            ticked.votes.insert(node);
            if quorum.is_second(|node| ticked.votes.contains(&node)) {
                let at = run.stamp.ballot();
                self.choose(slot, Chosen { value, at }, "a quorum voted for")?;
            }
        }
        Ok(())
    }

    /// A node that stands in `round` says that a value is chosen. Where slots are stamped with
    /// ballots a quorum has voted for it under one of them. An entry of an earlier term is chosen
    /// together with a later one (Raft §5.4.2): it stands on the disks of a quorum.
    pub fn reports<'a>(
        &mut self,
        (node, round): (NodeId, u64),
        run: &Run<P::Stamp>,
        quorum: &Quorum,
        disks: impl Iterator<Item = (NodeId, &'a Saved<P>)> + Clone,
    ) -> Checked {
        for (slot, value) in slots(run) {
            if !self.chosen.contains_key(&slot) {
                let holders = holders(slot, &value, disks.clone());
                if P::Stamp::NAMES_PROPOSER || !quorum.is_second(|node| holders.contains(&node)) {
                    let what = brief(&value);
                    let text = format!(
                        "{node:?} reports slot {slot}, {what}, as chosen, but no quorum voted for \
                         it; it is on the disks of {holders:?}"
                    );
                    return Err(violated(Rule::OnQuorum, text));
                }
            }
            // Of an entry of an earlier term the term of the reporter is what counts (Raft §5.4.2).
            let at = match !P::Stamp::NAMES_PROPOSER {
                true => Ballot { round, node: NodeId(0) },
                false => Ballot::CHOSEN,
            };
            self.choose(slot, Chosen { value, at }, &format!("{node:?} reports"))?;
        }
        Ok(())
    }

    fn choose(&mut self, slot: Slot, news: Chosen, by: &str) -> Checked {
        match self.chosen.get_mut(&slot) {
            Some(known) if known.value == news.value => known.at = known.at.min(news.at),
            Some(known) => {
                let (one, two) = (brief(&known.value), brief(&news.value));
                let text = format!("slot {slot} is {one} already, and {by} {two}");
                return Err(violated(Rule::Agreement, text));
            }
            None => {
                for ((_, stamp), ticked) in self.written.iter().filter(|it| it.0.0 == slot) {
                    news.check_write(NodeId(0), (slot, *stamp), &ticked.value)?;
                }
                self.chosen.insert(slot, news);
            }
        }
        Ok(())
    }

    /// Nothing that was chosen has left the disks of a quorum.
    pub fn check_disks<'a>(
        &self,
        quorum: &Quorum,
        disks: impl Iterator<Item = (NodeId, &'a Saved<P>)> + Clone,
    ) -> Checked {
        for (slot, chosen) in &self.chosen {
            let holders = holders(*slot, &chosen.value, disks.clone());
            if !quorum.is_second(|node| holders.contains(&node)) {
                let what = brief(&chosen.value);
                let text = format!(
                    "slot {slot}, {what}, was chosen, and only the disks of {holders:?} hold it now"
                );
                return Err(violated(Rule::OnQuorum, text));
            }
        }
        Ok(())
    }

    /// Looks at a node after a step; true if it leads as it was never seen to before.
    pub fn looks(&mut self, node: NodeId, status: &Status) -> Result<bool, Box<Violation>> {
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
                let text = format!("{leader:?} and {node:?} both led {}", status.ballot);
                Err(violated(Rule::OneLeader, text))
            }
        }
    }

    /// Whether [`looks`](Self::looks) would change nothing.
    pub fn knows_leader(&self, node: NodeId, status: &Status) -> bool {
        let mut ballot = status.ballot;
        if !P::Stamp::NAMES_PROPOSER {
            ballot.node = NodeId(0);
        }
        status.role != Role::Leader || self.leaders.get(&ballot) == Some(&node)
    }

    /// A node that leads `round` holds in its log all that was chosen before.
    pub fn check_leader(&self, node: NodeId, round: u64, log: &Saved<P>) -> Checked {
        if P::Stamp::NAMES_PROPOSER {
            return Ok(());
        }
        for (slot, chosen) in self.chosen.iter().filter(|(_, chosen)| chosen.at.round < round) {
            if !holds(log, *slot, &chosen.value) {
                let text = format!(
                    "{node:?} leads term {round} without slot {slot}, {}, chosen in term {}",
                    brief(&chosen.value),
                    chosen.at.round
                );
                return Err(violated(Rule::LeaderComplete, text));
            }
        }
        Ok(())
    }
}

impl Chosen {
    /// A later ballot may only write the chosen value. `node` is 0 if that was earlier.
    fn check_write<S: Stamp>(
        &self,
        node: NodeId,
        (slot, stamp): (Slot, S),
        value: &Values,
    ) -> Checked {
        let is_later = stamp.ballot() > self.at;
        if !is_later || *value == self.value {
            return Ok(());
        }
        let who = if node == NodeId(0) { "was".into() } else { format!("is by {node:?}") };
        let text = format!(
            "slot {slot}: {} is chosen at {}, and {} {who} written under {stamp:?}",
            brief(&self.value),
            self.at,
            brief(value)
        );
        Err(violated(Rule::NotOverwritten, text))
    }
}

/// Whether the stamp says that the value was learnt as chosen.
pub(crate) fn is_chosen_mark<S: Stamp>(stamp: S) -> bool {
    stamp.ballot() == Ballot::CHOSEN
}

pub(crate) fn slots<S: Copy>(run: &Run<S>) -> impl Iterator<Item = (Slot, Values)> + '_ {
    (0..run.values.len()).map(|at| (run.first.plus(at), run.values.slice(at, at + 1)))
}

fn holds<P: Protocol>(saved: &Saved<P>, slot: Slot, value: &Values) -> bool {
    let held = || saved.log.get(slot).is_some_and(|(_, held)| held == value.get(0));
    slot <= saved.log.base() || held()
}

fn holders<'a, P: Protocol>(
    slot: Slot,
    value: &Values,
    disks: impl Iterator<Item = (NodeId, &'a Saved<P>)>,
) -> Vec<NodeId> {
    disks.filter(|(_, disk)| holds(disk, slot, value)).map(|(node, _)| node).collect()
}

/// A value in a word.
pub(crate) fn brief(value: &Values) -> String {
    match value.get(0) {
        ValueRef::Noop => "a no-op".into(),
        ValueRef::Command(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_consensus::{Quorum, RunLog};
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

    fn broken(checked: Checked) -> Option<Rule> {
        checked.err().map(|violation| violation.rule)
    }

    /// A ledger in which n1 and n2 voted for `run`.
    fn chosen(run: &Run<Term>) -> Ledger<Raft> {
        let mut ledger = Ledger::new();
        ledger.writes(NodeId(1), run).unwrap();
        ledger.votes(NodeId(1), run, &quorum()).unwrap();
        assert_eq!(ledger.count(), 0, "one vote proves nothing");
        ledger.votes(NodeId(1), run, &quorum()).unwrap();
        assert_eq!(ledger.count(), 0, "nor does the same vote again");
        ledger.votes(NodeId(2), run, &quorum()).unwrap();
        assert_eq!(ledger.count(), 1);
        ledger
    }

    #[test]
    fn two_chosen_values_are_found() {
        let mut ledger = chosen(&run(1, 1, b"a"));
        let disks = [disk(&[run(1, 1, b"a")]), disk(&[run(1, 1, b"a")]), disk(&[])];
        let disks = || (1..).map(NodeId).zip(&disks);
        let report = |ledger: &mut Ledger<Raft>, run: &Run<Term>| {
            broken(ledger.reports((NodeId(3), 1), run, &quorum(), disks()))
        };
        assert_eq!(report(&mut ledger, &run(1, 1, b"a")), None);
        assert_eq!(report(&mut ledger, &run(1, 1, b"b")), Some(Rule::Agreement));
        assert_eq!(report(&mut ledger, &run(2, 1, b"b")), Some(Rule::OnQuorum));
    }

    #[test]
    fn what_leaves_the_disks_of_a_quorum_is_missed() {
        let ledger = chosen(&run(1, 1, b"a"));
        let (full, other) = (disk(&[run(1, 1, b"a")]), disk(&[run(1, 2, b"b")]));
        let check = |disks: [&Saved<Raft>; 3]| {
            broken(ledger.check_disks(&quorum(), (1..).map(NodeId).zip(disks)))
        };
        assert_eq!(check([&full, &other, &full]), None);
        assert_eq!(check([&full, &other, &other]), Some(Rule::OnQuorum));
    }

    #[test]
    fn a_later_term_writes_what_is_chosen_or_nothing() {
        let mut ledger = chosen(&run(1, 2, b"a"));
        assert_eq!(broken(ledger.writes(NodeId(3), &run(1, 1, b"b"))), None, "a straggler");
        assert_eq!(broken(ledger.writes(NodeId(3), &run(1, 3, b"a"))), None);
        let found = broken(ledger.writes(NodeId(3), &run(1, 4, b"b")));
        assert_eq!(found, Some(Rule::NotOverwritten));
        let found = broken(ledger.writes(NodeId(3), &run(1, 3, b"b")));
        assert_eq!(found, Some(Rule::NotOverwritten));
    }

    #[test]
    fn a_lower_ballot_is_not_chosen_once_a_higher_one_wrote_something_else() {
        let mut ledger = Ledger::<Raft>::new();
        for run in [run(1, 1, b"a"), run(1, 2, b"b")] {
            ledger.writes(NodeId(1), &run).unwrap();
        }
        ledger.votes(NodeId(1), &run(1, 1, b"a"), &quorum()).unwrap();
        let found = broken(ledger.votes(NodeId(2), &run(1, 1, b"a"), &quorum()));
        assert_eq!(found, Some(Rule::NotOverwritten));
    }

    #[test]
    fn one_stamp_brings_one_value() {
        let mut ledger = Ledger::<Raft>::new();
        ledger.writes(NodeId(1), &run(1, 1, b"a")).unwrap();
        let found = broken(ledger.writes(NodeId(2), &run(1, 1, b"b")));
        assert_eq!(found, Some(Rule::OneValueAStamp));
    }

    #[test]
    fn a_term_has_one_leader_who_holds_what_was_chosen() {
        let mut ledger = chosen(&run(1, 1, b"a"));
        let status = |round, node| Status {
            role: Role::Leader,
            ballot: Ballot { round, node: NodeId(node) },
            leader: None,
            commit: Slot::ZERO,
            last: Slot::ZERO,
            base: Slot::ZERO,
            progress: Vec::new(),
        };
        assert_eq!(ledger.looks(NodeId(1), &status(1, 1)), Ok(true));
        assert_eq!(ledger.looks(NodeId(1), &status(1, 1)), Ok(false), "the same one");
        let found = ledger.looks(NodeId(2), &status(1, 2)).map(drop);
        assert_eq!(broken(found), Some(Rule::OneLeader));
        let (full, empty) = (disk(&[run(1, 1, b"a")]), disk(&[]));
        assert_eq!(broken(ledger.check_leader(NodeId(3), 2, &full)), None);
        assert_eq!(broken(ledger.check_leader(NodeId(3), 1, &empty)), None, "not before");
        let found = broken(ledger.check_leader(NodeId(3), 2, &empty));
        assert_eq!(found, Some(Rule::LeaderComplete));
    }
}
