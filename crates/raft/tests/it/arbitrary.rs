//! Arbitrary input: hostile messages to one core, and arbitrary schedules of a whole cluster.

use crate::cluster::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use std::time::Duration;
use synod_consensus::{
    Base, FatalError, HardState as _, HistoryDigest, Host, Input, Message as _, Observer, Outputs,
    Protocol, Round, Run, Saved, Write,
};
use synod_raft::{
    Append, AppendAck, AppendConflict, Commit, Heartbeat, HeartbeatAck, Limits, Message, Position,
    PreVote, PreVoteReply, Raft, ReadReply, ReadRequest, RequestVote, Timer, Vote,
};
use synod_types::{Instant, NodeId, ReadId, Slot, Term, Ticket, Value};

/// Numbers that are likely to find bugs: small ones that collide, and those at the end of the range.
fn number() -> impl Strategy<Value = u64> {
    let edges = vec![(1 << 62) - 2, (1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX];
    prop_oneof![12 => 0..7_u64, 1 => prop::sample::select(edges)]
}

fn slot() -> impl Strategy<Value = Slot> {
    number().prop_map(Slot)
}

fn term() -> impl Strategy<Value = Term> {
    number().prop_map(Term)
}

fn position() -> impl Strategy<Value = Position> {
    (term(), slot()).prop_map(|(term, slot)| Position { term, slot })
}

fn entries() -> impl Strategy<Value = Run<Term>> {
    let command = any::<u8>().prop_map(|byte| Value::Command(vec![byte; 3].into()));
    let value = prop_oneof![command, Just(Value::Noop), Just(Value::Members(members(3, 1)))];
    (slot(), term(), vec(value, 0..4)).prop_map(|(first, stamp, values)| Run {
        first,
        stamp,
        values: values.into_iter().collect(),
    })
}

/// Number of a search, mostly a small one that the leader may have reached.
fn probe() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..4_u64, 1 => any::<u64>()]
}

/// Append whose parts are consistent with each other more often than random ones.
fn append() -> impl Strategy<Value = Message> {
    (term(), probe(), position(), entries(), slot(), any::<bool>()).prop_map(
        |(term, probe, prev, mut run, commit, fits)| {
            if fits {
                run.first = Slot(prev.slot.0.saturating_add(1));
                run.stamp = term.min(run.stamp.max(prev.term));
            }
            Message::Append(Append {
                term,
                probe,
                prev,
                run,
                commit,
                digest: HistoryDigest::UNKNOWN,
            })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![4 => election_message(), 4 => append(), 6 => other_replication_message()]
}

fn election_message() -> impl Strategy<Value = Message> {
    let yes = any::<bool>;
    let pre_vote = (term(), position()).prop_map(|(next_term, last)| PreVote { next_term, last });
    let pre_vote_reply = (term(), term(), yes())
        .prop_map(|(term, next_term, granted)| PreVoteReply { term, next_term, granted });
    let request = (term(), position()).prop_map(|(term, last)| RequestVote { term, last });
    let vote = (term(), yes()).prop_map(|(term, granted)| Vote { term, granted });
    prop_oneof![
        pre_vote.prop_map(Message::PreVote),
        pre_vote_reply.prop_map(Message::PreVoteReply),
        request.prop_map(Message::RequestVote),
        vote.prop_map(Message::Vote),
    ]
}

fn other_replication_message() -> impl Strategy<Value = Message> {
    let ack = (term(), probe(), slot()).prop_map(|(term, probe, matched)| AppendAck {
        term,
        probe,
        matched,
    });
    let conflict = (term(), probe(), slot(), position())
        .prop_map(|(term, probe, at, hint)| AppendConflict { term, probe, at, hint });
    let heartbeat = (term(), position(), slot(), probe())
        .prop_map(|(term, prev, commit, round)| Heartbeat { term, prev, commit, round });
    let heartbeat_ack = (term(), probe()).prop_map(|(term, round)| HeartbeatAck { term, round });
    let read = || (1..4_u64).prop_map(ReadId);
    let request = (term(), read()).prop_map(|(term, id)| ReadRequest { term, id });
    let reply =
        (term(), read(), slot()).prop_map(|(term, id, index)| ReadReply { term, id, index });
    let commit = (term(), slot()).prop_map(|(term, commit)| Commit { term, commit });
    prop_oneof![
        2 => ack.prop_map(Message::AppendAck),
        1 => conflict.prop_map(Message::AppendConflict),
        1 => heartbeat.prop_map(Message::Heartbeat),
        1 => heartbeat_ack.prop_map(Message::HeartbeatAck),
        1 => request.prop_map(Message::ReadRequest),
        1 => reply.prop_map(Message::ReadReply),
        1 => commit.prop_map(Message::Commit),
    ]
}

fn base() -> impl Strategy<Value = Base<Term>> {
    (slot(), term(), option::of(Just(members(4, 0)))).prop_map(|(through, stamp, members)| Base {
        through,
        stamp,
        members,
    })
}

fn input() -> impl Strategy<Value = Input<Raft>> {
    let command = vec(any::<u8>(), 0..20);
    prop_oneof![
        16 => (0..6_u64, message())
            .prop_map(|(from, message)| Input::Message { from: NodeId(from), message }),
        3 => Just(Input::Timeout(Timer::Election)),
        2 => Just(Input::Timeout(Timer::Heartbeat)),
        3 => (any::<u64>(), command).prop_map(|(id, command)| Input::Propose {
            ticket: Ticket(id),
            command: command.into(),
        }),
        1 => Just(Input::Start),
        1 => Just(Input::Stalled),
        1 => (1..4_u64).prop_map(|id| Input::Read(ReadId(id))),
        1 => slot().prop_map(|through| Input::Compact { through }),
        1 => base().prop_map(|base| Input::Installed { base }),
    ]
}

fn small() -> Limits {
    Limits {
        inflight_messages: 2,
        inflight_bytes: 280,
        append_bytes: 8,
        uncommitted_bytes: 40,
        command_bytes: 15,
    }
}

/// Disk without delay, which checks the writes and claims of the core.
#[derive(Clone)]
struct Disk(Saved<Raft>);

impl Observer<Raft> for Disk {
    fn on_write(&mut self, _: &Raft, write: &Write<Raft>) {
        if let Write::HardState(hard_state) = write {
            assert!(hard_state.may_follow(&self.0.hard_state), "{hard_state:?}");
        }
        self.0.apply(write);
    }

    fn on_release(&mut self, _: &Raft, to: NodeId, message: &Message) {
        assert!(message.holds(N1, to, &self.0), "{} is a false claim", message.describe());
    }
}

/// One core under hostile input, and the properties that hold for any input. Its host checks that no
/// write cuts a chosen slot, and that chosen slots are contiguous.
#[derive(Clone)]
struct HostileRun {
    host: Host<Raft>,
    disk: Disk,
    open: Vec<Ticket>,
    now: Instant,
}

impl HostileRun {
    fn handle(&mut self, input: Input<Raft>, flushes: bool) {
        let before = self.clone();
        // A stalled core sends itself a claim about its log, which must leave before an input changes the log.
        let flushes = flushes || input == Input::Stalled;
        if let Input::Propose { ticket, .. } = &input {
            self.open.push(*ticket);
        }
        self.now = self.now + Duration::from_millis(60);
        let mut fatal = close(&mut self.open, self.host.input(self.now, input, &mut self.disk));
        let mut has_more = flushes;
        while has_more {
            let Round { seq, is_quiet, outputs, .. } = self.host.round(self.now, &mut self.disk);
            assert!(is_quiet);
            fatal = close(&mut self.open, outputs);
            has_more = seq.is_some();
            seq.into_iter().for_each(|seq| self.host.written(seq));
        }
        self.host.core().check_invariants();
        let status = self.host.core().status();
        assert!(status.base <= status.commit && status.commit <= status.last);
        assert_eq!(self.disk.0.log.last(), status.last, "the disk holds the core's log");
        assert_eq!(self.disk.0.log.base(), status.base);
        assert_eq!(self.disk.0.hard_state.term.0, status.ballot.round);
        if let Some(fatal) = fatal {
            // Continue as if the message had been lost.
            assert!(matches!(fatal, FatalError::Contradicted { .. }), "{fatal}");
            *self = before;
        } else {
            assert_eq!(self.host.chosen(), status.commit);
        }
    }
}

/// Removes the tickets that were placed or refused, and checks that this happens once for each. Returns the
/// fatal error, if there is one.
fn close(open: &mut Vec<Ticket>, outputs: &mut Outputs<Raft>) -> Option<FatalError> {
    let refused = outputs.refused.drain(..).map(|(ticket, _)| ticket);
    for ticket in outputs.placed.drain(..).map(|(ticket, _)| ticket).chain(refused) {
        let at = open.iter().position(|open| *open == ticket);
        open.swap_remove(at.expect("each ticket is placed or refused once"));
    }
    outputs.fatal
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    /// Under any input a core does not panic, its term and vote do not go back, chosen entries stay, its
    /// disk equals its log, its claims are true, and every ticket is placed or refused once.
    #[test]
    fn hostile_input_violates_no_invariant(
        steps in vec((input(), any::<bool>()), 1..120),
        voters in 1..4_u64,
        pre_vote in any::<bool>(),
        terms in vec(1..4_u64, 0..6),
    ) {
        let mut terms = terms;
        terms.sort_unstable();
        let config = config(N1, voters).with_limits(small()).unwrap().with_pre_vote(pre_vote);
        let disk = saved(4, None, &terms);
        let host = Host::recover(N1, config.clone(), disk.clone()).unwrap();
        let mut run = HostileRun { host, disk: Disk(disk), open: Vec::new(), now: Instant::ZERO };
        for (input, flushes) in steps {
            run.handle(input, flushes);
        }
        run.handle(Input::Timeout(Timer::Heartbeat), true);
        prop_assert_eq!(&run.open, &[], "every ticket is placed or refused by the next flush");
        let last = run.host.core().status().last;
        // A leader may add to a snapshot that ends beyond any log.
        if last < Slot(1 << 62) {
            let again = Raft::recover(config, run.disk.0).expect("a core recovers from its own disk");
            prop_assert_eq!(again.status().last, last);
        }
    }
}

/// Event in a cluster.
#[derive(Clone, Debug)]
enum Event {
    Deliver(usize),
    Drop(usize),
    Duplicate(usize),
    Election(u64),
    Heartbeat(u64),
    Propose(u64),
    Hang(u64),
    Sync(u64),
    Crash(u64),
    Stall(u64),
    Compact(u64),
    Ship(u64),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let node = || 1..6_u64;
    prop_oneof![
        40 => (0..12_usize).prop_map(Event::Deliver),
        4 => (0..12_usize).prop_map(Event::Drop),
        3 => (0..12_usize).prop_map(Event::Duplicate),
        3 => node().prop_map(Event::Election),
        4 => node().prop_map(Event::Heartbeat),
        6 => node().prop_map(Event::Propose),
        2 => node().prop_map(Event::Hang),
        3 => node().prop_map(Event::Sync),
        1 => node().prop_map(Event::Crash),
        1 => node().prop_map(Event::Stall),
        1 => node().prop_map(Event::Compact),
        1 => node().prop_map(Event::Ship),
        4 => (1..200_u64).prop_map(Event::Wait),
    ]
}

/// Applies one event; the harness checks agreement, leaders, claims and gates after each.
fn apply_event(cluster: &mut Cluster, event: &Event, tickets: &mut u64) {
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
        Event::Election(node) => cluster.timeout(id(node), Timer::Election),
        Event::Heartbeat(node) => cluster.timeout(id(node), Timer::Heartbeat),
        Event::Propose(node) => {
            *tickets += 1;
            let command = format!("c{tickets}");
            cluster.propose(id(node), *tickets, &command);
        }
        Event::Hang(node) => cluster.node(id(node)).is_disk_hung = true,
        Event::Sync(node) => cluster.sync(id(node)),
        Event::Crash(node) => cluster.restart(id(node)),
        Event::Stall(node) => cluster.step(id(node), Input::Stalled),
        Event::Compact(node) => {
            let through = cluster.status(id(node)).commit;
            cluster.step(id(node), Input::Compact { through });
        }
        Event::Ship(node) => {
            let from = id(node);
            let Some(to) = cluster.node(from).outputs.snapshots.pop() else { return };
            let through = cluster.status(from).commit;
            let base = cluster.core(from).base_at(through).unwrap();
            cluster.step(to, Input::Installed { base });
        }
        Event::Wait(ms) => cluster.advance(*ms),
    }
}

/// Syncs all disks and delivers all messages. The cluster must elect a leader, catch up and serve.
fn converge(cluster: &mut Cluster, tickets: &mut u64) {
    for id in cluster.ids() {
        cluster.sync(id);
    }
    cluster.deliver();
    for round in 0..40 {
        cluster.advance(60);
        let ids = cluster.ids();
        for &id in &ids {
            cluster.timeout(id, Timer::Heartbeat);
            for to in std::mem::take(&mut cluster.node(id).outputs.snapshots) {
                let through = cluster.status(id).commit;
                let base = cluster.core(id).base_at(through).unwrap();
                cluster.step(to, Input::Installed { base });
            }
        }
        cluster.deliver();
        if !ids.iter().any(|id| cluster.leads(*id)) && round % 5 == 0 {
            cluster.advance(400);
            let campaigner = ids[round / 5 % ids.len()];
            cluster.timeout(campaigner, Timer::Election);
            cluster.deliver();
        }
    }
    let leader = cluster.ids().into_iter().find(|id| cluster.leads(*id));
    let leader = leader.expect("a healthy cluster elects a leader");
    *tickets += 1;
    cluster.propose(leader, *tickets, "last");
    cluster.deliver();
    let end = cluster.commit_index(leader);
    for id in cluster.ids() {
        assert_eq!(cluster.commit_index(id), end, "{id:?} has caught up with {leader:?}");
    }
    assert_eq!(cluster.commands(leader).last().map(String::as_str), Some("last"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Under any schedule of losses, duplicates, delays, crashes, hung disks and snapshots each slot has
    /// one chosen value and each term one leader. Once all faults have ended, the cluster serves again.
    #[test]
    fn any_schedule_keeps_agreement_and_the_cluster_recovers(
        nodes in prop::sample::select(vec![1, 2, 3, 3, 3, 5]),
        events in vec(event(), 1..250),
        is_plain in any::<bool>(),
    ) {
        let mut cluster = Cluster::with(nodes, |config| {
            let config = config.with_limits(small()).unwrap();
            config.with_pre_vote(!is_plain).with_check_quorum(!is_plain)
        });
        let mut tickets = 0;
        for event in &events {
            apply_event(&mut cluster, event, &mut tickets);
        }
        converge(&mut cluster, &mut tickets);
    }
}
