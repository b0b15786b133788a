//! The roles by hand, without a [`MultiPaxos`](synod_multi_paxos::MultiPaxos) around them: phase 1,
//! phase 2, another leader, catching up.

use crate::cluster::{ballot, members, run};
use std::time::Duration;
use synod_multi_paxos::consensus::{Quorum, Run, RunLog};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, Slot};
use synod_multi_paxos::{
    AcceptResult, Acceptor, CHOSEN, Candidate, HardState, Leader, Learner, Limits, ReportProgress,
};

const NOW: Instant = Instant::ZERO;
const BYTES: usize = 1 << 20;

/// Acceptor and learner of a node.
struct Node {
    id: NodeId,
    acceptor: Acceptor,
    learner: Learner,
}

impl Node {
    fn new(id: u64) -> Self {
        let acceptor = Acceptor::new(HardState::default(), RunLog::default());
        Self { id: NodeId(id), acceptor, learner: Learner::new(Slot::ZERO) }
    }

    fn accept(&mut self, run: &Run<Ballot>) -> bool {
        matches!(self.acceptor.accept(run, self.learner.commit()), AcceptResult::Accepted(_))
    }

    fn learn(&mut self, ballot: Ballot, through: Slot) -> usize {
        let newly_chosen = self.learner.learn(self.acceptor.log(), ballot, through);
        newly_chosen.iter().map(|run| run.values.len()).sum()
    }
}

fn quorum() -> Quorum {
    Quorum::majority(&members(3))
}

/// Makes `node` request promises of `others` and become the leader of `ballot` if they are a quorum. It has
/// then accepted the values that it found, and the barrier.
fn campaign(node: &mut Node, others: &mut [&mut Node], ballot: Ballot) -> Option<Leader> {
    let commit = node.learner.commit();
    let mut candidate = Candidate::new(NOW, ballot, commit.next(), node.acceptor.log());
    assert!(node.acceptor.promise(ballot));
    candidate.on_own_promise(node.id);
    for other in others {
        assert!(other.acceptor.promise(ballot));
        let report = other.acceptor.report(commit.next(), &[], other.learner.commit(), BYTES);
        assert_eq!(candidate.on_report(other.id, &report, commit), ReportProgress::Done);
    }
    if !candidate.is_complete(&quorum(), commit) {
        return None;
    }
    let mut found = candidate.result(commit).expect("few holes");
    let (first, barrier) = (found.first(), found.barrier());
    while let Some(run) = found.next_batch(ballot, BYTES) {
        assert!(node.accept(&run));
    }
    let limits = Limits::default();
    let mut leader = Leader::new(ballot, first, barrier, &limits, members(3).others(node.id));
    leader.accepted(NOW, node.id, first, barrier, Slot::ZERO);
    Some(leader)
}

/// Sends `to` all Accepts that it lacks, and counts its replies. Returns whether it accepted all of them.
fn replicate(leader: &mut Leader, from: &Node, to: &mut Node) -> bool {
    let limits = Limits::default();
    while let Some(run) = leader.next_accept(NOW, to.id, from.acceptor.log(), &limits) {
        if !to.accept(&run) {
            return false;
        }
        leader.accepted(NOW, to.id, run.first, run.last(), Slot::ZERO);
    }
    true
}

#[test]
fn three_roles_choose_values_under_two_leaders_and_a_learner_catches_up() {
    let [mut one, mut two, mut three] = [1, 2, 3].map(Node::new);
    assert!(campaign(&mut one, &mut [], ballot(1, 1)).is_none(), "one promise of three");
    let mut leader = campaign(&mut one, &mut [&mut two], ballot(2, 1)).expect("two of three");
    assert!(replicate(&mut leader, &one, &mut two));
    assert_eq!(leader.agreed(&quorum()), Slot(1));
    assert!(leader.committed(Slot(1), 1), "the barrier is chosen: it serves");

    // Two values are chosen by one and two; a third one is in one's log only.
    let values = run(2, ballot(2, 1), &["a", "b"]);
    assert!(one.accept(&values));
    leader.accepted(NOW, one.id, Slot(2), Slot(3), Slot::ZERO);
    assert_eq!(leader.agreed(&quorum()), Slot(1), "one disk of three");
    assert!(replicate(&mut leader, &one, &mut two));
    assert_eq!(leader.agreed(&quorum()), Slot(3));
    assert!(!leader.committed(Slot(3), values.values.byte_len()), "it serves already");
    assert_eq!(one.learn(ballot(2, 1), Slot(3)), 3);
    assert!(one.accept(&run(4, ballot(2, 1), &["lost"])));

    // Two leads with three, and proposes again what it holds: it has not learnt that these are chosen.
    let mut next = campaign(&mut two, &mut [&mut three], ballot(3, 2)).expect("two of three");
    assert!(!replicate(&mut leader, &one, &mut two), "the old leader is refused");
    assert!(replicate(&mut next, &two, &mut three));
    assert_eq!(next.agreed(&quorum()), Slot(4), "three values found, and its own barrier");
    assert_eq!((two.learn(ballot(3, 2), Slot(4)), three.learn(ballot(3, 2), Slot(4))), (4, 4));
    assert_eq!(
        two.acceptor.log().get(Slot(3)).map(|(_, value)| value),
        values.values.iter().nth(1)
    );

    // One holds another value at slot 4, under an older ballot: it requests the chosen one from three.
    assert_eq!(one.learn(ballot(3, 2), Slot(4)), 0);
    assert!(!one.learner.should_request(NOW, three.id, Slot(4)), "it may be in flight");
    assert!(one.learner.should_request(NOW, three.id, Slot(4)));
    one.learner.record_request(NOW, three.id, Duration::from_millis(100));
    assert!(!one.learner.should_request(NOW, two.id, Slot(4)), "one question at a time");
    let first = one.learner.commit().next();
    let answer = three.acceptor.chosen(first, three.learner.commit(), BYTES).expect("slot 4");
    assert_eq!(one.acceptor.learn(&answer, one.learner.commit()).map(|parts| parts.len()), Some(1));
    one.learner.on_reply(NOW);
    assert_eq!(one.learn(CHOSEN, answer.last()), 1);
    assert_eq!(one.acceptor.promised(), ballot(2, 1), "learning promises nothing");
}

#[test]
fn leader_counts_each_member_once_and_without_gaps() {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    let mut leader = campaign(&mut one, &mut [&mut two], ballot(1, 1)).expect("two of three");
    assert!(one.accept(&run(2, ballot(1, 1), &["a", "b"])));
    leader.accepted(NOW, NodeId(9), Slot(1), Slot(3), Slot::ZERO);
    assert_eq!(leader.progress()[0], (one.id, Slot(1)), "a stranger's answer does not count");
    leader.accepted(NOW, one.id, Slot(2), Slot(3), Slot::ZERO);
    leader.accepted(NOW, two.id, Slot(3), Slot(3), Slot::ZERO);
    assert_eq!(leader.agreed(&quorum()), Slot::ZERO, "slots 1 and 2 are missing there");
    leader.accepted(NOW, two.id, Slot(1), Slot(2), Slot::ZERO);
    assert_eq!(leader.agreed(&quorum()), Slot(2));
    assert_eq!(leader.progress(), [(one.id, Slot(3)), (two.id, Slot(2)), (NodeId(3), Slot::ZERO)]);
}

#[test]
fn compacted_slots_are_sent_as_a_snapshot_and_the_rest_after_it() {
    let (mut one, mut two) = (Node::new(1), Node::new(2));
    let mut leader = campaign(&mut one, &mut [&mut two], ballot(1, 1)).expect("two of three");
    assert!(one.accept(&run(2, ballot(1, 1), &["a", "b"])));
    one.acceptor.compact(Slot(2), ballot(1, 1));
    let (log, limits) = (one.acceptor.log(), Limits::default());
    assert!(!leader.needs_snapshot(two.id));
    let sent = leader.next_accept(NOW, two.id, log, &limits).expect("slot 3");
    assert_eq!((sent.first, sent.last()), (Slot(3), Slot(3)));
    assert!(leader.needs_snapshot(two.id));
    assert_eq!(leader.next_accept(NOW, two.id, log, &limits), None, "nothing more");
    // Its reply is overdue. A probe shows the lost Accept, which is sent again.
    let later = NOW + Duration::from_secs(1);
    assert_eq!(leader.overdue_probes(later), [(two.id, 1)]);
    assert_eq!(leader.next_accept(later, two.id, log, &limits), None, "it may still arrive");
    leader.probe_answered(later, two.id, 1);
    assert_eq!(leader.next_accept(later, two.id, log, &limits), Some(sent));
}
