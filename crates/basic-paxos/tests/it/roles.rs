//! Roles alone, by the rules of "Paxos Made Simple".

use crate::cluster::{N1, N2, N3, b, members};
use proptest::prelude::*;
use std::collections::BTreeMap;
use synod_basic_paxos::consensus::Quorum;
use synod_basic_paxos::{Acceptor, Awaiting, Backoff, Learner, Proposer, Verdict};
use synod_types::{Ballot, NodeId};

const YES: Verdict = Verdict::Granted { changed: true };
const AGAIN: Verdict = Verdict::Granted { changed: false };

fn no(round: u64, node: u64) -> Verdict {
    Verdict::Rejected { promised: b(round, node) }
}

enum Request {
    Prepare(Ballot),
    Accept(Ballot, &'static str),
}

#[test]
fn acceptor_follows_p1a() {
    use Request::{Accept, Prepare};
    // PMS §2.2: "An acceptor can accept a proposal numbered n iff it has not responded to a prepare
    // request having a number greater than n." The last ACCEPTED ballot does not matter.
    let cases: Vec<(&str, Vec<(Request, Verdict)>)> = vec![
        ("the first Prepare", vec![(Prepare(b(1, 1)), YES)]),
        ("again: granted, not written", vec![(Prepare(b(1, 1)), YES), (Prepare(b(1, 1)), AGAIN)]),
        ("the node breaks the tie", vec![(Prepare(b(1, 2)), YES), (Prepare(b(1, 1)), no(1, 2))]),
        ("lower Prepare", vec![(Prepare(b(2, 1)), YES), (Prepare(b(1, 3)), no(2, 1))]),
        ("Accept as promised", vec![(Prepare(b(1, 1)), YES), (Accept(b(1, 1), "a"), YES)]),
        ("Accept without a promise", vec![(Accept(b(1, 1), "a"), YES)]),
        ("Accept above the promise", vec![(Prepare(b(1, 1)), YES), (Accept(b(2, 2), "a"), YES)]),
        ("Accept below it", vec![(Prepare(b(2, 2)), YES), (Accept(b(1, 1), "a"), no(2, 2))]),
        ("Accept raises it", vec![(Accept(b(2, 2), "a"), YES), (Prepare(b(2, 1)), no(2, 2))]),
        ("Accept again", vec![(Accept(b(1, 1), "a"), YES), (Accept(b(1, 1), "a"), AGAIN)]),
        (
            "two values under one ballot",
            vec![(Accept(b(1, 1), "a"), YES), (Accept(b(1, 1), "b"), Verdict::Contradiction)],
        ),
        (
            "a later vote replaces it",
            vec![(Accept(b(1, 1), "a"), YES), (Accept(b(2, 2), "b"), YES)],
        ),
        (
            "a promise above the last vote",
            vec![
                (Accept(b(1, 1), "a"), YES),
                (Prepare(b(3, 3)), YES),
                (Prepare(b(2, 2)), no(3, 3)),
                (Accept(b(2, 2), "b"), no(3, 3)),
            ],
        ),
        (
            "its own ballot again, after the vote: the vote is reported",
            vec![(Accept(b(1, 1), "a"), YES), (Prepare(b(1, 1)), AGAIN)],
        ),
    ];
    for (name, steps) in cases {
        let mut acceptor = Acceptor::new();
        for (index, (request, expected)) in steps.into_iter().enumerate() {
            let verdict = match request {
                Prepare(ballot) => acceptor.prepare(ballot),
                Accept(ballot, value) => acceptor.accept(ballot, value),
            };
            assert_eq!(verdict, expected, "{name}, step {index}");
        }
    }
}

#[test]
fn acceptor_recovers_its_promise_and_vote() {
    let vote = Some((b(3, 1), "a"));
    let mut acceptor = Acceptor::restored(b(2, 2), vote);
    assert_eq!(acceptor.promised(), b(3, 1), "a vote is a promise");
    assert_eq!(acceptor.prepare(b(2, 9)), no(3, 1));
    assert_eq!(acceptor.accepted(), Some(&(b(3, 1), "a")));
}

#[test]
fn proposer_takes_the_value_of_the_highest_numbered_vote() {
    // PMS §2.2, phase 2 (a): "v is the value of the highest-numbered proposal among the responses,
    // or is any value if the responses reported no proposals."
    type Votes = [Option<(Ballot, &'static str)>; 3];
    let cases: [(&str, Votes, &str); 5] = [
        ("free", [None, None, None], "own"),
        ("one vote", [None, Some((b(1, 1), "z")), None], "z"),
        ("not the largest value", [Some((b(1, 1), "z")), Some((b(2, 2), "a")), None], "a"),
        ("not the latest reply", [Some((b(2, 2), "a")), Some((b(1, 3), "z")), None], "a"),
        ("the node breaks the tie", [Some((b(2, 1), "y")), Some((b(2, 2), "a")), None], "a"),
    ];
    for (name, votes, expected) in cases {
        let mut proposer = Proposer::new(NodeId(9), members(5, 0), "own");
        proposer.observe(b(4, 4));
        let ballot = proposer.prepare();
        assert_eq!(ballot, b(5, 9), "above every observed ballot");
        let mut value = None;
        for (index, vote) in votes.into_iter().enumerate() {
            assert_eq!(value, None, "{name}: three of five are needed");
            value = proposer.on_promise(NodeId(1 + index as u64), ballot, vote);
        }
        assert_eq!(value, Some(expected), "{name}");
        assert_eq!(proposer.awaiting(), Awaiting::Votes(&expected));
        let late = proposer.on_promise(NodeId(4), ballot, Some((b(4, 4), "late")));
        assert_eq!(late, None, "{name}: the value of a ballot stays");
    }
}

#[test]
fn rejection_ends_a_ballot_only_when_no_majority_is_left() {
    let mut proposer = Proposer::new(N1, members(5, 0), "own");
    let ballot = proposer.prepare();
    assert!(!proposer.on_nack(N2, ballot, b(7, 2)));
    assert!(!proposer.on_nack(N2, ballot, b(7, 2)), "the same node again");
    assert!(!proposer.on_nack(NodeId(8), ballot, b(8, 8)), "a non-member");
    assert!(!proposer.on_nack(N3, ballot, b(7, 2)));
    assert_eq!(proposer.unanswered(), [N1, NodeId(4), NodeId(5)]);
    assert!(proposer.on_nack(NodeId(4), ballot, b(7, 2)), "two of five are left");
    assert_eq!(proposer.prepare(), b(9, 1), "above every ballot, even a non-member's");
    assert!(!proposer.was_rejected(), "a new ballot has no replies");
    assert!(!proposer.on_nack(NodeId(5), ballot, b(7, 2)), "a rejection of the old ballot");
    assert!(!proposer.was_rejected());
}

#[test]
fn each_phase_has_its_own_quorum() {
    let quorum = Quorum::flexible(&members(5, 0), 4, 2).unwrap();
    let mut proposer = Proposer::new(N1, quorum, "own");
    let ballot = proposer.prepare();
    for voter in 1..=3 {
        assert_eq!(proposer.on_promise(NodeId(voter), ballot, None), None, "four must promise");
    }
    assert!(!proposer.on_nack(NodeId(5), ballot, b(7, 5)), "the fourth may still promise");
    assert!(proposer.on_nack(NodeId(4), ballot, b(7, 5)), "three are left");
    let ballot = proposer.prepare();
    let promises = (1..=4).map(|voter| proposer.on_promise(NodeId(voter), ballot, None));
    assert_eq!(promises.last(), Some(Some("own")));
    for voter in [1, 2, 3] {
        assert!(!proposer.on_nack(NodeId(voter), ballot, b(9, 5)), "two may still vote");
    }
    assert_eq!(proposer.on_accepted(NodeId(4), ballot), None);
    assert_eq!(proposer.on_accepted(NodeId(5), ballot), Some("own"), "two votes are enough");
}

#[test]
fn acceptors_that_answered_receive_no_retransmission() {
    let mut proposer = Proposer::new(N1, members(3, 0), "own");
    assert_eq!(proposer.unanswered(), [], "no request was sent");
    let ballot = proposer.prepare();
    assert_eq!(proposer.unanswered(), [N1, N2, N3]);
    assert_eq!(proposer.on_promise(N2, ballot, None), None);
    assert_eq!(proposer.unanswered(), [N1, N3]);
    assert_eq!(proposer.on_promise(N3, ballot, None), Some("own"));
    assert_eq!(proposer.unanswered(), [N1, N2, N3], "a promise is no vote");
    assert_eq!(proposer.on_accepted(N2, ballot), None);
    assert_eq!(proposer.unanswered(), [N1, N3]);
    assert_eq!(proposer.on_accepted(N3, ballot), Some("own"));
    assert_eq!(proposer.unanswered(), [], "it is chosen");
}

#[test]
fn learner_counts_votes_by_ballot() {
    // PMS §2.3: chosen is what a majority of acceptors accepted as ONE proposal.
    type Votes = Vec<(u64, Ballot, &'static str)>;
    let cases: Vec<(&str, Votes, Option<&str>)> = vec![
        ("one vote proves nothing", vec![(1, b(1, 1), "a")], None),
        ("two of three", vec![(1, b(1, 1), "a"), (2, b(1, 1), "a")], Some("a")),
        ("a repetition", vec![(1, b(1, 1), "a"), (1, b(1, 1), "a")], None),
        ("two ballots", vec![(1, b(1, 1), "a"), (2, b(2, 2), "a")], None),
        ("a non-member", vec![(1, b(1, 1), "a"), (7, b(1, 1), "a")], None),
        (
            "a delayed older vote",
            vec![(1, b(2, 2), "b"), (1, b(1, 1), "a"), (2, b(1, 1), "a")],
            None,
        ),
        (
            "a vote under a higher ballot",
            vec![(1, b(1, 1), "a"), (1, b(2, 2), "b"), (2, b(2, 2), "b")],
            Some("b"),
        ),
    ];
    for (name, votes, expected) in cases {
        let mut learner = Learner::new(members(3, 0));
        for (node, ballot, value) in votes {
            learner.on_accepted(NodeId(node), ballot, value);
        }
        assert_eq!(learner.chosen().copied(), expected, "{name}");
    }
}

#[test]
fn chosen_value_is_kept() {
    let mut learner = Learner::new(members(3, 0));
    assert!(learner.on_chosen_value("a"));
    assert!(learner.on_chosen_value("a"), "again");
    assert!(!learner.on_chosen_value("b"), "another value contradicts it");
    assert_eq!(learner.on_accepted(N1, b(9, 1), "b"), None);
    assert_eq!(learner.chosen(), Some(&"a"));
}

#[test]
fn backoff_doubles_up_to_its_cap_and_begins_at_zero() {
    let ms = std::time::Duration::from_millis;
    let mut backoff = Backoff::default();
    let mut bounds = Vec::new();
    for _ in 0..40 {
        backoff.fail();
        let range = backoff.range(ms(10), ms(100));
        assert_eq!(range.start, ms(0), "full jitter");
        bounds.push(range.end);
    }
    assert_eq!(bounds[..5], [ms(20), ms(40), ms(80), ms(100), ms(100)]);
    assert_eq!((bounds[39], backoff.failures()), (ms(100), 40));
}

/// Event between three proposers and three acceptors.
#[derive(Clone, Debug)]
enum Event {
    Begin(usize),
    Deliver(usize),
    Duplicate(usize),
    Lose(usize),
    Restart(usize),
}

#[derive(Clone, Debug)]
enum Flight {
    Prepare(usize, Ballot, usize),
    Promise(usize, Ballot, usize, Option<(Ballot, usize)>),
    Accept(usize, Ballot, usize, usize),
    Accepted(usize, Ballot, usize),
    Nack(usize, Ballot, usize, Ballot),
}

/// Runs the roles on these events. Returns every value that a proposer finds chosen.
fn run_events(events: &[Event]) -> Vec<usize> {
    let fresh = |id: usize| Proposer::new(NodeId(id as u64 + 1), members(3, 0), id);
    let mut proposers: Vec<_> = (0..3).map(fresh).collect();
    let mut acceptors: Vec<Acceptor<usize>> = vec![Acceptor::new(); 3];
    let (mut wire, mut chosen) = (Vec::new(), Vec::new());
    for event in events {
        let flight = match event {
            Event::Begin(id) => {
                // Its own acceptor's promise is written first, as on a real node.
                proposers[*id].observe(acceptors[*id].promised());
                let ballot = proposers[*id].prepare();
                assert!(ballot > acceptors[*id].promised(), "never used before");
                acceptors[*id].prepare(ballot);
                wire.extend((0..3).map(|to| Flight::Prepare(*id, ballot, to)));
                continue;
            }
            Event::Restart(id) => {
                proposers[*id] = fresh(*id);
                continue;
            }
            Event::Deliver(at) | Event::Duplicate(at) | Event::Lose(at) => {
                if wire.is_empty() {
                    continue;
                }
                let at = at % wire.len();
                match event {
                    Event::Duplicate(_) => wire[at].clone(),
                    Event::Lose(_) => {
                        wire.swap_remove(at);
                        continue;
                    }
                    _ => wire.swap_remove(at),
                }
            }
        };
        match flight {
            Flight::Prepare(from, ballot, to) => wire.push(match acceptors[to].prepare(ballot) {
                Verdict::Rejected { promised } => Flight::Nack(from, ballot, to, promised),
                _ => Flight::Promise(from, ballot, to, acceptors[to].accepted().copied()),
            }),
            Flight::Promise(from, ballot, to, vote) => {
                let value = proposers[from].on_promise(NodeId(to as u64 + 1), ballot, vote);
                let accept = |value| (0..3).map(move |to| Flight::Accept(from, ballot, to, value));
                wire.extend(value.into_iter().flat_map(accept));
            }
            Flight::Accept(from, ballot, to, value) => {
                wire.push(match acceptors[to].accept(ballot, value) {
                    Verdict::Granted { .. } => Flight::Accepted(from, ballot, to),
                    Verdict::Rejected { promised } => Flight::Nack(from, ballot, to, promised),
                    Verdict::Contradiction => panic!("{ballot} has two values"),
                });
            }
            Flight::Accepted(from, ballot, to) => {
                chosen.extend(proposers[from].on_accepted(NodeId(to as u64 + 1), ballot));
            }
            Flight::Nack(from, ballot, to, promised) => {
                proposers[from].on_nack(NodeId(to as u64 + 1), ballot, promised);
            }
        }
    }
    chosen
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..3_usize).prop_map(Event::Begin),
        30 => any::<usize>().prop_map(Event::Deliver),
        3 => any::<usize>().prop_map(Event::Duplicate),
        2 => any::<usize>().prop_map(Event::Lose),
        1 => (0..3_usize).prop_map(Event::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_chooses_one_value(events in prop::collection::vec(event(), 1..200)) {
        let chosen = run_events(&events);
        let by_value: BTreeMap<_, ()> = chosen.iter().map(|value| (value, ())).collect();
        prop_assert!(by_value.len() <= 1, "{chosen:?}");
    }
}

#[test]
fn lone_proposer_gets_its_value_chosen() {
    let mut events = vec![Event::Begin(1)];
    events.extend(vec![Event::Deliver(0); 20]);
    assert_eq!(run_events(&events), [1]);
}
