//! Arbitrary input: no message makes a core panic or take back a promise.

use crate::cluster::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;
use synod_multi_paxos::consensus::{Base, HardState as _, HistoryDigest, Input, Run, RunLog};
use synod_multi_paxos::types::{Ballot, Instant, NodeId, ReadId, Slot, Ticket, Value, Values};
use synod_multi_paxos::{
    Accept, Accepted, CHOSEN, Commit, ElectionState, Heartbeat, HeartbeatReply, Known, Learn,
    Learned, Message, MultiPaxos, Nack, Prepare, Probe, Promise, ReadReply, ReadRequest, ReadRound,
    ReadRoundAck, Report, Span, Timer, View,
};

/// Numbers that find bugs: small ones that collide, and those at the end of the range.
fn number() -> impl Strategy<Value = u64> {
    let edges = vec![(1 << 62) - 2, (1 << 62) - 1, 1 << 62, u64::MAX - 1, u64::MAX];
    prop_oneof![12 => 0..6_u64, 1 => prop::sample::select(edges)]
}

fn slot() -> impl Strategy<Value = Slot> {
    number().prop_map(Slot)
}

fn ballot() -> impl Strategy<Value = Ballot> {
    let any = (number(), 0..5_u64).prop_map(|(round, node)| Ballot { round, node: NodeId(node) });
    prop_oneof![9 => any, 1 => Just(CHOSEN)]
}

fn entries() -> impl Strategy<Value = Run<Ballot>> {
    let command = any::<u8>().prop_map(|byte| Value::Command(vec![byte % 3; 3].into()));
    let value = prop_oneof![command, Just(Value::Noop), Just(Value::Members(members(3)))];
    (slot(), ballot(), vec(value, 0..4)).prop_map(|(first, stamp, values)| Run {
        first,
        stamp,
        values: values.into_iter().collect(),
    })
}

/// Digests of histories without commands, of histories replaced by a snapshot, or of the first command.
fn digest() -> impl Strategy<Value = HistoryDigest> {
    let mut log = RunLog::<Ballot>::default();
    let values = Values::command_only(&[0; 3]);
    log.put(Run { first: Slot(1), stamp: CHOSEN, values });
    let known = HistoryDigest::of(&log, Slot(1));
    prop::sample::select(vec![HistoryDigest::NO_COMMAND, HistoryDigest::UNKNOWN, known])
}

fn held() -> impl Strategy<Value = Vec<Span>> {
    let span = (slot(), ballot()).prop_map(|(through, stamp)| Span { through, stamp });
    vec(span, 0..3)
}

fn report() -> impl Strategy<Value = Report> {
    (slot(), slot(), vec(entries(), 0..3), any::<bool>(), held(), slot(), slot(), digest())
        .prop_map(|(from, through, runs, is_last, held, confirmed, commit, digest)| {
            let last = runs.last().filter(|run| run.is_sound()).map_or(through, Run::last);
            let through = if is_last { last.max(Slot(from.0.saturating_sub(1))) } else { through };
            Report {
                from,
                through,
                held,
                confirmed,
                runs,
                is_last,
                commit,
                leader_commit: confirmed,
                digest,
            }
        })
}

fn view() -> impl Strategy<Value = View> {
    let states = vec![
        ElectionState::Following,
        ElectionState::PreCampaigning,
        ElectionState::Campaigning,
        ElectionState::Leading,
    ];
    let state = prop::sample::select(states);
    (
        ballot(),
        prop::option::of(ballot()),
        state,
        any::<bool>(),
        any::<bool>(),
        slot(),
        digest(),
        any::<u8>(),
    )
        .prop_map(
            |(ballot, leader, state, has_quorum, has_live_leader, commit, digest, priority)| View {
                ballot,
                leader,
                state,
                has_quorum,
                has_live_leader,
                commit,
                digest,
                priority,
            },
        )
}

fn read() -> impl Strategy<Value = ReadId> {
    (1..4_u64).prop_map(ReadId)
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        2 => (ballot(), slot(), held())
            .prop_map(|(ballot, from, held)| Message::Prepare(Prepare { ballot, from, held })),
        4 => (ballot(), report())
            .prop_map(|(ballot, report)| Message::Promise(Promise { ballot, report })),
        1 => (ballot(), ballot())
            .prop_map(|(ballot, promised)| Message::Nack(Nack { ballot, promised })),
        4 => (entries(), slot(), prop::option::of(digest()))
            .prop_map(|(run, commit, digest)| Message::Accept(Accept { run, commit, digest })),
        4 => (ballot(), slot(), slot(), number()).prop_map(|(ballot, first, through, probe)| {
            Message::Accepted(Accepted { ballot, first, through, probe })
        }),
        1 => (ballot(), number()).prop_map(|(ballot, number)| Message::Probe(Probe { ballot, number })),
        1 => (ballot(), slot()).prop_map(|(ballot, commit)| Message::Commit(Commit { ballot, commit })),
        2 => (number(), view()).prop_map(|(round, view)| Message::Heartbeat(Heartbeat { round, view })),
        4 => (number(), view())
            .prop_map(|(round, view)| Message::HeartbeatReply(HeartbeatReply { round, view })),
        1 => (slot(), slot(), held())
            .prop_map(|(from, through, held)| Message::Learn(Learn { from, through, held })),
        2 => (slot(), held(), slot(), digest()).prop_map(|(first, spans, commit, digest)| {
            Message::Known(Known { first, spans, commit, digest })
        }),
        2 => (entries(), slot(), digest())
            .prop_map(|(run, commit, digest)| Message::Learned(Learned { run, commit, digest })),
        1 => (ballot(), number()).prop_map(|(ballot, round)| Message::ReadRound(ReadRound { ballot, round })),
        1 => (ballot(), number())
            .prop_map(|(ballot, round)| Message::ReadRoundAck(ReadRoundAck { ballot, round })),
        1 => (ballot(), read()).prop_map(|(ballot, id)| Message::ReadRequest(ReadRequest { ballot, id })),
        1 => (ballot(), read(), slot())
            .prop_map(|(ballot, id, index)| Message::ReadReply(ReadReply { ballot, id, index })),
    ]
}

fn input() -> impl Strategy<Value = Input<MultiPaxos>> {
    let timer = prop_oneof![Just(Timer::Election), Just(Timer::Heartbeat)];
    prop_oneof![
        20 => (0..5_u64, message())
            .prop_map(|(from, message)| Input::Message { from: NodeId(from), message }),
        6 => timer.prop_map(Input::Timeout),
        1 => Just(Input::Stalled),
        3 => vec(any::<u8>(), 0..4)
            .prop_map(|bytes| Input::Propose { ticket: Ticket(1), command: bytes.into() }),
        1 => read().prop_map(Input::Read),
        1 => slot().prop_map(|through| Input::Compact { through }),
        1 => (slot(), ballot()).prop_map(|(through, stamp)| Input::Installed {
            base: Base { through, stamp, members: None },
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_message_causes_a_panic_or_takes_back_a_promise(
        inputs in vec((0..200_u64, input()), 1..60),
        restart in 0..60_usize,
    ) {
        let mut node = new_node(1, 4);
        let mut now = Instant::ZERO;
        for (index, (pause, input)) in inputs.into_iter().enumerate() {
            now = now + Duration::from_millis(pause);
            let (before, commit) = (node.disk.hard_state, node.status().commit);
            // Every sent message is checked against the disk.
            node.step(now, input);
            prop_assert!(node.disk.hard_state.may_follow(&before));
            prop_assert!(node.status().commit >= commit);
            prop_assert_eq!(node.disk.hard_state.promised, node.status().ballot);
            if index == restart {
                node.restart(Instant::ZERO);
            }
        }
        node.restart(Instant::ZERO);
    }
}
