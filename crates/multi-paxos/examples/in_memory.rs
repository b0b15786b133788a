//! Three Multi-Paxos nodes in one thread, with memory for disks and a queue for a network.

use std::collections::VecDeque;
use synod_multi_paxos::consensus::{Input, Outbox, Protocol, Saved};
use synod_multi_paxos::types::{Instant, Membership, NodeId, Ticket};
use synod_multi_paxos::{Config, Message, MultiPaxos, Timer};

struct Node {
    core: MultiPaxos,
    disk: Saved<MultiPaxos>,
    outbox: Outbox<MultiPaxos>,
}

type Network = VecDeque<(NodeId, NodeId, Message)>;

impl Node {
    /// Hands the core an input and carries out what it asks for: the writes first.
    fn step(&mut self, me: NodeId, input: Input<MultiPaxos>, network: &mut Network) {
        self.core.step(Instant::ZERO, input, &mut self.outbox.effects());
        self.core.flush(Instant::ZERO, &mut self.outbox.effects());
        for write in self.outbox.writes.drain(..) {
            self.disk.apply(&write); // Durable at once, so every message may leave at once.
        }
        network.extend(self.outbox.sends.drain(..).map(|(to, message)| (me, to, message)));
        for run in self.outbox.chosen.drain(..) {
            println!("node {me} applies {:?} from slot {}", run.values, run.first);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (mut network, mut nodes) = (Network::new(), Vec::new());
    for id in members.voters() {
        let core = MultiPaxos::recover(Config::new(*id, members.clone())?, Saved::default())?;
        let mut node = Node { core, disk: Saved::default(), outbox: Outbox::default() };
        node.step(*id, Input::Start, &mut network);
        nodes.push(node);
    }
    nodes[0].step(NodeId(1), Input::Timeout(Timer::Election), &mut network);
    deliver(&mut nodes, &mut network);
    let propose = Input::Propose { ticket: Ticket(1), command: b"hello".to_vec().into() };
    nodes[0].step(NodeId(1), propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.core.status().commit == nodes[0].disk.log.last()));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        let node = &mut nodes[to.0 as usize - 1];
        node.step(to, Input::Message { from, message }, network);
    }
}
