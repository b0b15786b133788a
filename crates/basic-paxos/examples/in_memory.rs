//! One decree among three nodes, in one thread, with memory for disks and a queue for a network.

use std::collections::VecDeque;
use synod_basic_paxos::consensus::{Input, Outbox, Protocol, Saved};
use synod_basic_paxos::types::{Instant, Membership, NodeId, Ticket};
use synod_basic_paxos::{Config, Decree, Letter};

struct Node {
    core: Decree,
    disk: Saved<Decree>,
    outbox: Outbox<Decree>,
}

type Network = VecDeque<(NodeId, NodeId, Letter)>;

impl Node {
    /// Hands the core an input and carries out what it asks for: the writes first.
    fn step(&mut self, me: NodeId, now: Instant, input: Input<Decree>, network: &mut Network) {
        self.core.step(now, input, &mut self.outbox.effects());
        self.core.flush(now, &mut self.outbox.effects());
        for write in self.outbox.writes.drain(..) {
            self.disk.apply(&write); // Durable at once, so every message may leave at once.
        }
        network.extend(self.outbox.sends.drain(..).map(|(to, message)| (me, to, message)));
        for run in self.outbox.chosen.drain(..) {
            println!("node {me} learns {:?}", run.values);
        }
        self.outbox.timers.clear(); // A real driver fires those that the core does not cancel.
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (now, mut network, mut nodes) = (Instant::ZERO, Network::new(), Vec::new());
    for id in members.voters() {
        let core = Decree::recover(Config::new(*id, members.clone())?, Saved::default())?;
        let mut node = Node { core, disk: Saved::default(), outbox: Outbox::default() };
        node.step(*id, now, Input::Start, &mut network);
        nodes.push(node);
    }
    let propose = Input::Propose { ticket: Ticket(1), command: b"blue".to_vec().into() };
    nodes[0].step(NodeId(1), now, propose, &mut network);
    // Another node proposes another value at the same time; only one of the two is ever decided.
    let propose = Input::Propose { ticket: Ticket(1), command: b"red".to_vec().into() };
    nodes[2].step(NodeId(3), now, propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.core.status().commit.0 == 1));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        let node = &mut nodes[to.0 as usize - 1];
        node.step(to, Instant::ZERO, Input::Message { from, message }, network);
    }
}
