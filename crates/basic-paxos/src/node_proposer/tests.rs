//! Tests of the conditions under which a core proposes.

use super::*;
use crate::{Arity, Chosen, Config, Learn, Learned, Many, MessageBatch, PaxosLog, Single, Timing};
use alloc::vec::Vec;
use alloc::{format, vec};
use synod_consensus::{Host, Input, Round, Saved};
use synod_types::Membership;

const N1: NodeId = NodeId(1);
const ME: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
const S1: Slot = Slot(1);
const S2: Slot = Slot(2);

fn b(round: u64, node: NodeId) -> Ballot {
    Ballot { round, node }
}

fn value(text: &str) -> Values {
    Values::command_only(text.as_bytes())
}

fn prepare(slot: Slot, ballot: Ballot) -> Message {
    Message::Prepare(Prepare { slot, ballot })
}

fn input<K: Arity>(from: NodeId, message: Message) -> Input<PaxosLog<K>> {
    Input::Message { from, message: MessageBatch::from(message) }
}

fn propose<K: Arity>(text: &str) -> Input<PaxosLog<K>> {
    Input::Propose { ticket: Ticket(1), command: text.as_bytes().to_vec().into() }
}

fn config(limits: Limits) -> Config {
    let members = Membership::new([N1, ME, N3], []).unwrap();
    Config::new(ME, members).unwrap().with_limits(limits).unwrap()
}

fn start<K: Arity>(config: Config) -> Host<PaxosLog<K>> {
    let mut host = Host::recover(ME, config, Saved::default()).unwrap();
    step(&mut host, 0, Input::Start);
    host
}

/// Returns n2 of three voters, with an empty disk.
fn node<K: Arity>(limits: Limits) -> Host<PaxosLog<K>> {
    start(config(limits))
}

/// Returns n2 when slot 1 is chosen, and that time in milliseconds. With a measured round trip, n2 was
/// the proposer of slot 1.
fn node_after_slot_1(limits: Limits, round_trip: Option<u64>) -> (Host<PaxosLog<Many>>, u64) {
    let Some(ms) = round_trip else {
        let mut host = node(limits);
        step(&mut host, 0, learned(S1, "x", S1));
        return (host, 0);
    };
    let round_trip = Duration::from_millis(ms);
    let timing = Timing { round_trip, ..Timing::default() };
    let mut host = start(config(limits).with_timing(timing).unwrap());
    let (slot, ballot) = (S1, b(1, ME));
    step(&mut host, 0, propose("x"));
    step(&mut host, ms, input(N1, Message::Promise(Promise { slot, ballot, accepted: None })));
    step(&mut host, 2 * ms, input(N1, Message::Accepted(Accepted { slot, ballot })));
    assert_eq!((host.chosen(), host.core().round_trip()), (S1, round_trip));
    assert!(host.core().round_trip.is_measured());
    (host, 2 * ms)
}

/// Steps the core, with a disk that writes at once. Returns its messages to n1.
fn step<K: Arity>(
    host: &mut Host<PaxosLog<K>>,
    ms: u64,
    input: Input<PaxosLog<K>>,
) -> Vec<Message> {
    let now = Instant(ms * 1_000_000);
    let mut sent = Vec::new();
    let _ = host.input(now, input, &mut ());
    loop {
        let Round { seq, sends, .. } = host.round(now, &mut ());
        let to_n1 = sends.drain(..).filter(|(to, _)| *to == N1);
        sent.extend(to_n1.flat_map(|(_, batch)| batch.into_messages()));
        let Some(seq) = seq else { return sent };
        host.written(seq);
    }
}

fn learned(first: Slot, text: &str, through: Slot) -> Input<PaxosLog<Many>> {
    input(N1, Message::Learned(Learned { first, values: value(text), through }))
}

#[test]
fn proposer_that_still_sends_gets_the_time_of_what_it_may_have_in_flight() {
    // Bytes in flight; the measured round trip; until when n3, which prepares slot 2 at 0 ms,
    // repeats that; when its slot is taken over, all in milliseconds.
    let cases = [
        (4 << 20, None, 0, 100),
        (4 << 20, None, 80, 180),
        (4 << 20, None, 9000, 600),
        (64 << 20, None, 9000, 8100),
        (64 << 20, None, 5000, 5100),
        (4 << 20, Some(50), 0, 400),
        (4 << 20, Some(50), 9000, 900),
        (4 << 20, Some(1), 0, 100),
        (4 << 20, Some(1), 9000, 508),
    ];
    for (flight_bytes, round_trip, until, taken_over) in cases {
        let name = format!("{flight_bytes} bytes, {round_trip:?} ms, repeated until {until} ms");
        let limits = Limits { flight_bytes, ..Limits::default() };
        let (mut host, begin) = node_after_slot_1(limits, round_trip);
        for ms in (0..=until).step_by(20).take_while(|ms| *ms < taken_over) {
            step(&mut host, begin + ms, input(N3, prepare(S2, b(1, N3))));
        }
        for (ms, expected) in [(taken_over - 1, false), (taken_over, true)] {
            let any_message = input(N1, Message::Learn(Learn { from: S2 }));
            for occasion in [any_message, Input::Timeout(Timer::CatchUp)] {
                let sent = step(&mut host.clone(), begin + ms, occasion);
                let takes_over = sent.contains(&prepare(S2, b(2, ME)));
                assert_eq!(takes_over, expected, "{name}: at {ms} ms");
            }
        }
    }
}

#[test]
fn only_the_blocking_slot_is_finished_before_the_catch_up_timeout() {
    // Slots that n1 states as chosen; slots that n3 prepares at 0 ms, and n1 at 50 ms; the slot
    // that n2 then finishes with any message at 100 ms.
    let cases: [(u64, &[u64], &[u64], _); 4] = [
        (0, &[1, 2], &[], Some(1)),
        (0, &[2], &[1], None),
        (5, &[2, 6], &[], Some(6)),
        (5, &[2], &[], None),
    ];
    for (through, early, late, finished) in cases {
        let mut host = node::<Many>(Limits::default());
        let chosen = Message::Chosen(Chosen { slot: S1, ballot: b(1, N1), through: Slot(through) });
        step(&mut host, 0, input(N1, chosen));
        for (ms, node, slots) in [(0, N3, early), (50, N1, late)] {
            for slot in slots {
                step(&mut host, ms, input(node, prepare(Slot(*slot), b(1, node))));
            }
        }
        let any_message = || input(N1, Message::Learn(Learn { from: S1 }));
        let sent = step(&mut host, 100, any_message());
        let expected = finished.map(|slot| prepare(Slot(slot), b(2, ME)));
        assert_eq!(sent, Vec::from_iter(expected), "through {through}: {early:?}, {late:?}");
        assert_eq!(step(&mut host, 101, any_message()), [], "and no other one after it");
    }
}

/// Slot 6 is chosen, and its promise is old when the values of the slots before it are in flight.
#[test]
fn repeated_flush_opens_no_slot_after_one_that_is_chosen_ahead() {
    let mut host = node::<Many>(Limits::default());
    for slot in 6..=9 {
        step(&mut host, 0, input(N3, prepare(Slot(slot), b(1, N3))));
    }
    step(&mut host, 0, learned(Slot(6), "x", Slot(5)));
    let any_message = || input(N1, Message::Learn(Learn { from: S1 }));
    let next = prepare(Slot(7), b(2, ME));
    assert_eq!(step(&mut host, 100, any_message()), [next], "one slot before a measurement");
    for ms in 101..104 {
        assert_eq!(step(&mut host, ms, any_message()), [], "at {ms} ms");
    }
}

#[test]
fn slots_left_open_are_finished_together_despite_a_small_window() {
    let (mut host, begin) = node_after_slot_1(Limits::default(), Some(1));
    for slot in 2..=101 {
        step(&mut host, begin, input(N3, prepare(Slot(slot), b(1, N3))));
    }
    assert!(!host.core().proposals.window.has_room(16));
    let sent = step(&mut host, begin + 1000, input(N1, Message::Learn(Learn { from: S2 })));
    assert_eq!(sent, Vec::from_iter((2..=33).map(|slot| prepare(Slot(slot), b(2, ME)))));
}

#[test]
fn slots_that_others_know_to_be_chosen_are_left_to_catch_up() {
    // Slot 1 is chosen at 0 ms. Slot through which n1 states all as chosen; time in milliseconds when n2
    // could send a Prepare for slot 2; whether n2 sends it.
    let cases = [(1, 100, true), (5, 100, false), (5, 499, false), (5, 500, true)];
    for (through, ms, expected) in cases {
        let name = format!("through {through}, at {ms} ms");
        let learnt = || node_after_slot_1(Limits::default(), None).0;

        let mut begins = learnt();
        step(&mut begins, 0, learned(S1, "x", Slot(through)));
        let sent = step(&mut begins, ms, propose("mine"));
        assert_eq!(sent.contains(&prepare(S2, b(1, ME))), expected, "{name}: begins");

        let mut repeats = learnt();
        step(&mut repeats, 0, propose("mine"));
        step(&mut repeats, 0, learned(S1, "x", Slot(through)));
        let sent = step(&mut repeats, ms, Input::Timeout(Timer::Slot(S2)));
        assert_eq!(sent.contains(&prepare(S2, b(1, ME))), expected, "{name}: repeats");

        let mut finishes = learnt();
        step(&mut finishes, 0, input(N3, prepare(S2, b(1, N3))));
        step(&mut finishes, 0, learned(S1, "x", Slot(through)));
        for occasion in
            [input(N1, Message::Learn(Learn { from: S2 })), Input::Timeout(Timer::CatchUp)]
        {
            let sent = step(&mut finishes.clone(), ms, occasion);
            assert_eq!(sent.contains(&prepare(S2, b(2, ME))), expected, "{name}: finishes");
        }
    }
}

#[test]
fn command_that_waited_for_catch_up_takes_the_slot_after_it() {
    let mut host = node::<Many>(Limits::default());
    step(&mut host, 0, learned(S1, "x", S2));
    assert_eq!(step(&mut host, 1, propose("mine")), []);
    assert_eq!(step(&mut host, 2, learned(S2, "y", S2)), [prepare(Slot(3), b(1, ME))]);
}

/// Makes n2 propose and n1 promise after 18 ms; meanwhile n2 receives a rival's Prepare. Returns n2's
/// messages to n1 after the promise.
fn promised<K: Arity>(
    rival: Option<Ballot>,
    found: Option<&str>,
) -> (Host<PaxosLog<K>>, Vec<Message>) {
    let mut host = node::<K>(Limits::default());
    let ballot = b(1, ME);
    assert_eq!(step(&mut host, 0, propose("mine")), [prepare(S1, ballot)]);
    if let Some(rival) = rival {
        step(&mut host, 9, input(rival.node, prepare(S1, rival)));
    }
    let accepted = found.map(|text| (b(1, N1), value(text)));
    let promise = Message::Promise(Promise { slot: S1, ballot, accepted });
    let sent = step(&mut host, 18, input(N1, promise));
    assert_eq!(host.core().round_trip(), Duration::from_millis(11), "measured in any case");
    (host, sent)
}

#[test]
fn proposer_that_is_outbid_at_its_own_node_sends_no_value() {
    let (lower, higher) = (Some(b(1, N1)), Some(b(1, N3)));
    let accept = |text| Message::Accept(Accept { slot: S1, ballot: b(1, ME), value: value(text) });
    let elsewhere = || prepare(S2, b(2, ME));
    let cases = [
        (None, None, accept("mine")),
        (lower, None, accept("mine")),
        (lower, Some("found"), accept("found")),
        (higher, None, elsewhere()),
        (higher, Some("found"), elsewhere()),
    ];
    for (rival, found, expected) in cases {
        let (_, sent) = promised::<Many>(rival, found);
        assert_eq!(sent, [expected], "rival {rival:?}, {found:?}");
    }
    // A decree has no other slot: the proposer backs off, and its next ballot is higher.
    let (mut host, sent) = promised::<Single>(higher, None);
    assert_eq!((sent, host.core().proposals.open[&S1].stage), (vec![], Stage::BackingOff));
    let again = step(&mut host, 40, Input::Timeout(Timer::Slot(S1)));
    assert_eq!(again, [prepare(S1, b(2, ME))]);
}
