//! Log of decrees: lost slots, holes, lagging nodes, restarts and snapshots.

use crate::cluster::*;
use synod_basic_paxos::{
    Accept, BasicPaxos, Config, Learn, Learned, Limits, Many, Message, Nack, Prepare, Promise,
    Timer,
};
use synod_consensus::{Input, Protocol, Refusal, Role, Saved};
use synod_types::{Instant, NodeId, ReadId, Slot, Ticket};

fn run_timers(cluster: &mut Cluster<Many>) {
    for _ in 0..30 {
        cluster.advance(100);
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
    let mut cluster = Cluster::<Many>::new(3);
    for (ticket, id) in cluster.ids().into_iter().enumerate() {
        cluster.propose(id, ticket as u64, &format!("by {id}"));
        cluster.deliver();
    }
    for id in cluster.ids() {
        assert_eq!(cluster.chosen(id), ["by 1", "by 2", "by 3"]);
    }
}

#[test]
fn command_that_loses_its_slot_is_proposed_in_the_next() {
    let mut cluster = Cluster::<Many>::new(3);
    for id in cluster.ids() {
        cluster.propose(id, id.0, &format!("by {id}"));
    }
    cluster.deliver();
    run_timers(&mut cluster);
    for id in cluster.ids() {
        let mut commands = cluster.chosen(id);
        commands.retain(|command| command != "noop");
        commands.sort_unstable();
        assert_eq!(commands, ["by 1", "by 2", "by 3"], "each once");
        assert_eq!(cluster.node(id).outputs.placed.len(), 1);
        assert_eq!(cluster.node(id).outputs.placed[0].0, Ticket(id.0));
    }
}

#[test]
fn ticket_is_placed_in_the_slot_of_its_command() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 7, "lost");
    // n2's value is chosen in the slot before n1 receives a promise.
    cluster.wire.clear();
    cluster.propose(N2, 8, "won");
    cluster.deliver_if(|flight| flight.to != N1 && flight.from != N1);
    assert_eq!(cluster.node(N1).outputs.placed, []);
    cluster.advance(100);
    cluster.timeout(N1, Timer::Slot(S1));
    cluster.deliver();
    run_timers(&mut cluster);
    assert_eq!(cluster.chosen(N1)[0], "won");
    let slot = cluster.chosen(N1).iter().position(|command| command == "lost").unwrap();
    assert_eq!(cluster.node(N1).outputs.placed, [(Ticket(7), Slot(slot as u64 + 1))]);
}

#[test]
fn window_bounds_the_open_slots() {
    let limits = Limits { window: 3, waiting: 4, ..Limits::default() };
    let settings = |config: Config| config.with_limits(limits.clone()).unwrap();
    let mut cluster = Cluster::<Many>::with(3, settings);
    for ticket in 0..9 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
    }
    let open = cluster.wire.iter().filter(|flight| flight.to == N2).count();
    assert_eq!(open, 3, "open slots");
    let busy = [(Ticket(3), Refusal::Busy), (Ticket(4), Refusal::Busy)];
    assert_eq!(cluster.node(N1).outputs.refused, busy, "3 open, 4 waiting, the oldest refused");
    cluster.deliver();
    assert_eq!(cluster.chosen(N1), ["0", "1", "2", "5", "6", "7", "8"]);
    assert_eq!(cluster.nodes[&N1].host.core().status().commit, Slot(7));
}

#[test]
fn overloaded_node_proposes_the_newest_command_and_refuses_expired_ones() {
    let limits = Limits { window: 1, waiting: 4096, ..Limits::default() };
    let settings = |config: Config| config.with_limits(limits.clone()).unwrap();
    let mut cluster = Cluster::<Many>::with(3, settings);
    for (ticket, ms) in [(0, 0), (1, 1000), (2, 1000), (3, 2999), (4, 1)] {
        cluster.advance(ms);
        cluster.propose(N1, ticket, &format!("{ticket}"));
    }
    // Command 1 was proposed 4 s ago; command 0 has occupied the only slot for 5 s.
    assert_eq!(cluster.node(N1).outputs.refused, []);
    cluster.advance(1000);
    cluster.timeout(N1, Timer::CatchUp);
    assert_eq!(
        cluster.node(N1).outputs.refused,
        [(Ticket(1), Refusal::Busy)],
        "5 s after its proposal"
    );
    cluster.deliver();
    // The newest first, then by age.
    assert_eq!(cluster.chosen(N1), ["0", "4", "3", "2"]);
}

#[test]
fn refusals_state_their_reason() {
    let limits = Limits { command_bytes: 5, waiting_bytes: 12, window: 1, ..Limits::default() };
    let config = config(N1, 3).with_limits(limits).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    for (ticket, command) in ["123456", "12345", "12345", "12345", "12345"].iter().enumerate() {
        cluster.propose(N1, ticket as u64, command);
    }
    let expected = [(Ticket(0), Refusal::TooLarge { limit: 5 }), (Ticket(2), Refusal::Busy)];
    assert_eq!(cluster.node(N1).outputs.refused, expected);
}

#[test]
fn commands_that_lost_are_proposed_again_in_their_order() {
    let mut cluster = Cluster::<Many>::new(3);
    for (ticket, command) in ["a", "b", "c"].iter().enumerate() {
        cluster.propose(N1, ticket as u64, command);
    }
    cluster.wire.clear();
    let values = ["x", "y", "z"].iter().map(|text| value(text).get(0).to_value()).collect();
    let decided = Message::Learned(Learned { first: S1, values, through: Slot(3) });
    cluster.inject(N2, N1, decided);
    cluster.deliver();
    assert_eq!(cluster.chosen(N1), ["x", "y", "z", "a", "b", "c"]);
}

#[test]
fn command_overtaken_before_its_vote_goes_to_a_free_slot() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 1, "mine");
    cluster.wire.clear();
    // Both others have promised slot 1 to n3. No acceptor was asked to vote for "mine" there.
    for from in [N2, N3] {
        let nack = Message::Nack(Nack { slot: S1, ballot: b(1, 1), promised: b(1, 3) });
        cluster.inject(from, N1, nack);
    }
    let sent: Vec<_> = cluster.wire.drain(..).map(|flight| flight.message).collect();
    let higher = Message::Prepare(Prepare { slot: Slot(2), ballot: b(2, 1) });
    assert_eq!(sent, [higher.clone(), higher], "a higher ballot after a lost slot");
    let late = Message::Promise(Promise { slot: S1, ballot: b(1, 1), accepted: None });
    assert_eq!(cluster.replies(N2, N1, late), [], "slot 1 has no proposal of n1");
}

#[test]
fn command_sent_in_an_accept_stays_with_its_slot() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 1, "mine");
    cluster.inject(N2, N1, Message::Promise(Promise { slot: S1, ballot: b(1, 1), accepted: None }));
    cluster.wire.clear();
    for from in [N2, N3] {
        let nack = Message::Nack(Nack { slot: S1, ballot: b(1, 1), promised: b(1, 3) });
        cluster.inject(from, N1, nack);
    }
    assert_eq!(cluster.wire, [], "it may be chosen in this slot, so it backs off");
    cluster.timeout(N1, Timer::Slot(S1));
    let again = Message::Prepare(Prepare { slot: S1, ballot: b(2, 1) });
    assert_eq!(cluster.wire[0].message, again);
}

#[test]
fn node_without_replies_retransmits_its_oldest_slot_only() {
    let mut cluster = Cluster::<Many>::new(3);
    let sent_to_n2 = |cluster: &mut Cluster<Many>| {
        cluster.wire.drain(..).filter(|flight| flight.to == N2).count()
    };
    for ticket in 0..3 {
        cluster.propose(N1, ticket, "x");
    }
    assert_eq!(sent_to_n2(&mut cluster), 3);
    for repetition in 0..4 {
        for slot in 1..=3 {
            cluster.timeout(N1, Timer::Slot(Slot(slot)));
        }
        let expected = if repetition == 0 { 3 } else { 1 };
        assert_eq!(sent_to_n2(&mut cluster), expected, "retransmission {repetition}");
    }
    cluster.propose(N1, 3, "x");
    assert_eq!(sent_to_n2(&mut cluster), 0, "no new slot is opened");
    // A reply to the oldest releases the others.
    cluster.timeout(N1, Timer::Slot(S1));
    cluster.deliver();
    run_timers(&mut cluster);
    assert_eq!(cluster.chosen(N1), ["x"; 4]);
}

#[test]
fn slot_with_an_active_proposer_is_left_alone() {
    let mut cluster = Cluster::<Many>::new(3);
    let open = |cluster: &mut Cluster<Many>| {
        cluster.advance(60);
        cluster.timeout(N1, Timer::CatchUp);
        let prepares = cluster.wire.drain(..).filter_map(|flight| match flight.message {
            Message::Prepare(Prepare { slot, .. }) if flight.to == N2 => Some(slot.0),
            _ => None,
        });
        prepares.collect::<Vec<_>>()
    };
    for slot in [1, 2, 3] {
        let vote = Message::Accept(Accept { slot: Slot(slot), ballot: b(1, 3), value: value("v") });
        cluster.inject(N3, N1, vote);
    }
    assert_eq!(open(&mut cluster), [0; 0], "its proposer is active");
    let higher = Message::Prepare(Prepare { slot: S1, ballot: b(2, 2) });
    cluster.inject(N2, N1, higher.clone());
    assert_eq!(open(&mut cluster), [2], "one slot until a round trip is measured");
    cluster.inject(
        N2,
        N1,
        Message::Promise(Promise { slot: Slot(2), ballot: b(2, 1), accepted: None }),
    );
    cluster.inject(N2, N1, higher.clone());
    assert_eq!(open(&mut cluster), [3], "n2 still sends: its value may wait for the link");
    // No link takes that long. Retransmissions of n2 are no progress: it may receive no replies.
    cluster.advance(10_000);
    cluster.inject(N2, N1, higher);
    assert_eq!(open(&mut cluster)[0], 1);
}

#[test]
fn blocking_slot_is_finished_before_the_catch_up_timeout() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 1, "x");
    cluster.deliver();
    cluster.inject(N3, N1, Message::Prepare(Prepare { slot: Slot(2), ballot: b(1, 3) }));
    let mut any_message = |ms| {
        cluster.advance(ms);
        cluster.replies(N2, N1, Message::Learn(Learn { from: Slot(2) }))
    };
    assert_eq!(any_message(80), [], "n3 may still retransmit");
    let finish = Message::Prepare(Prepare { slot: Slot(2), ballot: b(2, 1) });
    assert_eq!(any_message(40)[0], finish, "no progress for eight round trips");
}

#[test]
fn learner_redirects_to_another_voter_when_its_own_is_silent() {
    let members = members(3, 1);
    let learner = NodeId(4);
    let config = Config::new(learner, members).unwrap();
    let mut cluster = Cluster::<Many>::from_disks(vec![(config, Saved::default())]);
    let redirect_to =
        |cluster: &Cluster<Many>| cluster.nodes[&learner].host.core().status().leader.unwrap();
    let mut targets = Vec::new();
    cluster.advance(1000);
    for _ in 0..4 {
        let message = Message::Learned(Learned { first: S1, values: value("x"), through: S1 });
        cluster.inject(N1, learner, message);
        for _ in 0..6 {
            cluster.advance(100);
            cluster.timeout(learner, Timer::CatchUp);
        }
        targets.push(redirect_to(&cluster));
    }
    assert_eq!(targets, [N2, N3, N1, N2], "messages of n1 count only while it is the target");
    cluster.propose(learner, 1, "y");
    let elsewhere = Refusal::NotLeader { hint: Some(N2) };
    assert_eq!(cluster.node(learner).outputs.refused, [(Ticket(1), elsewhere)]);
}

#[test]
fn learner_learns_all_values_and_sends_no_vote() {
    let members = members(3, 1);
    let config = |id| Config::new(NodeId(id), members.clone()).unwrap();
    let disks = (1..=4).map(|id| (config(id), Saved::default())).collect();
    let mut cluster = Cluster::<Many>::from_disks(disks);
    let learner = NodeId(4);
    cluster.propose(N1, 1, "x");
    cluster.deliver();
    assert_eq!(cluster.chosen(learner), ["x"]);
    assert_eq!(cluster.nodes[&learner].host.core().status().role, Role::Learner);
    cluster.propose(learner, 2, "y");
    let elsewhere = Refusal::NotLeader { hint: Some(N1) };
    assert_eq!(cluster.node(learner).outputs.refused, [(Ticket(2), elsewhere)]);
    let prepare = Message::Prepare(Prepare { slot: Slot(2), ballot: b(1, 1) });
    assert_eq!(cluster.replies(N1, learner, prepare), [], "it has no vote");
}

#[test]
fn node_that_missed_everything_requests_and_receives_it() {
    let limits = Limits { catch_up_bytes: 20, window: 4, ..Limits::default() };
    let settings = |config: Config| config.with_limits(limits.clone()).unwrap();
    let mut cluster = Cluster::<Many>::with(3, settings);
    for ticket in 0..30 {
        cluster.propose(N1, ticket, &format!("c{ticket:02}"));
        cluster.deliver_if(|flight| flight.to != N3 && flight.from != N3);
    }
    assert_eq!((cluster.commit_index(N1), cluster.commit_index(N3)), (30, 0));
    cluster.advance(100);
    cluster.timeout(N3, Timer::CatchUp);
    cluster.deliver();
    assert_eq!(cluster.chosen(N3), cluster.chosen(N1), "in replies of 20 bytes");
}

#[test]
fn restarted_node_emits_its_chosen_slots_again() {
    let mut cluster = Cluster::<Many>::new(3);
    for ticket in 0..5 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
        cluster.deliver();
    }
    for id in cluster.ids() {
        cluster.restart(id);
        assert!(cluster.commit_index(id) >= 4, "the hard state lags by one slot at most");
    }
    cluster.propose(N2, 9, "new");
    cluster.deliver();
    run_timers(&mut cluster);
    for id in cluster.ids() {
        assert_eq!(cluster.chosen(id), ["0", "1", "2", "3", "4", "new"]);
    }
}

#[test]
fn value_found_undecided_is_finished_first() {
    let mut cluster = Cluster::<Many>::new(3);
    cluster.propose(N1, 1, "orphan");
    // Only n2 receives the Accept; then n1 is gone for good.
    cluster.deliver_if(|flight| !matches!(flight.message, Message::Accept(_)) || flight.to == N2);
    cluster.wire.clear();
    let alive = |flight: &InFlight| flight.from != N1 && flight.to != N1;
    cluster.restart(N2);
    cluster.restart(N3);
    cluster.propose(N2, 2, "mine");
    cluster.deliver_if(alive);
    for _ in 0..3 {
        cluster.advance(200);
        cluster.timeout(N2, Timer::CatchUp);
        cluster.deliver_if(alive);
    }
    assert_eq!(cluster.chosen(N2), ["orphan", "mine"]);
    assert_eq!(cluster.chosen(N3), ["orphan", "mine"]);
}

#[test]
fn snapshot_covers_missed_slots_and_keeps_promises() {
    let mut cluster = Cluster::<Many>::new(3);
    for ticket in 0..4 {
        cluster.propose(N1, ticket, &format!("{ticket}"));
        cluster.deliver_if(|flight| flight.to != N3 && flight.from != N3);
    }
    let accept = Message::Accept(Accept { slot: Slot(9), ballot: b(3, 2), value: value("late") });
    cluster.inject(N2, N3, accept);
    let higher = Message::Prepare(Prepare { slot: Slot(7), ballot: b(5, 2) });
    cluster.inject(N2, N3, higher);
    cluster.wire.clear();
    cluster.step(N1, Input::Compact { through: Slot(4) });
    let base = cluster.nodes[&N2].host.core().base_at(Slot(4)).unwrap();
    assert_eq!(cluster.nodes[&N1].host.core().base_at(Slot(3)), None, "compacted away");
    assert_eq!(cluster.nodes[&N1].host.core().base_at(Slot(5)), None, "not chosen");
    cluster.step(N3, Input::Installed { base });
    assert_eq!(cluster.commit_index(N3), 4);
    cluster.restart(N3);
    assert_eq!(cluster.commit_index(N3), 4);
    let nack = |slot, ballot, promised| Message::Nack(Nack { slot: Slot(slot), ballot, promised });
    let prepare = |slot, ballot| Message::Prepare(Prepare { slot: Slot(slot), ballot });
    assert_eq!(cluster.replies(N1, N3, prepare(9, b(1, 1))), [nack(9, b(1, 1), b(3, 2))]);
    assert_eq!(cluster.replies(N1, N3, prepare(7, b(1, 1))), [nack(7, b(1, 1), b(5, 2))]);
    let report = Message::Promise(Promise {
        slot: Slot(9),
        ballot: b(4, 1),
        accepted: Some((b(3, 2), value("late"))),
    });
    assert_eq!(cluster.replies(N1, N3, prepare(9, b(4, 1))), [report]);
}

#[test]
fn inconsistent_disks_are_rejected() {
    use synod_basic_paxos::HardState;
    use synod_consensus::{Run, RunLog};
    let vote = |slot: u64, stamp| {
        let mut log = RunLog::default();
        log.put(Run { first: Slot(slot), stamp, values: value("x") });
        log
    };
    let promised = |ballot| HardState::new(Slot::ZERO, [(Slot(2), ballot)]);
    let none = HardState::default;
    let cases: Vec<(&str, HardState, RunLog<_>)> = vec![
        ("a chosen slot without a value", HardState::new(Slot(2), []), vote(2, b(1, 1))),
        ("a vote without a promise", none(), vote(2, b(1, 1))),
        ("a vote above the promise", promised(b(1, 1)), vote(2, b(1, 2))),
        ("a stamp of round zero", none(), vote(1, b(0, 1))),
        ("a round beyond the range", promised(b(1 << 63, 1)), vote(3, b(1, 1))),
    ];
    for (name, hard_state, log) in cases {
        let saved = Saved { hard_state, log, ..Saved::default() };
        assert!(BasicPaxos::recover(config(N1, 3), saved).is_err(), "{name}");
    }
}

#[test]
fn reads_and_admin_are_refused() {
    let mut node = lone_node::<Many>(config(N1, 3), Saved::default());
    node.step(Instant::ZERO, Input::Start);
    let outputs = node.host.input(Instant::ZERO, Input::Read(ReadId(1)), &mut ());
    let refused = [(ReadId(1), Err(Refusal::Unsupported))];
    assert_eq!(outputs.reads.as_slice(), refused);
}
