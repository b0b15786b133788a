//! Fuzzing of protocol cores: three cores exchange messages that are mutated in flight. On any
//! input, a core must not panic, must keep its promises, and must not send a claim that its disk
//! does not back.

use crate::{fuzz, mutated};
use arbtest::arbitrary::{Result, Unstructured};
use std::collections::BTreeSet;
use std::time::Duration;
use synod_basic_paxos::BasicPaxos;
use synod_consensus::{Base, FatalError, Input, Observer, Protocol, Saved, TimerChange, Write};
use synod_explore::{NodeOutputs, TestNode};
use synod_multi_paxos::MultiPaxos;
use synod_raft::Raft;
use synod_types::{Instant, Membership, NodeId, ReadId, Slot, Ticket};

/// Maximum number of steps for one input.
const MAX_STEPS: usize = 400;

/// A core with its disk, which syncs at once.
struct Node<P: Protocol> {
    config: P::Config,
    inner: TestNode<P>,
    timers: BTreeSet<P::Timer>,
    /// True if a message contradicted the node's chosen values, which stops the node.
    has_stopped: bool,
    /// Its first writes.
    written: Vec<Write<P>>,
}

/// Records the first writes of a node.
struct Writes<'a, P: Protocol>(&'a mut Vec<Write<P>>);

impl<P: Protocol> Observer<P> for Writes<'_, P> {
    fn on_write(&mut self, _: &P, write: &Write<P>) {
        if self.0.len() < 200 {
            self.0.push(write.clone());
        }
    }
}

impl<P: Protocol> Node<P> {
    fn start(id: NodeId, config: P::Config, disk: Saved<P>) -> Self {
        let inner = TestNode::recover(id, config.clone(), disk)
            .expect("the node recovers from its own disk");
        let (timers, written) = (BTreeSet::new(), Vec::new());
        Self { config, inner, timers, has_stopped: false, written }
    }

    /// Processes an input, checks the outputs, and returns the messages to other nodes. Messages to
    /// itself arrive unchanged.
    fn take(&mut self, now: Instant, input: Input<P>) -> Vec<(NodeId, P::Message)> {
        let (mut outputs, mut writes) = (NodeOutputs::default(), Writes(&mut self.written));
        let done = self.inner.input(now, input, &mut writes, &mut outputs);
        let done = done.and_then(|()| self.inner.settle(now, &mut writes, &mut outputs));
        done.unwrap_or_else(|found| panic!("{found}"));
        for change in outputs.timers {
            match change {
                TimerChange::Set(timer, _) => _ = self.timers.insert(timer),
                TimerChange::Cancel(timer) => _ = self.timers.remove(&timer),
            }
        }
        let fatal = outputs.fatal;
        assert!(matches!(fatal, None | Some(FatalError::Contradicted { .. })), "{fatal:?}");
        self.has_stopped = fatal.is_some();
        let status = self.inner.core().status();
        assert!(status.base <= status.commit && status.commit <= status.last, "{status:?}");
        outputs.sent
    }
}

pub struct Cluster<P: Protocol> {
    now: Instant,
    nodes: Vec<Node<P>>,
    wire: Vec<(NodeId, NodeId, P::Message)>,
    tickets: u64,
}

impl<P: Protocol> Cluster<P> {
    pub fn new(config: &impl Fn(NodeId, Membership) -> P::Config) -> Self {
        let voters = (1..=3).map(NodeId);
        let members = Membership::new(voters.clone(), []).expect("three voters");
        let start = |id| Node::start(id, config(id, members.clone()), Saved::default());
        let nodes = voters.map(start).collect();
        let mut cluster = Self { now: Instant(1_000_000_000), nodes, wire: Vec::new(), tickets: 0 };
        (0..cluster.nodes.len()).for_each(|index| cluster.take(index, Input::Start));
        cluster
    }

    /// Returns the messages and writes of a run without mutations.
    pub fn samples(mut self) -> (Vec<P::Message>, Vec<Write<P>>) {
        let mut sent = Vec::new();
        for round in 0..80 {
            self.now = self.now + Duration::from_millis(100);
            let quiet = round % 10 < 6;
            for index in 0..3 {
                // One node's timers run out most often, so that it can win an election.
                let is_due = index == round / 40 || !quiet && round % 3 == 0;
                if is_due && let Some(timer) = self.nodes[index].timers.pop_first() {
                    self.take(index, Input::Timeout(timer));
                }
                self.tickets += 1;
                let command = self.tickets.to_string().into_bytes().into();
                self.take(index, Input::Propose { ticket: Ticket(self.tickets), command });
            }
            while !self.wire.is_empty() {
                let (from, to, message) = self.wire.remove(0);
                sent.push(message.clone());
                self.receive(from, to, message);
            }
        }
        let through = self.nodes[0].inner.core().status().commit;
        self.take(0, Input::Compact { through });
        let written = self.nodes.into_iter().flat_map(|node| node.written).collect();
        (sent, written)
    }

    fn take(&mut self, index: usize, input: Input<P>) {
        let node = &mut self.nodes[index];
        let from = node.inner.id();
        let sent = node.take(self.now, input);
        self.wire.extend(sent.into_iter().map(|(to, message)| (from, to, message)));
        if self.nodes[index].has_stopped {
            self.restart(index);
        }
    }

    fn restart(&mut self, index: usize) {
        let Node { config, inner, .. } = &self.nodes[index];
        self.nodes[index] = Node::start(inner.id(), config.clone(), inner.disk.clone());
        self.take(index, Input::Start);
    }

    fn random_step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        self.now = self.now + Duration::from_millis(u.int_in_range(0..=50)?);
        let index = u.choose_index(self.nodes.len())?;
        match u.int_in_range(0..=99_u8)? {
            0..45 if !self.wire.is_empty() => {
                let (from, to, message) = self.wire.remove(0);
                self.receive(from, to, message);
            }
            45..75 if !self.wire.is_empty() => self.mutate_message(u)?,
            75..85 => {
                let timers: Vec<_> = self.nodes[index].timers.iter().copied().collect();
                if !timers.is_empty() {
                    let timer = *u.choose(&timers)?;
                    self.nodes[index].timers.remove(&timer);
                    self.take(index, Input::Timeout(timer));
                }
            }
            85..93 => {
                self.tickets += 1;
                let command = self.tickets.to_string().into_bytes().into();
                self.take(index, Input::Propose { ticket: Ticket(self.tickets), command });
            }
            93 => self.take(index, Input::Read(ReadId(1))),
            94 => self.take(index, Input::Stalled),
            95 => {
                let through =
                    Slot(u.int_in_range(0..=self.nodes[index].inner.core().status().commit.0)?);
                self.take(index, Input::Compact { through });
            }
            96 => {
                let through = self.nodes[index].inner.core().status().commit;
                let base = self.nodes[index].inner.core().base_at(through);
                let to = u.choose_index(self.nodes.len())?;
                self.install(to, base);
            }
            97 => self.restart(index),
            _ => {
                // Loses a message.
                let lost = u.choose_index(self.wire.len() + 1)?;
                if lost < self.wire.len() {
                    self.wire.swap_remove(lost);
                }
            }
        }
        // Drops messages above a limit: replies to mutated messages would otherwise fill the queue.
        self.wire.truncate(60);
        Ok(())
    }

    fn receive(&mut self, from: NodeId, to: NodeId, message: P::Message) {
        if let Some(index) = self.nodes.iter().position(|node| node.inner.id() == to) {
            self.take(index, Input::Message { from, message });
        }
    }

    /// Mutates the bytes of a sent message and delivers it, sometimes with another sender and
    /// receiver.
    fn mutate_message(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (from, to, message) = &self.wire[u.choose_index(self.wire.len())?];
        let (mut from, mut to) = (*from, *to);
        let bytes = postcard::to_allocvec(message).expect("a message encodes");
        let bytes = mutated(&bytes, u)?;
        let Ok(message) = postcard::from_bytes::<P::Message>(&bytes) else { return Ok(()) };
        if u.ratio(1, 3)? {
            (from, to) = (NodeId(u.int_in_range(1..=5)?), NodeId(u.int_in_range(1..=3)?));
        }
        // The transport authenticates senders: a peer cannot impersonate the receiver itself.
        if from != to {
            self.receive(from, to, message);
        }
        Ok(())
    }

    fn install(&mut self, to: usize, base: Option<Base<P::Stamp>>) {
        let Some(base) = base else { return };
        if base.through > self.nodes[to].inner.core().status().commit {
            self.take(to, Input::Installed { base });
        }
    }
}

/// Steps three cores of a protocol according to the input.
fn run<P: Protocol>(config: impl Fn(NodeId, Membership) -> P::Config) {
    fuzz(|u| {
        let mut cluster = Cluster::<P>::new(&config);
        for _ in 0..MAX_STEPS {
            if u.is_empty() {
                break;
            }
            cluster.random_step(u)?;
        }
        // Every node recovers from its disk.
        for node in cluster.nodes {
            Node::<P>::start(node.inner.id(), node.config, node.inner.disk);
        }
        Ok(())
    });
}

#[test]
fn raft_survives_arbitrary_inputs() {
    run::<Raft>(|id, members| synod_raft::Config::new(id, members).expect("a voter"));
}

#[test]
fn multi_paxos_survives_arbitrary_inputs() {
    run::<MultiPaxos>(|id, members| synod_multi_paxos::Config::new(id, members).expect("a voter"));
}

#[test]
fn basic_paxos_survives_arbitrary_inputs() {
    run::<BasicPaxos>(|id, members| synod_basic_paxos::Config::new(id, members).expect("a voter"));
}
