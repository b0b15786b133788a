//! Three Multi-Paxos nodes in one thread, with disks and a network in memory.

use std::collections::VecDeque;
use synod_multi_paxos::consensus::{Host, Input, Outputs, Protocol as _, Round, Saved};
use synod_multi_paxos::types::{Instant, Membership, NodeId, Seq, Ticket};
use synod_multi_paxos::{Config, Message, MultiPaxos, Timer};

struct Node {
    host: Host<MultiPaxos>,
    disk: Saved<MultiPaxos>,
}

type Network = VecDeque<(NodeId, NodeId, Message)>;

impl Node {
    /// Steps the core with an input and carries out its outputs.
    fn step(&mut self, me: NodeId, input: Input<MultiPaxos>, network: &mut Network) {
        apply(me, self.host.input(Instant::ZERO, input, &mut ()));
        while let Some(seq) = self.round(me, network) {
            self.host.written(seq); // The next round sends the messages that waited for this.
        }
    }

    /// Returns the sequence number of the written batch.
    fn round(&mut self, me: NodeId, network: &mut Network) -> Option<Seq> {
        let Round { seq, writes, sends, outputs, .. } = self.host.round(Instant::ZERO, &mut ());
        writes.drain(..).for_each(|write| self.disk.apply(&write));
        network.extend(sends.drain(..).map(|(to, message)| (me, to, message)));
        apply(me, outputs);
        seq
    }
}

fn apply(me: NodeId, outputs: &mut Outputs<MultiPaxos>) {
    for run in outputs.chosen.drain(..) {
        println!("node {me} applies {:?} from slot {}", run.values, run.first);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (mut network, mut nodes) = (Network::new(), Vec::new());
    for id in members.voters() {
        let host = Host::recover(*id, Config::new(*id, members.clone())?, Saved::default())?;
        let mut node = Node { host, disk: Saved::default() };
        node.step(*id, Input::Start, &mut network);
        nodes.push(node);
    }
    nodes[0].step(NodeId(1), Input::Timeout(Timer::Election), &mut network);
    deliver(&mut nodes, &mut network);
    let propose = Input::Propose { ticket: Ticket(1), command: b"hello".to_vec().into() };
    nodes[0].step(NodeId(1), propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.host.core().status().commit == nodes[0].disk.log.last()));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        let node = &mut nodes[to.0 as usize - 1];
        node.step(to, Input::Message { from, message }, network);
    }
}
