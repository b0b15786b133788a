//! The simulated world: nodes, network, clock and the queue of events.

use super::event::{LoadArrival, SimEvent};
use super::inbox::{Inbox, InboxEvent};
use super::network::Network;
use super::network::links::Link;
use super::network::throughput::time_for;
use super::network::transmitter::Transmission;
use super::node::{ApplyTask, Node};
use super::queue::Queue;
use super::traffic::Traffic;
use crate::check::digest::Digest;
use crate::plan::Plan;
use crate::rng::SimRng;
use crate::trace::Trace;
use crate::trace::messages::describe_frame;
use crate::violation::{Violation, ViolationKind, violation};
use bytes::Bytes;
use synod_consensus::{Protocol, Quorum};
use synod_replica::ReplicaSettings;
use synod_types::{Instant, Membership, NodeId};

/// Function that makes a node's protocol settings.
pub type ConfigFn<P> = dyn Fn(NodeId, &Membership) -> <P as Protocol>::Config;

/// Maximum number of events at one instant; more count as an endless loop.
const MAX_EVENTS_AT_ONCE: u64 = 200_000;

/// Simulated world: nodes with their disks, the network, and time.
pub(crate) struct World<P: Protocol> {
    pub(crate) plan: Plan,
    config: Box<ConfigFn<P>>,
    pub(crate) members: Membership,
    pub(crate) quorum: Quorum,
    pub(crate) now: Instant,
    pub(crate) queue: Queue<SimEvent>,
    pub(crate) nodes: Vec<Node<P>>,
    pub(crate) network: Network,
    /// Nodes that must serve: all of them, or those that were repaired at the end of all faults.
    pub(crate) healthy: Vec<usize>,
    pub(crate) traffic: Traffic,
    pub(crate) trace: Trace,
    fingerprint: Digest,
    pub(crate) events: u64,
    events_at_once: u64,
}

impl<P: Protocol> World<P> {
    /// Returns a world of nodes that have not started yet, with settings bounded by the plan's
    /// limits.
    pub(crate) fn new(
        plan: Plan,
        config: impl Fn(NodeId, &Membership) -> P::Config + 'static,
        rng: &mut SimRng,
    ) -> Self {
        let count = usize::try_from(plan.nodes).expect("the number of nodes exceeds usize");
        let ids = (1..=plan.nodes).map(NodeId);
        let members = Membership::new(ids.clone(), []).expect("a cluster needs at least one node");
        let bounds = plan.limits.as_ref().map(|limits| limits.bounds.clone());
        let config = move |id, members: &Membership| match &bounds {
            None => config(id, members),
            Some(bounds) => {
                P::bounded(config(id, members), bounds).expect("the drawn limits are valid")
            }
        };
        Self {
            quorum: P::quorum(&config(NodeId(1), &members), &members),
            config: Box::new(config),
            members,
            now: Instant::ZERO,
            queue: Queue::new(),
            nodes: ids.map(|id| Node::new(id, rng)).collect(),
            network: Network::new(count, &plan, rng),
            healthy: (0..count).collect(),
            traffic: Traffic::default(),
            trace: Trace::default(),
            fingerprint: Digest::new(),
            events: 0,
            events_at_once: 0,
            plan,
        }
    }

    /// Returns the index of a node.
    pub(crate) fn index(node: NodeId) -> usize {
        usize::try_from(node.0 - 1).expect("nodes are numbered from 1")
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node<P> {
        &self.nodes[Self::index(id)]
    }

    /// Returns the running nodes.
    pub(crate) fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_up())
    }

    /// Returns the nodes whose logs are not corrupted.
    pub(crate) fn intact_nodes(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_intact())
    }

    /// Returns whether these nodes form a quorum of both phases.
    pub(crate) fn is_quorum(&self, nodes: &[usize]) -> bool {
        let has = |id: NodeId| nodes.contains(&Self::index(id));
        self.quorum.is_first(has) && self.quorum.is_second(has)
    }

    /// Takes the next event from the queue, and moves the clock to its time.
    pub(crate) fn next_event(&mut self) -> Result<Option<SimEvent>, Box<Violation>> {
        let Some((at, event)) = self.queue.pop() else { return Ok(None) };
        self.events_at_once = if at == self.now { self.events_at_once + 1 } else { 0 };
        if self.events_at_once > MAX_EVENTS_AT_ONCE {
            let text =
                format!("more than {MAX_EVENTS_AT_ONCE} events at one instant, last: {event:?}");
            return Err(violation(ViolationKind::EndlessLoop, [], text));
        }
        self.now = at;
        self.trace.now = at;
        Ok(Some(event))
    }

    /// Defers an event whose link is clogged or whose node is paused. Returns the event if it
    /// happens now.
    pub(crate) fn defer(&mut self, event: SimEvent) -> Option<SimEvent> {
        let waiting = match &event {
            SimEvent::DeliverFrame { link, .. } => {
                if self.network.is_severed(*link) {
                    return None;
                }
                self.network.clogged(*link).or(self.nodes[link.to].paused())
            }
            SimEvent::ReplayFrame { link: Link { to: node, .. }, .. }
            | SimEvent::PersistState { node, .. } => self.nodes[*node].paused(),
            SimEvent::Wake { node, .. }
            | SimEvent::DriverRound { node, .. }
            | SimEvent::SyncDone { node, .. }
            | SimEvent::ApplyDone { node, .. } => {
                // `resume` queues these again.
                return self.nodes[*node].paused_until.is_none().then_some(event);
            }
            _ => None,
        };
        match waiting {
            None => Some(event),
            Some(waiting) => {
                waiting.push(event);
                None
            }
        }
    }

    /// Folds an event into the fingerprint of the run.
    pub(crate) fn fold(&mut self, kind: u64, node: usize, more: u64) {
        self.events += 1;
        self.fingerprint.fold(self.now.0);
        self.fingerprint.fold(kind << 32 | node as u64);
        self.fingerprint.fold(more);
    }

    /// Returns the fingerprint of all events so far.
    pub(crate) fn fingerprint(&self) -> u64 {
        self.fingerprint.finish()
    }

    /// Queues deferred events at the current time, in their original order.
    pub(crate) fn requeue(&mut self, waiting: Vec<SimEvent>) {
        for event in waiting {
            self.queue.push(self.now, event);
        }
    }

    /// Queues the next wake-up of a node's driver.
    pub(crate) fn schedule_wake(&mut self, node: usize) {
        let this = &mut self.nodes[node];
        let Some(wake) = this.wake else { return };
        let at = this.clock.when(wake).max(self.now);
        if this.wake_queued.is_none_or(|queued| at < queued) {
            this.wake_queued = Some(at);
            let boot = this.boot;
            self.queue.push(at, SimEvent::Wake { node, boot });
        }
    }

    /// Queues the wake-up again after a change of the node's clock.
    pub(crate) fn reschedule_wake(&mut self, node: usize) {
        self.nodes[node].wake_queued = None;
        self.schedule_wake(node);
    }

    /// Queues an event for a driver whose throughput is limited.
    pub(crate) fn enqueue(&mut self, node: usize, event: InboxEvent) {
        let this = &mut self.nodes[node];
        let Some(capacity) = self.plan.capacity.as_ref() else { return };
        let Some(running) = this.running.as_mut() else { return };
        let inbox = running.inbox.get_or_insert_with(|| Inbox::new(capacity.lanes));
        self.traffic.dropped += inbox.push(event) as u64;
        if inbox.due.is_none() {
            let at = self.now.max(inbox.busy_until);
            inbox.due = Some(at);
            self.queue.push(at, SimEvent::DriverRound { node, boot: this.boot });
        }
    }

    /// Starts a sync of a node's log, if none is in progress and batches are queued.
    pub(crate) fn begin_sync(&mut self, node: usize) {
        let (plan, this) = (&self.plan.disk, &mut self.nodes[node]);
        let rng = &mut this.rng.sync;
        let merged =
            self.plan.capacity.as_ref().map(|it| this.disk.batches_within(it.merged_bytes));
        let part = |queued: usize| match rng.chance(plan.split) {
            true => 1 + rng.below(queued as u64) as usize,
            false => queued.min(merged.unwrap_or(queued)),
        };
        if !this.disk.begin_sync(part) {
            return;
        }
        self.traffic.syncs += 1;
        let slow = self.now < this.disk.slow_until;
        let mut time = rng.duration(if slow { &plan.slow_sync } else { &plan.sync });
        if let Some(capacity) = &self.plan.capacity {
            let bytes = this.disk.syncing_bytes();
            time += time_for(bytes, if slow { capacity.slow_disk } else { capacity.disk });
            self.traffic.written += bytes;
        }
        let at = (self.now + time).max(this.disk.stalled_until);
        this.disk.sync_due = Some(at);
        self.queue.push(at, SimEvent::SyncDone { node, boot: this.boot });
    }

    /// Starts transmissions on links that are open again.
    pub(crate) fn restart_links(&mut self) {
        for started in self.network.restart_transmitters(self.now) {
            self.schedule_transmission(Some(started));
        }
    }

    pub(crate) fn schedule_transmission(&mut self, started: Option<Transmission>) {
        if let Some(Transmission { link, end }) = started {
            self.queue.push(end, SimEvent::Transmitted { link });
        }
    }

    /// Adds a line about a frame to the trace.
    pub(crate) fn trace_frame(&mut self, link: Link, arrow: &str, frame: &Bytes) {
        let (from, to) = (self.nodes[link.from].id, self.nodes[link.to].id);
        self.trace.record(|| format!("{from:?} {arrow} {to:?} {}", describe_frame::<P>(frame)));
    }

    /// Reads this many bytes of a node's state for a client of a load run.
    pub(crate) fn read_load(&mut self, node: usize, bytes: u64) {
        let Some(capacity) = self.plan.capacity.as_ref() else { return };
        if !capacity.reads_hold_up_applies {
            // The read is served from a view of the state, on a thread of its own.
            let time = time_for(bytes, capacity.apply);
            self.queue.push(self.now + time, SimEvent::LoadArrival(LoadArrival::Read { node }));
            return;
        }
        if let Some(running) = self.nodes[node].running.as_mut() {
            running.to_apply.push_back(ApplyTask::Read(bytes));
            self.enqueue(node, InboxEvent::Wake);
        }
    }

    /// Recovers a node from its disks. Returns the violation if the node rejects them.
    pub(crate) fn recover(&mut self, node: usize) -> Result<(), Box<Violation>> {
        let this = &mut self.nodes[node];
        let (seed, stall) = (this.rng.start.word(), self.plan.disk.stall);
        let config = (self.config)(this.id, &self.members);
        let limits = &self.plan.limits;
        let adjust = |settings: &mut ReplicaSettings| {
            settings.stall = stall;
            limits.iter().for_each(|limits| limits.adjust(settings));
        };
        this.start(self.now, seed, adjust, config)
    }
}
