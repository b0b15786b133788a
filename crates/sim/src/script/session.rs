//! Session of a script: a cluster in which every event is a command.

use crate::cluster::Cluster;
use crate::cluster::event::SimEvent;
use crate::cluster::world::ConfigFn;
use crate::plan::Plan;
use crate::trace::TraceEvent;
use crate::trace::messages::{describe_frame, describe_values};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;
use synod_consensus::Protocol;
use synod_replica::Event;
use synod_types::{Membership, NodeId};

/// Maximum number of steps of a command.
const MAX_STEPS: usize = 10_000;

pub(super) type ScriptResult<T> = Result<T, Box<dyn Error>>;

/// Filter of messages by sender and receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LinkFilter {
    pub(super) from: Option<usize>,
    pub(super) to: Option<usize>,
}

impl LinkFilter {
    fn has(self, from: usize, to: usize) -> bool {
        self.from.is_none_or(|it| it == from) && self.to.is_none_or(|it| it == to)
    }
}

/// Cluster that is driven by a script.
pub(super) struct ScriptSession<P: Protocol> {
    config: Rc<ConfigFn<P>>,
    pub(super) cluster: Cluster<P>,
    /// Messages that were sent and neither delivered nor lost, in order.
    in_flight: Vec<(usize, usize, Bytes)>,
    /// Nodes whose disks sync on command only.
    pub(super) held: BTreeSet<usize>,
    /// Held nodes that have a sync in progress.
    syncing: BTreeSet<usize>,
    /// Names of operations, for the transcript.
    names: BTreeMap<u64, String>,
    pub(super) output: String,
}

impl<P: Protocol> ScriptSession<P> {
    /// Returns a session with one node; the command `cluster` replaces it.
    pub(super) fn new(config: impl Fn(NodeId, &Membership) -> P::Config + 'static) -> Self {
        Self::with(Rc::new(config), 1)
    }

    fn with(config: Rc<ConfigFn<P>>, nodes: u64) -> Self {
        let of_node = Rc::clone(&config);
        let mut plan = Plan::healthy(nodes);
        // Without delays, messages appear in the transcript in the order in which they were sent.
        plan.network.delay = Duration::ZERO..Duration::ZERO;
        let mut cluster = Cluster::new(plan, 0, move |node, members| of_node(node, members));
        cluster.world.trace.record_node_actions();
        Self {
            cluster,
            config,
            in_flight: Vec::new(),
            held: BTreeSet::new(),
            syncing: BTreeSet::new(),
            names: BTreeMap::new(),
            output: String::new(),
        }
    }

    pub(super) fn reset(&mut self, nodes: u64) -> ScriptResult<()> {
        if !(1..=9).contains(&nodes) {
            return Err("a cluster has 1 to 9 nodes".into());
        }
        *self = Self::with(Rc::clone(&self.config), nodes);
        self.collect()
    }

    /// Drops the messages in flight that match the filter.
    pub(super) fn drop_messages(&mut self, filter: LinkFilter) {
        self.in_flight.retain(|(from, to, _)| !filter.has(*from, *to));
    }

    /// Collects the trace and processes queued events: messages wait for a command, syncs end at
    /// once unless the disk is held. Ignores timers, which only the command `timeout` fires, and
    /// writes of the state store.
    fn collect(&mut self) -> ScriptResult<()> {
        for _ in 0..MAX_STEPS {
            self.flush_trace();
            let Some((_, event)) = self.cluster.world.queue.pop() else { return Ok(()) };
            let result = match event {
                SimEvent::DeliverFrame { link, frame, .. } => {
                    self.in_flight.push((link.from, link.to, frame.bytes));
                    Ok(())
                }
                SimEvent::SyncDone { node, .. } if self.held.contains(&node) => {
                    self.syncing.insert(node);
                    Ok(())
                }
                SimEvent::SyncDone { node, .. } => self.cluster.end_sync(node),
                SimEvent::StartNode { node } => self.cluster.start(node),
                SimEvent::ApplyDone { node, boot } => self.cluster.on_apply(node, boot),
                _ => Ok(()),
            };
            self.cluster.world.nodes.iter_mut().for_each(|node| node.wake_queued = None);
            result.map_err(|found| found.to_string())?;
        }
        Err(format!("the nodes still produce events after {MAX_STEPS} steps").into())
    }

    /// Appends the recorded events to the output.
    fn flush_trace(&mut self) {
        for event in self.cluster.world.trace.take() {
            let line = match event {
                TraceEvent::Line(line) => line,
                TraceEvent::Reply { node, id, outcome } => {
                    let name = self.names.get(&id).map_or("?", String::as_str);
                    let text = match (outcome.as_str(), name.strip_prefix("read ")) {
                        ("readable", Some(key)) => {
                            let value = self.cluster.value(node, key.as_bytes()[0]);
                            format!("\"{}\"", String::from_utf8_lossy(&value.unwrap_or_default()))
                        }
                        _ => outcome,
                    };
                    format!("{node:?} answers {name}: {text}")
                }
            };
            self.output.push_str(&line);
            self.output.push('\n');
        }
    }

    pub(super) fn timeout(&mut self, node: usize) -> ScriptResult<()> {
        let before = self.output.len();
        for _ in 0..MAX_STEPS {
            let wake = self.cluster.world.nodes[node].wake.ok_or("no timer is set on this node")?;
            self.cluster.world.now = self.cluster.world.now.max(wake);
            self.drive(node, Event::Wake)?;
            if self.output.len() > before {
                return Ok(());
            }
        }
        Err("the node's timers fire without effect".into())
    }

    fn drive(&mut self, node: usize, event: Event) -> ScriptResult<()> {
        self.cluster.handle_event(node, event).map_err(|found| found.to_string())?;
        self.collect()
    }

    /// Delivers the messages in flight that match the filter; with `keep`, copies stay in flight.
    pub(super) fn deliver(&mut self, filter: LinkFilter, keep: bool) -> ScriptResult<usize> {
        let (chosen, rest) = std::mem::take(&mut self.in_flight)
            .into_iter()
            .partition(|(from, to, _)| filter.has(*from, *to));
        self.in_flight = rest;
        let chosen: Vec<(usize, usize, Bytes)> = chosen;
        if keep {
            self.in_flight.splice(0..0, chosen.iter().cloned());
        }
        let count = chosen.len();
        for (from, to, frame) in chosen {
            let (from, up) =
                (self.cluster.world.nodes[from].id, self.cluster.world.nodes[to].is_up());
            let text = describe_frame::<P>(&frame);
            let id = self.cluster.world.nodes[to].id;
            let note = if up { "" } else { " (which is dead)" };
            writeln!(self.output, "{from:?} => {id:?} {text}{note}")?;
            let start = self.output.len();
            self.drive(to, Event::Frame { from, frame })?;
            indent(&mut self.output, start);
        }
        Ok(count)
    }

    pub(super) fn sync(&mut self, node: usize) -> ScriptResult<()> {
        if !self.syncing.remove(&node) {
            return Err("no sync is in progress on this disk".into());
        }
        let id = self.cluster.world.nodes[node].id;
        writeln!(self.output, "{id:?} synced")?;
        self.cluster.end_sync(node).map_err(|found| found.to_string())?;
        self.collect()
    }

    /// Syncs until no sync is in progress.
    pub(super) fn sync_all(&mut self, node: usize) -> ScriptResult<()> {
        while self.syncing.contains(&node) {
            self.sync(node)?;
        }
        Ok(())
    }

    pub(super) fn restart(&mut self, node: usize) -> ScriptResult<()> {
        self.cluster.start(node).map_err(|found| found.to_string())?;
        self.collect()
    }

    pub(super) fn propose(&mut self, node: usize, key: &str, value: &str) -> ScriptResult<()> {
        let key = letter(key)?;
        let id = self.cluster.workload.clients.count();
        self.names.insert(id, format!("{}={value}", char::from(key)));
        let node = self.cluster.world.nodes[node].id;
        self.cluster.put(node, key, value.as_bytes()).map_err(|found| found.to_string())?;
        self.collect()
    }

    pub(super) fn read(&mut self, node: usize, key: &str) -> ScriptResult<()> {
        let key = letter(key)?;
        let id = self.cluster.workload.clients.count();
        self.names.insert(id, format!("read {}", char::from(key)));
        let node = self.cluster.world.nodes[node].id;
        self.cluster.read(node).map_err(|found| found.to_string())?;
        self.collect()
    }

    pub(super) fn crash(&mut self, node: usize, keep: usize) -> ScriptResult<()> {
        self.syncing.remove(&node);
        self.cluster.crash_keeping(node, keep, 0).map_err(|found| found.to_string())?;
        self.collect()
    }

    pub(super) fn status(&mut self, node: usize) -> ScriptResult<()> {
        let id = self.cluster.world.nodes[node].id;
        let Some(status) = self.cluster.status(id) else {
            writeln!(self.output, "{id:?} dead")?;
            return Ok(());
        };
        let leader = status.leader.map_or("*".into(), |leader| leader.to_string());
        let role = format!("{:?}", status.role).to_lowercase();
        let round = status.ballot.round;
        let (commit, last) = (status.commit, status.last);
        writeln!(self.output, "{id:?} {role} {round}.{leader} commit {commit} last {last}")?;
        Ok(())
    }

    pub(super) fn disk(&mut self, node: usize) -> ScriptResult<()> {
        let node = &self.cluster.world.nodes[node];
        let (id, synced) = (node.id, &node.disk.synced);
        writeln!(self.output, "{id:?} {:?}", synced.hard_state)?;
        for run in synced.log.runs() {
            let values = describe_values(run.first, &run.values);
            writeln!(self.output, "{id:?} {values} under {:?}", run.stamp)?;
        }
        Ok(())
    }

    pub(super) fn state(&mut self, node: usize) -> ScriptResult<()> {
        let id = self.cluster.world.nodes[node].id;
        let applied = self.cluster.applied(id).map_or(0, |(slot, _)| slot.0);
        let values = (b'a'..=b'z').filter_map(|key| {
            let value = self.cluster.value(id, key).filter(|value| !value.is_empty())?;
            Some(format!(" {}={}", char::from(key), String::from_utf8_lossy(&value)))
        });
        let values: String = values.collect();
        writeln!(self.output, "{id:?} applied {applied}:{values}")?;
        Ok(())
    }
}

/// Parses a key, which is one letter.
fn letter(key: &str) -> ScriptResult<u8> {
    match key.as_bytes() {
        [letter @ b'a'..=b'z'] => Ok(*letter),
        _ => Err(format!("invalid key {key}: keys are single letters").into()),
    }
}

/// Indents the output from `from` on.
fn indent(text: &mut String, from: usize) {
    let tail = text.split_off(from);
    for line in tail.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
}
