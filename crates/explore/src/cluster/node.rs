//! Node of a test cluster: a test node with its timers and its outputs since the start.

use crate::{NodeOutputs, TestNode};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, Range};
use std::time::Duration;
use synod_consensus::{FatalError, Input, Protocol, Saved, Status, TimerChange, Write};
use synod_types::{Instant, NodeId, Slot, Ticket, Value};

/// Maximum number of syncs after which a node must be idle.
const MAX_SYNCS: usize = 64;

/// Checks of a protocol's tests, which [`ClusterNode`] runs.
#[derive(Debug)]
pub struct CoreChecks<P: Protocol> {
    /// Function that asserts the invariants of a core. Called after every step and every round.
    pub invariants: fn(&P),
    /// Size of a message in bytes, for [`ClusterNode::max_sent_bytes`].
    pub size: fn(&P::Message) -> usize,
}

impl<P: Protocol> Clone for CoreChecks<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Protocol> Copy for CoreChecks<P> {}

impl<P: Protocol> Default for CoreChecks<P> {
    fn default() -> Self {
        Self { invariants: |_| (), size: |_| 0 }
    }
}

/// A [`TestNode`], its running timers and its outputs.
///
/// Each step asserts the core's invariants and the rules that [`TestNode`] checks. If a core is flushed twice
/// without an input in between, the second flush must neither write nor send. The only
/// [fatal error](FatalError) that a core may report is [`FatalError::Contradicted`].
#[derive(Clone, Debug)]
pub struct ClusterNode<P: Protocol> {
    node: TestNode<P>,
    /// Settings of the node.
    pub config: P::Config,
    /// Outputs since the start. Tests may remove some of them.
    pub outputs: NodeOutputs<P>,
    /// Running timers.
    pub timers: BTreeMap<P::Timer, RunningTimer>,
    /// Durable writes since the start, in order.
    pub writes: Vec<Write<P>>,
    /// Maximum size of the values that one round wrote, in bytes.
    pub max_written_bytes: usize,
    /// Maximum size of the messages that one round sent, in bytes by [`CoreChecks::size`].
    pub max_sent_bytes: usize,
    /// Last reported slot whose value the cluster has compared with those that other nodes reported.
    pub(super) compared: Slot,
    checks: CoreChecks<P>,
    /// State of the random number generator that draws timer durations.
    random: u64,
}

/// Running timer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningTimer {
    /// Range of the duration, as the core set it.
    pub range: Range<Duration>,
    /// Time at which the timer fires, drawn from the range.
    pub due: Instant,
}

impl<P: Protocol> Deref for ClusterNode<P> {
    type Target = TestNode<P>;

    fn deref(&self) -> &TestNode<P> {
        &self.node
    }
}

impl<P: Protocol> DerefMut for ClusterNode<P> {
    fn deref_mut(&mut self) -> &mut TestNode<P> {
        &mut self.node
    }
}

impl<P: Protocol> ClusterNode<P> {
    /// Recovers a node from its disk. Its first input must be [`Input::Start`].
    ///
    /// # Panics
    /// If the core rejects the content of the disk.
    #[must_use]
    pub fn recover(id: NodeId, config: P::Config, disk: Saved<P>, checks: CoreChecks<P>) -> Self {
        let node = TestNode::recover(id, config.clone(), disk);
        Self {
            node: node.unwrap_or_else(|error| panic!("{id:?}: {error}")),
            config,
            outputs: NodeOutputs::default(),
            timers: BTreeMap::new(),
            writes: Vec::new(),
            max_written_bytes: 0,
            max_sent_bytes: 0,
            compared: Slot::ZERO,
            checks,
            random: id.0 * 7919,
        }
    }

    /// Crashes the node and restarts it from its disk. Writes that are not durable are lost.
    pub fn restart(&mut self, now: Instant) {
        let disk = self.node.disk.clone();
        *self = Self::recover(self.id(), self.config.clone(), disk, self.checks);
        self.step(now, Input::Start);
    }

    /// Returns the status of the core.
    #[must_use]
    pub fn status(&self) -> Status {
        self.core().status()
    }

    /// Returns the chosen values that were reported since the start, with their slots.
    pub fn chosen(&self) -> impl Iterator<Item = (Slot, Value)> {
        self.outputs.chosen.iter().flat_map(|run| {
            let values = run.values.iter().map(|value| value.to_value());
            (0..).map(|index| run.first.plus(index)).zip(values)
        })
    }

    /// Returns the commands among the chosen values that were reported since the start, as text.
    #[must_use]
    pub fn commands(&self) -> Vec<String> {
        let text = |value| match value {
            Value::Command(bytes) => String::from_utf8(bytes.to_vec()).ok(),
            _ => None,
        };
        self.chosen().filter_map(|(_, value)| text(value)).collect()
    }

    /// Steps the core with one input, then [settles](Self::settle).
    pub fn step(&mut self, now: Instant, input: Input<P>) {
        self.step_without_round(now, input);
        self.settle(now);
    }

    /// Proposes a command.
    pub fn propose(&mut self, now: Instant, ticket: u64, command: &str) {
        let command = command.as_bytes().to_vec().into();
        self.step(now, Input::Propose { ticket: Ticket(ticket), command });
    }

    /// Delivers a message. Returns the messages that the node sends in response; earlier messages that no test
    /// has removed are dropped.
    pub fn receive(
        &mut self,
        now: Instant,
        from: NodeId,
        message: P::Message,
    ) -> Vec<(NodeId, P::Message)> {
        self.outputs.sent.clear();
        self.step(now, Input::Message { from, message });
        std::mem::take(&mut self.outputs.sent)
    }

    /// Steps the core with one input and runs no round. The node writes and sends in the next round.
    pub fn step_without_round(&mut self, now: Instant, input: Input<P>) {
        let changes = self.outputs.timers.len();
        let done = self.node.input(now, input, &mut (), &mut self.outputs);
        done.unwrap_or_else(|found| panic!("{found}"));
        self.after_step(now, changes);
    }

    /// Runs rounds and syncs until the node is idle. Runs only rounds if the disk is hung.
    ///
    /// # Panics
    /// If a rule is violated.
    pub fn settle(&mut self, now: Instant) {
        for _ in 0..MAX_SYNCS {
            self.run_round(now);
            let oldest = if self.is_disk_hung { None } else { self.node.sync_one() };
            let Some(batch) = oldest else { return };
            self.writes.extend(batch.into_iter().map(|logged| logged.write));
        }
        panic!("{:?} is not idle after {MAX_SYNCS} syncs: {:?}", self.id(), self.status());
    }

    /// Runs a round, and asserts that a second one neither writes nor sends.
    fn run_round(&mut self, now: Instant) {
        for is_repeated in [false, true] {
            let (sent, batches) = (self.outputs.sent.len(), self.unsynced.len());
            let changes = self.outputs.timers.len();
            let done = self.node.round(now, &mut (), &mut self.outputs);
            done.unwrap_or_else(|found| panic!("{found}"));
            self.after_step(now, changes);
            let sent = &self.outputs.sent[sent..];
            let batch = self.node.unsynced.get(batches);
            if sent.is_empty() && batch.is_none() {
                return;
            }
            let writes = batch.into_iter().flatten().map(|logged| &logged.write);
            let bytes = |write: &Write<P>| match write {
                Write::Put(run) => run.values.byte_len(),
                _ => 0,
            };
            self.max_written_bytes = self.max_written_bytes.max(writes.map(bytes).sum());
            let size = self.checks.size;
            self.max_sent_bytes =
                self.max_sent_bytes.max(sent.iter().map(|(_, it)| size(it)).sum());
            assert!(
                !is_repeated,
                "{:?}: a second flush without an input wrote {batch:?} and sent {sent:?}",
                self.id()
            );
        }
    }

    /// Applies the timer changes after the first `seen` ones, and checks the core.
    fn after_step(&mut self, now: Instant, seen: usize) {
        for change in &self.outputs.timers[seen..] {
            match change {
                TimerChange::Set(timer, range) => {
                    self.random = self.random.wrapping_mul(6_364_136_223_846_793_005) + 1;
                    let span = (range.end - range.start).as_nanos() as u64;
                    let extra = (self.random >> 33).checked_rem(span).unwrap_or(0);
                    let due = now + (range.start + Duration::from_nanos(extra));
                    self.timers.insert(*timer, RunningTimer { range: range.clone(), due });
                }
                TimerChange::Cancel(timer) => drop(self.timers.remove(timer)),
            }
        }
        let fatal = self.outputs.fatal;
        assert!(matches!(fatal, None | Some(FatalError::Contradicted { .. })), "{fatal:?}");
        (self.checks.invariants)(self.node.core());
    }
}
