//! Protocol cores in one thread, without disk, network or clock. The benchmark measures a core together with
//! its host, which holds messages back until the writes that they claim are durable (the fence).

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::{Host, Input, Outputs, Protocol, Role, Round, Saved, TimerChange};
use synod_types::{Instant, NodeId, Slot, Ticket};

/// Number of slots that a compaction keeps in a core's log. Without compaction, memory would grow, and page
/// faults would dominate the measurement.
const KEPT: u64 = 1024;
/// Number of slots between two compactions.
const COMPACT_EVERY: u64 = 4096;

/// A cluster of cores with immediate message delivery.
pub struct Cores<P: Protocol> {
    nodes: Vec<Node<P>>,
    wire: VecDeque<(NodeId, NodeId, P::Message)>,
    now: Instant,
    /// Index of the node that receives the commands: the leader, or a peer of Basic Paxos.
    leader: usize,
    tickets: u64,
}

struct Node<P: Protocol> {
    id: NodeId,
    host: Host<P>,
    timers: Vec<P::Timer>,
    decided: Slot,
    compacted: Slot,
}

impl<P: Protocol> Cores<P> {
    /// Creates a core with an empty disk for each configuration. If the protocol has leaders, the first node
    /// is elected.
    ///
    /// # Panics
    /// If a configuration is rejected, or the first node does not win its election.
    pub fn elect(configs: impl IntoIterator<Item = (NodeId, P::Config)>) -> Self {
        let nodes: Vec<_> = configs.into_iter().map(|(id, config)| Node::new(id, config)).collect();
        let mut cores =
            Self { nodes, wire: VecDeque::new(), now: Instant(1 << 40), leader: 0, tickets: 0 };
        for index in 0..cores.nodes.len() {
            cores.step(index, Input::Start);
        }
        cores.deliver();
        for _ in 0..20 {
            if matches!(cores.nodes[0].host.core().status().role, Role::Leader | Role::Peer) {
                cores.deliver();
                return cores;
            }
            // Longer than every timer and election timeout.
            cores.now = cores.now + Duration::from_secs(10);
            for timer in std::mem::take(&mut cores.nodes[0].timers) {
                cores.step(0, Input::Timeout(timer));
                cores.deliver();
            }
        }
        panic!("the first node is not elected: {:?}", cores.nodes[0].host.core().status());
    }

    /// Proposes all commands to the leader at once, and delivers messages until none is in flight. Returns
    /// the last slot that the leader has decided.
    ///
    /// # Panics
    /// If the leader has not decided all commands.
    pub fn decide(&mut self, commands: &[Bytes]) -> u64 {
        let before = self.nodes[self.leader].decided;
        for command in commands {
            self.tickets += 1;
            let (ticket, command) = (Ticket(self.tickets), command.clone());
            self.nodes[self.leader].input(self.now, Input::Propose { ticket, command });
        }
        self.run_rounds(self.leader);
        self.deliver();
        let leader = &self.nodes[self.leader];
        assert_eq!(
            leader.decided,
            before.plus(commands.len()),
            "{:?}",
            leader.host.core().status()
        );
        leader.decided.0
    }

    fn deliver(&mut self) {
        while let Some((from, to, message)) = self.wire.pop_front() {
            let index = self.nodes.iter().position(|node| node.id == to).expect("a member");
            self.step(index, Input::Message { from, message });
        }
    }

    fn step(&mut self, index: usize, input: Input<P>) {
        self.nodes[index].input(self.now, input);
        self.run_rounds(index);
    }

    /// Runs rounds of a host until a round writes nothing. Each write is durable at once.
    fn run_rounds(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while node.round(self.now, &mut self.wire) {}
        if node.decided.0 >= node.compacted.0 + COMPACT_EVERY {
            node.compacted = Slot(node.decided.0 - KEPT);
            node.input(self.now, Input::Compact { through: node.compacted });
            node.round(self.now, &mut self.wire);
        }
    }
}

impl<P: Protocol> Node<P> {
    fn new(id: NodeId, config: P::Config) -> Self {
        let host = Host::recover(id, config, Saved::default());
        let host = host.unwrap_or_else(|error| panic!("{error}"));
        Self { id, host, timers: Vec::new(), decided: Slot::ZERO, compacted: Slot::ZERO }
    }

    fn input(&mut self, now: Instant, input: Input<P>) {
        let outputs = self.host.input(now, input, &mut ());
        process(outputs, &mut self.timers, &mut self.decided);
    }

    /// Runs one round. Returns whether it wrote anything.
    fn round(&mut self, now: Instant, wire: &mut VecDeque<(NodeId, NodeId, P::Message)>) -> bool {
        let Round { seq, sends, outputs, .. } = self.host.round(now, &mut ());
        wire.extend(sends.drain(..).map(|(to, message)| (self.id, to, message)));
        process(outputs, &mut self.timers, &mut self.decided);
        if let Some(seq) = seq {
            self.host.written(seq);
        }
        seq.is_some()
    }
}

/// Updates timers and the last decided slot.
fn process<P: Protocol>(outputs: &mut Outputs<P>, timers: &mut Vec<P::Timer>, decided: &mut Slot) {
    if outputs.is_empty() {
        return;
    }
    for change in outputs.timers.drain(..) {
        let (TimerChange::Set(timer, _) | TimerChange::Cancel(timer)) = &change;
        timers.retain(|running| running != timer);
        if let TimerChange::Set(timer, _) = change {
            timers.push(timer);
        }
    }
    for run in outputs.chosen.drain(..) {
        *decided = run.last();
    }
}
