//! Random walks of bare cores, with compacted logs and installed snapshots.
//!
//! A walk draws [`Input::Compact`] and [`Input::Installed`] among lost, duplicated and reordered messages,
//! links that are cut in one direction or both, slow and stalled disks, crashes, and timers that fire at any
//! time. It checks the rules of the exhaustive search: among them, that a value is chosen by votes on the
//! disks of a quorum, and stays on these disks or in their snapshots. Then all faults end, and every node
//! must apply a new command. A walk includes no driver and no codec, so it is faster than a simulation and
//! tests less of the node.

use super::rng::Rng;
use crate::exhaustive::panicked;
use crate::node::{NodeOutputs, StepRecord, TestNode, check_fatal};
use crate::rule::{Checked, Rule, RuleViolation, violated};
use crate::safety::{DiskView, SafetyChecker};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::mem;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use synod_consensus::{Base, Input, Protocol, Quorum, RunLog, Saved, TimerChange, Write};
use synod_types::{Instant, Membership, NodeId, Slot, Ticket, Value};

/// Numbers of events in walks that violated no rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalkStats {
    /// Chosen slots.
    pub chosen: u64,
    /// Ballots that had a leader.
    pub ballots: u64,
    /// Crashes.
    pub crashes: u64,
    /// Log compactions.
    pub compactions: u64,
    /// Installed snapshots.
    pub installs: u64,
    /// Reads that a core answered with a slot.
    pub reads: u64,
}

impl WalkStats {
    fn add(&mut self, other: &Self) {
        self.chosen += other.chosen;
        self.ballots += other.ballots;
        self.crashes += other.crashes;
        self.compactions += other.compactions;
        self.installs += other.installs;
        self.reads += other.reads;
    }
}

/// Violation of a rule on a walk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkFailure {
    /// Seed of the walk.
    pub seed: u64,
    /// Violation.
    pub violation: RuleViolation,
}

impl fmt::Display for WalkFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.violation)
    }
}

impl std::error::Error for WalkFailure {}

/// Runs a [walk](random_walk) of `steps` steps for each seed. `members` and `config` return the members and the
/// settings for a seed. Returns the sums of the numbers of events.
///
/// # Errors
/// The first walk that violates a rule.
pub fn random_walks<P: Protocol>(
    seeds: Range<u64>,
    steps: u32,
    members: impl Fn(u64) -> Membership,
    config: impl Fn(u64, NodeId, &Membership) -> P::Config,
) -> Result<WalkStats, WalkFailure> {
    let mut total = WalkStats::default();
    for seed in seeds {
        let config = |node, members: &_| config(seed, node, members);
        total.add(&random_walk::<P>(seed, steps, &members(seed), config)?);
    }
    Ok(total)
}

/// Runs `steps` random steps with the cores of these members, then a phase without faults. Before the second
/// phase some nodes may be removed permanently, as long as the others are a quorum. During it, nodes that need
/// snapshots receive them, and clients continue to propose.
///
/// # Errors
/// The first violation: of a safety rule, or of [`Rule::Progress`] if 30 seconds without faults pass before
/// all nodes have applied a new command.
pub fn random_walk<P: Protocol>(
    seed: u64,
    steps: u32,
    members: &Membership,
    config: impl Fn(NodeId, &Membership) -> P::Config,
) -> Result<WalkStats, WalkFailure> {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let mut walk = Walk::<P>::start(seed, members, config)?;
        for _ in 0..steps {
            walk.random_step()?;
        }
        walk.run_until_progress()?;
        Ok(walk.stats)
    }));
    let outcome = outcome.unwrap_or_else(|panic| Err(panicked("a core", &*panic)));
    outcome.map_err(|violation| WalkFailure { seed, violation: *violation })
}

/// Limit of the phase without faults: a hundred times the longest default election timeout.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30);
/// Message delay and timer resolution in the phase without faults.
const TICK: Duration = Duration::from_millis(1);
/// Ticks between two commands.
const PROPOSAL_INTERVAL: u32 = 100;

/// A cluster on a random walk.
struct Walk<P: Protocol> {
    rng: Rng,
    now: Instant,
    quorum: Quorum,
    nodes: BTreeMap<NodeId, WalkNode<P>>,
    /// Messages in flight: sender, receiver, message. Each arrives at any time, repeatedly, or never.
    wire: Vec<(NodeId, NodeId, P::Message)>,
    /// Links that lose all messages, by sender and receiver.
    cut: BTreeSet<(NodeId, NodeId)>,
    checker: SafetyChecker<P>,
    /// Logs and snapshots of nodes that are removed permanently.
    removed: BTreeMap<NodeId, (RunLog<P::Stamp>, Slot)>,
    tickets: u64,
    /// Tickets of chosen commands, by slot.
    chosen_tickets: BTreeMap<Slot, u64>,
    stats: WalkStats,
}

/// A node of a walk, with its state store and its timers.
struct WalkNode<P: Protocol> {
    config: P::Config,
    inner: TestNode<P>,
    /// The latest snapshot that is durable in the state store.
    snapshot: Base<P::Stamp>,
    timers: BTreeMap<P::Timer, Instant>,
    /// Nodes that need a snapshot of this node.
    pending_snapshots: BTreeSet<NodeId>,
}

impl<P: Protocol> WalkNode<P> {
    /// Recovers a node from its disk and its state store.
    fn start(
        id: NodeId,
        config: P::Config,
        disk: Saved<P>,
        snapshot: Base<P::Stamp>,
    ) -> Result<Self, Box<RuleViolation>> {
        let disk = Saved { applied: snapshot.through, ..disk };
        let mut saved = disk.clone();
        if snapshot.through > saved.base.through {
            saved.base = snapshot.clone();
        }
        let mut inner = TestNode::recover(id, config.clone(), saved)
            .map_err(|error| violated(Rule::Recovery, error.to_string()))?;
        inner.disk = disk;
        let (timers, pending_snapshots) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { config, inner, snapshot, timers, pending_snapshots })
    }

    fn disk(&self) -> DiskView<'_, P::Stamp> {
        let disk = &self.inner.disk;
        DiskView { log: &disk.log, snapshot: self.snapshot.through.max(disk.log.base()) }
    }
}

impl<P: Protocol> Walk<P> {
    fn start(
        seed: u64,
        members: &Membership,
        config: impl Fn(NodeId, &Membership) -> P::Config,
    ) -> Result<Self, Box<RuleViolation>> {
        let all = || members.voters().iter().chain(members.learners()).copied();
        let mut nodes = BTreeMap::new();
        for id in all() {
            let config = config(id, members);
            nodes.insert(id, WalkNode::start(id, config, Saved::default(), Base::default())?);
        }
        let mut walk = Self {
            rng: Rng::new(seed),
            now: Instant(1_000_000_000),
            quorum: P::quorum(&config(members.voters()[0], members), members),
            nodes,
            wire: Vec::new(),
            cut: BTreeSet::new(),
            checker: SafetyChecker::new(),
            removed: BTreeMap::new(),
            tickets: 0,
            chosen_tickets: BTreeMap::new(),
            stats: WalkStats::default(),
        };
        for id in all() {
            walk.step(id, Input::Start)?;
        }
        Ok(walk)
    }

    /// Draws one event and applies it.
    fn random_step(&mut self) -> Checked {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        let id = self.rng.pick(&ids);
        let pause = Duration::from_micros(self.rng.below(3_000));
        self.advance_clock(pause);
        match self.rng.below(100) {
            0..56 => self.deliver(),
            56..80 => self.sync(id),
            80..84 => self.time_out(id),
            84..91 => self.propose(id),
            91 | 92 => self.read(id),
            93 => match self.rng.below(10) {
                0..3 => self.crash(id),
                3..5 => self.step(id, Input::Stalled),
                5..9 => {
                    let to = self.rng.pick(&ids);
                    self.cut_link(id, to);
                    Ok(())
                }
                _ => {
                    self.cut.clear();
                    Ok(())
                }
            },
            94..97 => self.compact(id),
            _ => {
                let from = self.rng.pick(&ids);
                match self.copy_snapshot(from, id)? {
                    Some(_) if self.rng.percent(20) => self.crash(id),
                    Some(base) => self.install(id, base),
                    None => Ok(()),
                }
            }
        }
    }

    fn propose(&mut self, id: NodeId) -> Checked {
        self.tickets += 1;
        let command = self.tickets.to_string().into_bytes().into();
        self.step(id, Input::Propose { ticket: Ticket(self.tickets), command })
    }

    fn read(&mut self, id: NodeId) -> Checked {
        let read = self.checker.begin_read(id);
        self.step(id, Input::Read(read))
    }

    fn advance_clock(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Steps a core with one input and runs a round, as a driver does.
    fn step(&mut self, id: NodeId, input: Input<P>) -> Checked {
        self.run(id, |node, now, record, outputs| node.input(now, input, record, outputs))?;
        self.round(id)
    }

    fn round(&mut self, id: NodeId) -> Checked {
        self.run(id, |node, now, record, outputs| node.round(now, record, outputs))
    }

    /// Runs `work` on a node, collects its outputs, and checks its steps.
    fn run(
        &mut self,
        id: NodeId,
        work: impl FnOnce(&mut TestNode<P>, Instant, &mut StepRecord<P>, &mut NodeOutputs<P>) -> Checked,
    ) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let (mut record, mut outputs) = (StepRecord(Vec::new()), NodeOutputs::default());
        work(&mut node.inner, self.now, &mut record, &mut outputs)?;
        for change in outputs.timers.drain(..) {
            match change {
                TimerChange::Set(timer, after) => {
                    node.timers.insert(timer, self.now + self.rng.duration(&after));
                }
                TimerChange::Cancel(timer) => _ = node.timers.remove(&timer),
            }
        }
        node.pending_snapshots.extend(outputs.snapshots.drain(..));
        let status = node.inner.core().status();
        self.wire.extend(outputs.sent.drain(..).map(|(to, message)| (id, to, message)));
        let disks = disks(&self.nodes, &self.removed);
        self.checker.check_step(id, &record.0, &self.quorum, disks)?;
        for (read, answer) in &outputs.reads {
            self.checker.check_read(id, *read, answer)?;
        }
        self.stats.reads = self.checker.served() as u64;
        check_fatal(id, outputs.fatal)?;
        if self.checker.observe_leader(id, &status)? {
            let node = &self.nodes[&id];
            let written = node.inner.written();
            let snapshot = node.snapshot.through.max(written.log.base());
            let disk = DiskView { log: &written.log, snapshot };
            self.checker.check_leader(id, status.ballot.round, disk)?;
            self.stats.ballots += 1;
        }
        self.record_tickets(&outputs);
        self.stats.chosen = self.checker.count() as u64;
        Ok(())
    }

    /// Records the tickets of chosen commands.
    fn record_tickets(&mut self, outputs: &NodeOutputs<P>) {
        for run in &outputs.chosen {
            for (index, value) in run.values.iter().enumerate() {
                if let Value::Command(bytes) = value.to_value()
                    && let Some(ticket) =
                        std::str::from_utf8(&bytes).ok().and_then(|it| it.parse().ok())
                {
                    self.chosen_tickets.insert(run.first.plus(index), ticket);
                }
            }
        }
    }

    /// Cuts a link in one direction, sometimes in both.
    fn cut_link(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
        if self.rng.percent(40) {
            self.cut.insert((to, from));
        }
    }

    /// Delivers a message, mostly the oldest. Some stay in flight and arrive again, some are lost.
    fn deliver(&mut self) -> Checked {
        if self.wire.is_empty() {
            return Ok(());
        }
        let any = if self.rng.percent(60) { 0 } else { self.rng.below(self.wire.len() as u64) };
        let (from, to, message) = match self.rng.percent(10) {
            true => self.wire[any as usize].clone(),
            false => self.wire.remove(any as usize),
        };
        if self.rng.percent(12) || self.cut.contains(&(from, to)) {
            return Ok(());
        }
        self.step(to, Input::Message { from, message })
    }

    /// Syncs some of a node's batches, the oldest first.
    fn sync(&mut self, id: NodeId) -> Checked {
        for _ in 0..=self.rng.below(8) {
            if !self.sync_one(id)? {
                break;
            }
        }
        Ok(())
    }

    /// Syncs the oldest batch of a node. Returns whether there was one.
    fn sync_one(&mut self, id: NodeId) -> Result<bool, Box<RuleViolation>> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(false) };
        let Some(batch) = node.inner.sync_one() else { return Ok(false) };
        self.checker.count_votes(id, &batch, &self.quorum)?;
        for logged in &batch {
            self.check_kept(&logged.write)?;
        }
        self.round(id)?;
        Ok(true)
    }

    /// Checks that a durable write leaves the chosen values of its slots on a quorum of disks.
    fn check_kept(&self, write: &Write<P>) -> Checked {
        let disks = disks(&self.nodes, &self.removed);
        match write {
            Write::Put(run) => {
                self.checker.check_disks(run.first..=run.last(), &self.quorum, disks)
            }
            Write::TruncateFrom(slot) => self.checker.check_disks(*slot.., &self.quorum, disks),
            Write::HardState(_) | Write::Compact(_) => Ok(()),
        }
    }

    fn time_out(&mut self, id: NodeId) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let timers: Vec<_> = node.timers.keys().copied().collect();
        if timers.is_empty() {
            return Ok(());
        }
        let timer = self.rng.pick(&timers);
        node.timers.remove(&timer);
        // Sometimes longer than the default election timeouts, so that nodes no longer reject candidates
        // because of a live leader.
        let wait = if self.rng.percent(20) { 400 } else { 10 };
        self.advance_clock(Duration::from_millis(wait));
        self.step(id, Input::Timeout(timer))
    }

    /// Crashes and restarts a node. Its disk keeps any prefix of the unsynced batches.
    fn crash(&mut self, id: NodeId) -> Checked {
        let Some(mut node) = self.nodes.remove(&id) else { return Ok(()) };
        self.stats.crashes += 1;
        self.checker.drop_reads(id);
        let pending = node.inner.unsynced.len() as u64;
        let kept = node.inner.crash(self.rng.below(pending + 1) as usize);
        let restarted = WalkNode::start(id, node.config, node.inner.disk, node.snapshot)?;
        self.nodes.insert(id, restarted);
        for batch in &kept {
            self.checker.count_votes(id, batch, &self.quorum)?;
            batch.iter().try_for_each(|logged| self.check_kept(&logged.write))?;
        }
        self.step(id, Input::Start)
    }

    /// Takes a snapshot of a node, and compacts its log unless the node crashes first.
    fn compact(&mut self, id: NodeId) -> Checked {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let base = node.inner.core().status().base;
        let through = Slot(base.0 + self.rng.below(node.inner.applied().0 - base.0 + 1));
        let Some(base) = node.inner.core().base_at(through) else { return Ok(()) };
        if base.through > node.snapshot.through {
            node.snapshot = base;
        }
        if self.rng.percent(20) {
            return self.crash(id);
        }
        self.stats.compactions += 1;
        self.step(id, Input::Compact { through })
    }

    /// Copies a node's snapshot to another node, where it is durable at once. Returns the base to install, or
    /// `None` if the receiver has applied at least as much.
    fn copy_snapshot(
        &mut self,
        from: NodeId,
        to: NodeId,
    ) -> Result<Option<Base<P::Stamp>>, Box<RuleViolation>> {
        let Some(base) = self.nodes.get(&from).map(|node| node.snapshot.clone()) else {
            return Ok(None);
        };
        let node = self.nodes.get_mut(&to).filter(|node| base.through > node.inner.applied());
        let Some(node) = node else { return Ok(None) };
        node.snapshot = base.clone();
        node.inner.disk.applied = base.through;
        Ok(Some(base))
    }

    fn install(&mut self, id: NodeId, base: Base<P::Stamp>) -> Checked {
        self.stats.installs += 1;
        self.step(id, Input::Installed { base })
    }

    /// Runs the phase without faults: every remaining node must apply a new command.
    fn run_until_progress(&mut self) -> Checked {
        self.cut.clear();
        self.remove_permanently();
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        let (old, end) = (self.tickets, self.now + PROGRESS_LIMIT);
        for tick in 0_u32.. {
            if self.now >= end {
                break;
            }
            self.advance_clock(TICK);
            for id in &ids {
                if tick % PROPOSAL_INTERVAL == 0 {
                    self.propose(*id)?;
                }
                self.run_without_faults(*id)?;
            }
            for (from, to, message) in mem::take(&mut self.wire) {
                self.step(to, Input::Message { from, message })?;
            }
            if self.has_applied_after(old) {
                return Ok(());
            }
        }
        let applied = self.nodes.iter().map(|(id, node)| (*id, node.inner.applied()));
        let applied: Vec<_> = applied.collect();
        let text = format!(
            "not all nodes applied a new command within {PROGRESS_LIMIT:?} without faults: {applied:?}"
        );
        Err(violated(Rule::Progress, text))
    }

    /// Removes some nodes permanently, as long as the remaining ones are a quorum.
    fn remove_permanently(&mut self) {
        let mut ids: Vec<_> = self.nodes.keys().copied().collect();
        self.rng.shuffle(&mut ids);
        for id in ids {
            let remains = |node| node != id && self.nodes.contains_key(&node);
            let is_quorum = self.quorum.is_first(remains) && self.quorum.is_second(remains);
            if is_quorum
                && self.rng.percent(40)
                && let Some(node) = self.nodes.remove(&id)
            {
                let snapshot = node.disk().snapshot;
                self.removed.insert(id, (node.inner.disk.log, snapshot));
            }
        }
    }

    /// Fires a node's due timers, syncs its disk, and sends the snapshots that other nodes need.
    fn run_without_faults(&mut self, id: NodeId) -> Checked {
        let now = self.now;
        while let Some(node) = self.nodes.get_mut(&id)
            && let Some(timer) = node.timers.iter().find(|(_, at)| **at <= now).map(|it| *it.0)
        {
            node.timers.remove(&timer);
            self.step(id, Input::Timeout(timer))?;
        }
        while self.sync_one(id)? {}
        let pending = self.nodes.get_mut(&id).map(|node| mem::take(&mut node.pending_snapshots));
        for to in pending.unwrap_or_default() {
            if let Some(base) = self.copy_snapshot(id, to)? {
                self.install(to, base)?;
            }
        }
        Ok(())
    }

    /// Returns whether all nodes have applied the same slots, including a command with a ticket above `old`.
    fn has_applied_after(&self, old: u64) -> bool {
        let mut applied = self.nodes.values().map(|node| node.inner.applied());
        let Some(first) = applied.next() else { return true };
        applied.all(|slot| slot == first)
            && self.chosen_tickets.range(..=first).any(|(_, it)| *it > old)
    }
}

/// Returns the disks of all nodes, including removed ones.
fn disks<'a, P: Protocol>(
    nodes: &'a BTreeMap<NodeId, WalkNode<P>>,
    removed: &'a BTreeMap<NodeId, (RunLog<P::Stamp>, Slot)>,
) -> impl Iterator<Item = (NodeId, DiskView<'a, P::Stamp>)> + Clone {
    let removed = removed.iter().map(|(id, (log, snapshot))| (*id, log, *snapshot));
    let removed = removed.map(|(id, log, snapshot)| (id, DiskView { log, snapshot }));
    nodes.iter().map(|(id, node)| (*id, node.disk())).chain(removed)
}
