//! Protocol cores side by side in one thread: no disk, no network, no clock. What is left is the
//! core in its host, which holds the fence.

use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Duration;
use synod_consensus::{Host, Input, Outputs, Protocol, Role, Round, Saved, TimerChange};
use synod_types::{Instant, NodeId, Slot, Ticket};

/// Slots that stay in a core's window when it is compacted; without compaction, page faults are
/// what is measured.
const KEPT: u64 = 1024;
const COMPACT_EVERY: u64 = 4096;

/// Cores that deliver to one another at once.
pub struct Cores<P: Protocol> {
    nodes: Vec<Node<P>>,
    wire: VecDeque<(NodeId, NodeId, P::Message)>,
    now: Instant,
    /// Who is offered the commands: the leader, or one of peers.
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
    /// Recovers a core from an empty disk for every setting, and lets the first one lead if the
    /// protocol has leaders.
    ///
    /// # Panics
    /// If the settings are refused, or the first node cannot win an undisturbed election.
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
            // Long enough for every timer, and for every old leader to be forgotten.
            cores.now = cores.now + Duration::from_secs(10);
            for timer in std::mem::take(&mut cores.nodes[0].timers) {
                cores.step(0, Input::Timeout(timer));
                cores.deliver();
            }
        }
        panic!("the first node does not win: {:?}", cores.nodes[0].host.core().status());
    }

    /// Offers the commands to the leader together and goes on until all nodes have decided all
    /// they can. Returns how many slots the leader has decided since the start.
    ///
    /// # Panics
    /// If the leader did not decide every command.
    pub fn decide(&mut self, commands: &[Bytes]) -> u64 {
        let before = self.nodes[self.leader].decided;
        for command in commands {
            self.tickets += 1;
            let (ticket, command) = (Ticket(self.tickets), command.clone());
            self.nodes[self.leader].input(self.now, Input::Propose { ticket, command });
        }
        self.turn(self.leader);
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
        self.turn(index);
    }

    /// Rounds of a host whose disk answers at once, until nothing is written.
    fn turn(&mut self, index: usize) {
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
        take(outputs, &mut self.timers, &mut self.decided);
    }

    /// One round. Returns whether anything was written.
    fn round(&mut self, now: Instant, wire: &mut VecDeque<(NodeId, NodeId, P::Message)>) -> bool {
        let Round { seq, sends, outputs, .. } = self.host.round(now, &mut ());
        wire.extend(sends.drain(..).map(|(to, message)| (self.id, to, message)));
        take(outputs, &mut self.timers, &mut self.decided);
        if let Some(seq) = seq {
            self.host.written(seq);
        }
        seq.is_some()
    }
}

fn take<P: Protocol>(outputs: &mut Outputs<P>, timers: &mut Vec<P::Timer>, decided: &mut Slot) {
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
