//! Timeouts and waits of a node, to the millisecond.

use crate::cluster::*;
use std::time::Duration;
use synod_basic_paxos::{BasicPaxos, Learn, Limits, Message, Prepare, Timer, Timing};
use synod_consensus::{Bounds, Protocol, Saved};
use synod_types::{NodeId, Slot};

type Single = synod_basic_paxos::Single;
type Many = synod_basic_paxos::Many;

fn fresh() -> Cluster<Many> {
    alone(Saved::default())
}

fn with_timing(timing: Timing) -> Cluster<Many> {
    let config = config(N1, 3).with_timing(timing).unwrap();
    Cluster::from_disks(vec![(config, Saved::default())])
}

/// Returns the range of a timer, in milliseconds.
fn wait<K: synod_basic_paxos::Arity>(cluster: &mut Cluster<K>, timer: Timer) -> (u128, u128) {
    let range = &cluster.node(N1).timers[&timer].range;
    (range.start.as_millis(), range.end.as_millis())
}

#[test]
fn retransmission_timeout_doubles_up_to_the_cap() {
    let mut cluster = fresh();
    cluster.propose(N1, 1, "x");
    let mut waits = Vec::new();
    for _ in 0..6 {
        waits.push(wait(&mut cluster, Timer::Slot(S1)));
        cluster.timeout(N1, Timer::Slot(S1));
    }
    let expected = [(40, 60), (80, 120), (160, 240), (320, 480), (500, 750), (500, 750)];
    assert_eq!(waits, expected);
}

#[test]
fn round_trip_is_measured_in_both_phases_and_smoothed() {
    let mut cluster = fresh();
    cluster.propose(N1, 1, "x");
    cluster.advance(18);
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    assert_eq!(cluster.node(N1).host.core().round_trip(), Duration::from_millis(11));
    assert_eq!(wait(&mut cluster, Timer::Slot(S1)), (44, 66), "each phase starts the wait again");
    cluster.advance(3);
    cluster.inject(N2, N1, accepted(1, b(1, 1)));
    assert_eq!(cluster.node(N1).host.core().round_trip(), Duration::from_millis(10));
}

#[test]
fn measured_round_trip_is_above_zero_and_within_the_cap() {
    for (ms, micros) in [(0, 8_756), (9_999, 71_250)] {
        let mut cluster = fresh();
        cluster.propose(N1, 1, "x");
        cluster.advance(ms);
        cluster.inject(N2, N1, promise(1, b(1, 1), None));
        assert_eq!(cluster.node(N1).host.core().round_trip().as_micros(), micros, "after {ms} ms");
    }
}

#[test]
fn catch_up_interval_is_eight_round_trips_within_bounds() {
    let ms = Duration::from_millis;
    for (round_trip, expected) in [(1, (50, 100)), (10, (80, 160)), (100, (500, 1000))] {
        let timing = Timing { round_trip: ms(round_trip), ..Timing::default() };
        let mut cluster = with_timing(timing);
        assert_eq!(wait(&mut cluster, Timer::CatchUp), expected, "{round_trip} ms");
        cluster.timeout(N1, Timer::CatchUp);
        assert_eq!(wait(&mut cluster, Timer::CatchUp), expected, "{round_trip} ms, again");
    }
}

#[test]
fn catch_up_requests_go_to_the_other_voters_in_turn() {
    let config = synod_basic_paxos::Config::new(N2, members(4, 1)).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    let mut requests = Vec::new();
    for _ in 0..5 {
        cluster.timeout(N2, Timer::CatchUp);
        requests.extend(cluster.wire.drain(..).map(|flight| (flight.to.0, flight.message)));
    }
    let expected = [1, 3, 4, 1, 3].map(|node| (node, Message::Learn(Learn { from: S1 })));
    assert_eq!(requests, expected);
}

#[test]
fn same_catch_up_request_waits_two_round_trips_and_another_does_not() {
    let limits = Limits { window: 4, ..Limits::default() };
    let config = config(N1, 3).with_limits(limits).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    let far = prepare(9, b(1, 2));
    let learn = |slot| [Message::Learn(Learn { from: Slot(slot) })];
    assert_eq!(cluster.replies(N2, N1, far.clone()), learn(1));
    cluster.advance(19);
    assert_eq!(cluster.replies(N2, N1, far.clone()), []);
    cluster.advance(1);
    assert_eq!(cluster.replies(N2, N1, far.clone()), learn(1));
    cluster.inject(N2, N1, decided(1, "x"));
    assert_eq!(cluster.replies(N2, N1, far), learn(2));
}

#[test]
fn silent_redirect_target_is_replaced_after_the_longest_wait() {
    let learner = NodeId(4);
    let config = synod_basic_paxos::Config::new(learner, members(3, 1)).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    let redirect_to = |cluster: &Cluster<Many>| cluster.nodes[&learner].host.core().status().leader;
    cluster.inject(N1, learner, decided(1, "x"));
    for (ms, expected) in [(500, N1), (1, N2), (500, N2), (1, N3), (501, N1)] {
        cluster.advance(ms);
        cluster.timeout(learner, Timer::CatchUp);
        assert_eq!(redirect_to(&cluster), Some(expected));
    }
}

#[test]
fn late_rejection_does_not_prolong_the_wait() {
    let config = synod_basic_paxos::Config::new(N1, members(5, 0)).unwrap();
    let mut cluster = Cluster::<Single>::from_disks(vec![(config, Saved::default())]);
    cluster.propose(N1, 1, "x");
    for from in 2..=5 {
        cluster.inject(NodeId(from), N1, nack(1, b(1, 1), b(1, 5)));
        let waits = if from < 4 { (40, 60) } else { (0, 20) };
        assert_eq!(wait(&mut cluster, Timer::Slot(S1)), waits, "rejected by {from}");
    }
}

#[test]
fn node_without_replies_to_two_retransmissions_opens_no_proposal() {
    let mut cluster = fresh();
    cluster.propose(N1, 1, "x");
    for (repeats, expected) in [(1, true), (2, false)] {
        cluster.timeout(N1, Timer::Slot(S1));
        cluster.wire.clear();
        cluster.propose(N1, 1 + repeats, "y");
        let begun = sent(&mut cluster) == [prepare(1 + repeats, b(1, 1))];
        assert_eq!(begun, expected, "after {repeats} retransmissions");
    }
    // The younger proposal sends nothing as long as the older has no reply.
    let younger = Timer::Slot(Slot(2));
    cluster.timeout(N1, younger);
    assert_eq!(sent(&mut cluster), []);
    assert_eq!(wait(&mut cluster, younger), (40, 60), "and its timer runs again");
    cluster.timeout(N1, Timer::Slot(S1));
    assert_eq!(sent(&mut cluster), [prepare(1, b(1, 1))], "the oldest is retransmitted");
}

#[test]
fn late_voters_alone_receive_a_retransmission() {
    let config = synod_basic_paxos::Config::new(N1, members(5, 0)).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    cluster.propose(N1, 1, "x");
    cluster.inject(N2, N1, promise(1, b(1, 1), None));
    cluster.wire.clear();
    cluster.timeout(N1, Timer::Slot(S1));
    let to: Vec<_> = cluster.wire.iter().map(|flight| flight.to.0).collect();
    assert_eq!(to, [3, 4, 5], "not the node that promised, nor the node itself");
}

#[test]
fn slot_of_another_node_is_finished_after_two_catch_up_intervals() {
    let mut cluster = fresh();
    cluster.inject(N3, N1, prepare(1, b(1, 3)));
    cluster.wire.clear();
    let any_message = Message::Learn(Learn { from: S1 });
    cluster.advance(99);
    assert_eq!(cluster.replies(N2, N1, any_message.clone()), [], "n3 may still be active");
    cluster.advance(1);
    let finish = prepare(1, b(2, 1));
    assert_eq!(cluster.replies(N2, N1, any_message.clone()), [finish.clone(), finish]);
    cluster.advance(1000);
    assert_eq!(cluster.replies(N2, N1, any_message), [], "n1 has a proposal there already");
}

#[test]
fn node_without_a_measured_round_trip_finishes_one_slot_at_a_time() {
    let mut cluster = fresh();
    for slot in [1, 3] {
        cluster.inject(N3, N1, accept(slot, b(1, 3), "x"));
    }
    cluster.wire.clear();
    cluster.advance(100);
    cluster.timeout(N1, Timer::CatchUp);
    let begun = |cluster: &mut Cluster<Many>| {
        let mut slots: Vec<_> = sent(cluster)
            .into_iter()
            .filter_map(|message| match message {
                Message::Prepare(Prepare { slot, .. }) => Some(slot.0),
                _ => None,
            })
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    };
    assert_eq!(begun(&mut cluster), [1]);
    // With a measured round trip it finishes the others together. The last progress of slot 3 is old,
    // and no node is known to use slot 2.
    cluster.inject(N2, N1, promise(1, b(2, 1), Some((b(1, 3), value("x")))));
    cluster.wire.clear();
    cluster.timeout(N1, Timer::CatchUp);
    assert_eq!(begun(&mut cluster), [2, 3]);
    cluster.timeout(N1, Timer::CatchUp);
    assert!(begun(&mut cluster).is_empty(), "all of them are in flight");
}

#[test]
fn values_in_flight_bound_the_open_slots() {
    let limits = Limits { flight_bytes: 20, ..Limits::default() };
    let config = config(N1, 3).with_limits(limits).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    for ticket in 1..=5 {
        // A value takes a byte more than its command.
        cluster.propose(N1, ticket, "123456789");
    }
    let open = |cluster: &mut Cluster<Many>| {
        let begun = sent(cluster).into_iter();
        begun.filter(|message| matches!(message, Message::Prepare(_))).count()
    };
    assert_eq!(open(&mut cluster), 2);
    cluster.inject(N2, N1, decided(1, "123456789"));
    // The command lost slot 1 and is proposed in slot 3.
    assert_eq!(open(&mut cluster), 1);
}

#[test]
fn long_value_is_not_retransmitted_while_it_may_wait_for_the_link() {
    // Length of the command, and added wait in milliseconds: the slowest link carries 8 MiB/s.
    for (length, added) in [(1, 0), (1 << 20, 125)] {
        let mut cluster = fresh();
        cluster.propose(N1, 1, &"x".repeat(length));
        cluster.advance(10);
        cluster.inject(N2, N1, promise(1, b(1, 1), None));
        for wait_for in [40, 80, 160] {
            let factor = wait_for / 40;
            let (least, _) = wait(&mut cluster, Timer::Slot(S1));
            assert_eq!(least, wait_for + added * factor, "{length} bytes");
            cluster.timeout(N1, Timer::Slot(S1));
        }
    }
}

/// A sixteenth of the default limits stands for links a sixteenth as fast.
#[test]
fn narrow_limits_leave_values_more_time_for_the_link() {
    // Limit of values in flight, and added wait of 64 KiB in milliseconds.
    for (flight_bytes, added) in [(4 << 20, 7), (256 << 10, 125), (1, 125)] {
        let limits = Limits { flight_bytes, ..Limits::default() };
        let config = config(N1, 3).with_limits(limits).unwrap();
        let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
        cluster.propose(N1, 1, &"x".repeat(64 << 10));
        cluster.advance(10);
        cluster.inject(N2, N1, promise(1, b(1, 1), None));
        let (least, _) = wait(&mut cluster, Timer::Slot(S1));
        assert_eq!(least, 40 + added, "{flight_bytes} bytes in flight");
    }
}

#[test]
fn bounds_reserve_lane_capacity_beside_values_in_flight() {
    let bounds = Bounds {
        message_bytes: 1 << 20,
        window_messages: 256,
        window_bytes: 16 << 20,
        open_slots: 128,
        open_bytes: 64 << 20,
        quorums: None,
    };
    let bounded = |bounds: &Bounds| BasicPaxos::bounded(config(N1, 3), bounds).unwrap();
    assert_eq!(bounded(&bounds).limits().flight_bytes, Limits::default().flight_bytes);
    let least = Bounds { window_bytes: 1, ..bounds };
    assert_eq!(bounded(&least).limits().flight_bytes, 1);
}

#[test]
fn one_reply_to_a_lagging_node_is_in_flight() {
    let saved = disk(3, &[], &[(1, b(1, 2), "a"), (2, b(1, 2), "b"), (3, b(1, 2), "c")]);
    let mut cluster = alone::<Many>(saved);
    let request = |slot| Message::Learn(Learn { from: Slot(slot) });
    let replies =
        |cluster: &mut Cluster<Many>, from, slot| cluster.replies(from, N1, request(slot)).len();
    assert_eq!(replies(&mut cluster, N2, 1), 1);
    assert_eq!(replies(&mut cluster, N2, 1), 0, "the reply is in flight");
    assert_eq!(replies(&mut cluster, N2, 2), 0, "it covers slot 2, too");
    assert_eq!(replies(&mut cluster, N3, 1), 1, "no reply to n3 is in flight");
    // After two round trips, doubled, it counts as lost; the next wait is twice as long.
    for (ms, expected) in [(39, 0), (2, 1), (79, 0), (2, 1)] {
        cluster.advance(ms);
        assert_eq!(replies(&mut cluster, N2, 1), expected, "{ms} ms later");
    }
}

#[test]
fn node_whose_log_advances_sends_no_catch_up_request() {
    let mut cluster = fresh();
    for (learned, expected) in [(None, 1), (Some(1), 0), (Some(2), 0), (None, 1)] {
        if let Some(slot) = learned {
            cluster.inject(N2, N1, decided(slot, "x"));
        }
        cluster.wire.clear();
        cluster.timeout(N1, Timer::CatchUp);
        let requests = sent(&mut cluster).into_iter();
        let requests = requests.filter(|message| matches!(message, Message::Learn(_)));
        assert_eq!(requests.count(), expected, "learned {learned:?}");
    }
}
