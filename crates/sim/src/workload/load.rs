//! Load runs: sustained load, one disturbance, and the way back.
//!
//! A load run offers writes at a drawn fraction of what links and disks carry, whether or not
//! earlier ones were answered. After some seconds a burst comes, or a fault that ends. From then on
//! throughput must be back at nine tenths of what it was within twice the time that the backlog
//! takes at the capacity that is left, and at no time may bytes be sent or written many times over.
//! A cluster that answers overload with more work fails this and nothing else.

use crate::check::answers::OperationState;
use crate::cluster::node::ApplyTask;
use crate::cluster::{Cluster, Happening};
use crate::plan::load::LoadPlan;
use crate::rng::Dice;
use crate::violation::Checked;
use crate::workload::kv::Command;
use std::collections::BTreeMap;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_replica::{Event, Token};
use synod_types::Instant;

/// Acknowledged bytes are added up over slices of this length.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

/// What clients of a load run ask for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrival {
    /// One write, and the next one after a pause.
    Write,
    /// A read of a node's state: each client reads again as soon as it has its answer.
    Read { node: usize },
}

/// The clients of a load run.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) dice: Dice,
    /// When the load began; `None` while there is none.
    pub(crate) since: Option<Instant>,
    pub(crate) is_over: bool,
    pub(crate) reads_until: Instant,
    /// Writes that wait for an answer: their bytes, and when they began.
    pub(crate) open: BTreeMap<u64, (u64, Instant)>,
    /// Bytes of values chosen, also of those whose clients had given up.
    pub(crate) chosen: u64,
    /// Bytes of values chosen again, which had no effect.
    pub(crate) repeated: u64,
    /// Bytes of all writes.
    pub(crate) offered: u64,
    /// Bytes of those that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Bytes of those that were refused, or not answered in time.
    pub(crate) failed: u64,
    /// Acknowledged bytes by [`SLICE`] since the start.
    slices: Vec<u64>,
    /// How long each acknowledged write took, and the slice in which it ended.
    latencies: Vec<(usize, Duration)>,
}

impl Load {
    pub(crate) fn new(dice: Dice) -> Self {
        Self {
            dice,
            since: None,
            is_over: false,
            reads_until: Instant::ZERO,
            open: BTreeMap::new(),
            chosen: 0,
            repeated: 0,
            offered: 0,
            acknowledged: 0,
            failed: 0,
            slices: Vec::new(),
            latencies: Vec::new(),
        }
    }

    /// An operation ended.
    pub(crate) fn ended(&mut self, now: Instant, id: u64, state: OperationState) {
        let Some((bytes, begun)) = self.open.remove(&id) else { return };
        if !matches!(state, OperationState::Done(_)) {
            self.failed += bytes;
            return;
        }
        self.acknowledged += bytes;
        let slice = self.slice(now);
        if self.slices.len() <= slice {
            self.slices.resize(slice + 1, 0);
        }
        self.slices[slice] += bytes;
        self.latencies.push((slice, now.since(begun)));
    }

    /// The latency that 99 % of the writes kept that were acknowledged in these slices.
    pub(crate) fn latency_in(&self, from: usize, to: usize) -> Duration {
        let inside = self.latencies.iter().filter(|(slice, _)| (from..to).contains(slice));
        let mut all: Vec<_> = inside.map(|(_, latency)| *latency).collect();
        all.sort_unstable();
        all.get((all.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
    }

    /// A value was chosen; `is_new`: it took effect.
    pub(crate) fn chose(&mut self, bytes: u64, is_new: bool) {
        match is_new {
            true => self.chosen += bytes,
            false => self.repeated += bytes,
        }
    }

    /// The slice that a time is in.
    pub(crate) fn slice(&self, now: Instant) -> usize {
        let since = now.since(self.since.unwrap_or(now));
        usize::try_from(since.as_nanos() / SLICE.as_nanos()).unwrap_or(usize::MAX)
    }

    /// Bytes that wait for an answer.
    pub(crate) fn backlog(&self) -> u64 {
        self.offered - self.acknowledged - self.failed
    }

    /// Bytes acknowledged in the slices from one on, up to another.
    pub(crate) fn acknowledged_in(&self, from: usize, to: usize) -> u64 {
        self.slices.iter().take(to).skip(from).sum()
    }
}

impl<P: Protocol> Cluster<P> {
    /// Starts the load.
    pub(crate) fn begin_load(&mut self) {
        self.load.since = Some(self.now);
        self.queue.push(self.now, Happening::Load(Arrival::Write));
    }

    pub(crate) fn on_load(&mut self, arrival: Arrival) -> Checked {
        let Some(plan) = self.plan.load.clone() else { return Ok(()) };
        match arrival {
            Arrival::Write if !self.load.is_over => {
                self.write_load(&plan);
                self.queue.push(self.now + plan.pause(), Happening::Load(Arrival::Write));
            }
            Arrival::Read { node } if self.now < self.load.reads_until => {
                self.read_load(node, plan.read_bytes);
            }
            _ => {}
        }
        Ok(())
    }

    /// Some node takes a write.
    fn write_load(&mut self, plan: &LoadPlan) {
        let up: Vec<_> = (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up()).collect();
        let size = usize::try_from(plan.value).unwrap_or_default();
        self.load.offered += plan.value;
        if up.is_empty() {
            self.load.failed += plan.value;
            return;
        }
        let node = *self.load.dice.pick(&up);
        let id = self.clients.begin(self.now, node);
        self.load.open.insert(id, (plan.value, self.now));
        let key = b'a' + self.load.dice.below(4) as u8;
        let command = Command::put(id, key, vec![b'-'; size]).encode();
        let deadline = self.nodes[node].clock.read(self.now) + plan.patience;
        self.ask(node, Event::Request { token: Token(id), command, deadline });
    }

    /// Writes of so many bytes come at once.
    pub(crate) fn burst(&mut self, plan: &LoadPlan, bytes: u64) {
        for _ in 0..bytes.div_ceil(plan.value) {
            self.write_load(plan);
        }
    }

    /// A node reads so many bytes of its state for a client.
    pub(crate) fn read_load(&mut self, node: usize, bytes: u64) {
        let Some(capacity) = self.plan.capacity.as_ref() else { return };
        if !capacity.reads_hold_up_applies {
            // Served from a view of the state, on a thread of its own.
            let time = crate::cluster::network::time_for(bytes, capacity.apply);
            self.queue.push(self.now + time, Happening::Load(Arrival::Read { node }));
            return;
        }
        if let Some(running) = self.nodes[node].running.as_mut() {
            running.to_apply.push_back(ApplyTask::Read(bytes));
            self.enqueue(node, crate::cluster::inbox::Incoming::Wake);
        }
    }
}
