//! "Paxos Made Simple" (PMS), section by section, on one acceptor, one learner, one proposer.

use crate::cluster::*;
use synod_multi_paxos::consensus::{HistoryDigest, RunLog};
use synod_multi_paxos::types::{Instant, NodeId, Slot, Value};
use synod_multi_paxos::{
    Accept, AcceptResult, Acceptor, CHOSEN, Candidate, HardState, Learner, Message, Prepare,
    Report, ReportProgress,
};

fn prepare(round: u64, node: u64) -> Message {
    Message::Prepare(Prepare { ballot: ballot(round, node), from: Slot(1), held: Vec::new() })
}

fn accept(round: u64, node: u64, slot: u64, value: &str) -> Message {
    Message::Accept(Accept {
        run: run(slot, ballot(round, node), &[value]),
        commit: Slot::ZERO,
        digest: Some(HistoryDigest::UNKNOWN),
    })
}

fn described(answers: &[(NodeId, Message)]) -> Vec<String> {
    use synod_multi_paxos::consensus::Message as _;
    answers.iter().map(|(to, message)| format!("{to:?} {}", message.describe())).collect()
}

/// PMS 2.2: P1a, and phases 1 and 2 at an acceptor. Each row continues the one before.
#[test]
fn pms_2_2_acceptor_answers_by_its_promise() {
    let rows = [
        (2, prepare(1, 2), "n2 Promise(1.2, none, commit 0)"),
        (2, prepare(1, 2), "n2 Promise(1.2, none, commit 0)"),
        (3, prepare(1, 3), "n3 Promise(1.3, none, commit 0)"),
        (2, accept(1, 2, 1, "late"), "n2 Nack(promised 1.3)"),
        (3, accept(1, 3, 1, "x"), "n3 Accepted(1.3, 1)"),
        (3, accept(1, 3, 1, "x"), "n3 Accepted(1.3, 1)"),
        (2, prepare(2, 2), "n2 Promise(2.2, 1 at 1.3, commit 0)"),
        (3, accept(1, 3, 2, "y"), "n3 Nack(promised 2.2)"),
        (3, accept(3, 3, 2, "z"), "n3 Accepted(3.3, 2)"),
        (2, prepare(2, 2), "n2 Nack(promised 3.3)"),
        (2, prepare(4, 2), "n2 Promise(4.2, 1 at 1.3, 2 at 3.3, commit 0)"),
    ];
    let mut node = new_node(1, 3);
    for (from, message, expected) in rows {
        let answers = node.receive(Instant::ZERO, NodeId(from), message.clone());
        assert_eq!(described(&answers), [expected], "{message:?}");
    }
}

/// PMS 2.2, phase 2 (a): the value of the highest-numbered accepted proposal, slot by slot.
#[test]
fn pms_2_2_the_highest_ballot_decides_slot_by_slot() {
    let own = RunLog::default();
    let mut candidate = Candidate::new(Instant::ZERO, ballot(9, 1), Slot(1), &own);
    let report = |runs| Report { runs, through: Slot(4), ..Report::empty(Slot(1)) };
    let first = report(vec![run(1, ballot(3, 2), &["z", "a"]), run(4, ballot(1, 3), &["d"])]);
    let second = report(vec![run(1, ballot(2, 3), &["zz"]), run(2, ballot(5, 3), &["b"])]);
    assert_eq!(candidate.on_report(NodeId(2), &first, Slot::ZERO), ReportProgress::Done);
    assert_eq!(candidate.on_report(NodeId(3), &second, Slot::ZERO), ReportProgress::Done);
    let mut found = candidate.result(Slot::ZERO).unwrap();
    assert_eq!((found.first(), found.barrier()), (Slot(1), Slot(5)));
    let batches: Vec<_> = core::iter::from_fn(|| found.next_batch(ballot(9, 1), 4)).collect();
    let values = batches.iter().flat_map(|it| it.values.iter());
    let values: Vec<_> = values.map(|value| value.to_value()).collect();
    let command = |text: &'static str| Value::Command(text.as_bytes().into());
    let expected = [command("z"), command("b"), Value::Noop, command("d"), Value::Noop];
    assert_eq!(values, expected, "two found, a hole filled, one found, the barrier");
    let firsts: Vec<_> = batches.iter().map(|batch| batch.first.0).collect();
    assert_eq!(firsts, [1, 3], "in batches of four bytes, without a hole");
}

/// PMS 2.3: a value is chosen by a quorum at one ballot; a value that a learner holds from another ballot
/// proves nothing.
#[test]
fn pms_2_3_learner_counts_only_values_accepted_at_the_leaders_ballot() {
    let mut log = RunLog::default();
    log.put(run(1, ballot(2, 1), &["a"]));
    log.put(run(2, ballot(1, 3), &["old"]));
    log.put(run(3, ballot(2, 1), &["c"]));
    let mut holed = RunLog::default();
    holed.put(run(1, ballot(2, 1), &["a"]));
    holed.put(run(3, ballot(2, 1), &["c"]));
    let newly_chosen = Learner::new(Slot::ZERO).learn(&holed, ballot(2, 1), Slot(3));
    assert_eq!(newly_chosen.len(), 1, "nothing is held at slot 2");
    let mut learner = Learner::new(Slot::ZERO);
    assert_eq!(learner.learn(&log, ballot(2, 1), Slot(3)).len(), 1);
    assert_eq!(learner.commit(), Slot(1), "slot 2 was accepted at an older ballot");
    log.put(run(2, CHOSEN, &["b"]));
    learner.learn(&log, ballot(2, 1), Slot(3));
    assert_eq!(learner.commit(), Slot(3));
}

/// PMS 3: one phase 1 serves every slot; then each command takes one round trip of phase 2.
#[test]
fn pms_3_one_promise_serves_all_slots() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    let promised = cluster.node(N2).promised();
    for ticket in 1..=5 {
        cluster.write(N1, ticket, &ticket.to_string());
    }
    cluster.assert_equal(&["1", "2", "3", "4", "5"]);
    assert_eq!(cluster.node(N2).promised(), promised);
}

/// PMS 3: a new leader proposes the values that it finds again and fills holes with no-ops, before new
/// values.
#[test]
fn pms_3_new_leader_fills_the_holes() {
    let mut node = new_node(1, 3);
    node.receive(Instant::ZERO, N3, accept(1, 3, 4, "d"));
    let AcceptResult::Accepted(_) = Acceptor::new(HardState::default(), RunLog::default())
        .accept(&run(1, ballot(1, 3), &["a"]), Slot::ZERO)
    else {
        panic!("a fresh acceptor accepts anything");
    };
    let mut cluster = Cluster::new(3);
    cluster.nodes.insert(N1, node);
    cluster.leader_of(&[N1, N2, N3], 8 * TIMEOUT);
    cluster.run_for(TIMEOUT);
    cluster.assert_equal(&["d"]);
    for node in cluster.nodes.values() {
        assert!(node.status().commit >= Slot(5), "three no-ops, d and the barrier");
    }
}
