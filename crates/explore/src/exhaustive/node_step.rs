//! One node takes one input: the work of a real node's driver between two waits.

use super::state::{ModelNode, Shared};
use crate::node::{NodeOutputs, StepRecord, TestNode, WriteBatch, check_fatal};
use crate::rule::{Checked, Rule, RuleViolation, violated};
use crate::safety::{DiskView, SafetyChecker};
use std::sync::Arc;
use synod_consensus::{Input, Protocol, Quorum, Saved, TimerChange};
use synod_types::{Instant, NodeId, Slot};

/// The unchanging surroundings of a step.
pub(crate) struct StepContext<'a, P: Protocol> {
    pub id: NodeId,
    pub now: Instant,
    pub quorum: &'a Quorum,
    /// The nodes as they were before the step.
    pub nodes: &'a [Shared<ModelNode<P>>],
}

/// A node in the middle of a step.
pub(crate) struct NodeStep<'a, P: Protocol> {
    context: StepContext<'a, P>,
    pub node: ModelNode<P>,
    pub checker: Arc<SafetyChecker<P>>,
    /// Messages that leave for other nodes.
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

    /// Takes one input and everything that follows from it by itself. Unless the disk is slow, or
    /// busy with earlier writes, all writes are durable before the step ends.
    pub fn take(&mut self, input: Input<P>, is_slow: bool) -> Checked {
        let is_prompt = !is_slow && self.node.unsynced.is_empty();
        self.run(|node, now, record, outputs| node.input(now, input, record, outputs))?;
        self.settle(is_prompt)
    }

    /// Makes the oldest batch durable.
    pub fn sync(&mut self) -> Checked {
        self.sync_one()?;
        let is_prompt = self.node.unsynced.is_empty();
        self.settle(is_prompt)
    }

    /// Crashes the node: its disk keeps the oldest `kept` batches. It starts again at once, on a
    /// state that is applied through `applied`.
    pub fn restart(&mut self, config: P::Config, kept: usize, applied: Slot) -> Checked {
        let kept = self.node.inner.crash(kept);
        kept.iter().try_for_each(|batch| self.count_votes(batch))?;
        let disk = Saved { applied, ..self.node.disk.clone() };
        self.node = ModelNode::recover(self.context.id, config, disk)
            .map_err(|error| violated(Rule::Recovery, error.to_string()))?;
        self.take(Input::Start, false)
    }

    /// Runs rounds until nothing is left to do, or the disk must sync first.
    fn settle(&mut self, is_prompt: bool) -> Checked {
        loop {
            self.run(|node, now, record, outputs| node.round(now, record, outputs))?;
            if !is_prompt || self.node.unsynced.is_empty() {
                return self.check_at_rest();
            }
            self.sync_one()?;
        }
    }

    /// Lets the host do something, and checks what its core does.
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

    /// Checks the node when it has come to rest.
    fn check_at_rest(&mut self) -> Checked {
        let status = self.node.core().status();
        let id = self.context.id;
        if !self.checker.knows_leader(id, &status)
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

/// Every node's disk as it is now; that of the node in its step is `own`.
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

/// Runs `work`, and turns a panic into a violation: an assertion of a core has failed.
pub(crate) fn guarded<T>(
    id: NodeId,
    work: impl FnOnce() -> Result<T, Box<RuleViolation>>,
) -> Result<T, Box<RuleViolation>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(panicked(&format!("{id:?}"), &*panic)))
}

/// Returns the violation that a panic is.
pub(crate) fn panicked(who: &str, panic: &(dyn std::any::Any + Send)) -> Box<RuleViolation> {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    violated(Rule::NoPanic, format!("{who} panics: {}", text.unwrap_or("without a message")))
}
