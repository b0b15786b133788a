//! Protocol whose tests script its behaviour, and a driver around it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};
use std::time::Duration;
use synod_consensus::{
    Base, ConfigError, Contradiction, Effects, Gate, HardState, Input, Message, Output, Protocol,
    RecoveryError, Refusal, Role, Run, Saved, StateError, StateMachine, StateReader, StateView,
    Status, Write,
};
use synod_replica::{
    Actions, Applied, Applier, Driver, Envelope, Event, OpenError, Outcome, Payload, ReplicaCore,
    ReplicaSettings, Token, decode_frame, encode_frame,
};
use synod_storage::{BootId, StateStore, StoredGroup};
use synod_types::{
    Ballot, ClusterId, Incarnation, Instant, Lane, Membership, NodeId, ReadId, Slot, Term, Values,
};

pub const ME: NodeId = NodeId(1);
pub const PEER: NodeId = NodeId(2);
pub const T0: Instant = Instant(1_000_000_000);
/// Duration of the protocol's only timer, which starts with the protocol.
pub const TIMER: Duration = Duration::from_secs(90);

/// Protocol that places each proposal, sends a claim to its peer and to itself, and reports the slot as
/// chosen when it receives its own claim.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ScriptedProtocol {
    leader: Option<NodeId>,
    round: u64,
    last: Slot,
    chosen: Slot,
    log: Vec<Values>,
    pub stalled: bool,
    pub lagging: bool,
    pub timeouts: u64,
    busy: bool,
    /// Requests of a read index so far. `None` if the protocol refuses them as unsupported.
    pub reads: Option<Vec<ReadId>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Msg {
    /// Claim that a slot is on disk.
    Claim(Slot),
    /// Message without a claim.
    Ping(Slot),
    /// Sets the leader and the round that the protocol reports.
    Lead(NodeId, u64),
    /// Makes the protocol send a claim without a write.
    ClaimWithoutWrite,
    /// Makes the protocol truncate its log from a slot, put another value there, and claim it.
    Overwrite(Slot),
    /// Makes the protocol compact its log through a slot.
    Compact(Slot),
    /// Makes the protocol report that its peer has chosen another value in a slot.
    Contradict(Slot),
    /// Makes all placed values chosen, as if other nodes held them.
    Quorum,
    /// Makes these values chosen at the next slot, even if the protocol has placed others there.
    Chosen(Values),
    /// Makes the protocol refuse all proposals as busy, or ends that.
    Busy(bool),
    /// Makes the protocol accept requests of a read index.
    EnableReadIndex,
    /// Makes the protocol report a read index.
    ReadIndex(ReadId, Slot),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Nothing;

impl HardState for Nothing {
    fn may_follow(&self, _: &Self) -> bool {
        true
    }
}

impl Message<ScriptedProtocol> for Msg {
    fn gate(&self) -> Gate {
        match self {
            Self::Claim(_) => Gate::Durable,
            Self::Ping(_)
            | Self::Lead(..)
            | Self::ClaimWithoutWrite
            | Self::Overwrite(_)
            | Self::Compact(_)
            | Self::Contradict(_)
            | Self::Quorum
            | Self::Chosen(_)
            | Self::Busy(_)
            | Self::EnableReadIndex
            | Self::ReadIndex(..) => Gate::Immediate,
        }
    }
    fn lane(&self) -> Lane {
        Lane::Log
    }
    fn holds(&self, _: NodeId, _: NodeId, _: &Saved<ScriptedProtocol>) -> bool {
        true
    }
    fn describe(&self) -> String {
        format!("{self:?}")
    }
}

impl Protocol for ScriptedProtocol {
    type Config = Option<NodeId>;
    type Message = Msg;
    type HardState = Nothing;
    type Stamp = Term;
    type Timer = u8;
    const NAME: &'static str = "scripted";

    fn config(me: NodeId, _: &Membership) -> Result<Option<NodeId>, ConfigError> {
        Ok(Some(me))
    }

    fn recover(leader: Option<NodeId>, saved: Saved<Self>) -> Result<Self, RecoveryError> {
        let (last, chosen) = (saved.log.last(), saved.applied);
        let of = |run: &Run<Term>, index| run.values.slice(index, index + 1);
        let log = saved.log.runs().flat_map(|run| (0..run.values.len()).map(move |n| of(run, n)));
        Ok(Self {
            leader,
            round: 1,
            last,
            chosen,
            log: log.collect(),
            stalled: false,
            lagging: false,
            timeouts: 0,
            busy: false,
            reads: None,
        })
    }

    fn step(&mut self, _: Instant, input: Input<Self>, fx: &mut Effects<'_, Self>) {
        match input {
            Input::Propose { ticket, .. } if self.leader != Some(ME) => {
                fx.refuse(ticket, Refusal::NotLeader { hint: self.leader });
            }
            Input::Propose { ticket, .. } if self.busy => fx.refuse(ticket, Refusal::Busy),
            Input::Propose { ticket, command } => {
                self.last = self.last.next();
                let values = Values::command_only(&command);
                self.log.push(values.clone());
                fx.send(PEER, Msg::Ping(self.last));
                fx.send(PEER, Msg::Claim(self.last));
                fx.send(ME, Msg::Claim(self.last));
                fx.write(Write::Put(Run { first: self.last, stamp: Term(self.round), values }));
                fx.placed(ticket, self.last);
            }
            Input::Message { from: ME, message: Msg::Claim(slot) } => {
                self.choose(slot.min(self.last), fx)
            }
            Input::Message { message: Msg::Quorum, .. } => self.choose(self.last, fx),
            Input::Message { message: Msg::Overwrite(slot), .. } => self.overwrite(slot, fx),
            Input::Message { message: Msg::Compact(through), .. } => {
                fx.write(Write::Compact(Base { through, stamp: Term(1), members: None }));
            }
            Input::Message { from: by, message: Msg::Contradict(slot) } => {
                fx.contradicted(Contradiction { slot, by });
            }
            Input::Message { message: Msg::Chosen(values), .. } => self.choose_values(values, fx),
            Input::Message { message: Msg::Busy(busy), .. } => self.busy = busy,
            Input::Message { message: Msg::EnableReadIndex, .. } => self.reads = Some(Vec::new()),
            Input::Message { message: Msg::ReadIndex(id, slot), .. } => fx.read_ready(id, slot),
            Input::Read(id) => match &mut self.reads {
                None => fx.refuse_read(id, Refusal::Unsupported),
                Some(_) if self.leader.is_none() => {
                    fx.refuse_read(id, Refusal::NotLeader { hint: None });
                }
                Some(reads) => reads.push(id),
            },
            Input::Message { message: Msg::Lead(leader, round), .. } => {
                (self.leader, self.round) = (Some(leader), round);
            }
            Input::Message { message: Msg::ClaimWithoutWrite, .. } => {
                fx.send(PEER, Msg::Claim(self.last))
            }
            Input::Stalled => self.stalled = true,
            Input::Lagging => self.lagging = true,
            Input::Timeout(_) => self.timeouts += 1,
            Input::Start => fx.set_timer(0, TIMER..TIMER),
            _ => {}
        }
    }

    fn flush(&mut self, _: Instant, _: &mut Effects<'_, Self>) {}

    fn base_at(&self, _: Slot) -> Option<Base<Term>> {
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

impl ScriptedProtocol {
    /// Reports the slots through `through` as chosen.
    fn choose(&mut self, through: Slot, fx: &mut Effects<'_, Self>) {
        while self.chosen < through {
            self.chosen = self.chosen.next();
            let values = self.log[self.chosen.0 as usize - 1].clone();
            fx.chosen(Run { first: self.chosen, stamp: Term(self.round), values });
        }
    }

    /// Chooses `values` at the next slot; overwrites other values there.
    fn choose_values(&mut self, values: Values, fx: &mut Effects<'_, Self>) {
        let slot = self.chosen.next();
        if self.log.get(slot.0 as usize - 1) != Some(&values) {
            self.log.truncate(slot.0 as usize - 1);
            self.log.push(values.clone());
            self.last = slot;
            fx.write(Write::TruncateFrom(slot));
            fx.write(Write::Put(Run { first: slot, stamp: Term(self.round), values }));
        }
        self.choose(slot, fx);
    }

    fn overwrite(&mut self, slot: Slot, fx: &mut Effects<'_, Self>) {
        let values = Values::command_only(b"another");
        self.log.truncate(slot.0 as usize - 1);
        self.log.push(values.clone());
        self.last = slot;
        fx.write(Write::HardState(Nothing));
        fx.write(Write::TruncateFrom(slot));
        fx.write(Write::Put(Run { first: slot, stamp: Term(self.round), values }));
        fx.send(PEER, Msg::Claim(slot));
    }
}

pub fn settings() -> ReplicaSettings {
    ReplicaSettings::new(ClusterId(1), ME, BootId { incarnation: Incarnation(5), boot: 1 }, 0)
}

/// Replica that keeps the actions which its test has not removed: tests check one kind of action at a
/// time.
pub struct TestReplica {
    replica: ReplicaCore<ScriptedProtocol>,
    actions: Actions,
}

impl TestReplica {
    pub fn open(
        now: Instant,
        settings: ReplicaSettings,
        leader: Option<NodeId>,
        saved: &StoredGroup,
        applied: Slot,
    ) -> Result<Self, OpenError> {
        let replica = ReplicaCore::open(now, settings, leader, saved, applied)?;
        Ok(Self { replica, actions: Actions::default() })
    }

    /// Ends a round; returns all actions that are not removed.
    pub fn take(&mut self, now: Instant) -> &mut Actions {
        let (new, all) = (self.replica.take(now), &mut self.actions);
        if new.fatal.is_some() {
            *all = new;
            return all;
        }
        if let Some((seq, batch)) = new.batch {
            let (newest, merged) = all.batch.get_or_insert_default();
            *newest = seq;
            merged.ops.extend(batch.ops);
        }
        all.frames.extend(new.frames);
        all.apply.extend(new.apply);
        all.responses.extend(new.responses);
        all.durable = new.durable.or(all.durable);
        all.wake = new.wake;
        all
    }
}

impl Deref for TestReplica {
    type Target = ReplicaCore<ScriptedProtocol>;

    fn deref(&self) -> &Self::Target {
        &self.replica
    }
}

impl DerefMut for TestReplica {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.replica
    }
}

pub fn replica(leader: Option<NodeId>) -> TestReplica {
    replica_with(settings(), leader)
}

pub fn replica_with(settings: ReplicaSettings, leader: Option<NodeId>) -> TestReplica {
    replica_on(&StoredGroup::default(), settings, leader)
}

/// Returns a replica that has loaded `saved` and applied no slot.
pub fn replica_on(
    saved: &StoredGroup,
    settings: ReplicaSettings,
    leader: Option<NodeId>,
) -> TestReplica {
    let mut replica = TestReplica::open(T0, settings, leader, saved, Slot::ZERO).unwrap();
    let _ = replica.take(T0);
    replica
}

pub fn request(token: u64, deadline: Duration) -> Event {
    let command = Bytes::from(format!("command {token}"));
    Event::Request { token: Token(token), command, deadline: T0 + deadline }
}

pub const LATER: Duration = Duration::from_secs(60);

/// Ends a round, removes its frames, and returns the protocol messages among them.
pub fn sent(replica: &mut TestReplica, now: Instant) -> Vec<Msg> {
    let frames = std::mem::take(&mut replica.take(now).frames);
    let payloads = frames.iter().map(|(_, _, frame)| decode_frame::<Msg>(frame).unwrap().1);
    payloads
        .filter_map(|payload| match payload {
            Payload::Protocol(message) => Some(message),
            _ => None,
        })
        .collect()
}

/// Ends a round, removes its frames, and returns the forwarded requests among them, frame by frame.
pub fn forwarded(replica: &mut TestReplica) -> Vec<Values> {
    forwarded_at(replica, T0)
}

pub fn forwarded_at(replica: &mut TestReplica, now: Instant) -> Vec<Values> {
    let frames = std::mem::take(&mut replica.take(now).frames);
    let payloads = frames.iter().map(|(_, _, frame)| decode_frame::<Msg>(frame).unwrap().1);
    payloads
        .filter_map(|payload| match payload {
            Payload::Forward(values) => Some(values),
            _ => None,
        })
        .collect()
}

/// Returns the envelope of the peer's frames.
pub fn envelope() -> Envelope {
    let ReplicaSettings { cluster, group, epoch, .. } = settings();
    Envelope { cluster, group, epoch, from: PEER, incarnation: Incarnation(9) }
}

/// Passes a frame to the replica as from the peer.
pub fn deliver(replica: &mut TestReplica, envelope: &Envelope, payload: Payload<Msg>) {
    let frame = encode_frame(envelope, &payload);
    replica.handle(T0, Event::Frame { from: PEER, frame });
}

/// Passes a protocol message to the replica as from the peer.
pub fn receive(replica: &mut TestReplica, message: Msg) {
    deliver(replica, &envelope(), Payload::Protocol(message));
}

/// State machine that records all commands in order.
#[derive(Clone, Default)]
pub struct Recorder(Vec<Bytes>);

impl StateMachine for Recorder {
    fn load(&mut self, state: &dyn StateView) -> Result<(), StateError> {
        let commands = state.range(&[], None).map(|entry| Ok(entry?.1));
        self.0 = commands.collect::<Result<_, _>>()?;
        Ok(())
    }

    fn apply(
        &mut self,
        _: Slot,
        command: &[u8],
        _: &dyn StateView,
        output: &mut Output,
    ) -> Result<Bytes, StateError> {
        let command = Bytes::copy_from_slice(command);
        self.0.push(command.clone());
        output.changes.put((self.0.len() as u64).to_be_bytes().to_vec(), command.clone());
        Ok(command)
    }

    fn reader(&self, _: &dyn StateView) -> Result<Box<dyn StateReader>, StateError> {
        Ok(Box::new(self.clone()))
    }
}

impl StateReader for Recorder {
    fn query(&self, _: &[u8]) -> Result<Bytes, StateError> {
        Ok(self.0.concat().into())
    }
}

/// Returns the applied commands in order, concatenated.
pub fn recorded(applier: &Applier) -> Bytes {
    applier.query(b"").unwrap()
}

pub fn applier(store: impl StateStore + 'static) -> Applier {
    Applier::open(Box::<Recorder>::default(), Box::new(store), settings().session()).unwrap()
}

/// Writes and applies until no work is left; returns the outcomes of the clients' requests.
pub fn run_alone(replica: &mut TestReplica, applier: &mut Applier) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    loop {
        let actions = replica.take(T0);
        let (batch, runs) = (actions.batch.take(), std::mem::take(&mut actions.apply));
        outcomes.extend(actions.responses.drain(..).map(|response| response.outcome));
        if batch.is_none() && runs.is_empty() {
            return outcomes;
        }
        if let Some((seq, _)) = batch {
            replica.handle(T0, Event::Written(seq));
        }
        let mut applied = Applied::default();
        runs.iter().for_each(|run| applier.apply(run, &mut applied).unwrap());
        if !runs.is_empty() {
            replica.handle(T0, Event::Applied(applied));
        }
    }
}
