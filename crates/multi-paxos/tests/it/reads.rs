//! Linearizable reads that bypass the log: rounds in which a quorum confirms the leader's ballot.

use crate::cluster::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{Input, Refusal};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, ReadId, Slot};
use synod_multi_paxos::{
    Message, Nack, Prepare, ReadReply, ReadRequest, ReadRound, ReadRoundAck, Timer,
};

const WHOLE: [(NodeId, NodeId); 3] = [(N1, N2), (N1, N3), (N2, N3)];

/// Returns three nodes; n1 leads at ballot 1.1 and has chosen its barrier and a command.
fn led() -> Cluster {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.write(N1, 1, "x");
    assert_eq!(cluster.node(N1).status().ballot, ballot(1, 1));
    cluster
}

/// Inputs a read at a node. Returns the messages that it sends.
fn read(node: &mut Node, now: Instant, id: u64) -> Vec<(NodeId, Message)> {
    node.outputs.sent.clear();
    node.step(now, Input::Read(ReadId(id)));
    std::mem::take(&mut node.outputs.sent)
}

/// Removes and returns a core's ready reads with their indexes, and its refused reads.
fn answers(node: &mut Node) -> Vec<(u64, Result<u64, Refusal>)> {
    let answers = node.outputs.reads.drain(..);
    answers.map(|(id, answer)| (id.0, answer.map(|slot| slot.0))).collect()
}

fn confirm(ballot: Ballot, round: u64) -> Message {
    Message::ReadRound(ReadRound { ballot, round })
}

fn confirmed(ballot: Ballot, round: u64) -> Message {
    Message::ReadRoundAck(ReadRoundAck { ballot, round })
}

fn refused() -> Result<u64, Refusal> {
    Err(Refusal::NotLeader { hint: None })
}

#[test]
fn one_round_serves_all_waiting_reads() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let now = cluster.now;
    let node = cluster.node(N1);
    node.step_without_round(now, Input::Read(ReadId(1)));
    let sent = read(node, now, 2);
    assert_eq!(sent, [(N2, confirm(own, 1)), (N3, confirm(own, 1))]);
    assert_eq!(answers(node), [], "nothing is confirmed yet");
    let answer = cluster.node(N3).receive(now, N1, confirm(own, 1));
    assert_eq!(answer, [(N1, confirmed(own, 1))]);
    let node = cluster.node(N1);
    node.receive(now, N3, confirmed(own, 1));
    assert_eq!(answers(node), [(1, Ok(2)), (2, Ok(2))]);
    node.receive(now, N2, confirmed(own, 1));
    assert_eq!(answers(node), []);
}

#[test]
fn leader_of_one_serves_reads_at_once() {
    let mut cluster = Cluster::new(1);
    cluster.elect(N1);
    let now = cluster.now;
    read(cluster.node(N1), now, 1);
    assert_eq!(answers(cluster.node(N1)), [(1, Ok(1))]);
}

#[test]
fn follower_sends_one_request_for_all_waiting_reads() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let now = cluster.now;
    let node = cluster.node(N3);
    node.step_without_round(now, Input::Read(ReadId(1)));
    let request = Message::ReadRequest(ReadRequest { ballot: own, id: ReadId(2) });
    assert_eq!(read(node, now, 2), [(N1, request.clone())]);
    let node = cluster.node(N1);
    assert_eq!(node.receive(now, N3, request).len(), 2, "a round");
    let reply = Message::ReadReply(ReadReply { ballot: own, id: ReadId(2), index: Slot(2) });
    assert_eq!(node.receive(now, N3, confirmed(own, 1)), [(N3, reply.clone())]);
    assert_eq!(answers(node), [], "it is not the leader's own");
    let node = cluster.node(N3);
    node.receive(now, N1, reply.clone());
    assert_eq!(answers(node), [(1, Ok(2)), (2, Ok(2))]);
    node.receive(now, N1, reply);
    assert_eq!(answers(node), [], "once");
}

#[test]
fn reads_without_a_leader_are_refused() {
    let mut node = new_node(1, 3);
    read(&mut node, Instant::ZERO, 1);
    assert_eq!(answers(&mut node), [(1, refused())]);
    let mut cluster = led();
    cluster.links(&[]);
    let now = cluster.now;
    read(cluster.node(N3), now, 2);
    // A higher ballot ends following.
    let higher = Prepare { ballot: ballot(9, 2), from: Slot(1), held: Vec::new() };
    let later = now + Duration::from_secs(5);
    cluster.node(N3).receive(later, N2, Message::Prepare(higher));
    assert_eq!(answers(cluster.node(N3)), [(2, refused())], "its leader is gone");
}

#[test]
fn overtaken_leader_serves_no_read() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let (now, promised) = (cluster.now, ballot(5, 2));
    let prepare = Prepare { ballot: promised, from: Slot(3), held: Vec::new() };
    let node = cluster.node(N3);
    node.receive(now + Duration::from_secs(5), N2, Message::Prepare(prepare));
    assert_eq!(node.promised(), promised);
    let nack = Message::Nack(Nack { ballot: own, promised });
    let answer = node.receive(now, N1, confirm(own, 1));
    assert_eq!(answer, [(N1, nack.clone())]);
    let node = cluster.node(N1);
    read(node, now, 1);
    node.receive(now, N3, nack);
    assert_eq!(answers(node), [(1, Err(Refusal::NotLeader { hint: Some(N2) }))]);
}

/// The promise of n3 waits for its disk; n3 no longer confirms n1's ballot.
#[test]
fn acceptor_with_a_promise_that_is_not_durable_confirms_no_older_ballot() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let now = cluster.now;
    let node = cluster.node(N3);
    node.is_disk_hung = true;
    let prepare = Prepare { ballot: ballot(5, 2), from: Slot(3), held: Vec::new() };
    let promise = node.receive(now + Duration::from_secs(5), N2, Message::Prepare(prepare));
    assert_eq!(promise, [], "held back");
    let answer = node.receive(now, N1, confirm(own, 1));
    assert_eq!(answer, [(N1, Message::Nack(Nack { ballot: own, promised: ballot(5, 2) }))]);
}

#[test]
fn raft_21_read_is_confirmed_by_answers_to_an_earlier_round() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let now = cluster.now;
    let node = cluster.node(N1);
    read(node, now, 1);
    assert_eq!(read(node, now, 2), [(N2, confirm(own, 2)), (N3, confirm(own, 2))]);
    for _ in 0..2 {
        node.receive(now, N2, confirmed(own, 1));
        node.receive(now, N3, confirmed(own, 1));
    }
    assert_eq!(answers(node), [(1, Ok(2))]);
    node.receive(now, N2, confirmed(own, 9));
    assert_eq!(answers(node), [], "there was no such round");
    node.receive(now, N2, confirmed(own, 2));
    node.receive(now, N2, confirmed(own, 1));
    assert_eq!(answers(node), [(2, Ok(2))]);
}

#[test]
fn replies_to_another_ballot_confirm_no_read() {
    let mut cluster = led();
    for node in [N3, N1] {
        cluster.advance(5_000);
        cluster.step(node, Input::Timeout(Timer::Election));
        cluster.deliver();
        assert_eq!(cluster.status(node).leader, Some(node));
    }
    let (now, own) = (cluster.now, ballot(3, 1));
    let node = cluster.node(N1);
    assert_eq!(node.status().ballot, own);
    assert_eq!(read(node, now, 1).len(), 2);
    node.receive(now, N2, confirmed(ballot(1, 1), 1));
    assert_eq!(answers(node), []);
    node.receive(now, N2, confirmed(own, 1));
    let commit = node.status().commit.0;
    assert_eq!(answers(node), [(1, Ok(commit))]);
}

/// n1 has chosen slot 2, which n2 holds without knowing that it is chosen. n2 has completed phase 1, and its
/// barrier is not chosen yet.
#[test]
fn raft_22_new_leader_serves_a_read_before_its_barrier_is_chosen() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.lose = |message| matches!(message, Message::Commit(_) | Message::Heartbeat(_));
    cluster.write(N1, 1, "x");
    assert_eq!(cluster.commit_index(N1), 2);
    cluster.links(&[(N2, N3)]);
    cluster.advance(5_000);
    cluster.step(N2, Input::Timeout(Timer::Election));
    cluster.deliver_if(|flight| !matches!(flight.message, Message::Accept(_)));
    assert_eq!(
        (cluster.status(N2).leader, cluster.commit_index(N2)),
        (None, 1),
        "it does not serve yet"
    );
    cluster.step(N2, Input::Read(ReadId(1)));
    cluster.deliver_if(|flight| !matches!(flight.message, Message::Accept(_)));
    assert_eq!(cluster.commit_index(N2), 1);
    assert_eq!(answers(cluster.node(N2)), [(1, Ok(3))], "the barrier, after the write");
    cluster.lose = |_| false;
    cluster.run_for(TIMEOUT);
    assert_eq!((cluster.status(N2).leader, cluster.commit_index(N2)), (Some(N2), 3));
}

#[test]
fn lost_rounds_are_retransmitted_with_the_heartbeats() {
    let (mut cluster, own) = (led(), ballot(1, 1));
    let now = cluster.now;
    let node = cluster.node(N1);
    read(node, now, 1);
    node.outputs.sent.clear();
    node.step(now + Duration::from_millis(50), Input::Timeout(Timer::Heartbeat));
    let repeated = |sent: &[(NodeId, Message)]| sent.contains(&(N2, confirm(own, 1)));
    assert!(repeated(&node.outputs.sent));
    node.receive(now, N2, confirmed(own, 1));
    assert_eq!(answers(node), [(1, Ok(2))]);
    node.outputs.sent.clear();
    node.step(now + Duration::from_millis(100), Input::Timeout(Timer::Heartbeat));
    assert!(!repeated(&node.outputs.sent), "no read waits");
}

/// The only condition is that it has promised no higher ballot.
#[test]
fn acceptor_without_accepts_of_the_leader_confirms() {
    let mut node = new_node(3, 3);
    let answer = node.receive(Instant::ZERO, N1, confirm(ballot(7, 1), 4));
    assert_eq!(answer, [(N1, confirmed(ballot(7, 1), 4))]);
    assert_eq!(node.promised(), Ballot::ZERO, "and promises nothing by that");
}

#[test]
fn read_of_a_follower_survives_a_leader_change() {
    let mut cluster = led();
    cluster.links(&[(N2, N3)]);
    let now = cluster.now;
    read(cluster.node(N3), now, 1);
    let new = cluster.leader_of(&[N2, N3], Duration::from_secs(2));
    cluster.links(&WHOLE);
    cluster.run_for(TIMEOUT);
    let reader = if new == N3 { N2 } else { N3 };
    let now = cluster.now;
    cluster.node(reader).step(now, Input::Read(ReadId(2)));
    cluster.run_for(Duration::from_millis(20));
    let commit = cluster.node(new).status().commit.0;
    let found = answers(cluster.node(reader));
    assert_eq!(found.last(), Some(&(2, Ok(commit))), "{found:?}");
}

#[test]
fn reads_beyond_the_bound_are_refused_as_busy() {
    let mut cluster = led();
    let now = cluster.now;
    for node in [N1, N3] {
        let node = cluster.node(node);
        (1..=2000).for_each(|id| node.step_without_round(now, Input::Read(ReadId(id))));
        let refused = answers(node);
        assert!(refused.iter().all(|(_, answer)| *answer == Err(Refusal::Busy)));
        assert_eq!(refused.len(), 2000 - 1024);
    }
}
