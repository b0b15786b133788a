//! The driver's own rules, on a protocol that does as it is told.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use synod_consensus::{
    Base, Effects, Gate, HardState, Input, Message, Protocol, RecoveryError, Refusal, Role, Run,
    Saved, StateError, StateMachine, Status, Write,
};
use synod_replica::{
    Applied, Applier, Driver, Event, OpenError, Outcome, Replica, Seq, Settings, Token,
    decode_frame, encode_write,
};
use synod_storage::{Life, LogOp, StateStore};
use synod_types::{Ballot, Changes, ClusterId, Incarnation, Instant, Lane, NodeId, Slot, Values};

const ME: NodeId = NodeId(1);
const PEER: NodeId = NodeId(2);
const T0: Instant = Instant(1_000_000_000);

/// Places what it is offered, tells its peer and itself, and takes a slot for chosen when its own
/// vow for it has come back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Puppet {
    leader: Option<NodeId>,
    round: u64,
    last: Slot,
    chosen: Slot,
    log: Vec<Values>,
    stalled: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum Msg {
    /// Claims that a slot is on disk.
    Vow(Slot),
    /// Claims nothing.
    Chat(Slot),
    /// Tells the puppet who leads.
    Lead(NodeId, u64),
    /// Makes the puppet send a vow without a write.
    Swear,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Nothing;

impl HardState for Nothing {
    fn may_follow(&self, _: &Self) -> bool {
        true
    }
}

impl Message<Puppet> for Msg {
    fn gate(&self) -> Gate {
        match self {
            Self::Vow(_) => Gate::Durable,
            Self::Chat(_) | Self::Lead(..) | Self::Swear => Gate::Immediate,
        }
    }
    fn lane(&self) -> Lane {
        Lane::Log
    }
    fn holds(&self, _: NodeId, _: NodeId, _: &Saved<Puppet>) -> bool {
        true
    }
    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

impl Protocol for Puppet {
    type Config = Option<NodeId>;
    type Message = Msg;
    type HardState = Nothing;
    type Stamp = u64;
    type Timer = u8;
    const NAME: &'static str = "puppet";

    fn recover(leader: Option<NodeId>, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        let (last, chosen) = (saved.log.last(), Slot::ZERO);
        Ok(Self { leader, round: 1, last, chosen, log: Vec::new(), stalled: false })
    }

    fn step(&mut self, _: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>) {
        match input {
            Input::Propose { ticket, .. } if self.leader != Some(ME) => {
                fx.refuse(ticket, Refusal::NotLeader { hint: self.leader });
            }
            Input::Propose { ticket, command } => {
                self.last = self.last.next();
                let values = Values::command_only(&command);
                self.log.push(values.clone());
                fx.send(PEER, Msg::Chat(self.last));
                fx.send(PEER, Msg::Vow(self.last));
                fx.send(ME, Msg::Vow(self.last));
                fx.write(Write::Put(Run { first: self.last, stamp: self.round, values }));
                fx.placed(ticket, self.last);
            }
            Input::Message { from: ME, message: Msg::Vow(slot) } => {
                assert_eq!(slot, self.chosen.next());
                self.chosen = slot;
                let values = self.log[slot.0 as usize - 1].clone();
                fx.chosen(Run { first: slot, stamp: self.round, values });
            }
            Input::Message { message: Msg::Lead(leader, round), .. } => {
                (self.leader, self.round) = (Some(leader), round);
            }
            Input::Message { message: Msg::Swear, .. } => fx.send(PEER, Msg::Vow(self.last)),
            Input::Stalled => self.stalled = true,
            _ => {}
        }
    }

    fn flush(&mut self, _: Instant, _: &mut Effects<'_, Self>) {}

    fn base_at(&self, _: Slot) -> Option<Base<u64>> {
        None
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Follower,
            ballot: Ballot { round: self.round, node: NodeId(0) },
            leader: self.leader,
            commit: self.chosen,
            last: self.last,
            base: Slot::ZERO,
            progress: Vec::new(),
        }
    }
}

fn settings() -> Settings {
    Settings::new(ClusterId(1), ME, Life { incarnation: Incarnation(5), boot: 1 }, 0)
}

fn replica(leader: Option<NodeId>) -> Replica<Puppet> {
    let saved = synod_storage::Saved::default();
    let mut replica = Replica::open(T0, settings(), leader, &saved, Slot::ZERO).unwrap();
    let _ = replica.take(T0);
    replica
}

fn request(token: u64, deadline: Duration) -> Event {
    let command = Bytes::from(format!("command {token}"));
    Event::Request { token: Token(token), command, deadline: T0 + deadline }
}

const LATER: Duration = Duration::from_secs(60);

/// The protocol messages among the frames that are ready to leave.
fn sent(replica: &mut Replica<Puppet>, now: Instant) -> Vec<Msg> {
    let frames = std::mem::take(&mut replica.take(now).frames);
    let payloads = frames.iter().map(|(_, _, frame)| decode_frame::<Msg>(frame).unwrap().1);
    payloads
        .filter_map(|payload| match payload {
            synod_replica::Payload::Protocol(message) => Some(message),
            _ => None,
        })
        .collect()
}

fn tell(replica: &mut Replica<Puppet>, message: Msg) {
    tell_as(replica, message, Incarnation(9), ClusterId(1), PEER);
}

fn tell_as(
    replica: &mut Replica<Puppet>,
    message: Msg,
    incarnation: Incarnation,
    cluster: ClusterId,
    from: NodeId,
) {
    let Settings { group, epoch, .. } = settings();
    let envelope = synod_replica::Envelope { cluster, group, epoch, from, incarnation };
    let frame = synod_replica::encode_frame(&envelope, &synod_replica::Payload::Protocol(message));
    replica.handle(T0, Event::Frame { from: PEER, frame });
}

#[test]
fn a_vow_waits_for_the_disk_and_nothing_else_does() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    assert_eq!(sent(&mut replica, T0), [Msg::Chat(Slot(1))], "sent before it was written");
    assert_eq!(replica.take(T0).batch.take().unwrap().0, Seq(1));
    assert!(replica.take(T0).apply.is_empty(), "the own vow waits, too");
    replica.handle(T0, Event::Written(Seq(1)));
    assert_eq!(sent(&mut replica, T0), [Msg::Vow(Slot(1))]);
    assert_eq!(replica.take(T0).apply.len(), 1);
}

#[test]
fn a_watermark_releases_what_lies_before_it_only() {
    let mut replica = replica(Some(ME));
    for token in 1..=3 {
        replica.handle(T0, request(token, LATER));
        assert_eq!(replica.take(T0).batch.take().unwrap().0, Seq(token));
    }
    replica.take(T0).frames.clear();
    replica.handle(T0, Event::Written(Seq(2)));
    assert_eq!(sent(&mut replica, T0), [Msg::Vow(Slot(1)), Msg::Vow(Slot(2))]);
}

#[test]
fn a_round_has_one_number_however_many_writes() {
    let mut replica = replica(Some(ME));
    for token in 1..=5 {
        replica.handle(T0, request(token, LATER));
    }
    let (seq, batch) = replica.take(T0).batch.take().unwrap();
    assert_eq!((seq, batch.ops.len()), (Seq(1), 5));
}

#[test]
fn what_was_not_carried_out_is_lent_again_with_what_came_since() {
    let mut replica = replica(Some(ME));
    for token in 1..=2 {
        replica.handle(T0, request(token, LATER));
        let _ = replica.take(T0);
    }
    let actions = replica.take(T0);
    let (seq, batch) = actions.batch.take().unwrap();
    assert_eq!((seq, batch.ops.len(), actions.frames.len()), (Seq(2), 2, 2));
    actions.frames.clear();
    replica.handle(T0, Event::Written(seq));
    assert_eq!(sent(&mut replica, T0), [Msg::Vow(Slot(1)), Msg::Vow(Slot(2))]);
}

#[test]
fn a_vow_without_a_write_waits_for_the_writes_before_it() {
    let mut replica = replica(Some(ME));
    tell(&mut replica, Msg::Swear);
    assert_eq!(sent(&mut replica, T0), [Msg::Vow(Slot(0))], "the disk is idle");
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    replica.take(T0).frames.clear();
    tell(&mut replica, Msg::Swear);
    assert_eq!(sent(&mut replica, T0), []);
    replica.handle(T0, Event::Written(Seq(1)));
    assert_eq!(sent(&mut replica, T0), [Msg::Vow(Slot(1)), Msg::Vow(Slot(1))]);
}

#[test]
fn state_may_be_persisted_only_behind_the_log() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    replica.handle(T0, Event::Written(Seq(1)));
    replica.handle(T0, request(2, LATER));
    let actions = replica.take(T0);
    assert_eq!(actions.apply.len(), 1, "slot 1 is chosen in the round that writes slot 2");
    assert_eq!(actions.durable, None, "and persisted with that round's write");
    let _ = actions.batch.take();
    replica.handle(T0, Event::Written(Seq(2)));
    assert!(replica.take(T0).durable >= Some(Slot(1)));
}

#[test]
fn frames_that_are_not_for_us_change_nothing() {
    let mut replica = replica(Some(ME));
    let lead = || Msg::Lead(PEER, 9);
    tell_as(&mut replica, lead(), Incarnation(9), ClusterId(2), PEER);
    tell_as(&mut replica, lead(), Incarnation(9), ClusterId(1), NodeId(3));
    replica.handle(T0, Event::Frame { from: PEER, frame: Bytes::from_static(b"noise") });
    tell_as(&mut replica, Msg::Chat(Slot(0)), Incarnation(9), ClusterId(1), PEER);
    tell_as(&mut replica, lead(), Incarnation(10), ClusterId(1), PEER);
    assert_eq!(replica.status().leader, Some(ME));
    let counters = replica.counters();
    assert_eq!(counters.frames_foreign, 1);
    assert_eq!(counters.frames_forged, 1);
    assert_eq!(counters.frames_malformed, 1);
    assert_eq!(counters.frames_other_life, 1);
    assert_eq!(counters.frames, 1);
}

#[test]
fn without_a_leader_a_request_ends_as_not_taken() {
    let mut replica = replica(None);
    replica.handle(T0, request(1, Duration::from_secs(1)));
    assert!(replica.take(T0).answers.is_empty());
    let end = T0 + Duration::from_secs(1);
    assert!(replica.take(T0).wake <= Some(end));
    replica.handle(end, Event::Wake);
    let answer = replica.take(end).answers.pop().unwrap();
    assert_eq!(answer.outcome, Outcome::Refused(Refusal::NotLeader { hint: None }));
}

#[test]
fn each_read_ends_at_its_own_deadline() {
    let mut replica = replica(None);
    for (token, seconds) in [(1, 60), (2, 1), (3, 2)] {
        let deadline = T0 + Duration::from_secs(seconds);
        replica.handle(T0, Event::Read { token: Token(token), deadline });
    }
    let _ = replica.take(T0);
    for (seconds, token) in [(1, 2), (2, 3), (60, 1)] {
        let end = T0 + Duration::from_secs(seconds);
        assert!(replica.take(T0).wake <= Some(end));
        replica.handle(end, Event::Wake);
        let answers: Vec<_> = replica.take(end).answers.drain(..).collect();
        assert_eq!(answers.iter().map(|answer| answer.token).collect::<Vec<_>>(), [Token(token)]);
        assert_eq!(answers[0].outcome, Outcome::Refused(Refusal::NotLeader { hint: None }));
    }
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn a_state_that_ends_before_its_log_begins_is_refused() {
    let base = Base { through: Slot(7), stamp: 1_u64, members: None };
    let op = encode_write::<Puppet>(&Write::Compact(base));
    let LogOp::Compact { through, base } = op else { panic!("{op:?}") };
    let saved = synod_storage::Saved { base: Some((through, base)), ..Default::default() };
    let open = |applied| Replica::<Puppet>::open(T0, settings(), None, &saved, applied);
    let error = open(Slot(6)).err().unwrap();
    assert!(matches!(error, OpenError::StateBehindLog { applied: Slot(6), base: Slot(7) }));
    assert!(open(Slot(7)).is_ok());
    assert!(matches!(open(Slot(8)), Err(OpenError::LogBehindState { .. })));
}

#[test]
fn a_request_that_was_sent_and_not_answered_ends_as_unknown() {
    let mut replica = replica(Some(PEER));
    replica.handle(T0, request(1, Duration::from_secs(1)));
    assert_eq!(replica.take(T0).frames.len(), 1, "forwarded");
    let end = T0 + Duration::from_secs(1);
    replica.handle(end, Event::Wake);
    let answer = replica.take(end).answers.pop().unwrap();
    assert_eq!(answer.outcome, Outcome::Unknown);
}

#[test]
fn a_silent_disk_is_reported_to_the_core() {
    let mut replica = replica(Some(ME));
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    let stall = settings().stall;
    let almost = T0 + (stall - Duration::from_millis(1));
    replica.handle(almost, Event::Wake);
    assert!(!replica.core().stalled);
    let late = T0 + stall;
    assert!(replica.take(almost).wake <= Some(late));
    replica.handle(late, Event::Wake);
    assert!(replica.core().stalled);
}

/// Remembers every command in order.
#[derive(Default)]
struct Recorder(Vec<Bytes>);

impl StateMachine for Recorder {
    fn load(
        &mut self,
        entries: &mut dyn Iterator<Item = (Bytes, Bytes)>,
    ) -> Result<(), StateError> {
        self.0.extend(entries.map(|(_, command)| command));
        Ok(())
    }
    fn apply(&mut self, _: Slot, command: &[u8], changes: &mut Changes) -> Bytes {
        let command = Bytes::copy_from_slice(command);
        self.0.push(command.clone());
        changes.put((self.0.len() as u64).to_be_bytes().to_vec(), command.clone());
        command
    }
    fn query(&self, _: &[u8]) -> Bytes {
        self.0.concat().into()
    }
}

fn applier(store: impl StateStore + 'static) -> Applier {
    Applier::open(Box::<Recorder>::default(), Box::new(store), settings().session()).unwrap()
}

/// Writes, applies and answers until nothing is left to do.
fn run_alone(replica: &mut Replica<Puppet>, applier: &mut Applier) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    loop {
        let actions = replica.take(T0);
        let (batch, runs) = (actions.batch.take(), std::mem::take(&mut actions.apply));
        outcomes.extend(actions.answers.drain(..).map(|answer| answer.outcome));
        if batch.is_none() && runs.is_empty() {
            return outcomes;
        }
        if let Some((seq, _)) = batch {
            replica.handle(T0, Event::Written(seq));
        }
        let mut applied = Applied::default();
        runs.iter().for_each(|run| applier.apply(run, &mut applied));
        if !runs.is_empty() {
            replica.handle(T0, Event::Applied(applied));
        }
    }
}

#[test]
fn a_request_proposed_twice_is_applied_once() {
    let mut replica = replica(Some(ME));
    let mut applier = applier(synod_storage::MemoryState::new());
    replica.handle(T0, request(1, LATER));
    let _ = replica.take(T0).batch.take();
    // Leadership comes back in a new round: what was placed may be lost and is offered again.
    tell(&mut replica, Msg::Lead(ME, 2));
    let outcomes = run_alone(&mut replica, &mut applier);
    assert_eq!(applier.applied(), Slot(2), "both copies are in the log");
    assert_eq!(applier.query(b""), "command 1", "one was applied");
    assert_eq!(outcomes, [Outcome::Done(Slot(1), Bytes::from_static(b"command 1"))]);
}

#[test]
fn many_reads_cost_one_barrier() {
    let mut replica = replica(Some(ME));
    let mut applier = applier(synod_storage::MemoryState::new());
    for token in 1..=10 {
        replica.handle(T0, Event::Read { token: Token(token), deadline: T0 + LATER });
    }
    assert_eq!(run_alone(&mut replica, &mut applier), vec![Outcome::Readable; 10]);
    assert_eq!(applier.applied(), Slot(1));
    assert_eq!(replica.outstanding(), 0);
}

#[test]
fn what_is_persisted_is_whole_and_behind_the_mark() {
    let disk = synod_storage::MemoryDisk::new(Incarnation(5));
    let mut replica = replica(Some(ME));
    let mut first = applier(disk.open_state());
    replica.handle(T0, request(1, LATER));
    run_alone(&mut replica, &mut first);
    first.seal();
    replica.handle(T0, request(2, LATER));
    run_alone(&mut replica, &mut first);
    first.seal();
    assert!(first.persist(Slot(1)).unwrap());
    assert!(!first.persist(Slot(1)).unwrap(), "nothing new at or below the mark");
    let again = applier(disk.open_state());
    assert_eq!(again.applied(), Slot(1));
    assert_eq!(again.query(b""), "command 1");
    assert_ne!(again.digest(), first.digest());
}
