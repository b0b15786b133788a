//! Terms: Raft §5.1.

use crate::cluster::*;
use synod_consensus::{HistoryDigest, Role};
use synod_raft::{
    Append, AppendAck, AppendConflict, Commit, Heartbeat, HeartbeatAck, Message, PreVote,
    PreVoteReply, ReadReply, ReadRequest, RequestVote, Timer, Vote,
};
use synod_types::{ReadId, Slot, Term};

/// Returns one message of each kind that the rules of terms apply to, in `term`.
fn one_of_each(term: u64) -> Vec<Message> {
    let (prev, commit) = (at(1, 1), Slot(0));
    let term = Term(term);
    vec![
        Message::RequestVote(RequestVote { term, last: at(0, 0) }),
        Message::Vote(Vote { term, granted: true }),
        Message::Vote(Vote { term, granted: false }),
        Message::Append(Append {
            term,
            probe: 0,
            prev,
            run: run(2, 1, &["x"]),
            commit,
            digest: HistoryDigest::UNKNOWN,
        }),
        Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(1) }),
        Message::AppendConflict(AppendConflict { term, probe: 0, at: Slot(1), hint: at(0, 0) }),
        Message::Heartbeat(Heartbeat { term, prev, commit, round: 0 }),
        Message::HeartbeatAck(HeartbeatAck { term, round: 0 }),
        Message::Commit(Commit { term, commit }),
        Message::ReadRequest(ReadRequest { term, id: ReadId(1) }),
        Message::ReadReply(ReadReply { term, id: ReadId(1), index: Slot(1) }),
    ]
}

/// Returns node 1 of three in term 4, in each role. Its log holds one entry, or more as a leader.
fn in_every_role() -> Vec<(&'static str, Cluster)> {
    let lone = || Cluster::from_disks(vec![(config(N1, 3), saved(4, Some(N3), &[1]))]);
    let earlier = || Cluster::from_disks(vec![(config(N1, 3), saved(3, None, &[1]))]);
    let mut pre_candidate = lone();
    pre_candidate.timeout(N1, Timer::Election);
    let mut candidate = earlier();
    candidate.timeout(N1, Timer::Election);
    candidate.inject(
        N2,
        N1,
        Message::PreVoteReply(PreVoteReply { term: Term(3), next_term: Term(4), granted: true }),
    );
    let mut leader = earlier();
    leader.timeout(N1, Timer::Election);
    leader.inject(
        N2,
        N1,
        Message::PreVoteReply(PreVoteReply { term: Term(3), next_term: Term(4), granted: true }),
    );
    leader.inject(N2, N1, Message::Vote(Vote { term: Term(4), granted: true }));
    assert_eq!(pre_candidate.status(N1).role, Role::Candidate);
    assert_eq!(candidate.status(N1).role, Role::Candidate);
    assert!(leader.leads(N1));
    vec![
        ("follower", lone()),
        ("pre-candidate", pre_candidate),
        ("candidate", candidate),
        ("leader", leader),
    ]
}

/// "If one server's current term is smaller than the other's, then it updates its current term to
/// the larger value. If a candidate or leader discovers that its term is out of date, it
/// immediately reverts to follower state."
#[test]
fn later_term_is_adopted_in_every_role() {
    for message in one_of_each(9) {
        for (role, mut cluster) in in_every_role() {
            if role == "leader" && matches!(message, Message::RequestVote(_)) {
                continue; // See the next test.
            }
            cluster.inject(N2, N1, message.clone());
            assert_eq!(cluster.term(N1), 9, "{role}: {message:?}");
            assert_eq!(cluster.status(N1).role, Role::Follower, "{role}: {message:?}");
            assert_eq!(cluster.node(N1).disk.hard_state.term, Term(9), "{role}: {message:?}");
        }
    }
}

/// Thesis §4.2.3: a request for votes of any term changes no term while a leader is alive.
#[test]
fn live_leader_is_not_deposed_by_a_candidate() {
    let (_, mut leader) = in_every_role().pop().unwrap();
    let answers =
        leader.replies(N2, N1, Message::RequestVote(RequestVote { term: Term(9), last: at(9, 8) }));
    assert_eq!(answers, [], "there is no reply");
    assert!(leader.leads(N1) && leader.term(N1) == 4);
}

/// "If a server receives a request with a stale term number, it rejects the request." Requests are
/// answered with the current term, so that the sender steps down. Stale replies are dropped.
#[test]
fn message_of_a_past_term_is_rejected_in_every_role() {
    for message in one_of_each(3) {
        for (role, mut cluster) in in_every_role() {
            let before = cluster.core(N1).clone();
            let answers = cluster.replies(N2, N1, message.clone());
            let expected = match &message {
                Message::RequestVote(_) => {
                    vec![Message::Vote(Vote { term: Term(4), granted: false })]
                }
                Message::Append(_) | Message::Heartbeat(_) | Message::Commit(_) => {
                    vec![Message::HeartbeatAck(HeartbeatAck { term: Term(4), round: 0 })]
                }
                _ => vec![],
            };
            assert_eq!(answers, expected, "{role}: {message:?}");
            assert_eq!(*cluster.core(N1), before, "{role}: {message:?} changes nothing");
        }
    }
}

/// Pre-votes name a term that no node is in yet: requests and grants change no term.
#[test]
fn pre_vote_changes_no_term() {
    for (role, mut cluster) in in_every_role() {
        let before = cluster.core(N1).clone();
        cluster.inject(N2, N1, Message::PreVote(PreVote { next_term: Term(9), last: at(9, 8) }));
        let yes = Message::PreVoteReply(PreVoteReply {
            term: Term(3),
            next_term: Term(9),
            granted: true,
        });
        cluster.inject(N2, N1, yes);
        assert_eq!(*cluster.core(N1), before, "{role}");
    }
}

/// FAQ: no node assigns terms. Each message carries its sender's, and the later term wins.
#[test]
fn terms_spread_with_any_message_and_survive_a_restart() {
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), saved(7, None, &[])),
        (config(N2, 3), saved(2, None, &[])),
        (config(N3, 3), saved(4, None, &[])),
    ]);
    cluster.elect(N1);
    for id in cluster.ids() {
        assert_eq!(cluster.term(id), 8, "{id:?}");
        cluster.restart(id);
        assert_eq!(cluster.term(id), 8, "{id:?} after a restart");
    }
}

/// A node in a later term than the leader's rejects the leader. Its reply makes the leader step down, and
/// the next leader's term is higher than both.
#[test]
fn node_in_a_later_term_follows_the_next_leader() {
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), saved(1, None, &[])),
        (config(N2, 3), saved(1, None, &[])),
        (config(N3, 3), saved(5, Some(N3), &[])),
    ]);
    cluster.partition(&[N3]);
    cluster.elect(N1);
    cluster.heal();
    cluster.heartbeat(N1);
    assert!(!cluster.leads(N1));
    cluster.elect(N2);
    assert_eq!(cluster.status(N3).leader, Some(N2));
    assert_eq!(cluster.term(N3), 6);
}
