//! Test node: a core in its host, with a simulated disk. Explorers, walks and protocol tests use it.

use crate::rule::{Checked, Rule, violated};
use std::collections::VecDeque;
use std::mem;
use synod_consensus::{
    FatalError, HardState, Host, Input, Message, Observer, Outputs, Protocol, ProtocolEvent,
    RecoveryError, Refusal, Run, Saved, Stamp, TimerChange, Write,
};
use synod_types::{Instant, NodeId, ReadId, Seq, Slot, Ticket, ValueRef};

/// Core in its [`Host`], with a simulated disk.
///
/// The node drives its host as the shipped driver does, except that each batch of writes stays pending until
/// a test [syncs](Self::sync_one) it. So the test decides what a crash undoes. The node checks the rules that
/// concern one node: each released message is backed by the disk ([`Message::holds`]), hard states never
/// regress ([`HardState::may_follow`]), the values of applied slots do not change, and the state is never
/// persisted beyond the durable log.
///
/// Other outputs of the core are added to the caller's [`NodeOutputs`]. Two nodes are equal if their hosts,
/// disks and pending batches are equal.
///
/// ```
/// use synod_consensus::{Input, Protocol, Saved};
/// use synod_explore::{NodeOutputs, TestNode};
/// use synod_raft::{Config, Raft};
/// use synod_types::{Instant, Membership, NodeId};
///
/// let members = Membership::new([NodeId(1)], [])?;
/// let config = Config::new(NodeId(1), members)?;
/// let mut node = TestNode::<Raft>::recover(NodeId(1), config, Saved::default())?;
/// let outputs: NodeOutputs<Raft> = node.step(Instant(0), Input::Start);
/// assert!(outputs.sent.is_empty() && !outputs.timers.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TestNode<P: Protocol> {
    id: NodeId,
    /// Core in its host.
    pub host: Host<P>,
    /// Durable content of the log's disk.
    pub disk: Saved<P>,
    /// Batches of earlier rounds that are not yet durable, the oldest first.
    pub unsynced: VecDeque<WriteBatch<P>>,
    /// True if [`settle`](Self::settle) does not sync the disk.
    pub is_disk_hung: bool,
    /// Writes since the last round, which the next round turns into a batch.
    open: WriteBatch<P>,
}

/// Writes that become durable together.
pub type WriteBatch<P> = Vec<LoggedWrite<P>>;

/// Write of a core.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoggedWrite<P: Protocol> {
    /// Write.
    pub write: Write<P>,
    /// True if the write counts as a vote in the round in which the core made it: see [`Stamp::is_vote_in`].
    pub is_vote: bool,
}

/// Outputs of a node, each list in order.
#[derive(Clone, Debug)]
pub struct NodeOutputs<P: Protocol> {
    /// Messages sent to other nodes.
    pub sent: Vec<(NodeId, P::Message)>,
    /// Timers that were set and cancelled.
    pub timers: Vec<TimerChange<P::Timer>>,
    /// Slots reported as chosen.
    pub chosen: Vec<Run<P::Stamp>>,
    /// Proposals that entered the log, with their slots.
    pub placed: Vec<(Ticket, Slot)>,
    /// Proposals that were refused, with the reason.
    pub refused: Vec<(Ticket, Refusal)>,
    /// Reads, each with the slot that must be applied before it is served, or the reason why it was refused.
    pub reads: Vec<(ReadId, Result<Slot, Refusal>)>,
    /// Peers that need a snapshot.
    pub snapshots: Vec<NodeId>,
    /// Protocol events, such as a new leader.
    pub notes: Vec<ProtocolEvent>,
    /// Error for which the node must stop.
    pub fatal: Option<FatalError>,
}

impl<P: Protocol> Default for NodeOutputs<P> {
    fn default() -> Self {
        Self {
            sent: Vec::new(),
            timers: Vec::new(),
            chosen: Vec::new(),
            placed: Vec::new(),
            refused: Vec::new(),
            reads: Vec::new(),
            snapshots: Vec::new(),
            notes: Vec::new(),
            fatal: None,
        }
    }
}

impl<P: Protocol> NodeOutputs<P> {
    fn add(&mut self, outputs: &mut Outputs<P>) {
        self.timers.append(&mut outputs.timers);
        self.chosen.append(&mut outputs.chosen);
        self.placed.append(&mut outputs.placed);
        self.refused.append(&mut outputs.refused);
        self.reads.append(&mut outputs.reads);
        self.snapshots.append(&mut outputs.snapshots);
        self.notes.append(&mut outputs.notes);
        self.fatal = outputs.fatal;
    }
}

impl<P: Protocol> TestNode<P> {
    /// Recovers a node from its disk. Its first input must be [`Input::Start`].
    ///
    /// # Errors
    /// If the core rejects the content of the disk.
    pub fn recover(id: NodeId, config: P::Config, disk: Saved<P>) -> Result<Self, RecoveryError> {
        let host = Host::recover(id, config, disk.clone())?;
        let (unsynced, open) = (VecDeque::new(), Vec::new());
        Ok(Self { id, host, disk, unsynced, is_disk_hung: false, open })
    }

    /// Returns the node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns the core.
    #[must_use]
    pub fn core(&self) -> &P {
        self.host.core()
    }

    /// Returns the last applied slot: the last slot that the core reported as chosen, or that the initial state
    /// covers. A test node applies chosen slots at once.
    #[must_use]
    pub fn applied(&self) -> Slot {
        self.host.chosen()
    }

    /// Returns the content of the disk after a sync of all batches.
    #[must_use]
    pub fn written(&self) -> Saved<P> {
        let mut saved = self.disk.clone();
        self.unsynced.iter().flatten().for_each(|logged| saved.apply(&logged.write));
        saved
    }

    /// Steps the core with one input, then [settles](Self::settle). Returns the outputs.
    ///
    /// # Panics
    /// If a rule is violated.
    pub fn step(&mut self, now: Instant, input: Input<P>) -> NodeOutputs<P> {
        let mut outputs = NodeOutputs::default();
        let done = self.input(now, input, &mut (), &mut outputs);
        done.and_then(|()| self.settle(now, &mut (), &mut outputs))
            .unwrap_or_else(|found| panic!("{found}"));
        outputs
    }

    /// Steps the core with one input, like [`Host::input`].
    ///
    /// # Errors
    /// The first violation of a rule.
    pub fn input(
        &mut self,
        now: Instant,
        input: Input<P>,
        observer: &mut impl Observer<P>,
        outputs: &mut NodeOutputs<P>,
    ) -> Checked {
        let (host, mut checks) = self.split(observer);
        outputs.add(host.input(now, input, &mut checks));
        checks.result
    }

    /// Runs a round of the host ([`Host::round`]): flushes the core and sends the messages that are permitted to
    /// leave. Queues the writes since the last round as a batch.
    ///
    /// # Errors
    /// The first violation of a rule.
    pub fn round(
        &mut self,
        now: Instant,
        observer: &mut impl Observer<P>,
        outputs: &mut NodeOutputs<P>,
    ) -> Checked {
        let (host, mut checks) = self.split(observer);
        let round = host.round(now, &mut checks);
        let (is_written, is_quiet) = (round.seq.is_some(), round.is_quiet);
        outputs.sent.append(round.sends);
        outputs.add(round.outputs);
        checks.result?;
        if !is_quiet {
            let text = format!("{:?}: messages to itself cause further ones without end", self.id);
            return Err(violated(Rule::Termination, text));
        }
        let batch = mem::take(&mut self.open);
        if is_written {
            self.unsynced.push_back(batch);
        }
        self.check_durable()
    }

    /// Runs rounds and syncs until the node is idle. Runs a single round if the disk is hung.
    ///
    /// # Errors
    /// The first violation of a rule.
    pub fn settle(
        &mut self,
        now: Instant,
        observer: &mut impl Observer<P>,
        outputs: &mut NodeOutputs<P>,
    ) -> Checked {
        self.round(now, observer, outputs)?;
        while !self.is_disk_hung && self.sync_one().is_some() {
            self.round(now, observer, outputs)?;
        }
        Ok(())
    }

    /// Makes the oldest batch durable, and returns it. The next round sends the messages that waited for it.
    pub fn sync_one(&mut self) -> Option<WriteBatch<P>> {
        let oldest = Seq(self.host.newest().0 - self.unsynced.len() as u64 + 1);
        let batch = self.unsynced.pop_front()?;
        batch.iter().for_each(|logged| self.disk.apply(&logged.write));
        self.host.written(oldest);
        Some(batch)
    }

    /// Crashes the node: the disk keeps the oldest `kept` unsynced batches, which are returned, and loses the
    /// others. Messages that waited for them are lost. [Recover](Self::recover) a node from the disk to
    /// restart.
    pub fn crash(&mut self, kept: usize) -> Vec<WriteBatch<P>> {
        let unsynced = mem::take(&mut self.unsynced);
        let kept: Vec<_> = unsynced.into_iter().take(kept).collect();
        kept.iter().flatten().for_each(|logged| self.disk.apply(&logged.write));
        kept
    }

    /// Returns the host, and an observer that checks its steps.
    fn split<'a, O: Observer<P>>(
        &'a mut self,
        observer: &'a mut O,
    ) -> (&'a mut Host<P>, NodeChecks<'a, P, O>) {
        let Self { id, host, disk, unsynced, open, .. } = self;
        let applied = host.chosen();
        let checks =
            NodeChecks { id: *id, disk, unsynced, open, applied, observer, result: Ok(()) };
        (host, checks)
    }

    fn check_durable(&self) -> Checked {
        let (id, durable, disk) = (self.id, self.host.durable(), &self.disk);
        let last = disk.log.last().max(disk.base.through).max(disk.applied);
        if durable <= last {
            return Ok(());
        }
        let text = format!(
            "the host of {id:?} permits a state on disk through slot {durable}, but the durable log ends at slot {last}"
        );
        Err(violated(Rule::StateWithinLog, text))
    }
}

/// Observer that checks each step of a core, and stores the first violation.
struct NodeChecks<'a, P: Protocol, O> {
    id: NodeId,
    disk: &'a Saved<P>,
    unsynced: &'a VecDeque<WriteBatch<P>>,
    open: &'a mut WriteBatch<P>,
    /// Last applied slot.
    applied: Slot,
    observer: &'a mut O,
    result: Checked,
}

impl<P: Protocol, O: Observer<P>> Observer<P> for NodeChecks<'_, P, O> {
    fn on_write(&mut self, core: &P, write: &Write<P>) {
        if self.result.is_ok() {
            self.result = self.check_write(write);
        }
        let round = core.status().ballot.round;
        let is_vote = matches!(write, Write::Put(run) if run.stamp.is_vote_in(round));
        self.open.push(LoggedWrite { write: write.clone(), is_vote });
        self.observer.on_write(core, write);
    }

    fn on_chosen(&mut self, core: &P, run: &Run<P::Stamp>) {
        self.applied = run.last();
        self.observer.on_chosen(core, run);
    }

    fn on_release(&mut self, core: &P, to: NodeId, message: &P::Message) {
        let from = self.id;
        if self.result.is_ok() && !message.holds(from, to, self.disk) {
            let text = format!(
                "{from:?} sends {} to {to:?}, but its synced disk holds {:?} and slots through {}",
                message.describe(),
                self.disk.hard_state,
                self.disk.log.last()
            );
            self.result = Err(violated(Rule::BackedMessages, text));
        }
        self.observer.on_release(core, to, message);
    }
}

impl<P: Protocol, O> NodeChecks<'_, P, O> {
    fn check_write(&self, write: &Write<P>) -> Checked {
        match write {
            Write::HardState(newer) => {
                let older = self.hard_state();
                if newer.may_follow(older) {
                    return Ok(());
                }
                let text = format!("{:?} writes hard state {newer:?} after {older:?}", self.id);
                Err(violated(Rule::HardStateMonotonic, text))
            }
            Write::Put(run) => self.check_applied(run),
            Write::TruncateFrom(_) | Write::Compact(_) => Ok(()),
        }
    }

    /// Checks that a write does not change the values of applied slots.
    fn check_applied(&self, run: &Run<P::Stamp>) -> Checked {
        if run.first > self.applied {
            return Ok(());
        }
        let mut written = self.disk.clone();
        self.pending().for_each(|logged| written.apply(&logged.write));
        let slots = (0..run.values.len()).map(|at| (run.first.plus(at), run.values.get(at)));
        for (slot, value) in slots.take_while(|(slot, _)| *slot <= self.applied) {
            let held = written.log.get(slot).map(|(_, held)| held);
            if let Some(held) = held.filter(|held| *held != value) {
                let (id, new) = (self.id, brief(&value));
                let text =
                    format!("{id:?} overwrites {} with {new} in applied slot {slot}", brief(&held));
                return Err(violated(Rule::AppliedUnchanged, text));
            }
        }
        Ok(())
    }

    /// Returns the last written hard state, durable or not.
    fn hard_state(&self) -> &P::HardState {
        let newest = self.pending().rev().find_map(|logged| match &logged.write {
            Write::HardState(hard_state) => Some(hard_state),
            _ => None,
        });
        newest.unwrap_or(&self.disk.hard_state)
    }

    /// Returns the writes that are not durable, the oldest first.
    fn pending(&self) -> impl DoubleEndedIterator<Item = &LoggedWrite<P>> {
        self.unsynced.iter().flatten().chain(&*self.open)
    }
}

/// Event of a core's step that [`SafetyChecker`](crate::safety::SafetyChecker) checks against other nodes. The
/// number is the core's ballot round or term at the event.
#[derive(Clone, Debug)]
pub(crate) enum StepEvent<P: Protocol> {
    /// Write of slots.
    Put(u64, Run<P::Stamp>),
    /// Report of chosen slots.
    Chosen(u64, Run<P::Stamp>),
}

/// Observer that records the events of a step.
#[derive(Debug)]
pub(crate) struct StepRecord<P: Protocol>(pub Vec<StepEvent<P>>);

impl<P: Protocol> Observer<P> for StepRecord<P> {
    fn on_write(&mut self, core: &P, write: &Write<P>) {
        if let Write::Put(run) = write {
            self.0.push(StepEvent::Put(core.status().ballot.round, run.clone()));
        }
    }

    fn on_chosen(&mut self, core: &P, run: &Run<P::Stamp>) {
        self.0.push(StepEvent::Chosen(core.status().ballot.round, run.clone()));
    }
}

/// Converts a fatal error of a node into a violation.
pub(crate) fn check_fatal(id: NodeId, fatal: Option<FatalError>) -> Checked {
    let Some(fatal) = fatal else { return Ok(()) };
    let rule = match fatal {
        FatalError::OutOfOrder { .. } => Rule::ChosenInOrder,
        FatalError::TruncatesChosen { .. }
        | FatalError::Contradicted { .. }
        | FatalError::CompactsElsewhere { .. } => Rule::AppliedUnchanged,
    };
    Err(violated(rule, format!("{id:?}: {fatal}")))
}

/// Returns a short description of a value.
pub(crate) fn brief(value: &ValueRef<'_>) -> String {
    match value {
        ValueRef::Noop => "a no-op".into(),
        ValueRef::Command(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        other => format!("{other:?}"),
    }
}
