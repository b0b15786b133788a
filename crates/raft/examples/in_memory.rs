//! Three Raft nodes in one thread, with memory for disks and a queue for a network.

use std::collections::VecDeque;
use synod_raft::consensus::{Host, Input, Outputs, Round, Saved, TimerChange};
use synod_raft::types::{Instant, Membership, NodeId, Ticket};
use synod_raft::{Config, Message, Raft, Timer};

struct Node {
    host: Host<Raft>,
    disk: Saved<Raft>,
    timer: Option<Timer>,
}

type Network = VecDeque<(NodeId, NodeId, Message)>;

impl Node {
    fn step(&mut self, me: NodeId, now: Instant, input: Input<Raft>, network: &mut Network) {
        let mut take = |outputs: &mut Outputs<Raft>| {
            for run in outputs.chosen.drain(..) {
                println!("node {me} applies {:?} from slot {}", run.values, run.first);
            }
            for change in outputs.timers.drain(..) {
                if let TimerChange::Set(timer, _) = change {
                    self.timer = Some(timer);
                }
            }
        };
        take(self.host.input(now, input, &mut ()));
        loop {
            let Round { seq, writes, sends, outputs, .. } = self.host.round(now, &mut ());
            network.extend(sends.drain(..).map(|(to, message)| (me, to, message)));
            writes.drain(..).for_each(|write| self.disk.apply(&write));
            take(outputs);
            let Some(seq) = seq else { break };
            self.host.written(seq); // Memory is durable at once.
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let members = Membership::new((1..=3).map(NodeId), [])?;
    let (now, mut network, mut nodes) = (Instant::ZERO, Network::new(), Vec::new());
    for id in members.voters() {
        let (config, disk) = (Config::new(*id, members.clone())?, Saved::default());
        let host = Host::recover(*id, config, disk.clone())?;
        let mut node = Node { host, disk, timer: None };
        node.step(*id, now, Input::Start, &mut network);
        nodes.push(node);
    }
    let election = nodes[0].timer.take().expect("a follower waits for a leader");
    nodes[0].step(NodeId(1), now, Input::Timeout(election), &mut network);
    deliver(&mut nodes, &mut network);
    let propose = Input::Propose { ticket: Ticket(1), command: b"hello".to_vec().into() };
    nodes[0].step(NodeId(1), now, propose, &mut network);
    deliver(&mut nodes, &mut network);
    assert!(nodes.iter().all(|node| node.host.chosen() == nodes[0].disk.log.last()));
    Ok(())
}

fn deliver(nodes: &mut [Node], network: &mut Network) {
    while let Some((from, to, message)) = network.pop_front() {
        let node = &mut nodes[to.0 as usize - 1];
        node.step(to, Instant::ZERO, Input::Message { from, message }, network);
    }
}
