//! Catch-up: chosen values that a node learns, sends and requests, to the slot and to the byte.

use crate::cluster::*;
use synod_basic_paxos::{Arity, Chosen, Config, Learn, Learned, Limits, Message, PaxosLog};
use synod_consensus::{
    FatalError, IgnoreReason, Input, Protocol, ProtocolEvent, Run, RunLog, Saved, Write,
};
use synod_types::{Ballot, NodeId, Slot, Value, Values};

type Single = synod_basic_paxos::Single;
type Many = synod_basic_paxos::Many;
/// Commands of consecutive slots.
type Texts = &'static [&'static str];
/// Runs of slots, each under one ballot.
type Runs = &'static [Texts];

fn batch(texts: &[&str]) -> Values {
    let value = |text: &&str| match *text {
        "noop" => Value::Noop,
        text => Value::Command(text.as_bytes().to_vec().into()),
    };
    texts.iter().map(value).collect()
}

/// Builds a log of consecutive runs, each under a ballot of its own.
fn log(runs: Runs) -> RunLog<Ballot> {
    let mut log = RunLog::default();
    for (run, round) in runs.iter().zip(1..) {
        log.put(Run { first: log.last().next(), stamp: b(round, 2), values: batch(run) });
    }
    log
}

fn with_log<K: Arity>(chosen: u64, runs: Runs, limits: Limits) -> Cluster<K> {
    let log = log(runs);
    let promises = (chosen + 1..=log.last().0).map(|slot| (slot, b(9, 2)));
    let promises: Vec<_> = promises.collect();
    let saved = Saved { log, ..disk(chosen, &promises, &[]) };
    let config = config(N1, 3).with_limits(limits).unwrap();
    Cluster::from_disks(vec![(config, saved)])
}

fn learned(first: u64, texts: &[&str], through: u64) -> Message {
    Message::Learned(Learned { first: Slot(first), values: batch(texts), through: Slot(through) })
}

fn ignored<K: Arity>(cluster: &mut Cluster<K>) -> Vec<IgnoreReason> {
    let notes = std::mem::take(&mut cluster.node(N1).outputs.notes).into_iter();
    let reason = |note| match note {
        ProtocolEvent::Ignored { reason, .. } => Some(reason),
        _ => None,
    };
    notes.filter_map(reason).collect()
}

#[test]
fn reply_carries_chosen_values_up_to_its_limit() {
    let one: Runs = &[&["a", "b", "c"]];
    let each: Runs = &[&["a"], &["b"], &["c"]];
    let long: Runs = &[&["a"], &["long"], &["c"]];
    let tail: Runs = &[&["a", "b", "c"], &["noop"]];
    // A value takes a byte more than its command, a no-op takes one.
    let cases: [(&str, Runs, u64, usize, Texts); 17] = [
        ("one run, far too little room", one, 3, 1, &["a"]),
        ("one run, room for one", one, 3, 3, &["a"]),
        ("one run, room for two", one, 3, 4, &["a", "b"]),
        ("one run, room for all", one, 3, 6, &["a", "b", "c"]),
        ("one run, two are chosen", one, 2, 100, &["a", "b"]),
        ("one run, one is chosen", one, 1, 100, &["a"]),
        ("three runs, far too little room", each, 3, 1, &["a"]),
        ("three runs, room for one", each, 3, 3, &["a"]),
        ("three runs, room for two", each, 3, 4, &["a", "b"]),
        ("three runs, room for all", each, 3, 6, &["a", "b", "c"]),
        ("three runs, two are chosen", each, 2, 100, &["a", "b"]),
        ("a long value does not fit after it", long, 3, 6, &["a"]),
        ("a long value fits after it", long, 3, 7, &["a", "long"]),
        ("no value is skipped", tail, 4, 5, &["a", "b"]),
        ("the last value fits, too", tail, 4, 7, &["a", "b", "c", "noop"]),
        ("the last value does not fit", tail, 4, 6, &["a", "b", "c"]),
        ("the last value is not chosen", tail, 3, 100, &["a", "b", "c"]),
    ];
    for (name, runs, chosen, bytes, expected) in cases {
        let limits = Limits { catch_up_bytes: bytes, ..Limits::default() };
        let mut cluster = with_log::<Many>(chosen, runs, limits);
        let replies = cluster.replies(N2, N1, Message::Learn(Learn { from: S1 }));
        assert_eq!(replies[0], learned(1, expected, chosen), "{name}");
        // Up to four messages are sent at once, or all chosen values.
        let mut next = S1;
        for reply in &replies {
            let Message::Learned(Learned { first, values, .. }) = reply else { panic!("{name}") };
            assert_eq!(*first, next, "{name}");
            next = next.plus(values.len());
        }
        assert!(replies.len() == 4 || next > Slot(chosen), "{name}: {replies:?}");
    }
}

#[test]
fn learn_is_answered_by_chosen_values_or_by_a_learn() {
    let mut cluster = with_log::<Many>(2, &[&["a", "b", "c"]], Limits::default());
    let learn = |slot| Message::Learn(Learn { from: Slot(slot) });
    assert_eq!(cluster.replies(N2, N1, learn(2)), [learned(2, &["b"], 2)]);
    assert_eq!(cluster.replies(N2, N1, learn(3)), [], "both have the same chosen slots");
    assert_eq!(cluster.replies(N2, N1, learn(4)), [learn(3)], "n2 is ahead");
}

#[test]
fn snapshot_is_offered_for_compacted_slots_only() {
    let mut cluster = with_log::<Many>(3, &[&["a", "b", "c"]], Limits::default());
    cluster.step(N1, Input::Compact { through: Slot(2) });
    assert_eq!(cluster.replies(N2, N1, Message::Learn(Learn { from: Slot(2) })), []);
    assert_eq!(cluster.node(N1).outputs.snapshots, [N2]);
    let replies = cluster.replies(N2, N1, Message::Learn(Learn { from: Slot(3) }));
    assert_eq!(replies, [learned(3, &["c"], 3)]);
    assert_eq!(cluster.node(N1).outputs.snapshots, [N2]);
}

#[test]
fn restarted_node_emits_chosen_slots_and_no_votes() {
    let cases: [(Runs, u64, Texts); 5] = [
        (&[&["a", "b", "c"]], 2, &["a", "b"]),
        (&[&["a", "b", "c"]], 3, &["a", "b", "c"]),
        (&[&["a"], &["b"], &["c"]], 2, &["a", "b"]),
        (&[&["a"], &["b", "c"]], 2, &["a", "b"]),
        (&[&["a"], &["b"], &["c"]], 3, &["a", "b", "c"]),
    ];
    for (runs, chosen, expected) in cases {
        let cluster = with_log::<Many>(chosen, runs, Limits::default());
        assert_eq!(cluster.chosen(N1), expected, "{runs:?} through {chosen}");
    }
}

#[test]
fn values_after_a_gap_are_kept_within_the_window() {
    let learn = |slot| vec![Message::Learn(Learn { from: Slot(slot) })];
    let four = ["w", "x", "y", "z"];
    let five = ["v", "w", "x", "y", "z"];
    // First slot, values, the requests sent in return, and the commit index afterwards.
    let cases: [(u64, &[&str], Vec<Message>, u64); 5] = [
        (1, &five, vec![], 5),
        (2, &four, learn(1), 0),
        (2, &four[..3], vec![], 0),
        (5, &four[..1], learn(1), 0),
        (4, &four[..1], vec![], 0),
    ];
    for (first, texts, requested, commit) in cases {
        let limits = Limits { window: 4, ..Limits::default() };
        let mut cluster = with_log::<Many>(0, &[], limits);
        let replies = cluster.replies(N2, N1, learned(first, texts, commit));
        assert_eq!(
            (replies, cluster.commit_index(N1)),
            (requested.clone(), commit),
            "{first}: {texts:?}"
        );
        // A learnt value is chosen: a node that proposes in its slot receives it.
        let replies = cluster.replies(N2, N1, prepare(first + texts.len() as u64 - 1, b(1, 2)));
        let is_learned = matches!(replies.as_slice(), [Message::Learned(_)]);
        assert_eq!(is_learned, requested.is_empty(), "{first}: {texts:?}");
    }
}

#[test]
fn node_requests_slots_that_peers_know_to_be_chosen() {
    let mut cluster = with_log::<Many>(0, &[], Limits::default());
    assert_eq!(cluster.replies(N2, N1, learned(1, &["a"], 1)), []);
    let requested = cluster.replies(N2, N1, learned(2, &["b"], 9));
    assert_eq!(requested, [Message::Learn(Learn { from: Slot(3) })]);
    let mut single = with_log::<Single>(0, &[], Limits::default());
    assert_eq!(single.replies(N2, N1, learned(1, &["a"], 9)), [], "there is only one decree");
    assert_eq!(single.commit_index(N1), 1);
}

#[test]
fn decree_has_one_slot() {
    let mut cluster = with_log::<Single>(0, &[], Limits::default());
    assert_eq!(cluster.replies(N2, N1, learned(1, &["a", "b"], 1)), []);
    assert_eq!(
        (ignored(&mut cluster), cluster.commit_index(N1)),
        (vec![IgnoreReason::NoSuchSlot], 0)
    );
    cluster.inject(N2, N1, learned(1, &["a"], 1));
    assert_eq!((ignored(&mut cluster), cluster.commit_index(N1)), (vec![], 1));
    assert_eq!((Single::SLOTS, Many::SLOTS), (1, 4_611_686_018_427_387_903));
}

#[test]
fn contradiction_is_reported_and_values_after_it_are_rejected() {
    let mut cluster = with_log::<Many>(2, &[&["a", "b"]], Limits::default());
    cluster.inject(N2, N1, learned(2, &["x", "c"], 3));
    let found = Some(FatalError::Contradicted { slot: Slot(2), by: N2 });
    assert_eq!(cluster.node(N1).outputs.fatal, found);
    assert_eq!(cluster.node(N1).host.core().status().last, Slot(2));
    assert_eq!(cluster.chosen(N1), ["a", "b"]);
    cluster.restart(N1);
    cluster.inject(N2, N1, learned(1, &["a", "b", "c"], 3));
    assert_eq!((ignored(&mut cluster), cluster.chosen(N1).len()), (vec![], 3));
    assert_eq!(cluster.nodes[&N1].outputs.fatal, None);
}

#[test]
fn compacted_slots_count_as_known() {
    let mut cluster = with_log::<Many>(3, &[&["a", "b", "c"]], Limits::default());
    cluster.step(N1, Input::Compact { through: Slot(2) });
    cluster.inject(N2, N1, learned(1, &["a", "b", "c", "d"], 4));
    assert_eq!((ignored(&mut cluster), cluster.commit_index(N1)), (vec![], 4));
}

/// Returns the writes of one message.
fn writes<K: Arity>(saved: Saved<PaxosLog<K>>, message: Message) -> Vec<Write<PaxosLog<K>>> {
    let mut cluster = alone(saved);
    cluster.node(N1).writes.clear();
    cluster.inject(N2, N1, message);
    std::mem::take(&mut cluster.node(N1).writes)
}

#[test]
fn only_new_values_are_written_and_a_vote_for_a_chosen_value_stays() {
    let saved =
        disk::<Many>(0, &[(2, b(1, 2)), (5, b(1, 2))], &[(2, b(1, 2), "b"), (5, b(1, 2), "q")]);
    let put = |first, texts: &[&str]| {
        Write::Put(Run { first: Slot(first), stamp: Ballot::CHOSEN, values: batch(texts) })
    };
    let written = writes(saved.clone(), learned(1, &["a", "b", "c", "d", "e", "f"], 6));
    assert_eq!(written, [put(1, &["a"]), put(3, &["c", "d", "e", "f"])]);
    assert_eq!(writes(saved.clone(), learned(2, &["b"], 2)), [], "all values are on disk");
    let mut known = saved;
    known.log.put(Run { first: Slot(3), stamp: Ballot::CHOSEN, values: batch(&["c"]) });
    let written = writes(known, learned(2, &["b", "c", "d"], 4));
    assert_eq!(written, [put(4, &["d"])]);
}

#[test]
fn vote_at_the_promised_ballot_writes_no_second_promise() {
    let promised = disk::<Many>(0, &[(1, b(3, 2))], &[]);
    let vote = Write::Put(Run { first: S1, stamp: b(3, 2), values: value("x") });
    assert_eq!(writes(promised.clone(), accept(1, b(3, 2), "x")), [vote]);
    assert_eq!(
        writes(promised.clone(), accept(1, b(4, 2), "x")).len(),
        2,
        "a higher one writes the promise, too"
    );
    assert_eq!(writes(promised, prepare(1, b(3, 2))), [], "a repeated promise needs no write");
}

#[test]
fn message_of_a_sender_without_the_role_is_ignored() {
    let learner = NodeId(4);
    let settings = |id| Config::new(id, members(3, 1)).unwrap();
    let not_a_member = IgnoreReason::NotAMember;
    let from_self = IgnoreReason::FromSelf;
    let not_a_voter = IgnoreReason::NotAVoter;
    let out_of_range = IgnoreReason::OutOfRange;
    let learn = || Message::Learn(Learn { from: Slot(3) });
    let cases = [
        (N1, NodeId(9), learn(), Some(not_a_member)),
        (N1, N2, learn(), None),
        (N1, learner, learn(), None),
        (N1, N1, learn(), Some(from_self)),
        (N1, N1, prepare(1, b(1, 1)), Some(from_self)),
        (N1, N1, accepted(1, b(1, 1)), None),
        (N1, learner, prepare(1, b(1, 4)), Some(not_a_voter)),
        (N1, learner, accept(1, b(1, 4), "x"), Some(not_a_voter)),
        (learner, N1, prepare(1, b(1, 1)), Some(not_a_voter)),
        (learner, N1, accept(1, b(1, 1), "x"), Some(not_a_voter)),
        (learner, N1, decided(1, "x"), None),
        (N1, N2, prepare(1, b(1, 3)), Some(out_of_range)),
        (N1, N2, prepare(0, b(1, 2)), Some(out_of_range)),
        (N1, N2, prepare(1, b(1, 2)), None),
    ];
    for (me, from, message, expected) in cases {
        let mut cluster = Cluster::<Many>::from_disks(vec![(settings(me), Saved::default())]);
        cluster.inject(from, me, message.clone());
        let reason = cluster.node(me).outputs.notes.iter().find_map(|note| match note {
            ProtocolEvent::Ignored { from: whose, reason } if *whose == from => Some(*reason),
            _ => None,
        });
        assert_eq!(reason, expected, "{message:?} from {from} to {me}");
    }
}

#[test]
fn voter_learns_from_the_ballot_that_its_value_is_chosen() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 1, "x");
    // The Accept to n3 is delayed.
    let is_value = |message: &Message| matches!(message, Message::Accept(_));
    cluster.deliver_if(|flight| !(flight.to == N3 && is_value(&flight.message)));
    assert_eq!(cluster.chosen(N2), ["x"]);
    assert_eq!(cluster.chosen(N3), ["x"], "it requested the missed value");
}

#[test]
fn chosen_ballot_confirms_a_vote_at_or_above_it_only() {
    let chosen = |round| Message::Chosen(Chosen { slot: S1, ballot: b(round, 2), through: S1 });
    // Round of the node's vote, if any, and whether the node learns the value.
    for (voted, learns) in [(None, false), (Some(1), false), (Some(2), true), (Some(3), true)] {
        let mut cluster = alone::<Many>(Saved::default());
        if let Some(round) = voted {
            cluster.inject(N2, N1, accept(1, b(round, 2), "x"));
            cluster.wire.clear();
        }
        let requested = cluster.replies(N2, N1, chosen(2));
        assert_eq!(cluster.commit_index(N1), u64::from(learns), "voted in {voted:?}");
        let request = Message::Learn(Learn { from: S1 });
        assert_eq!(requested, if learns { vec![] } else { vec![request] }, "voted in {voted:?}");
    }
}
