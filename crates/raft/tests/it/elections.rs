//! Elections: Raft §5.2, §5.4.1, thesis §4.2.3 and §9.6.

use crate::cluster::*;
use std::time::Duration;
use synod_consensus::{HistoryDigest, Input, ProtocolEvent, Refusal, Role, Saved, TimerChange};
use synod_raft::{
    Append, AppendAck, Commit, Config, HardState, Heartbeat, HeartbeatAck, Message, PreVote,
    PreVoteReply, RequestVote, Timer, Vote,
};
use synod_types::{NodeId, Slot, Term, Ticket};

fn plain(config: Config) -> Config {
    config.with_pre_vote(false).with_check_quorum(false)
}

#[test]
fn single_voter_elects_itself_and_commits() {
    let mut cluster = Cluster::new(1);
    cluster.elect(N1);
    cluster.propose(N1, 7, "a");
    assert_eq!(cluster.commands(N1), ["a"]);
    assert_eq!(cluster.node(N1).outputs.placed, [(Ticket(7), Slot(2))]);
}

/// §5.2: "When servers start up, they begin as followers."
#[test]
fn nodes_start_as_followers_and_wait_for_a_leader() {
    for disk in [Saved::default(), saved(3, Some(N1), &[1, 3])] {
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
        assert_eq!(cluster.status(N1).role, Role::Follower);
        let ms = Duration::from_millis;
        let expected = TimerChange::Set(Timer::Election, ms(150)..ms(300));
        assert_eq!(cluster.node(N1).outputs.timers, [expected]);
        assert!(cluster.wire.is_empty());
    }
}

/// §5.2: "To begin an election, a follower increments its current term and transitions to
/// candidate state. It then votes for itself and issues RequestVote RPCs to each of the other
/// servers."
#[test]
fn candidate_votes_for_itself_and_requests_the_votes_of_all_voters() {
    let config = Config::new(N1, members(3, 1)).unwrap().with_pre_vote(false);
    let mut cluster = Cluster::from_disks(vec![(config, saved(4, Some(N2), &[1, 4]))]);
    cluster.timeout(N1, Timer::Election);
    assert_eq!(cluster.node(N1).disk.hard_state, HardState { term: Term(5), vote: Some(N1) });
    let request = Message::RequestVote(RequestVote { term: Term(5), last: at(2, 4) });
    let sent: Vec<_> = cluster.wire.drain(..).map(|f| (f.to, f.message)).collect();
    assert_eq!(sent, [(N2, request.clone()), (N3, request)], "learners have no vote");
}

/// Thesis §9.6: a pre-candidate stays in its term until a majority would vote for it.
#[test]
fn pre_candidate_stays_in_its_term_until_a_majority_grants() {
    let disk = saved(4, Some(N2), &[1, 4]);
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
    cluster.timeout(N1, Timer::Election);
    let hard_state = HardState { term: Term(4), vote: Some(N2) };
    assert_eq!(cluster.node(N1).disk.hard_state, hard_state);
    assert_eq!(
        cluster.intercept(N1, N2),
        [Message::PreVote(PreVote { next_term: Term(5), last: at(2, 4) })]
    );
    let reply = |next_term| {
        Message::PreVoteReply(PreVoteReply {
            term: Term(4),
            next_term: Term(next_term),
            granted: true,
        })
    };
    cluster.inject(N2, N1, reply(4));
    assert_eq!(cluster.term(N1), 4, "a reply to an older pre-vote does not count");
    cluster.inject(N2, N1, reply(5));
    assert_eq!(cluster.term(N1), 5);
}

/// §5.2: a candidate "receives votes from a majority of the servers in the full cluster for the
/// same term", its own included; each voter counts once.
#[test]
fn majority_of_distinct_voters_wins() {
    for size in 1..=9_u64 {
        let mut cluster =
            Cluster::from_disks(vec![(config(N1, size).with_pre_vote(false), Saved::default())]);
        cluster.timeout(N1, Timer::Election);
        let majority = size / 2 + 1;
        for voter in 2..=size {
            assert_eq!(cluster.leads(N1), voter > majority, "{size} voters, before vote {voter}");
            for _ in 0..3 {
                let yes = Message::Vote(Vote { term: Term(1), granted: true });
                cluster.inject(NodeId(voter), N1, yes);
            }
        }
        assert!(cluster.leads(N1), "{size} voters");
    }
}

/// Votes of learners and of nodes outside the group do not count, and a learner never campaigns.
#[test]
fn only_voters_elect_and_are_elected() {
    let learner = Config::new(N4, members(3, 1)).unwrap();
    let voter = Config::new(N1, members(3, 1)).unwrap().with_pre_vote(false);
    let mut cluster =
        Cluster::from_disks(vec![(voter, Saved::default()), (learner, Saved::default())]);
    cluster.timeout(N4, Timer::Election);
    assert_eq!(cluster.status(N4).role, Role::Learner);
    assert!(cluster.wire.is_empty() && cluster.node(N4).outputs.timers.is_empty());
    cluster.timeout(N1, Timer::Election);
    for outsider in [N4, NodeId(99), NodeId(0)] {
        cluster.inject(outsider, N1, Message::Vote(Vote { term: Term(1), granted: true }));
        assert!(!cluster.leads(N1), "{outsider:?}");
    }
    cluster.inject(N2, N1, Message::Vote(Vote { term: Term(1), granted: true }));
    assert!(cluster.leads(N1));
}

/// §5.2 and §5.4.1, fig. 2 "RequestVote RPC": reject a past term; otherwise grant the vote if this node has
/// it or gave it to the candidate before, and if the candidate's log is at least as up to date. The voter
/// is in term 5 and its log ends with slot 3 of term 4.
#[test]
fn vote_is_granted_once_a_term_and_only_for_an_up_to_date_log() {
    let free = None;
    let cases = [
        // (candidate's term, its last entry, vote so far, granted)
        (4, at(9, 3), free, false),
        (5, at(3, 4), free, true),
        (5, at(3, 4), Some(N2), true),
        (5, at(3, 4), Some(N3), false),
        (6, at(3, 4), Some(N3), true),
        // Up to date: the last TERM decides; length only within one term.
        (5, at(2, 4), free, false),
        (5, at(4, 4), free, true),
        (5, at(9, 3), free, false),
        (9, at(9, 3), free, false),
        (6, at(1, 5), free, true),
        (6, at(2, 5), Some(N3), true),
        (6, at(0, 0), free, false),
    ];
    for (term, last, vote, granted) in cases {
        let disk = saved(5, vote, &[1, 1, 4]);
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
        let case = format!("candidate of term {term} with last {last}, vote {vote:?}");
        let answers =
            cluster.replies(N2, N1, Message::RequestVote(RequestVote { term: Term(term), last }));
        let now = Term(term.max(5));
        assert_eq!(answers, [Message::Vote(Vote { term: now, granted })], "{case}");
        let kept = if now == Term(5) { vote } else { None };
        let vote = if granted { Some(N2) } else { kept };
        assert_eq!(cluster.node(N1).disk.hard_state, HardState { term: now, vote }, "{case}");
    }
}

/// A similar table for pre-votes, which change no state.
#[test]
fn pre_vote_is_granted_like_a_vote_and_changes_nothing() {
    let cases = [
        (4, at(3, 3), None, false),
        (5, at(3, 4), None, true),
        (5, at(3, 4), Some(N3), false),
        (6, at(3, 4), Some(N3), true),
        (6, at(9, 3), None, false),
        (6, at(2, 4), None, false),
        (6, at(1, 5), None, true),
    ];
    for (next_term, last, vote, granted) in cases {
        let disk = saved(5, vote, &[1, 1, 4]);
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
        let before = cluster.core(N1).clone();
        let next_term = Term(next_term);
        let answers = cluster.replies(N2, N1, Message::PreVote(PreVote { next_term, last }));
        let expected = Message::PreVoteReply(PreVoteReply { term: Term(5), next_term, granted });
        assert_eq!(answers, [expected], "{next_term:?} with last {last}, vote {vote:?}");
        assert_eq!(*cluster.core(N1), before);
        assert_eq!(
            cluster.node(N1).outputs.timers.len(),
            1,
            "the election timeout is not restarted"
        );
    }
}

/// FAQ: a follower keeps its vote across a restart, because the vote is durable before the reply leaves.
#[test]
fn vote_survives_a_restart() {
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), Saved::default())]);
    let request = Message::RequestVote(RequestVote { term: Term(1), last: at(0, 0) });
    cluster.node(N1).is_disk_hung = true;
    assert_eq!(cluster.replies(N2, N1, request.clone()), [], "the reply waits for the disk");
    cluster.restart(N1);
    let yes = Message::Vote(Vote { term: Term(1), granted: true });
    let no = Message::Vote(Vote { term: Term(1), granted: false });
    assert_eq!(cluster.replies(N3, N1, request.clone()), [yes], "the first vote has never left");
    cluster.restart(N1);
    assert_eq!(cluster.replies(N2, N1, request), [no], "the second vote has");
}

/// §5.2: "If the leader's term is at least as large as the candidate's current term, then the
/// candidate recognizes the leader as legitimate and returns to follower state."
#[test]
fn candidate_steps_down_for_the_leader_of_its_term() {
    let mut cluster = Cluster::with(3, plain);
    cluster.timeout(N1, Timer::Election);
    let append = Message::Append(Append {
        term: Term(1),
        probe: 0,
        prev: at(0, 0),
        run: run(1, 1, &["x"]),
        commit: Slot(0),
        digest: HistoryDigest::UNKNOWN,
    });
    let answers = cluster.replies(N2, N1, append);
    assert_eq!(cluster.status(N1).leader, Some(N2));
    assert!(answers.contains(&Message::AppendAck(AppendAck {
        term: Term(1),
        probe: 0,
        matched: Slot(1)
    })));
    let notes = &cluster.node(N1).outputs.notes;
    let is_step_down = |note: &ProtocolEvent| matches!(note, ProtocolEvent::SteppedDown { .. });
    assert!(notes.iter().any(is_step_down));
}

/// §5.2: one vote a term, also after a message of the leader of that term.
#[test]
fn message_of_the_leader_does_not_reset_the_vote() {
    let disk = saved(5, Some(N2), &[1]);
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk.clone())]);
    let prev = at(1, 1);
    let beat = Message::Heartbeat(Heartbeat { term: Term(5), prev, commit: Slot(0), round: 0 });
    cluster.inject(N2, N1, beat);
    let answers =
        cluster.replies(N3, N1, Message::RequestVote(RequestVote { term: Term(5), last: prev }));
    assert_eq!(answers, [Message::Vote(Vote { term: Term(5), granted: false })]);
    assert_eq!(cluster.node(N1).disk, disk);
}

/// FAQ: a split vote elects no node. In the next term one node times out first and wins.
#[test]
fn split_vote_is_resolved_in_the_next_term() {
    let mut cluster = Cluster::with(4, plain);
    cluster.timeout(N1, Timer::Election);
    cluster.timeout(N2, Timer::Election);
    let first = |to: NodeId| if to == N3 { N1 } else { N2 };
    cluster.wire.make_contiguous().sort_by_key(|f| f.from != first(f.to));
    cluster.deliver();
    assert!(cluster.ids().iter().all(|id| !cluster.leads(*id)), "two votes each");
    assert_eq!((cluster.term(N1), cluster.term(N2)), (1, 1));
    cluster.elect(N2);
    assert_eq!(cluster.term(N1), 2);
}

/// Thesis §4.2.3: a voter protects its leader for the shortest election timeout after the leader's latest
/// message, and no longer.
#[test]
fn voter_protects_its_leader_for_the_shortest_timeout() {
    for (ms, granted) in [(0, false), (149, false), (150, true)] {
        let mut cluster = Cluster::new(3);
        cluster.elect(N1);
        cluster.advance(ms);
        let request = Message::RequestVote(RequestVote { term: Term(9), last: at(9, 8) });
        assert_eq!(!cluster.replies(N3, N2, request).is_empty(), granted, "after {ms} ms");
        assert_eq!(cluster.term(N2), if granted { 9 } else { 1 });
        let pre_vote = Message::PreVote(PreVote { next_term: Term(10), last: at(9, 8) });
        let reply = cluster.replies(N3, N2, pre_vote);
        let is_pre_vote =
            matches!(reply[..], [Message::PreVoteReply(PreVoteReply { granted: true, .. })]);
        assert_eq!(is_pre_vote, granted, "after {ms} ms");
    }
}

/// FAQ: the term of a partitioned node does not grow although it pre-campaigns again and again, and it does
/// not depose the leader when it rejoins.
#[test]
fn rejoining_follower_does_not_depose_the_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N3]);
    for _ in 0..20 {
        for _ in 0..6 {
            cluster.heartbeat(N1);
        }
        cluster.timeout(N3, Timer::Election);
        cluster.deliver();
    }
    assert_eq!(cluster.term(N3), 1, "pre-votes change no term");
    cluster.heal();
    cluster.timeout(N3, Timer::Election);
    cluster.heartbeat(N1);
    assert!(cluster.leads(N1) && cluster.term(N1) == 1);
    assert_eq!(cluster.status(N3).leader, Some(N1));
}

/// A leader without contact to a majority for the longest election timeout steps down, stops its
/// heartbeats, and refuses the proposals that it has not placed.
#[test]
fn leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.heartbeat(N1);
    cluster.partition(&[N1]);
    cluster.advance(250);
    cluster.timeout(N1, Timer::Heartbeat);
    assert!(cluster.leads(N1), "300 ms have not passed");
    cluster.advance(51);
    cluster.node(N1).outputs.timers.clear();
    cluster.timeout(N1, Timer::Heartbeat);
    assert_eq!(cluster.status(N1).role, Role::Follower);
    let ms = Duration::from_millis;
    let election = TimerChange::Set(Timer::Election, ms(150)..ms(300));
    assert_eq!(cluster.node(N1).outputs.timers, [TimerChange::Cancel(Timer::Heartbeat), election]);
    cluster.propose(N1, 1, "lost");
    let refusal = (Ticket(1), Refusal::NotLeader { hint: None });
    assert_eq!(cluster.node(N1).outputs.refused, [refusal]);
}

/// Without check-quorum it continues: that is safe, but commits nothing.
#[test]
fn leader_without_check_quorum_continues_without_a_quorum() {
    let mut cluster = Cluster::with(3, plain);
    cluster.elect(N1);
    cluster.partition(&[N1]);
    cluster.advance(10_000);
    cluster.timeout(N1, Timer::Heartbeat);
    assert!(cluster.leads(N1));
    cluster.timeout(N2, Timer::Election);
    cluster.deliver();
    assert!(cluster.leads(N2), "voters do not protect their leader without check-quorum");
}

/// A proposal that is not in the log when its leader steps down is refused and never placed.
#[test]
fn ticket_gets_exactly_one_reply_if_the_leader_steps_down_before_the_flush() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    let command = bytes::Bytes::from_static(b"a");
    let propose = Input::Propose { ticket: Ticket(5), command };
    let message = Message::Commit(Commit { term: Term(7), commit: Slot(0) });
    cluster.step_all(N1, [propose, Input::Message { from: N3, message }]);
    assert_eq!(cluster.node(N1).outputs.placed, []);
    let refusal = (Ticket(5), Refusal::NotLeader { hint: Some(N3) });
    assert_eq!(cluster.node(N1).outputs.refused, [refusal]);
}

#[test]
fn lagging_node_restarts_its_election_timeout_and_a_leader_continues() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for (id, timers) in [(N1, 0), (N2, 1)] {
        cluster.node(id).is_disk_hung = true;
        cluster.node(id).outputs.timers.clear();
        cluster.step(id, Input::Lagging);
        let restarts =
            |change: &&TimerChange<Timer>| matches!(change, TimerChange::Set(Timer::Election, _));
        let found = cluster.node(id).outputs.timers.iter().filter(restarts).count();
        assert_eq!(found, timers, "{id:?}");
        assert!(cluster.wire.is_empty() && cluster.node(id).unsynced.is_empty());
    }
    assert!(cluster.leads(N1));
}

/// A stalled leader steps down at once. It does not campaign before its disk works again and the other
/// nodes have had time for an election. A node with a hung disk still replies to heartbeats.
#[test]
fn stalled_node_steps_down_and_does_not_campaign() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 1, "x");
    cluster.step(N1, Input::Stalled);
    assert_eq!(cluster.status(N1).role, Role::Follower);
    let silent = |cluster: &mut Cluster| {
        cluster.wire.clear();
        cluster.timeout(N1, Timer::Election);
        cluster.wire.is_empty()
    };
    cluster.advance(1_000);
    assert!(silent(&mut cluster), "its disk has completed no write");
    cluster.sync(N1);
    assert!(!silent(&mut cluster), "it may campaign again");
    cluster.step(N1, Input::Stalled);
    assert!(silent(&mut cluster), "its disk works, but no election timeout has passed");
    cluster.elect(N2);
    cluster.node(N3).is_disk_hung = true;
    let beat =
        Message::Heartbeat(Heartbeat { term: Term(2), prev: at(1, 1), commit: Slot(1), round: 0 });
    let answers = cluster.replies(N2, N3, beat);
    assert_eq!(
        answers,
        [Message::HeartbeatAck(HeartbeatAck { term: Term(2), round: 0 })],
        "claims wait for the disk, and this is none"
    );
}
