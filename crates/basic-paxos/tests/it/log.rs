//! The log of decrees: slots, losers, holes, stragglers, restarts and snapshots.

use crate::cluster::*;
use synod_basic_paxos::{BasicPaxos, Config, Limits, Log, Message, Timer};
use synod_consensus::{Input, Protocol, Refusal, Role, Saved};
use synod_types::{NodeId, ReadId, Slot, Ticket};

fn settle(cluster: &mut Cluster<Log>) {
    for _ in 0..30 {
        cluster.later(100);
        for id in cluster.ids() {
            let due: Vec<_> = cluster.node(id).timers.keys().copied().collect();
            for timer in due {
                cluster.timeout(id, timer);
                cluster.deliver();
            }
        }
    }
}

#[test]
fn any_node_proposes_and_all_apply_the_same() {
    let mut cluster = Cluster::<Log>::new(3);
    for (ticket, id) in cluster.ids().into_iter().enumerate() {
        cluster.propose(id, ticket as u64, &format!("by {id}"));
        cluster.deliver();
    }
    for id in cluster.ids() {
        assert_eq!(cluster.chosen(id), ["by 1", "by 2", "by 3"]);
    }
}

#[test]
fn a_command_that_loses_its_slot_tries_the_next() {
    let mut cluster = Cluster::<Log>::new(3);
    for id in cluster.ids() {
        cluster.propose(id, id.0, &format!("by {id}"));
    }
    cluster.deliver();
    settle(&mut cluster);
    for id in cluster.ids() {
        let mut commands = cluster.chosen(id);
        commands.retain(|command| command != "noop");
        commands.sort_unstable();
        assert_eq!(commands, ["by 1", "by 2", "by 3"], "each once");
        assert_eq!(cluster.node(id).placed.len(), 1);
        assert_eq!(cluster.node(id).placed[0].0, Ticket(id.0));
    }
}

#[test]
fn a_ticket_is_placed_where_its_command_is_chosen() {
    let mut cluster = Cluster::<Log>::new(3);
    cluster.propose(N1, 7, "lost");
    // n2's decree takes the slot before n1 hears of a promise.
    cluster.wire.clear();
    cluster.propose(N2, 8, "won");
    cluster.deliver_if(|flight| flight.to != N1 && flight.from != N1);
    assert_eq!(cluster.node(N1).placed, []);
    cluster.later(100);
    cluster.timeout(N1, Timer::Slot(S1));
    cluster.deliver();
    settle(&mut cluster);
    assert_eq!(cluster.chosen(N1)[0], "won");
    let slot = cluster.chosen(N1).iter().position(|command| command == "lost").unwrap();
    assert_eq!(cluster.node(N1).placed, [(Ticket(7), Slot(slot as u64 + 1))]);
}

#[test]
fn the_window_bounds_what_is_open() {
    let limits = Limits { window: 3, waiting: 4, ..Limits::default() };
    let settings = |config: Config| config.with_limits(limits.clone()).unwrap();
    let mut cluster = Cluster::<Log>::with(3, settings);
    for ticket in 0..9 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
    }
    let open = cluster.wire.iter().filter(|flight| flight.to == N2).count();
    assert_eq!(open, 3, "slots under way");
    let busy = [(Ticket(3), Refusal::Busy), (Ticket(4), Refusal::Busy)];
    assert_eq!(cluster.node(N1).refused, busy, "3 open, 4 waiting, the oldest gave way");
    cluster.deliver();
    assert_eq!(cluster.chosen(N1), ["0", "1", "2", "5", "6", "7", "8"]);
    assert_eq!(cluster.nodes[&N1].core.status().commit, Slot(7));
}

#[test]
fn refusals_say_why() {
    let limits = Limits { command_bytes: 5, waiting_bytes: 12, window: 1, ..Limits::default() };
    let config = config(N1, 3).with_limits(limits).unwrap();
    let mut cluster = Cluster::<Log>::from_disks(vec![(config, Saved::default())]);
    for (ticket, command) in ["123456", "12345", "12345", "12345", "12345"].iter().enumerate() {
        cluster.propose(N1, ticket as u64, command);
    }
    let expected = [(Ticket(0), Refusal::TooLarge { limit: 5 }), (Ticket(2), Refusal::Busy)];
    assert_eq!(cluster.node(N1).refused, expected);
}

#[test]
fn a_learner_hears_everything_and_says_nothing() {
    let members = members(3, 1);
    let config = |id| Config::new(NodeId(id), members.clone()).unwrap();
    let disks = (1..=4).map(|id| (config(id), Saved::default())).collect();
    let mut cluster = Cluster::<Log>::from_disks(disks);
    let learner = NodeId(4);
    cluster.propose(N1, 1, "x");
    cluster.deliver();
    assert_eq!(cluster.chosen(learner), ["x"]);
    assert_eq!(cluster.nodes[&learner].core.status().role, Role::Learner);
    cluster.propose(learner, 2, "y");
    let elsewhere = Refusal::NotLeader { hint: Some(N1) };
    assert_eq!(cluster.node(learner).refused, [(Ticket(2), elsewhere)]);
    let prepare = Message::Prepare { slot: Slot(2), ballot: b(1, 1) };
    assert_eq!(cluster.ask(N1, learner, prepare), [], "it has no vote");
}

#[test]
fn a_node_that_missed_everything_asks_and_is_told() {
    let limits = Limits { catch_up_bytes: 20, window: 4, ..Limits::default() };
    let settings = |config: Config| config.with_limits(limits.clone()).unwrap();
    let mut cluster = Cluster::<Log>::with(3, settings);
    for ticket in 0..30 {
        cluster.propose(N1, ticket, &format!("c{ticket:02}"));
        cluster.deliver_if(|flight| flight.to != N3 && flight.from != N3);
    }
    assert_eq!((cluster.commit(N1), cluster.commit(N3)), (30, 0));
    cluster.later(100);
    cluster.timeout(N3, Timer::Ask);
    cluster.deliver();
    assert_eq!(cluster.chosen(N3), cluster.chosen(N1), "in pieces of 20 bytes, in one go");
}

#[test]
fn a_restarted_node_knows_what_was_chosen_and_reports_it_again() {
    let mut cluster = Cluster::<Log>::new(3);
    for ticket in 0..5 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
        cluster.deliver();
    }
    for id in cluster.ids() {
        cluster.crash(id);
        assert!(cluster.commit(id) >= 4, "the mark lags by what came last, at most");
    }
    cluster.propose(N2, 9, "new");
    cluster.deliver();
    settle(&mut cluster);
    for id in cluster.ids() {
        assert_eq!(cluster.chosen(id), ["0", "1", "2", "3", "4", "new"]);
    }
}

#[test]
fn a_value_found_undecided_is_finished_first() {
    let mut cluster = Cluster::<Log>::new(3);
    cluster.propose(N1, 1, "orphan");
    // Only n2 hears the Accept; then n1 is gone for good.
    cluster
        .deliver_if(|flight| !matches!(flight.message, Message::Accept { .. }) || flight.to == N2);
    cluster.wire.clear();
    let alive = |flight: &Flight| flight.from != N1 && flight.to != N1;
    cluster.crash(N2);
    cluster.crash(N3);
    cluster.propose(N2, 2, "mine");
    cluster.deliver_if(alive);
    for _ in 0..3 {
        cluster.later(200);
        cluster.timeout(N2, Timer::Ask);
        cluster.deliver_if(alive);
    }
    assert_eq!(cluster.chosen(N2), ["orphan", "mine"]);
    assert_eq!(cluster.chosen(N3), ["orphan", "mine"]);
}

#[test]
fn a_snapshot_takes_a_node_past_what_it_missed_and_keeps_its_vows() {
    let mut cluster = Cluster::<Log>::new(3);
    for ticket in 0..4 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
        cluster.deliver_if(|flight| flight.to != N3 && flight.from != N3);
    }
    let vow = Message::Accept { slot: Slot(9), ballot: b(3, 2), value: value("late") };
    cluster.say(N2, N3, vow);
    let promise = Message::Prepare { slot: Slot(7), ballot: b(5, 2) };
    cluster.say(N2, N3, promise);
    cluster.wire.clear();
    cluster.step(N1, Input::Compact { through: Slot(4) });
    let base = cluster.nodes[&N2].core.base_at(Slot(4)).unwrap();
    assert_eq!(cluster.nodes[&N1].core.base_at(Slot(3)), None, "compacted away");
    assert_eq!(cluster.nodes[&N1].core.base_at(Slot(5)), None, "not chosen");
    cluster.step(N3, Input::Installed { base });
    assert_eq!(cluster.commit(N3), 4);
    cluster.crash(N3);
    assert_eq!(cluster.commit(N3), 4);
    let nack = |slot, ballot, promised| Message::Nack { slot: Slot(slot), ballot, promised };
    let ask = |slot, ballot| Message::Prepare { slot: Slot(slot), ballot };
    assert_eq!(cluster.ask(N1, N3, ask(9, b(1, 1))), [nack(9, b(1, 1), b(3, 2))]);
    assert_eq!(cluster.ask(N1, N3, ask(7, b(1, 1))), [nack(7, b(1, 1), b(5, 2))]);
    let report = Message::Promise {
        slot: Slot(9),
        ballot: b(4, 1),
        accepted: Some((b(3, 2), value("late"))),
    };
    assert_eq!(cluster.ask(N1, N3, ask(9, b(4, 1))), [report]);
}

#[test]
fn disks_that_make_no_sense_are_refused() {
    use synod_basic_paxos::HardState;
    use synod_consensus::{Base, Run, RunLog};
    let vote = |slot: u64, stamp| {
        let mut log = RunLog::default();
        log.put(Run { first: Slot(slot), stamp, values: value("x") });
        log
    };
    let promises = |ballot| [(Slot(2), ballot)].into_iter().collect();
    let none = || HardState::default();
    let cases: Vec<(&str, HardState, RunLog<_>)> = vec![
        ("chosen and not there", HardState { chosen: Slot(2), ..none() }, vote(2, b(1, 1))),
        ("a vote without a promise", none(), vote(2, b(1, 1))),
        (
            "a vote above the promise",
            HardState { promises: promises(b(1, 1)), ..none() },
            vote(2, b(1, 2)),
        ),
        ("a stamp of nobody", none(), vote(1, b(0, 1))),
        (
            "a round of nobody",
            HardState { promises: promises(b(1 << 63, 1)), ..none() },
            vote(3, b(1, 1)),
        ),
    ];
    for (name, hard_state, log) in cases {
        let saved = Saved { hard_state, base: Base::default(), log };
        assert!(BasicPaxos::recover(config(N1, 3), saved).is_err(), "{name}");
    }
}

#[test]
fn reads_and_admin_are_refused() {
    let mut core = BasicPaxos::recover(config(N1, 3), Saved::default()).unwrap();
    let mut outbox = synod_consensus::Outbox::default();
    core.step(synod_types::Instant::ZERO, Input::Read(ReadId(1)), &mut outbox.effects());
    assert_eq!(outbox.reads, [(ReadId(1), Err(Refusal::Unsupported))]);
}
