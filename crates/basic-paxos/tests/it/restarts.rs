//! Restarts: disks after crashes, and the base of the log.

use crate::cluster::*;
use synod_basic_paxos::{Arity, Config, HardState, Learned, Message, PaxosLog, Timer};
use synod_consensus::{
    Base, FatalError, Host, Input, Protocol, ProtocolEvent, RecoveryError, RunLog, Saved, Write,
};
use synod_types::{Ballot, Instant, Slot, Ticket};

type Single = synod_basic_paxos::Single;
type Many = synod_basic_paxos::Many;

/// First slot and round out of range.
const END: u64 = 1 << 62;

fn base(through: u64, stamp: Ballot) -> Base<Ballot> {
    Base { through: Slot(through), stamp, members: None }
}

fn recover(saved: Saved<PaxosLog<Many>>) -> Result<PaxosLog<Many>, RecoveryError> {
    PaxosLog::recover(config(N1, 3), saved)
}

/// Returns the writes of an input.
fn writes<K: Arity>(
    cluster: &mut Cluster<K>,
    input: Input<PaxosLog<K>>,
) -> Vec<Write<PaxosLog<K>>> {
    cluster.node(N1).writes.clear();
    cluster.step(N1, input);
    std::mem::take(&mut cluster.node(N1).writes)
}

/// Disk with three slots under one ballot.
fn abc(chosen: u64) -> Saved<PaxosLog<Many>> {
    let votes = [(1, b(1, 2), "a"), (2, b(1, 2), "b"), (3, b(1, 2), "c")];
    let promises: Vec<_> = (chosen + 1..=3).map(|slot| (slot, b(1, 2))).collect();
    disk(chosen, &promises, &votes)
}

#[test]
fn consistent_disk_needs_no_write() {
    for saved in [Saved::default(), abc(0), abc(3)] {
        assert_eq!(alone(saved).node(N1).writes, []);
    }
}

#[test]
fn state_ahead_of_the_base_moves_it() {
    // A crash came after the snapshot was written and before the log was compacted.
    for (through, left) in [(1, 2), (2, 1), (3, 0), (5, 0)] {
        let saved = Saved { base: base(through, b(1, 2)), ..abc(0) };
        let status = recover(saved.clone()).unwrap().status();
        assert_eq!((status.commit, status.base), (Slot(through), Slot(through)));
        let mut cluster = alone(saved);
        let repaired = cluster.node(N1);
        assert_eq!(repaired.writes[0], Write::Compact(base(through, b(1, 2))));
        assert_eq!(repaired.disk.log.runs().map(|run| run.values.len()).sum::<usize>(), left);
        cluster.restart(N1);
        assert_eq!(cluster.node(N1).writes, [], "the repair is durable");
    }
}

#[test]
fn state_that_ends_before_the_base_is_rejected() {
    let log = RunLog::new(Slot(3), b(1, 2));
    for (through, expected) in [(2, false), (3, true), (4, true)] {
        let hard_state = HardState::new(Slot(2), []);
        let (base, log) = (base(through, b(1, 2)), log.clone());
        let saved = Saved { hard_state, base, log, applied: Slot::ZERO };
        assert_eq!(recover(saved).is_ok(), expected, "through {through}");
    }
}

#[test]
fn recovery_rejects_slots_and_rounds_out_of_range() {
    let promised = |slot, round| HardState::new(Slot(slot - 1), [(Slot(slot), b(round, 1))]);
    let at = |through, hard_state| {
        let log = RunLog::new(Slot(through), b(1, 1));
        let base = base(through, b(1, 1));
        recover(Saved { hard_state, base, log, applied: Slot::ZERO }).map(drop)
    };
    assert_eq!(at(END - 2, promised(END - 1, 2 * END - 1)), Ok(()));
    let out_of_range = |slot, at| Err(RecoveryError::OutOfRange { slot: Slot(slot), at });
    let round = 2 * END;
    assert_eq!(at(END - 2, promised(END - 1, round)), out_of_range(END - 1, b(round, 1)));
    assert_eq!(at(END - 1, promised(END, 1)), out_of_range(END, b(1, 1)));
    assert_eq!(at(END - 1, HardState::default()), Ok(()));
    assert_eq!(at(END, HardState::default()), out_of_range(END, Ballot::ZERO));
}

#[test]
fn vote_without_its_promise_is_rejected_while_its_slot_is_open() {
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
fn values_learnt_after_a_hole_are_recovered() {
    let votes = [(1, Ballot::CHOSEN, "a"), (2, b(1, 2), "b"), (3, Ballot::CHOSEN, "c")];
    let mut cluster = alone::<Many>(disk(0, &[(2, b(1, 2))], &votes));
    assert_eq!(cluster.commit_index(N1), 1, "slot 2 is voted for only");
    let expected = Message::Learned(Learned { first: Slot(3), values: value("c"), through: S1 });
    assert_eq!(cluster.replies(N2, N1, prepare(3, b(9, 2))), [expected]);
}

/// n1 has applied three slots that its hard state does not record as chosen yet. Both others have lost
/// their disks and choose other values.
#[test]
fn survivor_of_two_wiped_nodes_never_votes_over_what_it_has_applied() {
    let saved = Saved { applied: Slot(3), ..abc(0) };
    let wiped = [N2, N3].map(|id| (config(id, 3), Saved::default()));
    let mut cluster =
        Cluster::<Many>::from_disks(wiped.into_iter().chain([(config(N1, 3), saved)]).collect());
    let applied = |cluster: &Cluster<Many>| {
        let log = &cluster.nodes[&N1].disk.log;
        let held = (1..=3).map(|slot| log.get(Slot(slot)).map(|(_, held)| text(&held.to_value())));
        held.map(|held| held.unwrap_or_default()).collect::<Vec<_>>()
    };
    for (slot, held) in [(1, "a"), (2, "b"), (3, "c")] {
        let known =
            Message::Learned(Learned { first: Slot(slot), values: value(held), through: Slot(3) });
        for request in [prepare(slot, b(9, 2)), accept(slot, b(9, 2), "other")] {
            assert_eq!(
                cluster.replies(N2, N1, request),
                std::slice::from_ref(&known),
                "slot {slot}"
            );
        }
    }
    // Without n1 they choose other values, and n1 receives their messages later.
    for (ticket, command) in ["x", "y", "z"].into_iter().enumerate() {
        cluster.propose(N2, ticket as u64, command);
    }
    let mut late = Vec::new();
    while let Some(flight) = cluster.wire.pop_front() {
        match flight.to {
            N1 => late.push(flight),
            to => cluster.inject(flight.from, to, flight.message),
        }
    }
    assert_eq!(cluster.commit_index(N3), 3, "two of three are a majority");
    for flight in late {
        cluster.inject(flight.from, N1, flight.message);
    }
    cluster.inject(
        N2,
        N1,
        Message::Learned(Learned { first: S1, values: value("x"), through: Slot(3) }),
    );
    assert_eq!(applied(&cluster), ["a", "b", "c"]);
    let found = Some(FatalError::Contradicted { slot: S1, by: N2 });
    assert_eq!(cluster.nodes[&N1].outputs.fatal, found, "n1 stops");
    assert_eq!(cluster.nodes[&N1].disk.hard_state.promised(S1), b(1, 2), "no promise is added");
    assert!(cluster.nodes[&N1].outputs.chosen.is_empty(), "no slot is emitted twice");
    assert_eq!(cluster.commit_index(N1), 3);
}

#[test]
fn base_moves_once_and_to_chosen_slots_only() {
    let mut cluster = alone(abc(2));
    for (through, expected) in [(3, None), (2, Some(2)), (2, None), (1, None), (9, None)] {
        let writes = writes(&mut cluster, Input::Compact { through: Slot(through) });
        let compact = expected.map(|through| Write::Compact(base(through, b(1, 2))));
        assert_eq!(writes, compact.into_iter().collect::<Vec<_>>(), "through {through}");
    }
    let core = cluster.nodes[&N1].host.core();
    assert_eq!(core.base_at(Slot(2)), Some(base(2, b(1, 2))));
    assert_eq!((core.base_at(Slot(1)), core.base_at(Slot(3))), (None, None));
}

#[test]
fn snapshot_out_of_range_is_ignored() {
    /// Installs a snapshot. Returns whether it was ignored, and the commit index.
    fn install<K: Arity>(cluster: &mut Cluster<K>, base: Base<Ballot>) -> (bool, u64) {
        cluster.node(N1).outputs.notes.clear();
        cluster.step(N1, Input::Installed { base });
        let mut notes = cluster.node(N1).outputs.notes.iter();
        let ignored = notes.any(|note| matches!(note, ProtocolEvent::Ignored { .. }));
        (ignored, cluster.commit_index(N1))
    }
    let cases = [
        (END - 1, 1, false),
        (END, 1, true),
        (9, 0, true),
        (9, 2 * END - 1, false),
        (9, 2 * END, true),
    ];
    for (through, round, expected) in cases {
        let installed = install(&mut alone(abc(2)), base(through, b(round, 2)));
        let commit = if expected { 2 } else { through };
        assert_eq!(installed, (expected, commit), "through {through}, round {round}");
    }
    let mut single = alone::<Single>(Saved::default());
    assert_eq!(install(&mut single, base(2, b(1, 2))), (true, 0), "there is only one decree");
    assert_eq!(install(&mut single, base(1, b(1, 2))), (false, 1));
}

#[test]
fn snapshot_of_known_slots_moves_only_the_base() {
    for stamp in [b(1, 2), b(7, 3)] {
        let mut cluster = alone(abc(2));
        let installed = Input::Installed { base: base(2, stamp) };
        let written = writes(&mut cluster, installed.clone());
        assert_eq!(
            written,
            [Write::Compact(base(2, stamp))],
            "no hard state: no new slot is chosen"
        );
        assert_eq!(cluster.node(N1).disk.log.last(), Slot(3), "the vote after it stays");
        assert_eq!(writes(&mut cluster, installed), [], "the base is there already");
    }
}

#[test]
fn commands_in_flight_in_a_snapshot_count_as_placed() {
    let mut cluster = alone::<Many>(Saved::default());
    for ticket in 1..=3 {
        cluster.propose(N1, ticket, &ticket.to_string());
    }
    let slots = [1, 2, 3].map(|slot| Timer::Slot(Slot(slot)));
    let running =
        |cluster: &Cluster<Many>| slots.map(|it| cluster.nodes[&N1].timers.contains_key(&it));
    assert_eq!(running(&cluster), [true; 3]);
    cluster.step(N1, Input::Installed { base: base(2, b(1, 2)) });
    let mut placed = vec![(Ticket(1), S1), (Ticket(2), Slot(2))];
    assert_eq!(cluster.node(N1).outputs.placed, placed);
    assert_eq!(cluster.node(N1).outputs.refused, []);
    assert_eq!(running(&cluster), [false, false, true]);
    cluster.step(N1, Input::Installed { base: base(3, b(1, 2)) });
    placed.push((Ticket(3), Slot(3)));
    assert_eq!(cluster.node(N1).outputs.placed, placed, "its slot was still open");
}

#[test]
fn learner_starts_with_the_members_and_a_redirect_target() {
    let learner = synod_types::NodeId(4);
    let config = Config::new(learner, members(3, 1)).unwrap();
    let mut host = Host::<PaxosLog<Many>>::recover(learner, config, Saved::default()).unwrap();
    let outputs = host.input(Instant(1), Input::Start, &mut ());
    assert_eq!(outputs.peers, Some(members(3, 1)));
    assert_eq!(host.core().status().leader, Some(N1));
}
