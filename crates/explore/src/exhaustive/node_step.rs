//! Step of one node: the work that a real node's driver does for one input.

use super::state::{ModelNode, Shared};
use crate::node::{NodeOutputs, StepRecord, TestNode, WriteBatch, check_fatal};
use crate::rule::{Checked, Rule, RuleViolation, violated};
use crate::safety::{DiskView, SafetyChecker};
use std::sync::Arc;
use synod_consensus::{Input, Protocol, Quorum, Saved, TimerChange};
use synod_types::{Instant, NodeId, Slot};

/// Immutable context of a step.
pub(crate) struct StepContext<'a, P: Protocol> {
    pub id: NodeId,
    pub now: Instant,
    pub quorum: &'a Quorum,
    /// All nodes before the step.
    pub nodes: &'a [Shared<ModelNode<P>>],
}

/// Node during a step.
pub(crate) struct NodeStep<'a, P: Protocol> {
    context: StepContext<'a, P>,
    pub node: ModelNode<P>,
    pub checker: Arc<SafetyChecker<P>>,
    /// Messages to other nodes.
    pub sent: Vec<(NodeId, P::Message)>,
}

impl<'a, P: Protocol> NodeStep<'a, P> {
    pub fn new(
        context: StepContext<'a, P>,
        node: ModelNode<P>,
        checker: Arc<SafetyChecker<P>>,
    ) -> Self {
        Self { context, node, checker, sent: Vec::new() }
    }

    /// Steps the core with one input, and runs rounds. All writes are durable before the step ends, unless the
    /// disk is slow or has unsynced batches.
    pub fn input(&mut self, input: Input<P>, is_slow: bool) -> Checked {
        let is_prompt = !is_slow && self.node.unsynced.is_empty();
        self.run(|node, now, record, outputs| node.input(now, input, record, outputs))?;
        self.settle(is_prompt)
    }

    /// Takes a client's read.
    pub fn read(&mut self) -> Checked {
        let id = Arc::make_mut(&mut self.checker).begin_read(self.context.id);
        self.input(Input::Read(id), false)
    }

    /// Makes the oldest batch durable.
    pub fn sync(&mut self) -> Checked {
        self.sync_one()?;
        let is_prompt = self.node.unsynced.is_empty();
        self.settle(is_prompt)
    }

    /// Crashes and restarts the node. Its disk keeps the oldest `kept` unsynced batches, and its state is applied
    /// through `applied`.
    pub fn restart(&mut self, config: P::Config, kept: usize, applied: Slot) -> Checked {
        let kept = self.node.inner.crash(kept);
        kept.iter().try_for_each(|batch| self.count_votes(batch))?;
        Arc::make_mut(&mut self.checker).drop_reads(self.context.id);
        let disk = Saved { applied, ..self.node.disk.clone() };
        self.node = ModelNode::recover(self.context.id, config, disk)
            .map_err(|error| violated(Rule::Recovery, error.to_string()))?;
        self.input(Input::Start, false)
    }

    /// Runs rounds until the node is idle, or waits for its disk.
    fn settle(&mut self, is_prompt: bool) -> Checked {
        loop {
            self.run(|node, now, record, outputs| node.round(now, record, outputs))?;
            if !is_prompt || self.node.unsynced.is_empty() {
                return self.check_idle();
            }
            self.sync_one()?;
        }
    }

    /// Runs `work` on the node, collects its outputs, and checks its steps.
    fn run(
        &mut self,
        work: impl FnOnce(&mut TestNode<P>, Instant, &mut StepRecord<P>, &mut NodeOutputs<P>) -> Checked,
    ) -> Checked {
        let (mut record, mut outputs) = (StepRecord(Vec::new()), NodeOutputs::default());
        work(&mut self.node.inner, self.context.now, &mut record, &mut outputs)?;
        for change in outputs.timers {
            match change {
                TimerChange::Set(timer, _) => self.node.timers.insert(timer),
                TimerChange::Cancel(timer) => self.node.timers.remove(&timer),
            };
        }
        self.sent.append(&mut outputs.sent);
        if !record.0.is_empty() {
            let (id, quorum) = (self.context.id, self.context.quorum);
            let disks = disks(&self.context, &self.node.disk);
            Arc::make_mut(&mut self.checker).check_step(id, &record.0, quorum, disks)?;
        }
        for (read, answer) in &outputs.reads {
            Arc::make_mut(&mut self.checker).check_read(self.context.id, *read, answer)?;
        }
        check_fatal(self.context.id, outputs.fatal)
    }

    fn sync_one(&mut self) -> Checked {
        let Some(batch) = self.node.inner.sync_one() else { return Ok(()) };
        self.count_votes(&batch)
    }

    fn count_votes(&mut self, batch: &WriteBatch<P>) -> Checked {
        if !batch.iter().any(|logged| logged.is_vote) {
            return Ok(());
        }
        let (id, quorum) = (self.context.id, self.context.quorum);
        Arc::make_mut(&mut self.checker).count_votes(id, batch, quorum)
    }

    /// Checks the leader and all disks after a step.
    fn check_idle(&mut self) -> Checked {
        let status = self.node.core().status();
        let id = self.context.id;
        if !self.checker.has_recorded_leader(id, &status)
            && Arc::make_mut(&mut self.checker).observe_leader(id, &status)?
        {
            let written = self.node.written();
            let disk = DiskView::of(&written.log);
            self.checker.check_leader(id, status.ballot.round, disk)?;
        }
        let disks = disks(&self.context, &self.node.disk);
        self.checker.check_disks(.., self.context.quorum, disks)
    }
}

/// Returns the disks of all nodes during a step. That of the stepping node is `own`.
fn disks<'b, P: Protocol>(
    context: &'b StepContext<'_, P>,
    own: &'b Saved<P>,
) -> impl Iterator<Item = (NodeId, DiskView<'b, P::Stamp>)> + Clone {
    let me = context.id;
    (1..).map(NodeId).zip(context.nodes).map(move |(id, it)| {
        let disk = if id == me { own } else { &it.disk };
        (id, DiskView::of(&disk.log))
    })
}

/// Runs `work`, and converts a panic of a core into a violation.
pub(crate) fn catch_panic<T>(
    id: NodeId,
    work: impl FnOnce() -> Result<T, Box<RuleViolation>>,
) -> Result<T, Box<RuleViolation>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(panicked(&format!("{id:?}"), &*panic)))
}

/// Converts a panic into a violation.
pub(crate) fn panicked(who: &str, panic: &(dyn std::any::Any + Send)) -> Box<RuleViolation> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    violated(Rule::NoPanic, format!("{who} panicked: {}", text.unwrap_or("no message")))
}
