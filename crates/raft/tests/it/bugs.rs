//! Regression tests for bugs that were released in other implementations. Numbers are rows of
//! `docs/bugs.md`. Missing rows are about features that this core does not have, or about other layers.

use crate::cluster::*;
use proptest::prelude::*;
use synod_consensus::{
    HistoryDigest, Host, Input, Protocol, ProtocolEvent, Role, Saved, TimerChange, Write,
};
use synod_raft::{
    Append, AppendAck, Commit, Heartbeat, HeartbeatAck, Limits, Message, PreVote, PreVoteReply,
    Raft, RequestVote, Timer, Vote,
};
use synod_types::{Instant, NodeId, Slot, Term, Ticket};

fn yes(term: u64) -> Message {
    Message::Vote(Vote { term: Term(term), granted: true })
}

fn ack(term: u64, matched: u64) -> Message {
    Message::AppendAck(AppendAck { term: Term(term), probe: 0, matched: Slot(matched) })
}

/// Returns node 1, which leads a later term with this log. No other node runs, and only its own copy is
/// acknowledged.
fn lone_leader(voters: u64, terms: &[u64]) -> Cluster {
    let term = terms.last().copied().unwrap_or(0);
    let config = config(N1, voters).with_pre_vote(false);
    let mut cluster = Cluster::from_disks(vec![(config, saved(term, None, terms))]);
    cluster.timeout(N1, Timer::Election);
    for voter in 2..=voters {
        cluster.inject(NodeId(voter), N1, yes(term + 1));
    }
    assert!(cluster.leads(N1));
    cluster.wire.clear();
    cluster
}

/// Returns node 1 of three, recovered from this disk.
fn recover(disk: &Saved<Raft>) -> Host<Raft> {
    Host::recover(N1, config(N1, 3), disk.clone()).unwrap()
}

/// Returns the one batch that a node writes for this input.
fn batch(host: &mut Host<Raft>, input: Input<Raft>) -> Vec<Write<Raft>> {
    let now = Instant(1);
    let _ = host.input(now, input, &mut ());
    host.round(now, &mut ()).writes.drain(..).collect()
}

#[test]
fn raft_01_old_term_entry_committed_by_counting() {
    let mut cluster = lone_leader(3, &[1, 2]);
    cluster.inject(N2, N1, ack(3, 2));
    cluster.inject(N3, N1, ack(3, 2));
    assert_eq!(cluster.commit_index(N1), 0, "on all three nodes, but not chosen");
    cluster.inject(N2, N1, ack(3, 3));
    assert_eq!(cluster.commit_index(N1), 3, "they commit with the no-op of term 3");
}

proptest! {
    #[test]
    fn raft_04_quorum_from_unsorted_progress(
        voters in 1..8_u64,
        acks in prop::collection::vec((2..9_u64, 0..25_u64), 0..40),
    ) {
        let mut cluster = lone_leader(voters, &[]);
        for ticket in 0..19 {
            cluster.propose(N1, ticket, "x");
        }
        let mut held = vec![0; voters as usize];
        held[0] = 20;
        for (from, matched) in acks {
            cluster.inject(NodeId(from), N1, ack(1, matched));
            if from <= voters && matched <= 20 {
                let slot = &mut held[from as usize - 1];
                *slot = matched.max(*slot);
            }
            let mut sorted = held.clone();
            sorted.sort_unstable_by(|a, b| b.cmp(a));
            prop_assert_eq!(cluster.commit_index(N1), sorted[voters as usize / 2]);
        }
    }
}

#[test]
fn raft_05_a_later_term_is_taken_for_a_grant() {
    let disk = saved(2, None, &[1, 2]);
    let mut voter = Cluster::from_disks(vec![(config(N1, 3), disk)]);
    let request = Message::RequestVote(RequestVote { term: Term(9), last: at(5, 1) });
    let no = Message::Vote(Vote { term: Term(9), granted: false });
    let answers = voter.replies(N2, N1, request);
    assert_eq!(answers, std::slice::from_ref(&no), "a later term makes no log more up to date");
    let config = config(N1, 3).with_pre_vote(false);
    let mut candidate = Cluster::from_disks(vec![(config, saved(8, None, &[1]))]);
    candidate.timeout(N1, Timer::Election);
    candidate.inject(N2, N1, no.clone());
    candidate.inject(N3, N1, no);
    assert!(!candidate.leads(N1), "a rejection is no vote");
    candidate.inject(N2, N1, yes(10));
    assert!(!candidate.leads(N1), "a vote of a later term does not count");
    assert_eq!(candidate.term(N1), 10);
}

#[test]
fn raft_06_cut_and_append_in_two_steps() {
    let disk = saved(3, None, &[1, 1, 2, 2]);
    let other = run(3, 3, &["x"]);
    // Equal entries are neither cut nor written again, so no crash can lose them.
    let longer = run(3, 2, &["3@2", "4@2", "x"]);
    let cases = [
        (other.clone(), vec![Write::TruncateFrom(Slot(3)), Write::Put(other)]),
        (longer, vec![Write::Put(run(5, 2, &["x"]))]),
    ];
    for (run, writes) in cases {
        let mut host = recover(&disk);
        assert_eq!(batch(&mut host, Input::Start), []);
        let message = Message::Append(Append {
            term: Term(3),
            probe: 0,
            prev: at(2, 1),
            run,
            commit: Slot(0),
            digest: HistoryDigest::UNKNOWN,
        });
        assert_eq!(batch(&mut host, Input::Message { from: N2, message }), writes, "one batch");
    }
}

#[test]
fn raft_07_leader_counts_entries_that_its_disk_does_not_hold() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    cluster.partition(&[N3]);
    cluster.propose(N1, 1, "a");
    cluster.deliver();
    assert_eq!(terms(&cluster.node(N2).disk.log), [1, 1], "sent while its own disk works");
    assert_eq!(cluster.commit_index(N1), 1, "one durable copy of three");
    let mut crashed = cluster;
    crashed.sync(N1);
    assert_eq!(crashed.commit_index(N1), 2);
    // Two durable copies on other nodes are a majority, too.
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 1, "a");
    cluster.deliver();
    assert_eq!(cluster.commands(N1), ["a"]);
    cluster.restart(N1);
    cluster.elect(N2);
    assert_eq!(cluster.commands(N3), ["a"], "it is not lost with the leader");
}

#[test]
fn raft_08_single_voter_commits_what_is_not_durable() {
    let mut cluster = Cluster::new(1);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 1, "a");
    assert_eq!(cluster.commands(N1), Vec::<String>::new());
    cluster.sync(N1);
    assert_eq!(cluster.commands(N1), ["a"]);
}

#[test]
fn raft_09_late_write_of_an_overwritten_entry_is_counted() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N1]);
    cluster.propose(N1, 1, "overwritten");
    cluster.elect(N2);
    cluster.propose(N2, 2, "b");
    cluster.deliver();
    cluster.heal();
    cluster.heartbeat(N2);
    cluster.heartbeat(N2);
    cluster.elect(N1);
    cluster.partition(&[N1]);
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 3, "c");
    let (term, last) = (cluster.term(N1), cluster.status(N1).last.0);
    cluster.inject(N1, N1, ack(1, 2));
    cluster.inject(N1, N1, ack(1, last));
    cluster.inject(N2, N1, ack(term, last));
    assert!(cluster.commit_index(N1) < last, "its own copy is not durable in this term");
}

#[test]
fn raft_10_stale_ack_after_the_log_was_reset_is_counted() {
    let mut cluster = Cluster::new(5);
    cluster.elect(N1);
    cluster.partition(&[N1, N2]);
    for ticket in 0..4 {
        cluster.propose(N1, ticket, "lost");
    }
    let appends = cluster.intercept(N1, N2);
    let acks: Vec<_> =
        appends.into_iter().flat_map(|append| cluster.replies(N1, N2, append)).collect();
    let late = acks.last().unwrap().clone();
    assert_eq!(late, ack(1, 5));
    // Another leader cuts the entries that node 2 has acknowledged.
    cluster.elect(N3);
    cluster.heal();
    cluster.heartbeat(N3);
    cluster.heartbeat(N3);
    assert_eq!(terms(&cluster.node(N2).disk.log), [1, 2]);
    // Node 1 leads again, over a log that has the same length by now.
    cluster.elect(N1);
    cluster.partition(&[N1]);
    cluster.propose(N1, 8, "c");
    cluster.propose(N1, 9, "d");
    let (before, term) = (cluster.status(N1).progress, cluster.term(N1));
    assert_eq!(cluster.status(N1).last, Slot(5));
    cluster.inject(N2, N1, late);
    assert_eq!(cluster.status(N1).progress, before, "an acknowledgement of term 1");
    cluster.inject(N3, N1, ack(term, 5));
    assert_eq!(cluster.commit_index(N1), 3, "two true copies of five");
}

#[test]
fn raft_19_follower_that_lost_its_log_stops_the_others() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for ticket in 0..3 {
        cluster.propose(N1, ticket, "x");
        cluster.deliver();
    }
    cluster.node(N3).disk = Saved::default();
    cluster.restart(N3);
    for _ in 0..4 {
        cluster.heartbeat(N1);
    }
    let ignored = |note: &ProtocolEvent| matches!(note, ProtocolEvent::Ignored { from: N3, .. });
    assert!(
        cluster.node(N1).outputs.notes.iter().any(ignored),
        "the leader reports the conflict of node 3"
    );
    assert_eq!(cluster.commit_index(N3), 0, "its log is empty, so it commits nothing");
    cluster.propose(N1, 9, "y");
    cluster.deliver();
    assert_eq!(cluster.commands(N2), ["x", "x", "x", "y"]);
}

#[test]
fn raft_25_pre_vote_answer_is_counted_as_a_vote() {
    let mut cluster = Cluster::from_disks(vec![(config(N1, 5), Saved::default())]);
    cluster.timeout(N1, Timer::Election);
    let reply =
        Message::PreVoteReply(PreVoteReply { term: Term(0), next_term: Term(1), granted: true });
    for voter in [N2, N3, N4, N5] {
        cluster.inject(voter, N1, reply.clone());
    }
    assert_eq!((cluster.term(N1), cluster.leads(N1)), (1, false));
    cluster.inject(N2, N1, yes(1));
    assert!(!cluster.leads(N1), "two votes of five: late pre-votes do not count");
    cluster.inject(N3, N1, yes(1));
    assert!(cluster.leads(N1));
    // A voter that granted a pre-vote still has its vote, and grants it once.
    let mut voter = Cluster::from_disks(vec![(config(N1, 3), saved(1, None, &[]))]);
    for from in [N2, N3] {
        let pre_vote = Message::PreVote(PreVote { next_term: Term(2), last: at(0, 0) });
        let expected = Message::PreVoteReply(PreVoteReply {
            term: Term(1),
            next_term: Term(2),
            granted: true,
        });
        assert_eq!(voter.replies(from, N1, pre_vote), [expected]);
    }
    let request = Message::RequestVote(RequestVote { term: Term(2), last: at(0, 0) });
    assert_eq!(voter.replies(N2, N1, request.clone()), [yes(2)]);
    let no = Message::Vote(Vote { term: Term(2), granted: false });
    assert_eq!(voter.replies(N3, N1, request), [no]);
}

/// Advances the clock: leaders send heartbeats, and each node without a leader times out.
fn let_time_pass(cluster: &mut Cluster) {
    for _ in 0..10 {
        let leaders: Vec<_> = cluster.ids().into_iter().filter(|id| cluster.leads(*id)).collect();
        for _ in 0..6 {
            cluster.advance(50);
            for leader in &leaders {
                cluster.timeout(*leader, Timer::Heartbeat);
                cluster.deliver();
            }
        }
        for id in cluster.ids() {
            let followed = cluster.status(id).leader;
            let has_leader = followed.is_some_and(|leader| {
                cluster.leads(leader) && cluster.term(leader) == cluster.term(id)
            });
            if !has_leader {
                cluster.timeout(id, Timer::Election);
                cluster.deliver();
            }
        }
    }
}

#[test]
fn raft_26_nodes_with_and_without_pre_vote_lock_each_other_out() {
    // Two settings and three nodes: every mixture, as during a change of the settings.
    for mixture in 0..64_u64 {
        let set = |config: synod_raft::Config| {
            let bits = mixture >> (2 * (config.id().0 - 1));
            config.with_pre_vote(bits & 1 == 0).with_check_quorum(bits & 2 == 0)
        };
        let mut cluster = Cluster::with(3, set);
        cluster.elect(N1);
        // Node 3 is partitioned and campaigns. Its term grows unless a setting prevents it.
        cluster.partition(&[N3]);
        for round in 0..5 {
            for _ in 0..6 {
                cluster.heartbeat(N1);
            }
            cluster.timeout(N3, Timer::Election);
            cluster.deliver();
            if round == 3 {
                cluster.propose(N1, 1, "a");
                cluster.deliver();
            }
        }
        cluster.heal();
        let_time_pass(&mut cluster);
        let leaders: Vec<_> = cluster.ids().into_iter().filter(|id| cluster.leads(*id)).collect();
        let [leader] = leaders[..] else { panic!("mixture {mixture:b}: {leaders:?} lead") };
        cluster.propose(leader, 2, "b");
        cluster.deliver();
        for id in cluster.ids() {
            assert_eq!(cluster.status(id).leader, Some(leader), "mixture {mixture:b}, {id:?}");
            assert_eq!(cluster.commands(id), ["a", "b"], "mixture {mixture:b}, {id:?}");
        }
    }
}

#[test]
fn raft_27_pre_vote_blocks_elections_that_should_succeed() {
    // The leader itself restarts and pre-campaigns, just after its last heartbeat.
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.restart(N1);
    cluster.timeout(N1, Timer::Election);
    cluster.deliver();
    assert!(cluster.leads(N1), "no voter protects a leader that requests votes");
    // A pre-vote does not count as a message of the leader.
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.advance(149);
    cluster.inject(N3, N2, Message::PreVote(PreVote { next_term: Term(2), last: at(1, 1) }));
    cluster.advance(1);
    let answers =
        cluster.replies(N3, N2, Message::PreVote(PreVote { next_term: Term(2), last: at(1, 1) }));
    assert!(
        matches!(answers[..], [Message::PreVoteReply(PreVoteReply { granted: true, .. })]),
        "{answers:?}"
    );
    // A node in an earlier term with the more up-to-date log enters the voter's term, and then wins.
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), saved(2, None, &[1, 2])),
        (config(N2, 3), saved(6, Some(N2), &[1])),
    ]);
    cluster.elect(N1);
    assert_eq!(cluster.term(N2), 7);
}

#[test]
fn raft_28_leader_without_quorum_blocks_those_who_have_one() {
    // Node 5 is dead; node 1 leads and reaches node 2 only; nodes 2, 3 and 4 are a majority.
    let mut cluster = Cluster::new(5);
    cluster.elect(N1);
    cluster.partition(&[N5]);
    for other in [N3, N4] {
        cluster.cut.extend([(N1, other), (other, N1)]);
    }
    let mut beats = 0;
    while cluster.leads(N1) {
        cluster.heartbeat(N1);
        beats += 1;
        assert!(beats < 10, "no step-down within the longest election timeout");
    }
    cluster.advance(150);
    cluster.timeout(N3, Timer::Election);
    cluster.deliver();
    assert!(cluster.leads(N3));
}

#[test]
fn raft_29_campaigning_leader_and_voters_that_never_campaign() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    let before = cluster.core(N1).clone();
    cluster.timeout(N1, Timer::Election);
    assert_eq!(*cluster.core(N1), before, "a leader does not campaign");
    // A candidate that cannot win does not keep a voter from campaigning.
    let disk = saved(1, None, &[1, 1]);
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
    cluster.node(N1).outputs.timers.clear();
    for term in 2..20 {
        cluster.inject(
            N2,
            N1,
            Message::RequestVote(RequestVote { term: Term(term), last: at(1, 1) }),
        );
    }
    assert_eq!(cluster.node(N1).outputs.timers, [], "its election timeout is not restarted");
    cluster.inject(N3, N1, Message::RequestVote(RequestVote { term: Term(20), last: at(2, 1) }));
    assert!(matches!(cluster.node(N1).outputs.timers[..], [TimerChange::Set(Timer::Election, _)]));
}

#[test]
fn raft_30_leader_with_a_hung_disk_goes_on_heartbeating() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 1, "a");
    cluster.step(N1, Input::Stalled);
    cluster.wire.clear();
    cluster.timeout(N1, Timer::Heartbeat);
    assert!(cluster.wire.is_empty(), "no heartbeat, no append");
    cluster.elect(N2);
    cluster.propose(N2, 2, "b");
    cluster.deliver();
    assert_eq!(cluster.commands(N3), ["b"]);
}

#[test]
fn raft_32_uncommitted_bytes_leak_over_leader_changes() {
    let limits = Limits { uncommitted_bytes: 40, command_bytes: 30, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    let full = "x".repeat(30);
    for round in 0..30 {
        let (leader, next) = if round % 2 == 0 { (N1, N2) } else { (N2, N1) };
        cluster.elect(leader);
        cluster.partition(&[leader]);
        cluster.propose(leader, 2 * round, &full);
        cluster.elect(next);
        cluster.heal();
        cluster.heartbeat(next);
        cluster.heartbeat(next);
        cluster.node(next).outputs.refused.clear();
        cluster.propose(next, 2 * round + 1, &full);
        assert_eq!(cluster.node(next).outputs.refused, [], "round {round}: all else is committed");
        cluster.deliver();
        cluster.step(next, Input::Stalled);
    }
    // Within one term each commit makes room for the next command.
    cluster.elect(N3);
    for ticket in 100..150 {
        cluster.propose(N3, ticket, &full);
        assert_eq!(cluster.node(N3).outputs.refused, [], "ticket {ticket}");
        cluster.deliver();
    }
}

#[test]
fn raft_33_in_flight_window_never_opens_again() {
    let limits = Limits { inflight_messages: 2, inflight_bytes: 10, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    // All messages between nodes 1 and 3 are lost: in one direction, then in the other, then in turns.
    let (there, back) = ((N1, N3), (N3, N1));
    let losses: [fn(u64) -> usize; 3] = [|_| 0, |_| 1, |ticket| usize::from(ticket % 3 > 0)];
    for (phase, lost) in losses.into_iter().enumerate() {
        for ticket in 0..20 {
            cluster.propose(N1, ticket, "abcdefgh");
            cluster.cut = [[there, back][lost(ticket)]].into();
            cluster.deliver();
            cluster.heartbeat(N1);
        }
        cluster.heal();
        for _ in 0..3 {
            cluster.heartbeat(N1);
        }
        for id in cluster.ids() {
            assert_eq!(cluster.commands(id).len(), 20 * (phase + 1), "{id:?} in phase {phase}");
        }
    }
}

#[test]
fn raft_34_append_behind_a_compacted_slot_names_no_term() {
    let limits = Limits { inflight_messages: 1, append_bytes: 2, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    cluster.partition(&[N3]);
    for ticket in 0..6 {
        cluster.propose(N1, ticket, "x");
        cluster.deliver();
    }
    cluster.step(N1, Input::Compact { through: Slot(5) });
    cluster.wire.clear();
    cluster.heal();
    for _ in 0..4 {
        cluster.advance(50);
        cluster.timeout(N1, Timer::Heartbeat);
        for flight in &cluster.wire {
            match &flight.message {
                Message::Append(Append { prev, .. }) => {
                    assert!(prev.term > Term(0) && prev.slot >= Slot(5), "{prev} is compacted");
                }
                // No entry is acknowledged, or the entry is not compacted away.
                Message::Heartbeat(Heartbeat { prev, .. }) => {
                    assert!(*prev == at(0, 0) || prev.slot >= Slot(5), "{prev} is compacted");
                }
                _ => {}
            }
        }
        cluster.deliver();
    }
    assert!(cluster.node(N1).outputs.snapshots.contains(&N3));
}

proptest! {
    #[test]
    fn raft_35_entries_skipped_or_repeated_where_a_commit_cuts_a_run(
        sizes in prop::collection::vec(1..6_usize, 1..6),
        commits in prop::collection::vec(0..30_u64, 1..20),
        crash_after in 0..20_usize,
        append_bytes in 1..40_usize,
    ) {
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), Saved::default())]);
        let (term, mut last) = (Term(1), 0);
        for size in sizes {
            let commands = vec!["x"; size];
            let (prev, run) = (at(last, last.min(1)), run(last + 1, 1, &commands));
            let (commit, digest) = (Slot(0), HistoryDigest::UNKNOWN);
            let append = Append { term, probe: 0, prev, run, commit, digest };
            cluster.inject(N2, N1, Message::Append(append));
            last += size as u64;
        }
        let (mut committed, before) = (0, cluster.node(N1).disk.hard_state);
        for (index, commit) in commits.into_iter().enumerate() {
            if index == crash_after {
                // The node restarts with other limits, and its commit index starts from the base again.
                let limits = Limits { append_bytes, ..Limits::default() };
                let node = cluster.node(N1);
                node.config = node.config.clone().with_limits(limits).unwrap();
                cluster.restart(N1);
                prop_assert_eq!(cluster.commit_index(N1), 0);
                committed = 0;
                let prev = at(last, 1);
                let beat = Message::Heartbeat(Heartbeat { term, prev, commit: Slot(0), round: 0 });
                cluster.inject(N2, N1, beat);
            }
            cluster.inject(N2, N1, Message::Commit(Commit { term, commit: Slot(commit) }));
            committed = commit.min(last).max(committed);
            // The host checks that chosen slots have no gap.
            prop_assert_eq!(cluster.commit_index(N1), committed);
            prop_assert_eq!(cluster.commands(N1).len() as u64, committed);
            prop_assert_eq!(cluster.node(N1).disk.hard_state, before);
        }
    }
}

#[test]
fn raft_37_entries_reach_the_disk_before_their_term() {
    let mut host = recover(&saved(1, Some(N1), &[1]));
    assert_eq!(batch(&mut host, Input::Start), []);
    let message = Message::Append(Append {
        term: Term(4),
        probe: 0,
        prev: at(1, 1),
        run: run(2, 4, &["x"]),
        commit: Slot(0),
        digest: HistoryDigest::UNKNOWN,
    });
    let writes = batch(&mut host, Input::Message { from: N2, message });
    let [Write::HardState(hard_state), Write::Put(_)] = &writes[..] else { panic!("{writes:?}") };
    assert_eq!(hard_state.term, Term(4));
}

#[test]
fn raft_38_snapshots_overtake_each_other_and_empty_the_log() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N3]);
    let mut bases = Vec::new();
    for ticket in 0..3 {
        cluster.propose(N1, ticket, "x");
        cluster.deliver();
        let through = cluster.status(N1).commit;
        bases.push(cluster.core(N1).base_at(through).unwrap());
        cluster.step(N1, Input::Compact { through });
    }
    assert_eq!(cluster.status(N1).base, cluster.status(N1).last, "the whole log is compacted");
    // Node 3 needs a snapshot. The later one is installed first, and the earlier one has no effect.
    cluster.heal();
    cluster.heartbeat(N1);
    assert!(cluster.node(N1).outputs.snapshots.contains(&N3));
    cluster.step(N3, Input::Installed { base: bases[2].clone() });
    let before = cluster.core(N3).clone();
    cluster.step(N3, Input::Installed { base: bases[0].clone() });
    assert_eq!(*cluster.core(N3), before);
    cluster.heartbeat(N1);
    cluster.propose(N1, 8, "after it");
    cluster.deliver();
    assert_eq!(cluster.commands(N3), ["after it"], "it receives entries again");
    // Elections and replication continue with compacted logs.
    let through = cluster.status(N1).commit;
    cluster.step(N1, Input::Compact { through });
    cluster.elect(N3);
    cluster.propose(N3, 9, "y");
    cluster.deliver();
    for id in cluster.ids() {
        assert_eq!(cluster.commands(id).last().unwrap(), "y", "{id:?}");
    }
}

#[test]
fn raft_39_foreign_snapshot_replaces_what_is_chosen() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    cluster.deliver();
    let before = cluster.core(N2).clone();
    let base = synod_consensus::Base { through: Slot(2), stamp: Term(7), members: None };
    cluster.step(N2, Input::Installed { base });
    assert_eq!(*cluster.core(N2), before);
}

#[test]
fn raft_40_fifty_conflicts_at_once_or_a_late_one() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for ticket in 0..50 {
        cluster.propose(N1, ticket, "x");
    }
    let appends = cluster.intercept(N1, N3);
    assert_eq!(appends.len(), 50);
    let mut conflicts = Vec::new();
    for append in appends.into_iter().skip(1) {
        conflicts.extend(cluster.replies(N1, N3, append));
    }
    assert_eq!(conflicts.len(), 49);
    for conflict in &conflicts {
        cluster.inject(N3, N1, conflict.clone());
    }
    let repairs = cluster.intercept(N1, N3);
    assert_eq!(repairs.len(), 1, "one repair for all of them");
    cluster.inject(N1, N3, repairs[0].clone());
    cluster.deliver();
    assert_eq!(cluster.commands(N3).len(), 50);
    // Late conflicts do not count as a loss of the log.
    let before = cluster.core(N1).clone();
    for conflict in conflicts {
        cluster.inject(N3, N1, conflict);
    }
    assert_eq!(*cluster.core(N1), before);
    assert!(cluster.intercept(N1, N3).is_empty());
}

#[test]
fn raft_42_even_sizes_and_non_voters() {
    for size in 1..=9_u64 {
        let mut cluster = lone_leader(size, &[]);
        let majority = size / 2 + 1;
        for voter in 2..=size {
            assert_eq!(
                cluster.commit_index(N1) > 0,
                voter > majority,
                "{size} voters, before acknowledgement {voter}"
            );
            cluster.inject(NodeId(voter), N1, ack(1, 1));
            cluster.inject(NodeId(voter), N1, ack(1, 1));
        }
        assert_eq!(cluster.commit_index(N1), 1, "{size} voters");
    }
    // Check-quorum and elections count by the same quorum.
    for size in 1..=9_u64 {
        for replies in 0..size {
            let mut cluster = lone_leader(size, &[]);
            cluster.advance(1_000);
            for voter in 2..2 + replies {
                cluster.inject(
                    NodeId(voter),
                    N1,
                    Message::HeartbeatAck(HeartbeatAck { term: Term(1), round: 0 }),
                );
            }
            cluster.timeout(N1, Timer::Heartbeat);
            assert_eq!(
                cluster.leads(N1),
                2 * (replies + 1) > size,
                "{replies} and itself of {size}"
            );
            let disk = (config(N1, size).with_pre_vote(false), Saved::default());
            let mut cluster = Cluster::from_disks(vec![disk]);
            cluster.timeout(N1, Timer::Election);
            for voter in 2..2 + replies {
                cluster.inject(NodeId(voter), N1, yes(1));
            }
            assert_eq!(
                cluster.leads(N1),
                2 * (replies + 1) > size,
                "{replies} and itself of {size}"
            );
        }
    }
}

#[test]
fn raft_42_node_without_a_vote_is_elected_or_counted() {
    let learner = synod_raft::Config::new(N4, members(3, 2)).unwrap().with_pre_vote(false);
    let mut cluster = Cluster::from_disks(vec![(learner, Saved::default())]);
    cluster.timeout(N4, Timer::Election);
    assert_eq!(cluster.status(N4).role, Role::Learner);
    let config = synod_raft::Config::new(N1, members(3, 2)).unwrap().with_pre_vote(false);
    let mut cluster = Cluster::from_disks(vec![(config, Saved::default())]);
    cluster.timeout(N1, Timer::Election);
    cluster.inject(N4, N1, yes(1));
    cluster.inject(N5, N1, yes(1));
    assert!(!cluster.leads(N1));
    cluster.inject(N2, N1, yes(1));
    cluster.inject(N4, N1, ack(1, 1));
    cluster.inject(N5, N1, ack(1, 1));
    assert_eq!(cluster.commit_index(N1), 0);
    cluster.advance(1_000);
    cluster.inject(N4, N1, Message::HeartbeatAck(HeartbeatAck { term: Term(1), round: 0 }));
    cluster.inject(N3, N1, ack(1, 1));
    assert_eq!(cluster.commit_index(N1), 1);
}

#[test]
fn raft_43_log_that_a_snapshot_replaced_comes_back_after_a_restart() {
    for (through, stamp, kept) in [(2, 1, vec![1, 2, 2]), (2, 3, vec![]), (4, 3, vec![])] {
        let before = saved(3, None, &[1, 1, 1, 2, 2]);
        let base =
            synod_consensus::Base { through: Slot(through), stamp: Term(stamp), members: None };
        // The snapshot of a peer is installed.
        let (mut disk, mut host) = (before.clone(), recover(&before));
        assert_eq!(batch(&mut host, Input::Start), []);
        let writes = batch(&mut host, Input::Installed { base: base.clone() });
        writes.iter().for_each(|write| disk.apply(write));
        assert_eq!(terms(&disk.log), kept, "{base:?}");
        let again = recover(&disk);
        assert_eq!(again.core().status().last, host.core().status().last, "{base:?}");
        // The state machine has installed it, and the crash is before the log is cut.
        let mut disk = Saved { base: base.clone(), ..before };
        let repairs = batch(&mut recover(&disk), Input::Start);
        repairs.iter().for_each(|write| disk.apply(write));
        assert_eq!(terms(&disk.log), kept, "{base:?}");
    }
}

#[test]
fn raft_45_leader_takes_back_what_is_chosen_when_it_steps_down() {
    let ways: [fn(&mut Cluster); 3] = [
        |cluster| cluster.step(N1, Input::Stalled),
        |cluster| {
            cluster.inject(N2, N1, Message::HeartbeatAck(HeartbeatAck { term: Term(9), round: 0 }))
        },
        |cluster| {
            cluster.advance(1_000);
            cluster.timeout(N1, Timer::Heartbeat);
        },
    ];
    for down in ways {
        for chosen in 0..4 {
            let mut cluster = lone_leader(3, &[]);
            for ticket in 0..3 {
                cluster.propose(N1, ticket, "x");
            }
            cluster.inject(N2, N1, ack(1, chosen));
            down(&mut cluster);
            let status = cluster.status(N1);
            assert_eq!((status.role, status.commit), (Role::Follower, Slot(chosen)));
            // The next leader may cut the entries after the commit index, and no chosen entry.
            let prev = at(0, 0);
            let term = Term(20);
            let append = Message::Append(Append {
                term,
                probe: 0,
                prev,
                run: run(1, 20, &["y"]),
                commit: Slot(0),
                digest: HistoryDigest::UNKNOWN,
            });
            cluster.inject(N3, N1, append);
            assert_eq!(cluster.commit_index(N1), chosen);
            let kept = if chosen == 0 { vec![20] } else { vec![1; 4] };
            assert_eq!(terms(&cluster.node(N1).disk.log), kept);
        }
    }
}

/// Related to row 45, without a row of its own.
#[test]
fn placed_ticket_is_not_refused_when_the_leader_steps_down() {
    let mut cluster = lone_leader(3, &[]);
    cluster.propose(N1, 1, "x");
    cluster.step(N1, Input::Stalled);
    assert_eq!(cluster.node(N1).outputs.placed, [(Ticket(1), Slot(2))]);
    assert_eq!(cluster.node(N1).outputs.refused, []);
}
