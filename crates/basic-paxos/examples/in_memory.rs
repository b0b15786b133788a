//! One decree among three nodes in one thread, with disks and a network in memory.

use std::collections::VecDeque;
use synod_basic_paxos::consensus::{Host, Input, Outputs, Protocol, Round, Saved};
use synod_basic_paxos::types::{Instant, Membership, NodeId, Ticket};
use synod_basic_paxos::{Config, MessageBatch, SingleDecree};

struct Node {
    host: Host<SingleDecree>,
    disk: Saved<SingleDecree>,
}

type Network = VecDeque<(NodeId, NodeId, MessageBatch)>;

impl Node {
    /// Steps the core with an input and carries out its outputs.
    fn step(&mut self, me: NodeId, input: Input<SingleDecree>, network: &mut Network) {
        learn(me, self.host.input(Instant::ZERO, input, &mut ()));
        loop {
            let Round { seq, writes, sends, outputs, .. } = self.host.round(Instant::ZERO, &mut ());
            writes.drain(..).for_each(|write| self.disk.apply(&write));
            network.extend(sends.drain(..).map(|(to, message)| (me, to, message)));
            learn(me, outputs);
            let Some(seq) = seq else { break };
            self.host.written(seq); // Durable at once.
        }
    }
}

/// Prints the chosen values. A real driver also runs timers and replies to clients.
fn learn(me: NodeId, outputs: &mut Outputs<SingleDecree>) {
    for run in outputs.chosen.drain(..) {
        println!("node {me} learns {:?}", run.values);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (mut network, mut nodes) = (Network::new(), Vec::new());
    for id in members.voters() {
        let config = Config::new(*id, members.clone())?;
        let host = Host::recover(*id, config, Saved::default())?;
        let mut node = Node { host, disk: Saved::default() };
        node.step(*id, Input::Start, &mut network);
        nodes.push(node);
    }
    let propose = Input::Propose { ticket: Ticket(1), command: b"blue".to_vec().into() };
    nodes[0].step(NodeId(1), propose, &mut network);
    // Another node proposes another value at the same time; only one of the two is chosen.
    let propose = Input::Propose { ticket: Ticket(1), command: b"red".to_vec().into() };
    nodes[2].step(NodeId(3), propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.host.core().status().commit.0 == 1));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        nodes[to.0 as usize - 1].step(to, Input::Message { from, message }, network);
    }
}
