//! Clients: the operations that they submit, and the state machine that serves them.

pub(crate) mod clients;
pub(crate) mod kv;
pub(crate) mod load;
pub(crate) mod operations;

use crate::check::history::{ClientHistory, Invocation};
use crate::cluster::event::SimEvent;
use crate::cluster::world::World;
use crate::plan::load::LoadPlan;
use crate::rng::SimRng;
use clients::Clients;
use kv::Command;
use load::{Load, LoadFigures};
use std::time::Duration;
use synod_checker::Op;
use synod_consensus::Protocol;
use synod_replica::{Event, Token};

/// Maximum number of pending operations.
const MAX_PENDING: usize = 300;

/// Clients of a cluster.
#[derive(Debug)]
pub(crate) struct Workload {
    rng: SimRng,
    pub(crate) clients: Clients,
    /// Clients of a load run.
    pub(crate) load: Load,
    pub(crate) load_figures: Option<LoadFigures>,
    /// Time from the end of all faults to the first operation served after it.
    pub(crate) served_after: Option<Duration>,
}

/// Operations that arrive together at one node.
pub(crate) struct Burst {
    pub(crate) node: usize,
    pub(crate) size: u64,
    /// RNG of these operations.
    pub(crate) rng: SimRng,
}

impl Workload {
    pub(crate) fn new(nodes: usize, rng: SimRng, load_rng: SimRng) -> Self {
        let (clients, load) = (Clients::new(nodes), Load::new(load_rng));
        Self { rng, clients, load, load_figures: None, served_after: None }
    }

    /// Queues the next arrival of operations.
    pub(crate) fn schedule_arrival<P: Protocol>(&mut self, world: &mut World<P>) {
        if let Some(pause) = &world.plan.clients.pause {
            let at = world.now + self.rng.duration(pause);
            world.queue.push(at, SimEvent::ClientArrival);
        }
    }

    /// Draws a burst of operations at a healthy node, with an RNG of its own. Returns `None` if no
    /// healthy node runs. Bursts grow while fewer operations are acknowledged than planned.
    pub(crate) fn draw_burst<P: Protocol>(
        &mut self,
        world: &World<P>,
        is_under_faults: bool,
    ) -> Option<Burst> {
        let mut rng = self.rng.split();
        let is_up = |node: &usize| world.nodes[*node].is_up();
        let up: Vec<_> = world.healthy.iter().copied().filter(is_up).collect();
        if up.is_empty() {
            return None;
        }
        let node = *rng.pick(&up);
        let plan = &world.plan.clients;
        let drawn = rng.within(plan.burst.clone());
        let due = plan.target * world.now.0 / 1_000_000_000;
        let size = drawn + (due.saturating_sub(self.clients.done()) / 4).min(12);
        let room = MAX_PENDING.saturating_sub(self.clients.pending()) as u64;
        let most = if is_under_faults { self.clients.most } else { u64::MAX };
        let left = most.saturating_sub(self.clients.count());
        Some(Burst { node, size: size.min(room).min(left), rng })
    }

    /// Draws an operation or retries a rejected one, and returns the event for its node.
    pub(crate) fn draw_operation<P: Protocol>(
        &mut self,
        world: &World<P>,
        history: &mut ClientHistory,
        Burst { node, rng, .. }: &mut Burst,
    ) -> Event {
        let node = *node;
        // The content of an operation has its own RNG, independent of its time and kind.
        let mut content_rng = rng.clone().split();
        let local = world.nodes[node].clock.read(world.now);
        let deadline = local + rng.duration(&world.plan.clients.timeout);
        let at = world.nodes[node].id;
        let id = self.clients.begin(world.now, node);
        let (kind, keys) = (rng.below(100), world.plan.clients.keys);
        let is_read = kind < 15;
        let key = if is_read { content_rng.below(keys) } else { rng.below(keys) };
        let retried = if content_rng.percent(50) { history.retry(id, at, is_read) } else { None };
        let op = retried.unwrap_or_else(|| {
            let value = format!("{id}.{}", padding(&mut content_rng, world.plan.clients.padding));
            let op = match kind {
                15..45 => Op::put(operations::key(key), value),
                45..75 => operations::transaction(
                    &mut content_rng,
                    key,
                    keys,
                    &value,
                    &self.clients.expected,
                ),
                90.. => Op::delete(operations::key(key)),
                _ => operations::read(&mut content_rng, key, keys),
            };
            let retries = content_rng.percent(50);
            let invocation = Invocation { op: op.clone(), is_read, retries };
            history.invoke(world.now, id, at, invocation);
            op
        });
        if is_read {
            return Event::Read { token: Token(id), deadline };
        }
        let command = Command { id, body: operations::command(&op) }.encode();
        Event::Request { token: Token(id), command, deadline }
    }

    /// Begins a write of a load run at a running node. Returns the node and the event for it.
    pub(crate) fn begin_load_write<P: Protocol>(
        &mut self,
        world: &World<P>,
        plan: &LoadPlan,
    ) -> Option<(usize, Event)> {
        let up: Vec<_> = world.running().collect();
        let size = usize::try_from(plan.value).unwrap_or_default();
        self.load.offered += plan.value;
        if up.is_empty() {
            self.load.failed += plan.value;
            return None;
        }
        let node = *self.load.rng.pick(&up);
        let id = self.clients.begin(world.now, node);
        self.load.pending.insert(id, (plan.value, world.now));
        let key = b'a' + self.load.rng.below(4) as u8;
        let command = Command::put(id, key, vec![b'-'; size]).encode();
        let deadline = world.nodes[node].clock.read(world.now) + plan.timeout;
        Some((node, Event::Request { token: Token(id), command, deadline }))
    }
}

/// Draws the padding of a value: none for half of the values, so that some commands have equal
/// lengths.
fn padding(rng: &mut SimRng, most: u64) -> String {
    let length = if rng.percent(50) { rng.below(most + 1) } else { 0 };
    "-".repeat(usize::try_from(length).unwrap_or_default())
}
