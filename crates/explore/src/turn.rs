//! One node takes one input: what the driver of a real node does between two waits.

use crate::ledger::{Checked, Ledger, Rule, Violation, brief, is_chosen_mark, slots, violated};
use crate::node::{Batch, Logged, Node, written};
use crate::state::Shared;
use std::collections::{BTreeSet, VecDeque};
use std::mem;
use std::sync::Arc;
use synod_consensus::{
    FatalError, HardState, Host, Input, Message, Observer, Outputs, Protocol, Quorum, Run, Saved,
    Stamp, TimerChange, Write,
};
use synod_types::{Instant, NodeId, Slot};

/// What a turn looks at and does not change.
pub(crate) struct Scene<'a, P: Protocol> {
    pub id: NodeId,
    pub now: Instant,
    pub quorum: &'a Quorum,
    /// The nodes as they were before the turn.
    pub nodes: &'a [Shared<Node<P>>],
}

/// A node in the middle of a turn.
pub(crate) struct Turn<'a, P: Protocol> {
    scene: Scene<'a, P>,
    pub node: Node<P>,
    pub ledger: Arc<Ledger<P>>,
    /// What leaves for other nodes.
    pub sent: Vec<(NodeId, P::Message)>,
    /// Writes that are not handed out yet.
    writes: Batch<P>,
}

impl<'a, P: Protocol> Turn<'a, P> {
    pub fn new(scene: Scene<'a, P>, node: Node<P>, ledger: Arc<Ledger<P>>) -> Self {
        Self { scene, node, ledger, sent: Vec::new(), writes: Vec::new() }
    }

    /// The node whose turn it is.
    pub fn id(&self) -> NodeId {
        self.scene.id
    }

    /// Takes one input and everything that follows from it by itself. Unless the disk is slow, or
    /// busy with earlier writes, what is written is durable before the turn ends.
    pub fn take(&mut self, input: Input<P>, is_slow: bool) -> Checked {
        let is_prompt = !is_slow && self.node.unsynced.is_empty();
        let (host, timers, mut watch) = self.watch();
        let outputs = host.input(watch.scene.now, input, &mut watch);
        watch.outputs(timers, outputs);
        watch.found?;
        self.settle(is_prompt)
    }

    /// The oldest batch becomes durable.
    pub fn sync(&mut self) -> Checked {
        self.sync_oldest()?;
        let is_prompt = self.node.unsynced.is_empty();
        self.settle(is_prompt)
    }

    /// A batch that a crash left on the disk; what waited for it is lost.
    pub fn keep(&mut self, batch: &Batch<P>) -> Checked {
        for logged in batch {
            self.node.disk.apply(&logged.write);
            self.count_vote(logged)?;
        }
        Ok(())
    }

    /// Rounds of the host until nothing is left to do, or the disk must do something first.
    fn settle(&mut self, is_prompt: bool) -> Checked {
        loop {
            self.round()?;
            if !is_prompt || self.node.unsynced.is_empty() {
                return self.look();
            }
            self.sync_oldest()?;
        }
    }

    fn round(&mut self) -> Checked {
        let is_written = {
            let (host, timers, mut watch) = self.watch();
            let round = host.round(watch.scene.now, &mut watch);
            let (is_written, is_quiet) = (round.seq.is_some(), round.is_quiet);
            watch.sent.append(round.sends);
            watch.outputs(timers, round.outputs);
            watch.found?;
            if !is_quiet {
                let text = format!("{:?} sends itself messages without an end", watch.scene.id);
                return Err(violated(Rule::Quiet, text));
            }
            is_written
        };
        let writes = mem::take(&mut self.writes);
        if is_written {
            self.node.unsynced.push_back(writes);
        }
        let (id, durable, disk) = (self.scene.id, self.node.host.durable(), &self.node.disk);
        let end = disk.log.last().max(disk.base.through);
        if durable > end {
            let text = format!(
                "{id:?} may persist its state through slot {durable}, its log ends at {end}"
            );
            return Err(violated(Rule::Durable, text));
        }
        Ok(())
    }

    fn sync_oldest(&mut self) -> Checked {
        let seq = self.node.oldest();
        let Some(batch) = self.node.unsynced.pop_front() else { return Ok(()) };
        self.keep(&batch)?;
        self.node.host.written(seq);
        Ok(())
    }

    fn count_vote(&mut self, logged: &Logged<P>) -> Checked {
        match &logged.write {
            Write::Put(run) if logged.is_vote => {
                Arc::make_mut(&mut self.ledger).votes(self.scene.id, run, self.scene.quorum)
            }
            _ => Ok(()),
        }
    }

    /// The host, its timers, and an observer of all else.
    fn watch(&mut self) -> (&mut Host<P>, &mut BTreeSet<P::Timer>, Watch<'_, P>) {
        let Node { host, timers, disk, unsynced } = &mut self.node;
        let watch = Watch {
            scene: &self.scene,
            emitted: host.chosen(),
            disk,
            unsynced,
            ledger: &mut self.ledger,
            sent: &mut self.sent,
            writes: &mut self.writes,
            found: Ok(()),
        };
        (host, timers, watch)
    }

    /// Looks at the node when it has come to rest.
    fn look(&mut self) -> Checked {
        let status = self.node.core().status();
        let id = self.scene.id;
        if !self.ledger.knows_leader(id, &status)
            && Arc::make_mut(&mut self.ledger).looks(id, &status)?
        {
            self.ledger.check_leader(id, status.ballot.round, &self.node.written())?;
        }
        self.ledger.check_disks(self.scene.quorum, disks(&self.scene, &self.node.disk))
    }
}

/// Checks each step of a core, and keeps the first violation.
struct Watch<'a, P: Protocol> {
    scene: &'a Scene<'a, P>,
    /// Last slot that the core has reported as chosen.
    emitted: Slot,
    disk: &'a Saved<P>,
    unsynced: &'a VecDeque<Batch<P>>,
    ledger: &'a mut Arc<Ledger<P>>,
    sent: &'a mut Vec<(NodeId, P::Message)>,
    writes: &'a mut Batch<P>,
    found: Checked,
}

impl<P: Protocol> Observer<P> for Watch<'_, P> {
    fn on_write(&mut self, core: &P, write: &Write<P>) {
        if self.found.is_ok() {
            self.found = self.check_write(core, write);
        }
        let is_vote = matches!(write, Write::Put(run) if run.stamp.is_vote_in(round(core)));
        self.writes.push(Logged { write: write.clone(), is_vote });
    }

    fn on_chosen(&mut self, core: &P, run: &Run<P::Stamp>) {
        self.emitted = run.last();
        if self.found.is_ok() {
            self.found = self.report(core, run);
        }
    }

    fn on_release(&mut self, _: &P, to: NodeId, message: &P::Message) {
        let from = self.scene.id;
        if self.found.is_ok() && !message.holds(from, to, self.disk) {
            let text = format!(
                "{from:?} sends {to:?} {}, but its disk holds {:?} and slots up to {}",
                message.describe(),
                self.disk.hard_state,
                self.disk.log.last()
            );
            self.found = Err(violated(Rule::Claims, text));
        }
    }
}

impl<P: Protocol> Watch<'_, P> {
    fn outputs(&mut self, timers: &mut BTreeSet<P::Timer>, outputs: &mut Outputs<P>) {
        for change in outputs.timers.drain(..) {
            match change {
                TimerChange::Set(timer, _) => timers.insert(timer),
                TimerChange::Cancel(timer) => timers.remove(&timer),
            };
        }
        // No client waits for an answer.
        if self.found.is_ok()
            && let Some(fatal) = outputs.fatal
        {
            let text = format!("{:?}: {fatal}", self.scene.id);
            let rule = match fatal {
                FatalError::OutOfOrder { .. } => Rule::Order,
                FatalError::TruncatesChosen { .. }
                | FatalError::Contradicted { .. }
                | FatalError::CompactsElsewhere { .. } => Rule::AppliedStays,
            };
            self.found = Err(violated(rule, text));
        }
    }

    fn check_write(&mut self, core: &P, write: &Write<P>) -> Checked {
        match write {
            Write::HardState(newer) => {
                let older = self.hard_state();
                if !newer.may_follow(older) {
                    let text = format!("{:?} writes {newer:?} after {older:?}", self.scene.id);
                    return Err(violated(Rule::HardState, text));
                }
                Ok(())
            }
            Write::Put(run) if is_chosen_mark(run.stamp) => {
                self.check_applied(run)?;
                self.report(core, run)
            }
            Write::Put(run) => {
                self.check_applied(run)?;
                Arc::make_mut(self.ledger).writes(self.scene.id, run)
            }
            Write::TruncateFrom(_) | Write::Compact(_) => Ok(()),
        }
    }

    /// Checks that a write leaves the values of applied slots as they are.
    fn check_applied(&self, run: &Run<P::Stamp>) -> Checked {
        if run.first > self.emitted {
            return Ok(());
        }
        let mut written = written(self.disk, self.unsynced);
        self.writes.iter().for_each(|logged| written.apply(&logged.write));
        for (slot, value) in slots(run).take_while(|(slot, _)| *slot <= self.emitted) {
            let held = written.log.get(slot).map(|(_, held)| held.to_value());
            if held.as_ref().is_some_and(|held| *held != value.get(0).to_value()) {
                let (id, what) = (self.scene.id, brief(&value));
                let text = format!("{id:?} writes {what} over {held:?} in slot {slot}, applied");
                return Err(violated(Rule::AppliedStays, text));
            }
        }
        Ok(())
    }

    /// The hard state that was written last.
    fn hard_state(&self) -> &P::HardState {
        let written = self.unsynced.iter().flatten().chain(&*self.writes);
        let newest = written.rev().find_map(|logged| match &logged.write {
            Write::HardState(hard_state) => Some(hard_state),
            _ => None,
        });
        newest.unwrap_or(&self.disk.hard_state)
    }

    fn report(&mut self, core: &P, run: &Run<P::Stamp>) -> Checked {
        let reporter = (self.scene.id, round(core));
        let disks = disks(self.scene, self.disk);
        Arc::make_mut(self.ledger).reports(reporter, run, self.scene.quorum, disks)
    }
}

fn round<P: Protocol>(core: &P) -> u64 {
    core.status().ballot.round
}

/// Every node's disk as it is now; that of the node in its turn is `own`.
fn disks<'b, P: Protocol>(
    scene: &'b Scene<'_, P>,
    own: &'b Saved<P>,
) -> impl Iterator<Item = (NodeId, &'b Saved<P>)> + Clone {
    let me = scene.id;
    let ids = (1..).map(NodeId);
    ids.zip(scene.nodes).map(move |(id, it)| (id, if id == me { own } else { &it.disk }))
}

/// Runs `work`, and makes a violation of a panic: an assertion of a core has failed.
pub(crate) fn guarded<T>(
    who: NodeId,
    work: impl FnOnce() -> Result<T, Box<Violation>>,
) -> Result<T, Box<Violation>> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let text = format!("{who:?} panics: {}", text.unwrap_or("without a word"));
        Err(violated(Rule::NoPanic, text))
    })
}
