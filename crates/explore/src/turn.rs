//! One node takes one input: what the driver of a real node does between two waits.

use crate::ledger::{
    Checked, Ledger, Rule, Violation, brief, is_chosen_mark, is_vote, slots, violated,
};
use crate::node::{Batch, Logged, Node};
use crate::state::Shared;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use synod_consensus::{
    Gate, HardState, Input, Message, Outbox, Protocol, Quorum, Run, Saved, TimerChange, Write,
};
use synod_types::{Instant, NodeId};

/// More inputs than this in one turn and the node talks to itself for ever.
const ENDLESS: usize = 1000;

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
    outbox: Outbox<P>,
    /// Messages of the node to itself whose gate is open.
    own: VecDeque<P::Message>,
    writes: Vec<Logged<P>>,
    /// Durable messages whose write is not handed out yet.
    fresh: Vec<(NodeId, P::Message)>,
}

impl<'a, P: Protocol> Turn<'a, P> {
    pub fn new(scene: Scene<'a, P>, node: Node<P>, ledger: Arc<Ledger<P>>) -> Self {
        Self {
            scene,
            node,
            ledger,
            sent: Vec::new(),
            outbox: Outbox::default(),
            own: VecDeque::new(),
            writes: Vec::new(),
            fresh: Vec::new(),
        }
    }

    /// Takes one input and everything that follows from it by itself. Unless the disk is slow, or
    /// busy with earlier writes, what is written is durable before the turn ends.
    pub fn take(&mut self, input: Input<P>, is_slow: bool) -> Checked {
        let is_prompt = !is_slow && self.node.unsynced.is_empty();
        self.step(input)?;
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
        for logged in &batch.writes {
            self.node.disk.apply(&logged.write);
            self.count_vote(logged)?;
        }
        Ok(())
    }

    fn step(&mut self, input: Input<P>) -> Checked {
        self.node.core.step(self.scene.now, input, &mut self.outbox.effects());
        self.absorb()
    }

    /// Works off what the node says to itself, and hands out what it writes.
    fn settle(&mut self, is_prompt: bool) -> Checked {
        for _ in 0..ENDLESS {
            self.node.core.flush(self.scene.now, &mut self.outbox.effects());
            self.absorb()?;
            if !self.own.is_empty() {
                while let Some(message) = self.own.pop_front() {
                    self.step(Input::Message { from: self.scene.id, message })?;
                }
                continue;
            }
            let is_idle = self.node.unsynced.is_empty() && self.writes.is_empty();
            if is_idle && !self.fresh.is_empty() {
                for (to, message) in mem::take(&mut self.fresh) {
                    self.release(to, message)?;
                }
                continue;
            }
            self.seal();
            if is_prompt && !self.node.unsynced.is_empty() {
                self.sync_oldest()?;
                continue;
            }
            return self.look();
        }
        Err(violated(Rule::Quiet, format!("{:?} talks to itself for ever", self.scene.id)))
    }

    /// Hands this round's writes out as one batch; durable messages wait for the newest.
    fn seal(&mut self) {
        let (writes, held) = (mem::take(&mut self.writes), mem::take(&mut self.fresh));
        let emitted = self.node.emitted;
        match self.node.unsynced.back_mut() {
            Some(newest) if writes.is_empty() => {
                newest.held.extend(held);
                newest.emitted = emitted;
            }
            None if writes.is_empty() => {
                debug_assert!(held.is_empty(), "an idle disk holds none");
                self.node.durable = emitted;
            }
            _ => self.node.unsynced.push_back(Batch { writes, held, emitted }),
        }
    }

    fn sync_oldest(&mut self) -> Checked {
        let Some(batch) = self.node.unsynced.pop_front() else { return Ok(()) };
        self.keep(&batch)?;
        self.node.durable = batch.emitted;
        for (to, message) in batch.held {
            self.release(to, message)?;
        }
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

    /// Sorts what the core asked for, in the order in which a driver does.
    fn absorb(&mut self) -> Checked {
        for write in mem::take(&mut self.outbox.writes) {
            self.write(write)?;
        }
        for change in self.outbox.timers.drain(..) {
            match change {
                TimerChange::Set(timer, _) => self.node.timers.insert(timer),
                TimerChange::Cancel(timer) => self.node.timers.remove(&timer),
            };
        }
        for run in mem::take(&mut self.outbox.chosen) {
            if run.first != self.node.emitted.next() {
                let (at, next) = (run.first, self.node.emitted.next());
                let text = format!("{:?} reports slot {at} where {next} is next", self.scene.id);
                return Err(violated(Rule::Order, text));
            }
            self.node.emitted = run.last();
            self.report(&run)?;
        }
        for (to, message) in mem::take(&mut self.outbox.sends) {
            match message.gate() {
                Gate::Durable => self.fresh.push((to, message)),
                Gate::Immediate => self.release(to, message)?,
            }
        }
        if let Some(found) = self.outbox.contradiction {
            return Err(violated(
                Rule::AppliedStays,
                format!("{:?} finds {found:?}", self.scene.id),
            ));
        }
        // Nobody waits for an answer, and nothing is compacted.
        self.outbox = Outbox::default();
        Ok(())
    }

    fn write(&mut self, write: Write<P>) -> Checked {
        let mut is_vote_here = false;
        match &write {
            Write::HardState(newer) => {
                let older = self.hard_state();
                if !newer.may_follow(older) {
                    let text = format!("{:?} writes {newer:?} after {older:?}", self.scene.id);
                    return Err(violated(Rule::HardState, text));
                }
            }
            Write::Put(run) if is_chosen_mark(run.stamp) => {
                self.check_applied(run)?;
                self.report(run)?;
            }
            Write::Put(run) => {
                self.check_applied(run)?;
                is_vote_here = is_vote(run.stamp, self.round());
                Arc::make_mut(&mut self.ledger).writes(self.scene.id, run)?;
            }
            Write::TruncateFrom(slot) if *slot <= self.node.emitted => {
                let (id, emitted) = (self.scene.id, self.node.emitted);
                let text =
                    format!("{id:?} removes slots from {slot} on, applied through {emitted}");
                return Err(violated(Rule::AppliedStays, text));
            }
            Write::TruncateFrom(_) | Write::Compact(_) => {}
        }
        self.writes.push(Logged { write, is_vote: is_vote_here });
        Ok(())
    }

    /// Checks that a write leaves the values of applied slots as they are.
    fn check_applied(&self, run: &Run<P::Stamp>) -> Checked {
        if run.first > self.node.emitted {
            return Ok(());
        }
        let mut written = self.node.written();
        self.writes.iter().for_each(|logged| written.apply(&logged.write));
        for (slot, value) in slots(run).take_while(|(slot, _)| *slot <= self.node.emitted) {
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
        let unsynced = self.node.unsynced.iter().flat_map(|batch| &batch.writes);
        let newest = unsynced.chain(&self.writes).rev().find_map(|logged| match &logged.write {
            Write::HardState(hard_state) => Some(hard_state),
            _ => None,
        });
        newest.unwrap_or(&self.node.disk.hard_state)
    }

    fn round(&self) -> u64 {
        self.node.core.status().ballot.round
    }

    fn report(&mut self, run: &Run<P::Stamp>) -> Checked {
        let reporter = (self.scene.id, self.round());
        let disks = disks(&self.scene, &self.node);
        Arc::make_mut(&mut self.ledger).reports(reporter, run, self.scene.quorum, disks)
    }

    /// The message's gate is open.
    fn release(&mut self, to: NodeId, message: P::Message) -> Checked {
        let from = self.scene.id;
        if !message.holds(from, to, &self.node.disk) {
            let disk = &self.node.disk;
            let text = format!(
                "{from:?} sends {to:?} {}, but its disk holds {:?} and slots up to {}",
                message.describe(),
                disk.hard_state,
                disk.log.last()
            );
            return Err(violated(Rule::Claims, text));
        }
        if to == from {
            self.own.push_back(message);
        } else {
            self.sent.push((to, message));
        }
        Ok(())
    }

    /// Looks at the node when it has come to rest.
    fn look(&mut self) -> Checked {
        let status = self.node.core.status();
        let id = self.scene.id;
        if !self.ledger.knows_leader(id, &status)
            && Arc::make_mut(&mut self.ledger).looks(id, &status)?
        {
            self.ledger.check_leader(id, status.ballot.round, &self.node.written())?;
        }
        self.ledger.check_disks(self.scene.quorum, disks(&self.scene, &self.node))
    }
}

/// Every node's disk as it is now.
fn disks<'b, P: Protocol>(
    scene: &'b Scene<'_, P>,
    node: &'b Node<P>,
) -> impl Iterator<Item = (NodeId, &'b Saved<P>)> + Clone {
    let me = scene.id;
    let ids = (1..).map(NodeId);
    ids.zip(scene.nodes).map(move |(id, it)| (id, if id == me { &node.disk } else { &it.disk }))
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
