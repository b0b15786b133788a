//! Linearizable reads that are not written to the log: Raft §8, thesis §6.4.

use crate::cluster::*;
use synod_consensus::{Input, Refusal};
use synod_raft::{Heartbeat, HeartbeatAck, Message, ReadReply, ReadRequest, Timer};
use synod_types::{NodeId, ReadId, Slot, Term};

fn read(cluster: &mut Cluster, node: NodeId, id: u64) {
    cluster.step(node, Input::Read(ReadId(id)));
}

/// Removes the results of reads from a node's outputs: ids, and the slots from which they may be served.
fn results(cluster: &mut Cluster, node: NodeId) -> Vec<(u64, Result<u64, Refusal>)> {
    let results = cluster.node(node).outputs.reads.drain(..);
    results.map(|(id, result)| (id.0, result.map(|slot| slot.0))).collect()
}

fn ack(term: u64, round: u64) -> Message {
    Message::HeartbeatAck(HeartbeatAck { term: Term(term), round })
}

fn refused(hint: Option<NodeId>) -> Result<u64, Refusal> {
    Err(Refusal::NotLeader { hint })
}

/// Removes the heartbeats from one node to another that are in flight, and returns their rounds.
fn rounds(cluster: &mut Cluster, from: NodeId, to: NodeId) -> Vec<u64> {
    let sent = cluster.intercept(from, to).into_iter();
    let round = |message| match message {
        Message::Heartbeat(Heartbeat { round, .. }) => Some(round),
        _ => None,
    };
    sent.filter_map(round).collect()
}

/// Returns a cluster in which n1 leads term 1, and all nodes have committed its no-op.
fn with_leader(nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.elect(N1);
    cluster
}

#[test]
fn one_round_serves_all_pending_reads() {
    let mut cluster = with_leader(3);
    cluster.propose(N1, 1, "x");
    cluster.deliver();
    cluster.step_all(N1, (1..=3).map(|id| Input::Read(ReadId(id))));
    assert_eq!(results(&mut cluster, N1), [], "no round is confirmed yet");
    assert_eq!(rounds(&mut cluster, N1, N3), [1]);
    cluster.deliver();
    assert_eq!(results(&mut cluster, N1), [(1, Ok(2)), (2, Ok(2)), (3, Ok(2))]);
    cluster.heartbeat(N1);
    assert_eq!(cluster.intercept(N1, N2), []);
    cluster.timeout(N1, Timer::Heartbeat);
    assert_eq!(rounds(&mut cluster, N1, N2), [0], "no read is pending");
}

#[test]
fn single_voter_serves_reads_at_once() {
    let mut cluster = with_leader(1);
    read(&mut cluster, N1, 1);
    assert_eq!(results(&mut cluster, N1), [(1, Ok(1))]);
}

#[test]
fn follower_sends_one_request_for_all_pending_reads() {
    let mut cluster = with_leader(3);
    cluster.step_all(N3, (1..=3).map(|id| Input::Read(ReadId(id))));
    let request = ReadRequest { term: Term(1), id: ReadId(3) };
    assert_eq!(cluster.intercept(N3, N1), [Message::ReadRequest(request)]);
    cluster.inject(N3, N1, Message::ReadRequest(request));
    cluster.deliver();
    assert_eq!(results(&mut cluster, N3), [(1, Ok(1)), (2, Ok(1)), (3, Ok(1))]);
    assert_eq!(results(&mut cluster, N1), [], "the reads are not the leader's own");
}

#[test]
fn reads_without_a_leader_are_refused() {
    let mut cluster = Cluster::new(3);
    read(&mut cluster, N1, 1);
    assert_eq!(results(&mut cluster, N1), [(1, refused(None))]);
    cluster.timeout(N1, Timer::Election);
    read(&mut cluster, N1, 2);
    assert_eq!(results(&mut cluster, N1), [(2, refused(None))], "a pre-candidate");
    let mut cluster = with_leader(3);
    read(&mut cluster, N3, 3);
    cluster.timeout(N3, Timer::Election);
    assert_eq!(results(&mut cluster, N3), [(3, refused(None))], "it follows no leader");
}

#[test]
fn deposed_leader_serves_no_read() {
    let mut cluster = with_leader(3);
    cluster.partition(&[N1]);
    cluster.elect(N2);
    cluster.propose(N2, 1, "new");
    cluster.deliver();
    assert_eq!(cluster.commit_index(N3), 3);
    read(&mut cluster, N1, 1);
    cluster.deliver();
    assert!(cluster.leads(N1), "it has received no message of a later term");
    assert_eq!(results(&mut cluster, N1), []);
    // It does not reply to the request of a follower that is still in its term, either.
    let request = Message::ReadRequest(ReadRequest { term: Term(1), id: ReadId(9) });
    assert_eq!(cluster.replies(N3, N1, request).iter().filter(|it| is_reply(it)).count(), 0);
    cluster.heal();
    cluster.timeout(N1, Timer::Heartbeat);
    cluster.deliver();
    assert_eq!(results(&mut cluster, N1), [(1, refused(None))]);
}

fn is_reply(message: &Message) -> bool {
    matches!(message, Message::ReadReply(_))
}

#[test]
fn raft_21_read_is_confirmed_by_answers_to_an_earlier_round() {
    let mut cluster = with_leader(3);
    read(&mut cluster, N1, 1);
    read(&mut cluster, N1, 2);
    assert_eq!(rounds(&mut cluster, N1, N2), [1, 2]);
    assert_eq!(rounds(&mut cluster, N1, N3), [1, 2]);
    // Repeated and late replies to the first round count for the first read only.
    for _ in 0..2 {
        cluster.inject(N2, N1, ack(1, 1));
        cluster.inject(N3, N1, ack(1, 1));
    }
    assert_eq!(results(&mut cluster, N1), [(1, Ok(1))]);
    cluster.inject(N2, N1, ack(1, 7));
    assert_eq!(results(&mut cluster, N1), [], "no such round has begun");
    cluster.inject(N3, N1, ack(1, 2));
    cluster.inject(N3, N1, ack(1, 1));
    assert_eq!(results(&mut cluster, N1), [(2, Ok(1))]);
}

#[test]
fn raft_22_new_leader_serves_a_read_before_its_no_op_is_chosen() {
    let mut cluster = with_leader(3);
    // n1 acknowledges a write that n2 holds, and crashes before n2 receives the commit index.
    cluster.propose(N1, 1, "x");
    cluster
        .deliver_if(|flight| flight.from == N1 || matches!(flight.message, Message::AppendAck(_)));
    cluster.wire.clear();
    assert_eq!(cluster.commit_index(N1), 2);
    cluster.partition(&[N1]);
    cluster.advance(1_000);
    cluster.timeout(N2, Timer::Election);
    cluster.deliver_if(|flight| !matches!(flight.message, Message::Append(_)));
    assert!(cluster.leads(N2));
    let has_committed = cluster.commit_index(N2) >= 2;
    read(&mut cluster, N2, 1);
    cluster.deliver_if(|flight| !matches!(flight.message, Message::Append(_)));
    assert_eq!(cluster.commit_index(N2) >= 2, has_committed, "the no-op is in flight");
    assert_eq!(results(&mut cluster, N2), [(1, Ok(3))], "the slot of its no-op, after the write");
    cluster.heartbeat(N2);
    cluster.heartbeat(N2);
    assert_eq!(cluster.commit_index(N2), 3);
}

#[test]
fn replies_of_an_older_term_confirm_no_read() {
    let mut cluster = with_leader(3);
    read(&mut cluster, N1, 1);
    let beat = cluster.intercept(N1, N2).remove(0);
    assert_eq!(cluster.replies(N1, N2, beat), [ack(1, 1)]);
    cluster.wire.clear();
    cluster.step(N1, Input::Stalled);
    assert_eq!(results(&mut cluster, N1), [(1, refused(None))]);
    cluster.elect(N3);
    cluster.elect(N1);
    assert_eq!(cluster.term(N1), 3);
    read(&mut cluster, N1, 2);
    cluster.inject(N2, N1, ack(1, 1));
    cluster.inject(N3, N1, ack(2, 1));
    assert_eq!(results(&mut cluster, N1), []);
    cluster.inject(N3, N1, ack(3, 1));
    assert_eq!(results(&mut cluster, N1), [(2, Ok(cluster.commit_index(N1)))]);
}

#[test]
fn lost_rounds_are_repeated_with_the_heartbeats() {
    let mut cluster = with_leader(5);
    read(&mut cluster, N1, 1);
    cluster.wire.clear();
    cluster.advance(50);
    cluster.timeout(N1, Timer::Heartbeat);
    cluster.deliver_if(|flight| [N1, N2].contains(&flight.from) && flight.to != N3);
    assert_eq!(results(&mut cluster, N1), [], "two of five");
    cluster.wire.clear();
    cluster.heartbeat(N1);
    assert_eq!(results(&mut cluster, N1), [(1, Ok(1))]);
}

#[test]
fn read_of_a_follower_survives_a_change_of_leader() {
    let mut cluster = with_leader(3);
    cluster.partition(&[N1]);
    read(&mut cluster, N3, 1);
    cluster.deliver();
    assert_eq!(results(&mut cluster, N3), []);
    cluster.elect(N2);
    let index = cluster.commit_index(N2);
    let mut found = results(&mut cluster, N3);
    if found.iter().all(|(_, result)| result.is_err()) {
        // It had no leader in between, so its driver retries.
        assert_eq!(found, [(1, refused(None))]);
        read(&mut cluster, N3, 2);
        cluster.deliver();
        found = results(&mut cluster, N3);
    }
    assert_eq!(found.iter().map(|(_, result)| result).collect::<Vec<_>>(), [&Ok(index)]);
    // A late reply of the first leader has no effect.
    let late = ReadReply { term: Term(1), id: ReadId(1), index: Slot(1) };
    cluster.inject(N1, N3, Message::ReadReply(late));
    assert_eq!(results(&mut cluster, N3), []);
}

/// Ids are never used again, so a reply to a request before the restart matches no read.
#[test]
fn reply_to_a_read_before_a_restart_is_ignored() {
    let mut cluster = with_leader(3);
    read(&mut cluster, N3, 1);
    let request = cluster.intercept(N3, N1).remove(0);
    cluster.inject(N3, N1, request);
    let beat = cluster.intercept(N1, N2).remove(0);
    cluster.inject(N1, N2, beat);
    let ack = cluster.intercept(N2, N1).remove(0);
    let late = cluster.replies(N2, N1, ack);
    assert!(late.iter().any(is_reply), "{late:?}");
    cluster.restart(N3);
    cluster.propose(N1, 1, "x");
    cluster.deliver();
    read(&mut cluster, N3, 2);
    late.into_iter().filter(is_reply).for_each(|message| cluster.inject(N1, N3, message));
    assert_eq!(results(&mut cluster, N3), []);
    cluster.deliver();
    assert_eq!(results(&mut cluster, N3), [(2, Ok(2))]);
}

/// A voter's reply carries the term of its latest vote, durable or not.
#[test]
fn voter_of_a_successor_confirms_no_read() {
    let mut cluster = with_leader(3);
    cluster.advance(1_000);
    cluster.node(N3).is_disk_hung = true;
    cluster.partition(&[N1]);
    cluster.timeout(N2, Timer::Election);
    cluster.deliver();
    assert!(!cluster.leads(N2), "the vote of n3 waits for its disk");
    cluster.heal();
    read(&mut cluster, N1, 1);
    cluster.deliver_if(|flight| flight.from != N2 && flight.to != N2);
    assert_eq!(results(&mut cluster, N1), [(1, refused(None))], "n3 is in a later term");
}

#[test]
fn reads_beyond_the_bound_are_refused_as_busy() {
    let mut cluster = with_leader(3);
    cluster.partition(&[N1]);
    for node in [N1, N3] {
        cluster.step_all(node, (1..=2000).map(|id| Input::Read(ReadId(id))));
        let refused = results(&mut cluster, node);
        assert!(refused.iter().all(|(_, result)| *result == Err(Refusal::Busy)));
        assert_eq!(refused.len(), 2000 - 1024);
    }
}
