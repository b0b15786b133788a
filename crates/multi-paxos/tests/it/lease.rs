//! Acceptors ignore rivals of a live leader. For stability; ballots keep what is chosen.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{HistoryDigest, ProtocolEvent};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, Slot};
use synod_multi_paxos::{Accept, Commit, Message, Nack, Prepare, Promise, Timing};

fn prepare(ballot: Ballot) -> Message {
    Message::Prepare(Prepare { ballot, from: Slot(1), held: Vec::new() })
}

fn accept(ballot: Ballot, slot: u64, value: &str) -> Message {
    Message::Accept(Accept {
        run: run(slot, ballot, &[value]),
        commit: Slot::ZERO,
        digest: Some(HistoryDigest::UNKNOWN),
    })
}

fn is_promise(answers: &[(NodeId, Message)], to: Ballot) -> bool {
    matches!(answers, [(node, Message::Promise(Promise { ballot, .. }))] if (*node, *ballot) == (to.node, to))
}

fn is_nack(answers: &[(NodeId, Message)], by: Ballot) -> bool {
    matches!(answers, [(_, Message::Nack(Nack { promised, .. }))] if *promised == by)
}

/// Returns the time for which an acceptor protects a leader after its last message.
fn lease() -> Duration {
    Timing::default().election.start
}

/// Returns a follower that has just received a heartbeat of n1, leader under 3.1, and the time.
fn follower() -> (Node, Instant) {
    let (mut node, now) = (new_node(2, 3), Instant(5_000_000_000));
    let leads = Message::Commit(Commit { ballot: ballot(3, 1), commit: Slot::ZERO });
    node.receive(now, N1, leads);
    assert_eq!(node.status().leader, Some(NodeId(1)));
    (node, now)
}

#[test]
fn rival_of_a_live_leader_is_ignored_until_the_leader_is_silent() {
    let (mut node, received) = follower();
    let rival = ballot(7, 3);
    let last = received + (lease() - Duration::from_nanos(1));
    for now in [received, last] {
        let writes = node.writes.len();
        assert_eq!(node.receive(now, N3, prepare(rival)), []);
        assert_eq!(
            (node.promised(), node.writes.len()),
            (ballot(3, 1), writes),
            "no promise either"
        );
        let ignored =
            |event: &ProtocolEvent| matches!(event, ProtocolEvent::Ignored { from: NodeId(3), .. });
        assert!(node.outputs.notes.drain(..).any(|event| ignored(&event)), "and it is noted");
    }
    let answers = node.receive(received + lease(), N3, prepare(rival));
    assert!(is_promise(&answers, rival), "{answers:?}");
    assert_eq!(node.promised(), rival);
    assert_eq!(node.status().leader, None, "no leader is followed while a rival campaigns");
    let late = node.receive(received + lease(), N1, accept(ballot(3, 1), 1, "late"));
    assert!(is_nack(&late, rival), "{late:?}");
}

#[test]
fn every_message_of_the_leader_renews_its_lease() {
    let (mut node, received) = follower();
    let (later, rival) = (received + lease() / 2, ballot(7, 3));
    node.receive(later, N1, accept(ballot(3, 1), 1, "x"));
    assert_eq!(node.receive(received + lease(), N3, prepare(rival)), []);
    assert!(is_promise(&node.receive(later + lease(), N3, prepare(rival)), rival));
}

#[test]
fn leader_may_replace_its_own_ballot_at_once() {
    // After a restart, for example, it campaigns under a new ballot. It is no rival.
    let (mut node, received) = follower();
    assert!(is_promise(&node.receive(received, N1, prepare(ballot(4, 1))), ballot(4, 1)));
}

#[test]
fn leader_ignores_rivals_only_while_a_quorum_replies() {
    let (mut cluster, rival) = (Cluster::new(3), ballot(7, 3));
    cluster.elect(N1);
    let now = cluster.now;
    assert_eq!(cluster.node(N1).receive(now, N3, prepare(rival)), []);
    assert_eq!(cluster.leaders(), [N1]);
    let silent = now + Timing::default().election.end + Duration::from_millis(1);
    let answers = cluster.node(N1).receive(silent, N3, prepare(rival));
    assert!(is_promise(&answers, rival), "{answers:?}");
    assert_eq!(cluster.leaders(), []);
}

/// The lease covers phase 1 only. A rival in phase 2 has a quorum of others, and rejecting it would only
/// delay it. Messages below the promise are rejected with or without a lease.
#[test]
fn ballots_decide_regardless_of_the_lease() {
    let (mut node, received) = follower();
    assert!(is_nack(&node.receive(received, N3, prepare(ballot(2, 3))), ballot(3, 1)));
    assert!(is_nack(&node.receive(received, N3, accept(ballot(2, 3), 1, "w")), ballot(3, 1)));
    node.receive(received, N1, accept(ballot(3, 1), 1, "x"));
    let high = ballot(7, 3);
    let answers = node.receive(received, N3, accept(high, 1, "y"));
    assert!(matches!(answers[..], [(NodeId(3), Message::Accepted(_))]), "{answers:?}");
    assert_eq!(node.promised(), high);
    for old in [prepare(ballot(3, 1)), accept(ballot(3, 1), 2, "z")] {
        let answers = node.receive(received, N1, old);
        assert!(is_nack(&answers, high), "{answers:?}");
    }
    node.restart(Instant::ZERO);
    assert!(is_nack(&node.receive(received, N1, accept(ballot(3, 1), 2, "z")), high), "nor later");
}

/// A rival within or after the lease loses no chosen value.
#[test]
fn chosen_values_survive_rivals_within_and_after_the_lease() {
    for wait in [Duration::ZERO, lease() / 2, lease()] {
        let mut cluster = Cluster::new(3);
        cluster.elect(N1);
        cluster.write(N1, 1, "before");
        cluster.links(&[(N2, N3)]);
        cluster.run_for(wait);
        let (now, rival) = (cluster.now, ballot(9, 3));
        let answers = cluster.node(N2).receive(now, N3, prepare(rival));
        assert_eq!(is_promise(&answers, rival), wait >= lease(), "after {wait:?}");
        cluster.links(&[(N1, N2), (N1, N3), (N2, N3)]);
        let leader = cluster.leader_of(&[N1, N2, N3], 8 * TIMEOUT);
        cluster.write(leader, 2, "after");
        cluster.run_for(2 * TIMEOUT);
        cluster.assert_equal(&["before", "after"]);
    }
}
