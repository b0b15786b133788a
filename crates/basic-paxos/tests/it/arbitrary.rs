//! Arbitrary input: hostile messages to one core, and arbitrary schedules of a cluster.

use crate::cluster::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use synod_basic_paxos::{
    Accept, Accepted, BasicPaxos, Chosen, Config, Learn, Learned, Limits, Many, Message, Nack,
    Prepare, Promise, Timer,
};
use synod_consensus::{Base, Input, Protocol, Saved};
use synod_types::{Ballot, Instant, NodeId, ReadId, Slot, Ticket, Value, Values};

/// Numbers that find bugs: small ones that collide, and those at the end of the range.
fn number() -> impl Strategy<Value = u64> {
    let edges = vec![(1 << 62) - 2, (1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX];
    prop_oneof![12 => 0..7_u64, 1 => prop::sample::select(edges)]
}

fn slot() -> impl Strategy<Value = Slot> {
    number().prop_map(Slot)
}

fn ballot() -> impl Strategy<Value = Ballot> {
    (number(), 0..5_u64).prop_map(|(round, node)| b(round, node))
}

fn values() -> impl Strategy<Value = Values> {
    let command = any::<u8>().prop_map(|byte| Value::Command(vec![byte; 3].into()));
    let value = prop_oneof![command, Just(Value::Noop), Just(Value::Stop(members(3, 1)))];
    prop_oneof![4 => vec(value.clone(), 1..2), 1 => vec(value, 0..4)]
        .prop_map(|values| values.into_iter().collect())
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        3 => (slot(), ballot()).prop_map(|(slot, ballot)| Message::Prepare(Prepare { slot, ballot })),
        3 => (slot(), ballot(), option::of((ballot(), values())))
            .prop_map(|(slot, ballot, accepted)| Message::Promise(Promise { slot, ballot, accepted })),
        3 => (slot(), ballot(), values())
            .prop_map(|(slot, ballot, value)| Message::Accept(Accept { slot, ballot, value })),
        2 => (slot(), ballot()).prop_map(|(slot, ballot)| Message::Accepted(Accepted { slot, ballot })),
        1 => (slot(), ballot(), ballot())
            .prop_map(|(slot, ballot, promised)| Message::Nack(Nack { slot, ballot, promised })),
        2 => (slot(), values(), slot())
            .prop_map(|(first, values, through)| Message::Learned(Learned { first, values, through })),
        1 => slot().prop_map(|from| Message::Learn(Learn { from })),
        2 => (slot(), ballot(), slot())
            .prop_map(|(slot, ballot, through)| Message::Chosen(Chosen { slot, ballot, through })),
    ]
}

fn input() -> impl Strategy<Value = Input<BasicPaxos>> {
    let base =
        (slot(), ballot()).prop_map(|(through, stamp)| Base { through, stamp, members: None });
    prop_oneof![
        20 => (0..5_u64, vec(message(), 0..4)).prop_map(|(from, messages)| Input::Message {
            from: NodeId(from),
            message: messages.into_iter().collect(),
        }),
        3 => slot().prop_map(|slot| Input::Timeout(Timer::Slot(slot))),
        2 => Just(Input::Timeout(Timer::CatchUp)),
        3 => (any::<u64>(), vec(any::<u8>(), 0..20)).prop_map(|(id, command)| Input::Propose {
            ticket: Ticket(id),
            command: command.into(),
        }),
        1 => Just(Input::Stalled),
        1 => Just(Input::Read(ReadId(1))),
        1 => slot().prop_map(|through| Input::Compact { through }),
        1 => base.prop_map(|base| Input::Installed { base }),
    ]
}

fn small() -> Limits {
    Limits {
        window: 4,
        flight_bytes: 20,
        catch_up_bytes: 8,
        waiting: 6,
        waiting_bytes: 60,
        command_bytes: 15,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Under any input a core does not panic, keeps its promises, sends only durable claims, stays within
    /// its memory bounds, and can be recovered from its disk.
    #[test]
    fn hostile_input_breaks_nothing(steps in vec(input(), 1..120), voters in 1..4_u64) {
        let config = Config::new(N1, members(voters, 1)).unwrap().with_limits(small()).unwrap();
        let mut node = lone_node::<Many>(config.clone(), Saved::default());
        let (mut now, mut open) = (Instant(0), Vec::new());
        for step in std::iter::once(Input::Start).chain(steps) {
            now = Instant(now.0 + 60_000_000);
            match &step {
                Input::Propose { ticket, .. } => open.push(*ticket),
                // A host accepts any snapshot as installed; skip those that the core rejects.
                Input::Installed { base } => {
                    let mut host = node.host.clone();
                    let _ = host.input(now, step.clone(), &mut ());
                    if host.core().status().commit < base.through {
                        prop_assert_eq!(host.core(), node.host.core());
                        continue;
                    }
                }
                _ => {}
            }
            node.step(now, step);
            if node.outputs.fatal.is_some() {
                // Input that contradicts a chosen value stops the node: restart it.
                node.restart(now);
                open.clear();
            }
            let completed = node.outputs.placed.drain(..).map(|(ticket, _)| ticket);
            for ticket in completed.chain(node.outputs.refused.drain(..).map(|(ticket, _)| ticket)) {
                let at = open.iter().position(|open| *open == ticket);
                open.swap_remove(at.expect("a ticket completes once"));
            }
            prop_assert!(open.len() <= 10, "4 open and 6 waiting: {}", open.len());
            let (status, disk) = (node.host.core().status(), &node.disk);
            prop_assert!(status.base <= status.commit && status.commit <= status.last);
            prop_assert_eq!(status.commit, node.host.chosen());
            prop_assert_eq!(disk.log.last(), status.last, "disk and core agree");
            prop_assert!(disk.hard_state.promises().count() <= 8, "{:?}", disk.hard_state);
        }
        let disk = node.disk.clone();
        let again = BasicPaxos::recover(config, disk).expect("its disk is consistent");
        prop_assert_eq!(again.status().last, node.host.core().status().last);
    }
}

/// Event in a cluster.
#[derive(Clone, Debug)]
enum Event {
    Deliver(usize),
    Drop(usize),
    Duplicate(usize),
    Timer(u64, usize),
    Propose(u64),
    Hang(u64),
    Sync(u64),
    Crash(u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 1..6_u64;
    prop_oneof![
        40 => (0..12_usize).prop_map(Event::Deliver),
        4 => (0..12_usize).prop_map(Event::Drop),
        3 => (0..12_usize).prop_map(Event::Duplicate),
        6 => (node(), any::<usize>()).prop_map(|(node, timer)| Event::Timer(node, timer)),
        5 => node().prop_map(Event::Propose),
        2 => node().prop_map(Event::Hang),
        3 => node().prop_map(Event::Sync),
        1 => node().prop_map(Event::Crash),
        4 => (1..200_u64).prop_map(Event::Wait),
    ]
}

/// Applies one event; the harness checks agreement and claims after each.
fn apply_event(cluster: &mut Cluster<Many>, event: &Event, tickets: &mut u64) {
    let count = cluster.nodes.len() as u64;
    let id = |node: &u64| NodeId(1 + node % count);
    match event {
        Event::Deliver(index) | Event::Drop(index) | Event::Duplicate(index) => {
            let Some(last) = cluster.wire.len().checked_sub(1) else { return };
            let index = (*index).min(last);
            let flight = match event {
                Event::Duplicate(_) => cluster.wire[index].clone(),
                _ => cluster.wire.remove(index).unwrap(),
            };
            if !matches!(event, Event::Drop(_)) {
                cluster.inject(flight.from, flight.to, flight.message);
            }
        }
        Event::Timer(node, index) => {
            let timers: Vec<_> = cluster.node(id(node)).timers.keys().copied().collect();
            if !timers.is_empty() {
                cluster.timeout(id(node), timers[index % timers.len()]);
            }
        }
        Event::Propose(node) => {
            *tickets += 1;
            let command = format!("c{tickets}");
            cluster.propose(id(node), *tickets, &command);
        }
        Event::Hang(node) => cluster.node(id(node)).is_disk_hung = true,
        Event::Sync(node) => cluster.sync(id(node)),
        Event::Crash(node) => cluster.restart(id(node)),
        Event::Wait(ms) => cluster.advance(*ms),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Under any schedule of losses, duplicates, delays, crashes and hung disks one value is chosen
    /// a slot. A healthy cluster then serves, and all nodes learn the same values.
    #[test]
    fn any_schedule_keeps_agreement_and_heals(
        nodes in prop::sample::select(vec![1, 2, 3, 3, 3, 5]),
        events in vec(event(), 1..250),
    ) {
        let mut cluster =
            Cluster::<Many>::with(nodes, |config| config.with_limits(small()).unwrap());
        let mut tickets = 0;
        for event in &events {
            apply_event(&mut cluster, event, &mut tickets);
        }
        for id in cluster.ids() {
            cluster.sync(id);
        }
        cluster.propose(N1, 1_000_000, "last");
        for _ in 0..60 {
            for id in cluster.ids() {
                cluster.advance(600);
                let timers: Vec<_> = cluster.node(id).timers.keys().copied().collect();
                for timer in timers {
                    cluster.timeout(id, timer);
                    cluster.deliver();
                }
            }
        }
        let placed = &cluster.node(N1).outputs.placed;
        let served = placed.iter().any(|(ticket, _)| ticket.0 == 1_000_000);
        let busy = cluster.node(N1).outputs.refused.iter().any(|(ticket, _)| ticket.0 == 1_000_000);
        prop_assert!(served || busy, "a healthy cluster serves");
        for id in cluster.ids() {
            prop_assert_eq!(cluster.commit_index(id), cluster.commit_index(N1), "{:?} has caught up", id);
        }
    }
}
