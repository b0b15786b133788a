//! Replication: Raft §5.3, §5.4.2, §8.

use crate::cluster::*;
use synod_consensus::{
    HistoryDigest, Input, Message as _, Observer, ProtocolEvent, Refusal, SendWindow, Write,
};
use synod_raft::{
    Append, AppendAck, AppendConflict, Commit, Heartbeat, HeartbeatAck, Limits, Message, Raft,
    Timer,
};
use synod_types::{NodeId, Slot, Term, Ticket};

#[test]
fn three_nodes_elect_and_replicate() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    cluster.propose(N1, 2, "b");
    cluster.deliver();
    for id in cluster.ids() {
        assert_eq!(cluster.commands(id), ["a", "b"], "{id:?}");
        assert_eq!(terms(&cluster.node(id).disk.log), [1, 1, 1]);
    }
}

/// A batch without faults costs six messages: two appends, two acknowledgements, two commit indexes.
#[test]
fn batch_on_three_nodes_takes_six_messages() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    let mut kinds = Vec::new();
    while let Some(flight) = cluster.wire.front() {
        let text = flight.message.describe();
        kinds.push(text.split('(').next().unwrap().to_owned());
        cluster.deliver_one();
    }
    kinds.sort();
    assert_eq!(kinds, ["Append", "Append", "AppendAck", "AppendAck", "Commit", "Commit"]);
}

/// §8: a new leader commits "a blank no-op entry into the log at the start of its term".
#[test]
fn new_leader_commits_a_no_op_at_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    for id in cluster.ids() {
        assert_eq!(cluster.commit_index(id), 1, "{id:?}");
        assert!(cluster.commands(id).is_empty());
    }
}

/// §5.3, fig. 2 "AppendEntries RPC" 2 to 4: the log must hold the previous entry, at any place. Equal
/// entries stay, and the first that differs is cut with all after it. The follower holds entries of terms
/// 1 1 2 2 and is in term 3, as its leader is.
#[test]
fn append_needs_its_previous_entry_and_cuts_only_entries_that_differ() {
    let held = [1, 1, 2, 2];
    type Reply = Result<u64, (u64, u64)>;
    let cases: [(_, _, Reply, Vec<u64>); 11] = [
        // (prev, run, acknowledged or hint, terms afterwards)
        (at(4, 2), run(5, 3, &["x"]), Ok(5), vec![1, 1, 2, 2, 3]),
        (at(4, 2), run(5, 2, &["x", "y"]), Ok(6), vec![1, 1, 2, 2, 2, 2]),
        // The previous entry is missing: the hint is the end of the log.
        (at(5, 3), run(6, 3, &["x"]), Err((4, 2)), held.to_vec()),
        (at(9, 2), run(10, 3, &["x"]), Err((4, 2)), held.to_vec()),
        // It has another term: the hint is the last entry whose term is not above it.
        (at(4, 3), run(5, 3, &["x"]), Err((4, 2)), held.to_vec()),
        (at(4, 1), run(5, 3, &["x"]), Err((2, 1)), held.to_vec()),
        // The log holds the entries: no write and no cut.
        (at(2, 1), run(3, 2, &["3@2"]), Ok(3), held.to_vec()),
        (at(0, 0), run(1, 1, &["1@1", "2@1"]), Ok(2), held.to_vec()),
        // Held entries and then a new one.
        (at(2, 1), run(3, 2, &["3@2", "4@2", "x"]), Ok(5), vec![1, 1, 2, 2, 2]),
        // A different entry: the log is cut from there.
        (at(2, 1), run(3, 3, &["x"]), Ok(3), vec![1, 1, 3]),
        (at(0, 0), run(1, 3, &["x"]), Ok(1), vec![3]),
    ];
    for (prev, run, reply, expected) in cases {
        let mut cluster = Cluster::from_disks(vec![(config(N1, 3), saved(3, None, &held))]);
        let case = format!("prev {prev}, {run:?}");
        let append = Message::Append(Append {
            term: Term(3),
            probe: 0,
            prev,
            run,
            commit: Slot(0),
            digest: HistoryDigest::UNKNOWN,
        });
        let answers = cluster.replies(N2, N1, append);
        let term = Term(3);
        let wanted = match reply {
            Ok(matched) => Message::AppendAck(AppendAck { term, probe: 0, matched: Slot(matched) }),
            Err((slot, stamp)) => Message::AppendConflict(AppendConflict {
                term,
                probe: 0,
                at: prev.slot,
                hint: at(slot, stamp),
            }),
        };
        assert_eq!(answers, [wanted], "{case}");
        assert_eq!(terms(&cluster.node(N1).disk.log), expected, "{case}");
        let cut = |note: &ProtocolEvent| matches!(note, ProtocolEvent::Truncated { .. });
        let is_cut = !expected.starts_with(&held);
        assert_eq!(cluster.node(N1).outputs.notes.iter().any(cut), is_cut, "{case}");
    }
}

/// Fig. 7: the logs of six followers that the leader of term 8 may find. All of them end equal to the
/// leader's.
#[test]
fn figure_7_every_follower_converges() {
    let leader = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6];
    let followers: [&[u64]; 6] = [
        &[1, 1, 1, 4, 4, 5, 5, 6, 6],
        &[1, 1, 1, 4],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        &[1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        &[1, 1, 1, 4, 4, 4, 4],
        &[1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ];
    for (index, follower) in followers.iter().enumerate() {
        // The third node gives the leader its majority.
        let mut cluster = Cluster::from_disks(vec![
            (config(N1, 3), saved(7, None, &leader)),
            (config(N2, 3), saved(7, None, follower)),
            (config(N3, 3), saved(7, None, &leader)),
        ]);
        cluster.elect(N1);
        for id in cluster.ids() {
            let mut expected = leader.to_vec();
            expected.push(8);
            assert_eq!(terms(&cluster.node(id).disk.log), expected, "follower {index}, {id:?}");
            assert_eq!(cluster.commit_index(id), 11, "follower {index}, {id:?}");
        }
    }
}

/// §5.3: "the protocol can be optimized to reduce the number of rejected AppendEntries RPCs": a
/// divergent tail costs at most a round trip for each term, not for each entry.
#[test]
fn divergent_tail_costs_one_conflict_for_each_term() {
    let tail = |term: u64| {
        let mut terms = vec![1; 3];
        terms.extend(std::iter::repeat_n(term, 500));
        terms
    };
    let mut cluster = Cluster::from_disks(vec![
        (config(N1, 3), saved(4, None, &tail(4))),
        (config(N2, 3), saved(4, None, &tail(2))),
        (config(N3, 3), saved(4, None, &tail(4))),
    ]);
    cluster.advance(1_000);
    cluster.timeout(N1, Timer::Election);
    let mut conflicts = 0;
    while let Some(flight) = cluster.wire.front() {
        conflicts += usize::from(matches!(flight.message, Message::AppendConflict(_)));
        cluster.deliver_one();
    }
    assert!(cluster.leads(N1));
    assert_eq!(terms(&cluster.node(N2).disk.log).len(), 504);
    assert_eq!(conflicts, 1, "the follower's hint names the end of term 1");
}

/// Fig. 8: an entry of term 2 on a majority is not committed by counting, because a later leader
/// may still overwrite it. It commits once an entry of the leader's own term does.
#[test]
fn figure_8_only_own_entries_commit_by_counting() {
    // (c): node 1 leads term 4 and brings the entry of term 2 to a majority.
    let start = || {
        let mut cluster = Cluster::from_disks(vec![
            (config(N1, 5), saved(3, None, &[1, 2])),
            (config(N2, 5), saved(3, None, &[1, 2])),
            (config(N3, 5), saved(3, None, &[1])),
            (config(N4, 5), saved(3, None, &[1])),
            (config(N5, 5), saved(3, Some(N5), &[1, 3])),
        ]);
        cluster.advance(1_000);
        cluster.timeout(N1, Timer::Election);
        cluster.cut = [(N1, N5), (N5, N1)].into();
        while !cluster.leads(N1) {
            assert!(cluster.deliver_one());
        }
        let no_op = |m: &Message| matches!(m, Message::Append(_));
        cluster.wire.retain(|flight| !no_op(&flight.message));
        cluster
    };
    let append = Message::Append(Append {
        term: Term(4),
        probe: 0,
        prev: at(1, 1),
        run: run(2, 2, &["2@2"]),
        commit: Slot(0),
        digest: HistoryDigest::UNKNOWN,
    });
    let mut cluster = start();
    for id in [N2, N3] {
        let answers = cluster.replies(N1, id, append.clone());
        assert_eq!(
            answers,
            [Message::AppendAck(AppendAck { term: Term(4), probe: 0, matched: Slot(2) })]
        );
        cluster.inject(id, N1, answers[0].clone());
    }
    assert_eq!(cluster.commit_index(N1), 0, "on three of five nodes, but not committed");
    // (d): node 5 may still be elected and overwrite it.
    let mut overwritten = cluster;
    overwritten.cut.clear();
    overwritten.wire.clear();
    overwritten.restart(N1);
    overwritten.advance(1_000);
    overwritten.elect(N5);
    assert_eq!(terms(&overwritten.node(N3).disk.log)[..2], [1, 3]);
    // (e): once an entry of its own term is on a majority, both are committed.
    let mut committed = start();
    committed.deliver();
    committed.heartbeat(N1);
    committed.heartbeat(N1);
    assert_eq!(committed.commit_index(N1), 3);
}

/// Fig. 2 "AppendEntries RPC" 5: the commit index is the lower of the leader's commit index and the last
/// verified entry, which is not the end of the follower's log.
#[test]
fn follower_commits_only_verified_entries() {
    let disk = saved(3, None, &[1, 1, 2, 2]);
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), disk)]);
    let term = Term(3);
    cluster.inject(N2, N1, Message::Commit(Commit { term, commit: Slot(4) }));
    assert_eq!(cluster.commit_index(N1), 0, "no entry is verified");
    let prev = at(2, 1);
    cluster.inject(N2, N1, Message::Heartbeat(Heartbeat { term, prev, commit: Slot(4), round: 0 }));
    assert_eq!(cluster.commit_index(N1), 2, "slots 3 and 4 may be an older leader's");
    let append = Message::Append(Append {
        term,
        probe: 0,
        prev,
        run: run(3, 3, &["x"]),
        commit: Slot(2),
        digest: HistoryDigest::UNKNOWN,
    });
    cluster.inject(N2, N1, append);
    assert_eq!(cluster.commit_index(N1), 3, "the commit index 4 is kept");
    // A new leader's commit index counts only up to the entries that it verified.
    cluster.inject(N3, N1, Message::Commit(Commit { term: Term(4), commit: Slot(3) }));
    let append = Message::Append(Append {
        term: Term(4),
        probe: 0,
        prev: at(3, 3),
        run: run(4, 4, &["y"]),
        commit: Slot(9),
        digest: HistoryDigest::UNKNOWN,
    });
    cluster.inject(N3, N1, append);
    assert_eq!(cluster.commit_index(N1), 4);
}

/// §5.5: "If a follower receives an AppendEntries request that includes log entries already
/// present in its log, it ignores those entries". An old append that arrives late cuts nothing.
#[test]
fn late_append_does_not_cut_acknowledged_entries() {
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), saved(1, None, &[]))]);
    let append = |prev, run| {
        Message::Append(Append {
            term: Term(1),
            probe: 0,
            prev,
            run,
            commit: Slot(0),
            digest: HistoryDigest::UNKNOWN,
        })
    };
    cluster.inject(N2, N1, append(at(0, 0), run(1, 1, &["a"])));
    cluster.inject(N2, N1, append(at(1, 1), run(2, 1, &["b", "c"])));
    let before = cluster.node(N1).disk.clone();
    cluster.inject(N2, N1, append(at(0, 0), run(1, 1, &["a"])));
    assert_eq!(cluster.node(N1).disk, before);
}

/// A leader never overwrites entries that it sent (§5.3, Leader Append-Only). If an append contradicts an
/// earlier one of the same term, it is ignored, and acknowledged entries stay.
#[test]
fn append_that_contradicts_an_earlier_one_of_its_leader_is_ignored() {
    let mut cluster = Cluster::from_disks(vec![(config(N1, 3), saved(3, None, &[1, 1]))]);
    let append = |prev, run| {
        Message::Append(Append {
            term: Term(3),
            probe: 0,
            prev,
            run,
            commit: Slot(0),
            digest: HistoryDigest::UNKNOWN,
        })
    };
    cluster.inject(N2, N1, append(at(2, 1), run(3, 2, &["a"])));
    let before = cluster.node(N1).disk.clone();
    assert_eq!(cluster.replies(N2, N1, append(at(2, 1), run(3, 3, &["b"]))), []);
    assert_eq!(cluster.node(N1).disk, before);
}

/// FAQ: heartbeats carry no entries. A probe detects lost entries, and only these are sent again.
#[test]
fn lost_append_is_detected_by_a_probe() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.propose(N1, 1, "a");
    assert_eq!(cluster.intercept(N1, N3).len(), 1, "lost");
    cluster.deliver();
    assert_eq!(cluster.commands(N3), Vec::<String>::new());
    cluster.heartbeat(N1);
    cluster.heartbeat(N1);
    assert_eq!(cluster.commands(N3), ["a"]);
    cluster.heartbeat(N1);
    cluster.timeout(N1, Timer::Heartbeat);
    let beat =
        Message::Heartbeat(Heartbeat { term: Term(1), prev: at(2, 1), commit: Slot(2), round: 0 });
    assert_eq!(cluster.intercept(N1, N3), [beat], "no probe, since no acknowledgement is overdue");
}

/// §5.3: only a reply to an append shows which entries a follower holds.
#[test]
fn heartbeat_reply_acknowledges_no_entries() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    let before = cluster.status(N1);
    cluster.partition(&[N1]);
    cluster.propose(N1, 1, "a");
    for peer in [N2, N3] {
        cluster.inject(peer, N1, Message::HeartbeatAck(HeartbeatAck { term: Term(1), round: 0 }));
    }
    let now = cluster.status(N1);
    assert_eq!(now.commit, before.commit);
    assert_eq!(now.progress[1..], before.progress[1..]);
}

/// The loss of any single message is repaired within a few heartbeats.
#[test]
fn loss_of_any_single_message_is_repaired() {
    for lost in 0..30 {
        let mut cluster = Cluster::new(3);
        cluster.advance(1_000);
        cluster.timeout(N1, Timer::Election);
        let mut count = 0;
        let mut events: Vec<&str> = vec!["beat", "b", "beat", "beat", "beat"];
        let mut proposed = false;
        loop {
            while let Some(flight) = cluster.wire.pop_front() {
                count += 1;
                if count - 1 != lost {
                    cluster.inject(flight.from, flight.to, flight.message);
                }
            }
            if !cluster.leads(N1) {
                // The lost message was of the election: the node campaigns again.
                cluster.advance(1_000);
                cluster.timeout(N1, Timer::Election);
            } else if !proposed {
                proposed = true;
                cluster.propose(N1, 1, "a");
            } else {
                match events.pop() {
                    None => break,
                    Some("beat") => {
                        cluster.advance(50);
                        cluster.timeout(N1, Timer::Heartbeat);
                    }
                    Some(command) => cluster.propose(N1, 2, command),
                }
            }
        }
        cluster.heartbeat(N1);
        for id in cluster.ids() {
            assert_eq!(cluster.commands(id), ["a", "b"], "message {lost} lost, {id:?}");
        }
    }
}

/// The window bounds the number of appends in flight. After an acknowledgement all entries that gathered
/// meanwhile leave in one append.
#[test]
fn window_bounds_appends_in_flight() {
    let limits = Limits { inflight_messages: 2, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    for ticket in 0..10 {
        cluster.propose(N1, ticket, "x");
    }
    let appends = cluster.intercept(N1, N2);
    assert_eq!(appends.len(), 2);
    for append in appends {
        cluster.inject(N1, N2, append);
    }
    let acks = cluster.intercept(N2, N1);
    cluster.inject(N2, N1, acks[0].clone());
    let more = cluster.intercept(N1, N2);
    let Some(Message::Append(Append { run, .. })) = more.first() else { panic!("{more:?}") };
    assert_eq!((run.first, run.values.len()), (Slot(4), 8), "all entries that had gathered");
}

/// The window bounds the bytes of frames in flight, and a run longer than one append is cut.
#[test]
fn window_bounds_bytes_in_flight() {
    let limits =
        Limits { append_bytes: 100, inflight_bytes: 999, command_bytes: 1000, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    for ticket in 0..20 {
        cluster.propose(N1, ticket, &"x".repeat(49));
    }
    let appends = cluster.intercept(N1, N2);
    let bytes: usize = appends
        .iter()
        .map(|message| match message {
            Message::Append(Append { run, .. }) => SendWindow::frame_bytes(&run.values),
            other => panic!("{other:?}"),
        })
        .sum();
    assert!((999..1250).contains(&bytes), "{bytes} bytes in {} appends", appends.len());
    for append in appends {
        cluster.inject(N1, N2, append);
    }
    cluster.deliver();
    assert_eq!(cluster.commands(N2).len(), 20);
}

/// Counts the messages of node 1 to itself.
struct Own(usize);

impl Observer<Raft> for Own {
    fn on_release(&mut self, _: &Raft, to: NodeId, _: &Message) {
        self.0 += usize::from(to == N1);
    }
}

/// The proposals between two flushes become runs that one append can carry whole, and all tickets are
/// placed in order.
#[test]
fn proposals_between_flushes_become_runs_of_bounded_size() {
    let limits = Limits { append_bytes: 100, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    cluster.node(N1).is_disk_hung = true;
    let propose = |n| Input::Propose { ticket: Ticket(n), command: vec![b'x'; 29].into() };
    cluster.step_all(N1, (0..9).map(propose));
    let (now, node) = (cluster.now, cluster.node(N1));
    let writes = node.sync_one().unwrap();
    let sizes = writes.iter().map(|logged| match &logged.write {
        Write::Put(run) => run.values.byte_len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(sizes.collect::<Vec<_>>(), [90, 90, 90]);
    let placed: Vec<_> = (0..9).map(|n| (Ticket(n), Slot(n + 2))).collect();
    assert_eq!(node.outputs.placed, placed);
    let mut own = Own(0);
    let _ = node.host.round(now, &mut own);
    assert_eq!(own.0, 1, "one acknowledgement to itself for all");
}

/// A leader searches back no further than what a follower has acknowledged, even if the follower claims
/// to have lost it.
#[test]
fn leader_never_searches_before_what_was_acknowledged() {
    let mut cluster = Cluster::new(3);
    cluster.elect(N1);
    cluster.partition(&[N3]);
    for ticket in 0..5 {
        cluster.propose(N1, ticket, "x");
    }
    cluster.inject(
        N3,
        N1,
        Message::AppendAck(AppendAck { term: Term(1), probe: 0, matched: Slot(3) }),
    );
    cluster.wire.clear();
    let conflict = Message::AppendConflict(AppendConflict {
        term: Term(1),
        probe: 0,
        at: Slot(5),
        hint: at(0, 0),
    });
    let answers = cluster.replies(N3, N1, conflict);
    let [Message::Append(Append { prev, .. })] = &answers[..] else { panic!("{answers:?}") };
    assert_eq!(prev.slot, Slot(3));
}

/// Uncommitted bytes are bounded: a proposal past the bound is refused as Busy, and commits make room.
#[test]
fn proposal_beyond_the_uncommitted_bytes_is_refused_as_busy() {
    let limits = Limits { uncommitted_bytes: 100, command_bytes: 60, ..Limits::default() };
    let mut cluster = Cluster::with_limits(3, &limits);
    cluster.elect(N1);
    for round in 0..50 {
        cluster.propose(N1, 4 * round, &"x".repeat(49));
        cluster.propose(N1, 4 * round + 1, &"x".repeat(49));
        cluster.propose(N1, 4 * round + 2, "x");
        let busy = (Ticket(4 * round + 2), Refusal::Busy);
        assert_eq!(cluster.node(N1).outputs.refused.last(), Some(&busy), "round {round}");
        cluster.deliver();
    }
    cluster.propose(N1, 999, &"x".repeat(61));
    let too_large = (Ticket(999), Refusal::TooLarge { limit: 60 });
    assert_eq!(cluster.node(N1).outputs.refused.last(), Some(&too_large));
    assert_eq!(cluster.commands(N1).len(), 100);
}

/// FAQ: A and B are partitioned from C, D and E, and clients write to both sides. The minority
/// commits no entry, and its entries are cut after the partition heals.
#[test]
fn partition_of_five_loses_nothing_that_was_chosen() {
    let mut cluster = Cluster::new(5);
    cluster.elect(N1);
    cluster.propose(N1, 1, "before");
    cluster.deliver();
    cluster.partition(&[N1, N2]);
    cluster.propose(N1, 2, "lost");
    cluster.deliver();
    assert_eq!(cluster.node(N1).outputs.placed.last(), Some(&(Ticket(2), Slot(3))));
    assert_eq!(cluster.commands(N1), ["before"], "placed, but not chosen");
    cluster.elect(N3);
    cluster.propose(N3, 3, "kept");
    cluster.deliver();
    cluster.timeout(N1, Timer::Heartbeat);
    assert!(!cluster.leads(N1), "the leader of the minority has stepped down");
    cluster.heal();
    cluster.heartbeat(N3);
    cluster.heartbeat(N3);
    for id in cluster.ids() {
        assert_eq!(cluster.commands(id), ["before", "kept"], "{id:?}");
        assert_eq!(terms(&cluster.node(id).disk.log), [1, 1, 2, 2], "{id:?}");
    }
}
