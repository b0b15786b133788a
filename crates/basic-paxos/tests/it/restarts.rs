//! What a disk may hold after a crash, and what a node does about the front of its log.

use crate::cluster::*;
use synod_basic_paxos::{Config, HardState, Kind, Message, PerSlot};
use synod_consensus::{
    Base, Contradiction, Input, Outbox, Protocol, ProtocolEvent, Run, RunLog, Saved, Write,
};
use synod_types::{Ballot, Instant, Slot, Ticket};

type Single = synod_basic_paxos::Single;
type Log = synod_basic_paxos::Log;

/// The first slot and round that nobody gets to.
const END: u64 = 1 << 62;

fn base(through: u64, stamp: Ballot) -> Base<Ballot> {
    Base { through: Slot(through), stamp, members: None }
}

fn recover(saved: Saved<PerSlot<Log>>) -> Result<PerSlot<Log>, String> {
    PerSlot::recover(config(N1, 3), saved).map_err(|error| error.0)
}

fn step<K: Kind>(core: &mut PerSlot<K>, input: Input<PerSlot<K>>) -> Outbox<PerSlot<K>> {
    let mut outbox = Outbox::default();
    core.step(Instant(1), input, &mut outbox.effects());
    core.flush(Instant(1), &mut outbox.effects());
    outbox
}

/// Three slots under one ballot.
fn abc(chosen: u64) -> Saved<PerSlot<Log>> {
    let votes = [(1, b(1, 2), "a"), (2, b(1, 2), "b"), (3, b(1, 2), "c")];
    let promises: Vec<_> = (chosen + 1..=3).map(|slot| (slot, b(1, 2))).collect();
    disk(chosen, &promises, &votes)
}

#[test]
fn a_whole_disk_costs_no_write() {
    for saved in [Saved::default(), abc(0), abc(3)] {
        let mut core = recover(saved).unwrap();
        assert_eq!(step(&mut core, Input::Start).writes, []);
    }
}

#[test]
fn a_state_that_is_ahead_of_the_logs_front_moves_it() {
    // A crash came behind the snapshot and before the log was cut.
    for (through, left) in [(1, 2), (2, 1), (3, 0), (5, 0)] {
        let saved = Saved { base: base(through, b(1, 2)), ..abc(0) };
        let mut core = recover(saved.clone()).unwrap();
        assert_eq!((core.status().commit, core.status().base), (Slot(through), Slot(through)));
        let writes = step(&mut core, Input::Start).writes;
        assert_eq!(writes[0], Write::Compact(base(through, b(1, 2))));
        let mut repaired = saved;
        writes.iter().for_each(|write| write_to(&mut repaired, write));
        assert_eq!(repaired.log.runs().map(|run| run.values.len()).sum::<usize>(), left);
        let mut again = recover(repaired).unwrap();
        assert_eq!(step(&mut again, Input::Start).writes, [], "it is mended for good");
    }
}

#[test]
fn a_state_that_is_behind_the_logs_front_is_refused() {
    let log = RunLog::new(Slot(3), b(1, 2));
    for (through, expected) in [(2, false), (3, true), (4, true)] {
        let hard_state = HardState::new(Slot(2), []);
        let (base, log) = (base(through, b(1, 2)), log.clone());
        let saved = Saved { hard_state, base, log, applied: Slot::ZERO };
        assert_eq!(recover(saved).is_ok(), expected, "through {through}");
    }
}

#[test]
fn numbers_that_nobody_gets_to_are_refused() {
    let promised = |slot, round| HardState::new(Slot(slot - 1), [(Slot(slot), b(round, 1))]);
    let at = |through, hard_state| {
        let log = RunLog::new(Slot(through), b(1, 1));
        let base = base(through, b(1, 1));
        recover(Saved { hard_state, base, log, applied: Slot::ZERO }).map(drop)
    };
    assert_eq!(at(END - 2, promised(END - 1, 2 * END - 1)), Ok(()));
    let error = at(END - 2, promised(END - 1, 2 * END)).unwrap_err();
    assert!(error.contains("no proposer gets to"), "{error}");
    let error = at(END - 1, promised(END, 1)).unwrap_err();
    assert!(error.contains("no proposer gets to"), "{error}");
    assert_eq!(at(END - 1, HardState::default()), Ok(()));
    let error = at(END, HardState::default()).unwrap_err();
    assert!(error.contains("no log gets to"), "{error}");
}

#[test]
fn a_vote_needs_its_promise_until_its_slot_is_chosen() {
    let votes = |stamp| [(1, b(1, 2), "a"), (2, stamp, "b")];
    let cases = [
        ("promised", 1, Some(b(2, 2)), b(2, 2), true),
        ("promised more", 1, Some(b(3, 2)), b(2, 2), true),
        ("promised less", 1, Some(b(1, 2)), b(2, 2), false),
        ("not promised", 1, None, b(2, 2), false),
        ("chosen", 2, None, b(2, 2), true),
        ("learnt", 1, None, Ballot::CHOSEN, true),
    ];
    for (name, chosen, promise, stamp, expected) in cases {
        let promises: Vec<_> = promise.map(|promise| (2, promise)).into_iter().collect();
        let saved = disk(chosen, &promises, &votes(stamp));
        assert_eq!(recover(saved).is_ok(), expected, "{name}");
    }
}

#[test]
fn what_was_learnt_behind_a_hole_is_known_again() {
    let votes = [(1, Ballot::CHOSEN, "a"), (2, b(1, 2), "b"), (3, Ballot::CHOSEN, "c")];
    let mut core = recover(disk(0, &[(2, b(1, 2))], &votes)).unwrap();
    assert_eq!(core.status().commit, S1, "slot 2 is voted for only");
    let told = step(&mut core, Input::Message { from: N2, message: prepare(3, b(9, 2)).into() });
    let letters: Vec<_> = told.sends.into_iter().flat_map(|(_, it)| it.into_messages()).collect();
    let expected = Message::Decided { first: Slot(3), values: value("c"), through: S1 };
    assert_eq!(letters, [expected]);
}

/// n1 has applied three slots, of which its hard state does not know yet that they are chosen; both
/// others have lost their disks, and choose other values.
#[test]
fn survivor_of_two_wiped_nodes_never_votes_over_what_it_has_applied() {
    let saved = Saved { applied: Slot(3), ..abc(0) };
    let wiped = [N2, N3].map(|id| (config(id, 3), Saved::default()));
    let mut cluster =
        Cluster::<Log>::from_disks(wiped.into_iter().chain([(config(N1, 3), saved)]).collect());
    let applied = |cluster: &Cluster<Log>| {
        let log = &cluster.nodes[&N1].disk.log;
        let held = (1..=3).map(|slot| log.get(Slot(slot)).map(|(_, held)| text(&held.to_value())));
        held.map(|held| held.unwrap_or_default()).collect::<Vec<_>>()
    };
    for (slot, held) in [(1, "a"), (2, "b"), (3, "c")] {
        let known = Message::Decided { first: Slot(slot), values: value(held), through: Slot(3) };
        for request in [prepare(slot, b(9, 2)), accept(slot, b(9, 2), "other")] {
            assert_eq!(cluster.ask(N2, N1, request), std::slice::from_ref(&known), "slot {slot}");
        }
    }
    // Without n1 they choose other values, and n1 is told so.
    for (ticket, command) in ["x", "y", "z"].into_iter().enumerate() {
        cluster.propose(N2, ticket as u64, command);
    }
    let mut late = Vec::new();
    while let Some(flight) = cluster.wire.pop_front() {
        match flight.to {
            N1 => late.push(flight),
            to => cluster.say(flight.from, to, flight.message),
        }
    }
    assert_eq!(cluster.commit(N3), 3, "two of three are a majority");
    for flight in late {
        cluster.say(flight.from, N1, flight.message);
    }
    cluster.say(N2, N1, Message::Decided { first: S1, values: value("x"), through: Slot(3) });
    assert_eq!(applied(&cluster), ["a", "b", "c"]);
    let found = Some(Contradiction { slot: S1, by: N2 });
    assert_eq!(cluster.nodes[&N1].contradiction, found, "n1 stops");
    assert_eq!(cluster.nodes[&N1].disk.hard_state.promised(S1), b(1, 2), "no promise is added");
    assert!(cluster.nodes[&N1].chosen.is_empty(), "nothing is reported twice");
    assert_eq!(cluster.commit(N1), 3);
}

#[test]
fn the_front_moves_once_to_what_is_chosen() {
    let mut core = recover(abc(2)).unwrap();
    for (through, expected) in [(3, None), (2, Some(2)), (2, None), (1, None), (9, None)] {
        let writes = step(&mut core, Input::Compact { through: Slot(through) }).writes;
        let compact = expected.map(|through| Write::Compact(base(through, b(1, 2))));
        assert_eq!(writes, compact.into_iter().collect::<Vec<_>>(), "through {through}");
    }
    assert_eq!(core.base_at(Slot(2)), Some(base(2, b(1, 2))));
    assert_eq!((core.base_at(Slot(1)), core.base_at(Slot(3))), (None, None));
}

#[test]
fn a_snapshot_of_numbers_that_nobody_gets_to_is_ignored() {
    let ignores = |outbox: &[ProtocolEvent]| {
        outbox.iter().any(|note| matches!(note, ProtocolEvent::Ignored { .. }))
    };
    let cases = [
        (END - 1, 1, false),
        (END, 1, true),
        (9, 0, true),
        (9, 2 * END - 1, false),
        (9, 2 * END, true),
    ];
    for (through, round, expected) in cases {
        let mut core = recover(abc(2)).unwrap();
        let base = base(through, b(round, 2));
        let outbox = step(&mut core, Input::Installed { base });
        assert_eq!(ignores(&outbox.notes), expected, "through {through}, round {round}");
        let commit = if expected { 2 } else { through };
        assert_eq!(core.status().commit, Slot(commit), "through {through}, round {round}");
    }
    let mut single = PerSlot::<Single>::recover(config(N1, 3), Saved::default()).unwrap();
    let outbox = step(&mut single, Input::Installed { base: base(2, b(1, 2)) });
    assert!(ignores(&outbox.notes), "there is only one decree");
    let outbox = step(&mut single, Input::Installed { base: base(1, b(1, 2)) });
    assert_eq!((ignores(&outbox.notes), single.status().commit), (false, S1));
}

#[test]
fn a_snapshot_of_what_is_known_moves_the_front_only() {
    let put =
        |slot, text| Write::Put(Run { first: Slot(slot), stamp: b(1, 2), values: value(text) });
    // Through, under which ballot, and what is written beside the new front.
    let cases = [
        (2, b(1, 2), vec![]),
        // The store drops what lies behind a front that it does not agree with.
        (2, b(7, 3), vec![put(3, "c")]),
    ];
    for (through, stamp, beside) in cases {
        let mut core = recover(abc(2)).unwrap();
        let outbox = step(&mut core, Input::Installed { base: base(through, stamp) });
        let mut expected = vec![Write::Compact(base(through, stamp))];
        expected.extend(beside);
        assert_eq!(outbox.writes, expected, "no hard state, for nothing new is chosen");
        let again = step(&mut core, Input::Installed { base: base(through, stamp) });
        assert_eq!(again.writes, [], "it is there already");
    }
}

#[test]
fn what_was_under_way_in_a_snapshot_counts_as_placed() {
    let mut core = recover(Saved::default()).unwrap();
    for ticket in 1..=3 {
        let command = vec![ticket as u8].into();
        step(&mut core, Input::Propose { ticket: Ticket(ticket), command });
    }
    let outbox = step(&mut core, Input::Installed { base: base(2, b(1, 2)) });
    assert_eq!(outbox.placed, [(Ticket(1), S1), (Ticket(2), Slot(2))]);
    assert_eq!(outbox.refused, []);
    let cancelled = outbox.timers.iter();
    let cancelled = cancelled.filter(|it| matches!(it, synod_consensus::TimerChange::Cancel(_)));
    assert_eq!(cancelled.count(), 2);
    let outbox = step(&mut core, Input::Installed { base: base(3, b(1, 2)) });
    assert_eq!(outbox.placed, [(Ticket(3), Slot(3))], "it was still under way");
}

#[test]
fn a_learner_waits_without_a_vote() {
    let config = Config::new(synod_types::NodeId(4), members(3, 1)).unwrap();
    let mut core = PerSlot::<Log>::recover(config, Saved::default()).unwrap();
    let outbox = step(&mut core, Input::Start);
    assert_eq!(outbox.peers, Some(members(3, 1)));
    assert_eq!(core.status().leader, Some(N1));
}
