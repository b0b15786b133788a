//! Regression tests for bugs of other implementations, under their numbers in `docs/bugs.md`.

use crate::cluster::*;
use synod_basic_paxos::{Learn, Learned, Limits, Message, SingleDecree, Timer};
use synod_consensus::{Input, Protocol, Saved};
use synod_types::{Ballot, Slot};

type Single = synod_basic_paxos::Single;
type Many = synod_basic_paxos::Many;

#[test]
fn paxos_p01_reply_before_the_disk_has_it() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.node(N1).is_disk_hung = true;
    assert_eq!(cluster.replies(N2, N1, prepare(1, b(1, 2))), [], "the promise is not durable yet");
    cluster.restart(N1);
    assert_eq!(
        cluster.replies(N3, N1, prepare(1, b(1, 1).max(Ballot { round: 1, node: N3 }))),
        [promise(1, b(1, 3), None)],
        "the lost promise binds nothing"
    );
    cluster.node(N1).is_disk_hung = true;
    assert_eq!(cluster.replies(N3, N1, accept(1, b(1, 3), "a")), [], "the vote is not durable yet");
    cluster.restart(N1);
    let replies = cluster.replies(N2, N1, prepare(1, b(2, 2)));
    assert_eq!(replies, [promise(1, b(2, 2), None)], "the lost vote is not reported");
    cluster.replies(N2, N1, accept(1, b(2, 2), "b"));
    cluster.restart(N1);
    let replies = cluster.replies(N3, N1, prepare(1, b(3, 3)));
    assert_eq!(
        replies,
        [promise(1, b(3, 3), Some((b(2, 2), value("b"))))],
        "the acknowledged vote is reported"
    );
}

#[test]
fn paxos_p02_accept_does_not_raise_the_promise() {
    let mut cluster = alone::<Single>(Saved::default());
    assert_eq!(cluster.replies(N2, N1, accept(1, b(2, 2), "a")), [accepted(1, b(2, 2))]);
    let rejection = nack(1, b(1, 3), b(2, 2));
    assert_eq!(cluster.replies(N3, N1, prepare(1, b(1, 3))), std::slice::from_ref(&rejection));
    assert_eq!(cluster.replies(N3, N1, accept(1, b(1, 3), "b")), std::slice::from_ref(&rejection));
    cluster.restart(N1);
    assert_eq!(cluster.replies(N3, N1, prepare(1, b(1, 3))), [rejection], "after a restart, too");
}

#[test]
fn paxos_p03_stale_promise_counted() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.propose(N1, 1, "mine");
    assert_eq!(sent(&mut cluster), [prepare(1, b(1, 1))]);
    // Overtaken, and in its second round when the promise of the first arrives.
    cluster.inject(N2, N1, nack(1, b(1, 1), b(1, 3)));
    cluster.timeout(N1, Timer::Slot(S1));
    cluster.timeout(N1, Timer::Slot(S1));
    assert_eq!(sent(&mut cluster), [prepare(1, b(2, 1))]);
    cluster.inject(N3, N1, promise(1, b(1, 1), None));
    assert_eq!(sent(&mut cluster), [], "a promise of another ballot");
    cluster.inject(N3, N1, promise(1, b(2, 1), Some((b(1, 3), value("theirs")))));
    assert_eq!(sent(&mut cluster), [accept(1, b(2, 1), "theirs")]);
}

#[test]
fn paxos_p04_accept_above_the_promise_refused() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.inject(N2, N1, prepare(1, b(1, 2)));
    assert_eq!(cluster.replies(N3, N1, accept(1, b(5, 3), "a")), [accepted(1, b(5, 3))]);
}

#[test]
fn paxos_p05_ballot_reuse_after_restart() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.propose(N1, 1, "before");
    assert_eq!(sent(&mut cluster), [prepare(1, b(1, 1))]);
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    assert_eq!(sent(&mut cluster), [accept(1, b(1, 1), "before")]);
    cluster.restart(N1);
    cluster.propose(N1, 2, "after");
    assert_eq!(sent(&mut cluster), [prepare(1, b(2, 1))], "above its own durable promise");
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    assert_eq!(sent(&mut cluster), [], "a promise from before the restart");
}

#[test]
fn paxos_p05_prepare_is_sent_after_its_ballot_is_durable() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.node(N1).is_disk_hung = true;
    cluster.propose(N1, 1, "x");
    assert_eq!(sent(&mut cluster), []);
    cluster.sync(N1);
    assert_eq!(sent(&mut cluster), [prepare(1, b(1, 1))]);
}

#[test]
fn paxos_p06_one_ballot_two_values() {
    let mut cluster = alone::<Single>(Saved::default());
    assert_eq!(cluster.replies(N2, N1, accept(1, b(1, 2), "a")), [accepted(1, b(1, 2))]);
    assert_eq!(cluster.replies(N2, N1, accept(1, b(1, 2), "b")), [], "a faulty proposer");
    let vote = Some((b(1, 2), value("a")));
    assert_eq!(cluster.replies(N3, N1, prepare(1, b(2, 3))), [promise(1, b(2, 3), vote)]);
    // A proposer that retransmits sends the same value, also if other commands came since.
    let mut cluster = alone::<Single>(Saved::default());
    cluster.propose(N1, 1, "a");
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    cluster.propose(N1, 2, "b");
    sent(&mut cluster);
    cluster.timeout(N1, Timer::Slot(S1));
    assert_eq!(sent(&mut cluster), [accept(1, b(1, 1), "a")]);
}

#[test]
fn paxos_p07_largest_value_or_lowest_ballot_picked() {
    let cases = [
        (Some((b(1, 2), "z")), Some((b(2, 3), "a")), "a"),
        (Some((b(2, 3), "a")), Some((b(1, 2), "z")), "a"),
        (Some((b(2, 2), "a")), None, "a"),
        (None, None, "own"),
    ];
    for (second, third, expected) in cases {
        let members = members(5, 0);
        let config = synod_basic_paxos::Config::new(N1, members).unwrap();
        let mut cluster = Cluster::<Single>::from_disks(vec![(config, Saved::default())]);
        cluster.propose(N1, 1, "own");
        sent(&mut cluster);
        let vote = |vote: Option<(Ballot, &str)>| vote.map(|(ballot, text)| (ballot, value(text)));
        // Ballot 1.1 reaches no node in time; the votes are older than the ballot that finds them.
        cluster.inject(N2, N1, nack(1, b(1, 1), b(2, 3)));
        cluster.timeout(N1, Timer::Slot(S1));
        cluster.timeout(N1, Timer::Slot(S1));
        assert_eq!(sent(&mut cluster), [prepare(1, b(3, 1))]);
        cluster.inject(N2, N1, promise(1, b(3, 1), vote(second)));
        cluster.inject(N3, N1, promise(1, b(3, 1), vote(third)));
        assert_eq!(sent(&mut cluster), [accept(1, b(3, 1), expected)]);
    }
}

#[test]
fn paxos_p08_duplicate_reply_counted_twice() {
    let members = members(5, 0);
    let config = synod_basic_paxos::Config::new(N1, members).unwrap();
    let mut cluster = Cluster::<Single>::from_disks(vec![(config, Saved::default())]);
    cluster.propose(N1, 1, "x");
    sent(&mut cluster);
    for _ in 0..3 {
        cluster.inject(N2, N1, promise(1, b(1, 1), None));
    }
    assert_eq!(sent(&mut cluster), [], "two of five promised");
    cluster.inject(N3, N1, promise(1, b(1, 1), None));
    assert_eq!(sent(&mut cluster), [accept(1, b(1, 1), "x")]);
    for _ in 0..3 {
        cluster.inject(N2, N1, accepted(1, b(1, 1)));
    }
    assert_eq!(cluster.commit_index(N1), 0, "two of five voted");
    cluster.inject(N3, N1, accepted(1, b(1, 1)));
    assert_eq!(cluster.commit_index(N1), 1);
}

#[test]
fn paxos_p09_learner_mixes_ballots() {
    let mut cluster = alone::<Single>(Saved::default());
    cluster.propose(N1, 1, "x");
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    // The own acceptor votes in 1.1; then another proposer's Accept replaces the vote.
    cluster.inject(N3, N1, accept(1, b(5, 3), "y"));
    cluster.inject(N2, N1, nack(1, b(1, 1), b(5, 3)));
    cluster.timeout(N1, Timer::Slot(S1));
    cluster.timeout(N1, Timer::Slot(S1));
    sent(&mut cluster);
    cluster.inject(N2, N1, promise(1, b(6, 1), Some((b(5, 3), value("y")))));
    sent(&mut cluster);
    // The own vote counts for 6.1; a late vote for 1.1 does not.
    cluster.inject(N2, N1, accepted(1, b(1, 1)));
    assert_eq!(cluster.commit_index(N1), 0);
    cluster.inject(N2, N1, accepted(1, b(6, 1)));
    assert_eq!(cluster.chosen(N1), ["y"]);
}

#[test]
fn paxos_p10_learning_lowers_the_promise() {
    let votes = [(2, b(1, 2), "old")];
    let mut cluster = alone::<Many>(disk(0, &[(2, b(1, 2)), (3, b(4, 3))], &votes));
    cluster.inject(N2, N1, prepare(2, b(3, 2)));
    // Slots 1 to 3 were chosen elsewhere under low ballots. Slot 1 is not learnt here, so the chosen
    // part does not grow, and promises stay.
    cluster.inject(N2, N1, decided(2, "new"));
    let promised =
        |cluster: &Cluster<Many>, slot| cluster.nodes[&N1].disk.hard_state.promised(slot);
    assert_eq!(promised(&cluster, Slot(2)), b(3, 2));
    let late = accept(3, b(1, 2), "x");
    assert_eq!(cluster.replies(N2, N1, late.clone()), [nack(3, b(1, 2), b(4, 3))]);
    cluster.restart(N1);
    assert_eq!(promised(&cluster, Slot(3)), b(4, 3));
    assert_eq!(cluster.replies(N2, N1, late), [nack(3, b(1, 2), b(4, 3))]);
    let replies = cluster.replies(N2, N1, accept(2, b(9, 2), "other"));
    let learned =
        Message::Learned(Learned { first: Slot(2), values: value("new"), through: Slot(0) });
    assert_eq!(replies, [learned], "the learnt value is durable");
}

#[test]
fn paxos_p13_chosen_inferred_from_the_next_slot() {
    let mut cluster = alone::<Many>(disk(0, &[(1, b(1, 2))], &[(1, b(1, 2), "loser")]));
    cluster.inject(N3, N1, accept(2, b(1, 3), "next"));
    cluster.inject(N3, N1, decided(2, "next"));
    assert_eq!(cluster.commit_index(N1), 0, "slot 1 is not chosen because slot 2 is");
    cluster.inject(N3, N1, decided(1, "winner"));
    assert_eq!(cluster.chosen(N1), ["winner", "next"]);
}

#[test]
fn paxos_p14_trimmed_slots_reported_as_empty() {
    let votes = [(1, b(1, 2), "a"), (2, b(1, 2), "b"), (3, b(1, 2), "c")];
    let mut cluster = alone::<Many>(disk(3, &[], &votes));
    cluster.step(N1, Input::Compact { through: Slot(2) });
    assert_eq!(cluster.replies(N2, N1, prepare(1, b(7, 2))), [], "no promise without a vote");
    assert_eq!(cluster.node(N1).outputs.snapshots, [N2]);
    cluster.node(N1).outputs.snapshots.clear();
    assert_eq!(cluster.replies(N3, N1, Message::Learn(Learn { from: S1 })), []);
    assert_eq!(cluster.node(N1).outputs.snapshots, [N3]);
    let learned =
        Message::Learned(Learned { first: Slot(3), values: value("c"), through: Slot(3) });
    assert_eq!(cluster.replies(N2, N1, prepare(3, b(7, 2))), [learned]);
}

#[test]
fn paxos_p15_holes_never_filled() {
    let mut cluster = Cluster::<Many>::new(3);
    // n3 stops after n1 has voted in slots 1 and 3; no node received anything for slot 2.
    cluster.inject(N3, N1, accept(1, b(1, 3), "a"));
    cluster.inject(N3, N1, accept(3, b(1, 3), "c"));
    cluster.wire.clear();
    for _ in 0..2 {
        cluster.advance(100);
        cluster.timeout(N1, Timer::CatchUp);
        cluster.deliver_if(|flight| flight.from != N3 && flight.to != N3);
    }
    assert_eq!(cluster.chosen(N1), ["a", "noop", "c"]);
    assert_eq!(cluster.chosen(N2), ["a", "noop", "c"]);
}

#[test]
fn paxos_p16_lost_message_never_repeated() {
    for lost in 0..12 {
        let mut cluster = Cluster::<Many>::new(3);
        cluster.propose(N1, 1, "x");
        for count in 0.. {
            let Some(flight) = cluster.wire.pop_front() else { break };
            if count != lost {
                cluster.inject(flight.from, flight.to, flight.message);
            }
        }
        for _ in 0..4 {
            cluster.advance(100);
            cluster.timeout(N1, Timer::Slot(S1));
            cluster.deliver();
        }
        for _ in 0..4 {
            cluster.advance(100);
            for id in cluster.ids() {
                cluster.timeout(id, Timer::CatchUp);
                cluster.deliver();
            }
        }
        for id in cluster.ids() {
            assert_eq!(cluster.chosen(id), ["x"], "{id:?} with message {lost} lost");
        }
    }
}

#[test]
fn paxos_p17_ballots_are_accepted_from_their_owners_only() {
    let mut cluster = alone::<Single>(Saved::default());
    let foreign = prepare(1, b(9, 3));
    assert_eq!(cluster.replies(N2, N1, foreign), [], "the ballot of another node");
    cluster.propose(N1, 1, "x");
    assert_eq!(sent(&mut cluster), [prepare(1, b(1, 1))]);
}

#[test]
fn paxos_p18_compaction_waits_for_no_peer() {
    let mut cluster = Cluster::<Many>::new(3);
    let apart = |flight: &InFlight| flight.from != N3 && flight.to != N3;
    for ticket in 1..=20 {
        cluster.propose(N1, ticket, &format!("c{ticket}"));
        cluster.deliver_if(apart);
        for id in [N1, N2] {
            let through = Slot(cluster.commit_index(id));
            cluster.step(id, Input::Compact { through });
            assert_eq!(
                cluster.node(id).host.core().status().base,
                through,
                "n3 is down, and {id} compacts"
            );
        }
    }
    assert_eq!(cluster.commit_index(N1), 20);
    assert_eq!(cluster.node(N1).disk.log.byte_len(), 0);
    // n3 restarts, installs a snapshot, and votes with n1 in the next slot.
    cluster.advance(100);
    cluster.timeout(N3, Timer::CatchUp);
    cluster.deliver();
    assert!(cluster.node(N1).outputs.snapshots.contains(&N3));
    let base = cluster.node(N1).host.core().base_at(Slot(20)).expect("the base");
    cluster.step(N3, Input::Installed { base });
    assert_eq!(cluster.commit_index(N3), 20);
    cluster.propose(N1, 99, "without n2");
    cluster.deliver_if(|flight| flight.from != N2 && flight.to != N2);
    assert_eq!((cluster.commit_index(N1), cluster.commit_index(N3)), (21, 21));
    assert_eq!(cluster.chosen(N3), ["without n2"]);
}

#[test]
fn paxos_p20_duelling_proposers() {
    // The duel is in `livelock`; this is the random backoff of the loser.
    let mut cluster = alone::<Single>(Saved::default());
    cluster.propose(N1, 1, "x");
    let mut bounds = Vec::new();
    for round in 0..4 {
        let own = b(2 * round + 1, 1);
        assert_eq!(sent(&mut cluster), [prepare(1, own)]);
        cluster.inject(N2, N1, nack(1, own, b(2 * round + 2, 2)));
        cluster.inject(N3, N1, nack(1, own, b(2 * round + 2, 2)));
        assert_eq!(sent(&mut cluster), [], "not at once");
        let wait = cluster.node(N1).timers[&Timer::Slot(S1)].range.clone();
        assert!(wait.start.is_zero(), "full jitter");
        bounds.push(wait.end.as_millis());
        cluster.timeout(N1, Timer::Slot(S1));
    }
    assert_eq!(bounds, [20, 40, 80, 160], "from twice a round trip on");
}

#[test]
fn request_beyond_the_window_is_not_promised_and_starts_catch_up() {
    let limits = Limits { window: 4, ..Limits::default() };
    let config = config(N1, 3).with_limits(limits).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    let learn = Message::Learn(Learn { from: S1 });
    assert_eq!(
        cluster.replies(N2, N1, prepare(5, b(1, 2))),
        [learn],
        "slots 1 to 4 are its window"
    );
    assert_eq!(cluster.replies(N2, N1, prepare(4, b(1, 2))), [promise(4, b(1, 2), None)]);
    assert_eq!(cluster.nodes[&N1].disk.hard_state.promises().count(), 1);
}

#[test]
fn second_value_of_a_decree_is_refused() {
    let mut cluster = Cluster::<Single>::new(3);
    cluster.propose(N1, 1, "first");
    cluster.propose(N1, 2, "second");
    cluster.deliver();
    cluster.propose(N2, 3, "third");
    assert_eq!(cluster.node(N1).outputs.placed, [(synod_types::Ticket(1), S1)]);
    assert_eq!(cluster.node(N1).outputs.refused[0].0, synod_types::Ticket(2));
    assert_eq!(cluster.node(N2).outputs.refused[0].0, synod_types::Ticket(3));
    for id in cluster.ids() {
        assert_eq!(cluster.chosen(id), ["first"]);
    }
    assert_eq!(SingleDecree::NAME, "decree");
}
